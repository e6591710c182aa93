//! Members that come and go: joining by one address, ordinary restarts, leaving, being forgotten.
//! What leaves in order is waited for by nobody, and missed by nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use evermesh_event::verdict::Verdict;
use rustix::process::Signal;
use serde_json::Value;

use crate::history::{Publisher, Subscriber};
use crate::mesh::{Mesh, status, succeed};
use crate::node::{Node, evermesh, failure, free_port, until, until_within};

const EVENTS: usize = 100;
const PUBLISH: [&str; 7] = ["publish", "--site", "blog", "--type", "t", "--key", "k"];

/// What a node says of a member.
fn member(mesh: &Mesh, at: usize, name: &str) -> Value {
    let status = status(&mesh.nodes[at]);
    let mut members = status["members"].as_array().unwrap().iter();
    members.find(|member| member["node"] == name).cloned().unwrap_or_default()
}

/// A publisher whose events were all heard by everybody; how often something was missed.
fn heard(what: &str, publisher: &Publisher, subscribers: &[&Subscriber]) -> u64 {
    let mut most = 0;
    for subscriber in subscribers {
        let verdict = || Verdict::of(&publisher.published(), &subscriber.history());
        until(what, || verdict().lost == 0);
        let verdict = verdict();
        assert_eq!((verdict.reordered, verdict.phantom), (0, 0), "{verdict:?}");
        most = most.max(verdict.missed);
    }
    most
}

/// A fence at a node for an event that is published there now: the standing of each member.
fn fence(mesh: &Mesh, at: usize) -> BTreeMap<String, String> {
    let at = mesh.nodes[at].at();
    let published = succeed(&[&PUBLISH[..], &["--at", &at, "--json"]].concat());
    let published: Value = serde_json::from_slice(&published.stdout).unwrap();
    let token = published["fence_token"].as_str().unwrap();
    let done = succeed(&["fence", token, "--at", &at, "--wait", "25s", "--json"]);
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    let standing = |member: &Value| {
        let text = |key: &str| member[key].as_str().unwrap().to_owned();
        (text("node"), text("standing"))
    };
    done["members"].as_array().unwrap().iter().map(standing).collect()
}

#[test]
fn who_leaves_is_waited_for_by_nobody_and_missed_by_nobody() {
    let mut mesh = Mesh::started(3);
    let near = Subscriber::start(&mesh.nodes[0].at(), mesh.path("near.jsonl"));
    let mut publisher = Publisher::start(&mesh.nodes[2].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("they are assured", || publisher.assured() == EVENTS);
    let before = mesh.journal_id(2);
    let said = succeed(&["leave", "--at", &mesh.nodes[2].at(), "--json"]).stdout;
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["holds"], serde_json::json!(["web-1", "web-2"]));
    assert_eq!(mesh.nodes[2].ended().code(), Some(0), "{}", mesh.nodes[2].log());
    assert_eq!(heard("all of it", &publisher, &[&near]), 0, "nothing is missed");
    for other in [0, 1] {
        until("everybody knows", || member(&mesh, other, "web-3")["left"] == true);
        until("and counts it as left", || fence(&mesh, other)["web-3"] == "left");
    }
    // Everybody restarts: it stays known, and nobody hears a missed.
    for other in [0, 1] {
        mesh.nodes[other].end(Signal::KILL);
        mesh.nodes[other].start();
    }
    until("it is still known", || member(&mesh, 1, "web-3")["left"] == true);
    // It comes back, as a new member with a new journal.
    mesh.nodes[2].start();
    mesh.linked(2);
    assert_ne!(mesh.journal_id(2), before);
    publisher.kill_and_go_on();
    publisher.hand_in(EVENTS);
    let mut near = near;
    near.kill_and_resume();
    until("more are assured", || publisher.assured() == 2 * EVENTS);
    assert_eq!(heard("and heard", &publisher, &[&near]), 0, "nothing is missed");
    assert_eq!(fence(&mesh, 0)["web-3"], "applied");
}

#[test]
fn a_node_for_whom_a_stop_is_for_good_leaves_when_it_is_told_to_stop() {
    let mut mesh = Mesh::new(3);
    mesh.nodes[1].set("EVERMESH_MESH__ON_STOP", "leave");
    mesh.start();
    let far = Subscriber::start(&mesh.nodes[2].at(), mesh.path("far.jsonl"));
    let mut publisher = Publisher::start(&mesh.nodes[1].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("they are assured", || publisher.assured() == EVENTS);
    publisher.finish();
    assert_eq!(mesh.nodes[1].end(Signal::TERM).code(), Some(0));
    until("the others know", || member(&mesh, 0, "web-2")["left"] == true);
    assert_eq!(heard("all of it", &publisher, &[&far]), 0);
    assert_eq!(fence(&mesh, 0)["web-2"], "left");
}

#[test]
fn p1_who_leaves_before_anybody_was_linked_with_it_is_still_pulled_from() {
    let mut mesh = Mesh::new(3);
    mesh.nodes[1].set("EVERMESH_MESH__ON_STOP", "leave");
    mesh.nodes[1].set("EVERMESH_NODE__DRAIN", "60s");
    mesh.nodes[0].start();
    mesh.nodes[2].start();
    let far = Subscriber::start(&mesh.nodes[2].at(), mesh.path("far.jsonl"));
    [0, 2].iter().for_each(|other: &usize| mesh.nodes[*other].signal(Signal::STOP));
    mesh.nodes[1].start();
    let mut publisher = Publisher::start(&mesh.nodes[1].at(), mesh.path("published.jsonl"));
    publisher.hand_in(10);
    until("they are assured", || publisher.assured() == 10);
    publisher.finish();
    mesh.nodes[1].signal(Signal::TERM);
    until("it is told to stop", || mesh.nodes[1].log().contains("SIGTERM: ends within"));
    [0, 2].iter().for_each(|other: &usize| mesh.nodes[*other].signal(Signal::CONT));
    assert_eq!(mesh.nodes[1].ended().code(), Some(0));
    let log = mesh.nodes[1].log();
    assert!(!log.contains("leaves although not everybody holds"), "{log}");
    until("the others know", || member(&mesh, 0, "web-2")["left"] == true);
    assert_eq!(heard("all of it", &publisher, &[&far]), 0, "nothing is missed");
}

#[test]
fn p1_a_node_does_not_leave_while_what_it_published_is_nowhere_else() {
    let mut mesh = Mesh::started(2);
    mesh.nodes[1].end(Signal::KILL);
    let at = mesh.nodes[0].at();
    succeed(&[&PUBLISH[..], &["--at", &at]].concat());
    let leave = ["leave", "--within", "1s", "--at", at.as_str()];
    let (code, said) = failure(evermesh().args(leave));
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("web-2 did not take everything"), "{said}");
    assert_eq!(status(&mesh.nodes[0])["node"], "web-1", "it stays");
    succeed(&[&leave[..], &["--force"]].concat());
    assert_eq!(mesh.nodes[0].ended().code(), Some(0));
}

#[test]
fn who_is_forgotten_is_waited_for_by_nobody_and_finds_back() {
    let mut mesh = Mesh::started(3);
    let at = mesh.nodes[0].at();
    let mut far = Subscriber::start(&mesh.nodes[1].at(), mesh.path("far.jsonl"));
    let mut publisher = Publisher::start(&mesh.nodes[2].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("they are assured", || publisher.assured() == EVENTS);
    assert_eq!(heard("and heard", &publisher, &[&far]), 0);
    let forget = |name: &str| {
        let (code, said) = failure(evermesh().args(["forget", name, "--at", &at]));
        assert_ne!(code, 0);
        said
    };
    assert!(forget("web-3").contains("web-3 is there"));
    assert!(forget("web-9").contains("known are: web-1, web-2, web-3"));
    assert!(forget("web-1").contains("use `evermesh leave`"));
    mesh.nodes[2].end(Signal::KILL);
    until("its link is gone", || member(&mesh, 0, "web-3")["pulling"] == false);
    until("it is suspended", || member(&mesh, 0, "web-3")["suspended"] == true);
    succeed(&["forget", "web-3", "--at", &at]);
    until("the other one knows", || member(&mesh, 1, "web-3")["left"] == true);
    until("and its applications are told", || heard("", &publisher, &[&far]) == 1);
    until("it is named as left", || fence(&mesh, 1)["web-3"] == "left");
    assert!(forget("web-3").contains("left already"));
    mesh.nodes[2].start();
    mesh.linked(2);
    publisher.kill_and_go_on();
    publisher.hand_in(EVENTS);
    until("it assures again", || publisher.assured() == 2 * EVENTS);
    far.kill_and_resume();
    assert_eq!(heard("and is heard", &publisher, &[&far]), 1, "nothing more is missed");
    for other in [0, 1] {
        assert_eq!(fence(&mesh, other)["web-3"], "applied");
        assert_eq!(member(&mesh, other, "web-3")["left"], false);
    }
}

#[test]
fn whom_nobody_hears_for_long_is_forgotten_by_itself_and_finds_back() {
    let mut mesh = Mesh::new(3);
    // The shortest that the configuration takes.
    let forget_after = Duration::from_secs(60);
    for node in &mut mesh.nodes {
        node.set("EVERMESH_MESH__FORGET_AFTER", "60s");
    }
    mesh.start();
    let mut subscribers: Vec<_> = (0..2)
        .map(|at| Subscriber::start(&mesh.nodes[at].at(), mesh.path(&format!("{at}.jsonl"))))
        .collect();
    let mut publisher = Publisher::start(&mesh.nodes[2].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("they are assured", || publisher.assured() == EVENTS);
    let missed = |publisher: &Publisher, subscribers: &[Subscriber]| {
        heard("all of it", publisher, &subscribers.iter().collect::<Vec<_>>())
    };
    assert_eq!(missed(&publisher, &subscribers), 0);
    mesh.nodes[2].end(Signal::KILL);
    for (at, one) in subscribers.iter().enumerate() {
        // Nobody asked for it.
        let left = || member(&mesh, at, "web-3")["left"] == true;
        until_within(forget_after * 2, "it is forgotten", left);
        until("its applications are told", || heard("", &publisher, &[one]) == 1);
        until("it is named as left", || fence(&mesh, at)["web-3"] == "left");
        let other = ["web-2", "web-1"][at];
        assert_eq!(member(&mesh, at, other)["left"], false, "who is there stays");
    }
    let by_itself = |node: &Node| node.log().contains("was not heard by anybody");
    assert!(mesh.nodes.iter().any(by_itself));
    mesh.nodes[2].start();
    mesh.linked(2);
    publisher.kill_and_go_on();
    publisher.hand_in(EVENTS);
    until("it assures again", || publisher.assured() == 2 * EVENTS);
    subscribers.iter_mut().for_each(Subscriber::kill_and_resume);
    assert_eq!(missed(&publisher, &subscribers), 1, "nothing more is missed");
    for other in [0, 1] {
        assert_eq!(fence(&mesh, other)["web-3"], "applied");
        assert_eq!(member(&mesh, other, "web-3")["left"], false);
    }
}

#[test]
fn a_node_that_knows_one_address_joins_all() {
    let mut mesh = Mesh::new(4);
    for node in 0..4 {
        let (address, first) = (mesh.shared(node), mesh.shared(0));
        if node == 0 {
            mesh.nodes[node].set("EVERMESH_MESH__ADDRESS", &address);
            continue;
        }
        mesh.nodes[node].set("EVERMESH_MESH__ADDRESS", &address);
        mesh.nodes[node].set("EVERMESH_MESH__PEERS", &first);
    }
    // The first one knows nobody.
    mesh.knows_nobody(0);
    mesh.nodes.iter_mut().for_each(Node::start);
    (0..4).for_each(|node| mesh.linked(node));
    let far = Subscriber::start(&mesh.nodes[1].at(), mesh.path("far.jsonl"));
    let mut publisher = Publisher::start(&mesh.nodes[3].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("they are assured", || publisher.assured() == EVENTS);
    assert_eq!(heard("and heard", &publisher, &[&far]), 0);
    assert!(fence(&mesh, 2).values().all(|standing| standing == "applied"));
    // The one that everybody knows is gone; the others know each other.
    mesh.nodes[0].end(Signal::KILL);
    mesh.nodes[2].end(Signal::KILL);
    mesh.nodes[2].start();
    until("they find each other without it", || {
        let member = member(&mesh, 2, "web-4");
        member["pulling"] == true && member["feeding"] == true
    });
}

#[test]
fn two_nodes_under_one_name_are_both_served_and_the_log_says_where_they_are() {
    let mesh = Mesh::started(3);
    // Somebody copied certificate and configuration to another machine.
    let more = format!(
        "shared = \"127.0.0.1:{}\"\n[tls]\ncert = \"web-3.pem\"\nkey = \"web-3.key\"\n\
         ca = \"ca.pem\"\n[mesh]\npeers = [\"{}\", \"{}\"]\nlease = \"1s\"\n",
        free_port(),
        mesh.shared(0),
        mesh.shared(1)
    );
    let mut twin = Node::new(&mesh.path(""), "twin", &more);
    twin.set("EVERMESH_NODE__NAME", "web-3");
    twin.start();
    until("it is noticed", || mesh.nodes[0].log().contains("two nodes bear this name"));
    let one = Subscriber::start(&mesh.nodes[2].at(), mesh.path("one.jsonl"));
    let other = Subscriber::start(&twin.at(), mesh.path("other.jsonl"));
    let mut publisher = Publisher::start(&mesh.nodes[0].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("they are assured", || publisher.assured() == EVENTS);
    heard("both hear all", &publisher, &[&one, &other]);
    let standing = fence(&mesh, 0);
    let bears = standing.iter().filter(|(name, _)| name.starts_with("web-3"));
    assert_eq!(bears.map(|(_, standing)| standing.as_str()).collect::<Vec<_>>(), ["applied"; 2]);
    twin.end(Signal::TERM);
    until("and waited for no more", || fence(&mesh, 0).len() == 3);
    assert_eq!(fence(&mesh, 0)["web-3"], "applied");
}
