//! Nodes in memory mode, alone and beside nodes with a disk: what they assure, what they are
//! counted for, and what is told when one of them ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use evermesh_client::Client;
use evermesh_proto::v1;
use evermesh_proto::v1::publish_result::Outcome;
use evermesh_proto::v1::publish_stream_request::Message as Hand;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use evermesh_proto::v1::{Assurance, MemberStanding, MissedCause};
use rustix::process::Signal;
use serde_json::Value;
use tonic::Code;

use crate::history::Subscriber;
use crate::mesh::{Mesh, status, succeed};
use crate::node::{evermesh, failure, until};
use crate::refusals::reason;
use crate::subscriptions::{Stream, keys, subscribe};

/// A mesh whose first nodes keep no disk.
fn mesh(in_memory: usize, count: usize) -> Mesh {
    let mut mesh = Mesh::new(count);
    mesh.nodes[..in_memory].iter().for_each(|node| node.in_memory());
    mesh.start();
    mesh
}

fn request(ids: &[String], until: Assurance) -> v1::PublishRequest {
    let event = |id: &String| v1::Event {
        id: id.clone(),
        site: "shop".into(),
        r#type: "t".into(),
        key: id.clone(),
        ..Default::default()
    };
    let events = ids.iter().map(event).collect();
    v1::PublishRequest { events, until: until.into(), ..Default::default() }
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

async fn publish(client: &Client, ids: &[String], until: Assurance) -> v1::PublishResponse {
    client.events().publish(request(ids, until)).await.unwrap().into_inner()
}

fn shop() -> v1::SubscribeOpen {
    v1::SubscribeOpen { sites: vec!["shop".into()], ..Default::default() }
}

async fn acknowledge(stream: &Stream, through_offset: u64) {
    let message = Some(Say::Acknowledge(v1::Acknowledge { through_offset }));
    stream.0.send(v1::SubscribeRequest { message }).await.unwrap();
}

/// The first message after `opened`.
async fn second(stream: &mut Stream) -> Heard {
    let opened = stream.1.message().await.unwrap().unwrap().message;
    assert!(matches!(opened, Some(Heard::Opened(_))), "{opened:?}");
    stream.1.message().await.unwrap().unwrap().message.unwrap()
}

fn standings(answer: &v1::PublishResponse) -> Vec<(&str, MemberStanding)> {
    let mut all: Vec<_> = answer.members.iter().map(|m| (m.node.as_str(), m.standing())).collect();
    all.sort_by_key(|(node, _)| *node);
    all
}

/// The lines of a subscriber's file that were written whole and begin with this.
fn lines(file: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let wanted = whole.lines().filter(|line| line.starts_with(kind));
    wanted.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The causes of what it missed, in their order.
fn causes(file: &Path) -> Vec<String> {
    let cause = |line: &Value| Some(line.get("missed")?["cause"].as_str()?.to_owned());
    lines(file, "{\"missed\"").iter().filter_map(cause).collect()
}

/// What stands in the directory of a mesh.
fn files(mesh: &Mesh) -> BTreeSet<String> {
    let entries = std::fs::read_dir(mesh.path("")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn p4_a_node_that_keeps_no_disk_refuses_stored_and_says_what_to_ask_for() {
    let mesh = mesh(1, 1);
    let client = mesh.client(0);
    for until in [Assurance::Unspecified, Assurance::Stored, Assurance::Replicated] {
        let refused = client.events().publish(request(&ids("a", 1), until)).await.unwrap_err();
        let said = (refused.code(), reason(&refused));
        assert_eq!(said, (Code::FailedPrecondition, "NOTHING_STORED"), "{refused}");
        assert!(refused.message().contains("ask for ACCEPTED"), "{}", refused.message());
        let open = v1::PublishStreamOpen { producer: "import".into(), until: until.into() };
        let open = v1::PublishStreamRequest { message: Some(Hand::Open(open)) };
        let answers = client.events().publish_stream(tokio_stream::iter([open])).await;
        let refused = answers.unwrap().into_inner().message().await.unwrap_err();
        assert_eq!(reason(&refused), "NOTHING_STORED", "{refused}");
    }
    assert_eq!(status(&mesh.nodes[0])["journal"]["events_published"], 0, "nothing was taken");
    let at = mesh.nodes[0].at();
    let arguments = ["publish", "--at", &at, "--site", "shop", "--type", "t", "--key", "k"];
    let (_, said) = failure(evermesh().args(arguments));
    assert!(said.contains("durability = \"memory\"") && said.contains("ACCEPTED"), "{said}");

    let accepted = publish(&client, &ids("b", 3), Assurance::Accepted).await;
    assert_eq!(accepted.assured(), Assurance::Accepted);
    let again = publish(&client, &ids("b", 1), Assurance::Accepted).await;
    let Some(Outcome::Taken(taken)) = &again.results[0].outcome else { panic!("{again:?}") };
    assert!(taken.duplicate, "an id is taken once as on any node");
    let applied = publish(&client, &ids("c", 1), Assurance::Applied).await;
    assert_eq!(applied.assured(), Assurance::Applied, "nobody subscribes");
    assert_eq!(standings(&applied), [("web-1", MemberStanding::Applied)]);

    let limits = client.events().get_limits(v1::GetLimitsRequest {}).await.unwrap();
    assert!(limits.into_inner().in_memory);
    let page = succeed(&["status", "--at", &at]).stdout;
    assert!(String::from_utf8(page).unwrap().contains("memory: nothing is stored"));
    assert_eq!(status(&mesh.nodes[0])["journal"]["syncs"], 0);
}

#[tokio::test]
async fn p4_a_member_without_a_disk_counts_for_applied_and_never_as_stored() {
    let mesh = mesh(1, 3);
    let (memory, disk) = (mesh.client(0), mesh.client(1));
    let mut stream = subscribe(&memory, shop()).await;
    assert!(matches!(second(&mut stream).await, Heard::CaughtUp(_)));

    let answer = publish(&disk, &ids("a", 2), Assurance::Replicated).await;
    assert_eq!(answer.assured(), Assurance::Replicated);
    let counted = [("web-1", MemberStanding::InMemory), ("web-3", MemberStanding::Stored)];
    assert_eq!(standings(&answer), counted, "named, neither counted nor waited for");
    let heard = keys(&mut stream, 2).await;
    assert_eq!(heard.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["a0", "a1"]);
    let member = |name: &str| {
        let status = status(&mesh.nodes[1]);
        let mut members = status["members"].as_array().unwrap().iter();
        members.find(|member| member["node"] == name).unwrap().clone()
    };
    // What it tells to hold keeps nobody's journal waiting.
    until("web-1 holds both", || member("web-1")["stored"] == "1:2");
    assert_eq!(
        (&member("web-1")["in_memory"], &member("web-3")["in_memory"]),
        (&true.into(), &false.into())
    );
    let two = v1::PublishRequest {
        replicas: 2,
        wait_for: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        ..request(&ids("a", 2), Assurance::Replicated)
    };
    let two = disk.events().publish(two).await.unwrap().into_inner();
    assert_eq!(two.assured(), Assurance::Stored, "there is one other disk");

    let waits = v1::PublishRequest {
        wait_for: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
        ..request(&ids("b", 1), Assurance::Applied)
    };
    let pending = disk.events().publish(waits).await.unwrap().into_inner();
    assert_eq!(standings(&pending)[0], ("web-1", MemberStanding::Pending), "not acknowledged");
    let offset = keys(&mut stream, 1).await[0].0;
    acknowledge(&stream, offset).await;
    let applied = publish(&disk, &ids("b", 1), Assurance::Applied).await;
    assert_eq!(applied.assured(), Assurance::Applied, "{applied:?}");

    // And the other way: a subscription anywhere holds back APPLIED of the node without a disk.
    let mut there = subscribe(&disk, shop()).await;
    assert!(matches!(second(&mut there).await, Heard::CaughtUp(_)));
    let short = v1::PublishRequest {
        wait_for: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
        ..request(&ids("c", 1), Assurance::Applied)
    };
    let pending = memory.events().publish(short).await.unwrap().into_inner();
    assert_eq!(pending.assured(), Assurance::Accepted, "nothing in between is claimed");
    let asks = memory.clone();
    let all = tokio::spawn(async move { publish(&asks, &ids("c", 1), Assurance::Applied).await });
    for stream in [&mut there, &mut stream] {
        let offset = keys(stream, 1).await[0].0;
        assert!(!all.is_finished(), "not before all acknowledged");
        acknowledge(stream, offset).await;
    }
    let all = all.await.unwrap();
    assert_eq!(all.assured(), Assurance::Applied, "{all:?}");
    let applied = ["web-1", "web-2", "web-3"].map(|node| (node, MemberStanding::Applied));
    assert_eq!(standings(&all), applied);
}

#[tokio::test]
async fn p1_what_a_killed_node_without_a_disk_took_with_it_is_missed_once() {
    let mut mesh = Mesh::new(2);
    mesh.nodes[0].in_memory();
    let before = files(&mesh);
    mesh.start();
    let heard = mesh.path("heard.jsonl");
    let subscriber = Subscriber::start(&mesh.nodes[1].at(), heard.clone());
    let _own = Subscriber::start(&mesh.nodes[0].at(), mesh.path("own.jsonl"));
    publish(&mesh.client(0), &ids("a", 50), Assurance::Accepted).await;
    until("they are heard", || subscriber.ids() == ids("a", 50));
    until("here too", || lines(&mesh.path("own.jsonl"), "{\"event\"").len() == 50);
    assert_eq!(causes(&heard), Vec::<String>::new());

    // The other node stands still; more is accepted than fits what is on its way to it.
    mesh.nodes[1].signal(Signal::STOP);
    let mut large = request(&ids("lost", 200), Assurance::Accepted);
    for event in std::mem::take(&mut large.events) {
        let event = v1::Event { data: vec![7; 200 * 1024].into(), ..event };
        let one = v1::PublishRequest { events: vec![event], ..large.clone() };
        let answer = mesh.client(0).events().publish(one).await.unwrap().into_inner();
        assert_eq!(answer.assured(), Assurance::Accepted);
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", mesh.nodes[0].pid())).unwrap();
    let open = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let own = mesh.path("");
    let open: Vec<_> = open.filter(|path| path.starts_with(&own)).collect();
    assert!(open.iter().all(|path| *path == mesh.path("web-1.log")), "{open:?}");
    let former = mesh.journal_id(0);
    mesh.nodes[0].end(Signal::KILL);
    let left: Vec<_> = files(&mesh).into_iter().filter(|file| !before.contains(file)).collect();
    let left: Vec<_> = left.iter().filter(|file| file.starts_with("web-1")).collect();
    assert_eq!(left, ["web-1.log", "web-1.sock"], "no journal, no lock");
    mesh.nodes[1].signal(Signal::CONT);

    mesh.nodes[0].start();
    assert_ne!(mesh.journal_id(0), former, "each start is a new origin");
    // Who was connected to the node itself comes back with a token that it cannot know.
    until("its own subscriber is told", || !causes(&mesh.path("own.jsonl")).is_empty());
    publish(&mesh.client(0), &ids("b", 50), Assurance::Accepted).await;
    let last = |id: &str| subscriber.ids().iter().any(|heard| heard == id);
    until("what is published then is heard", || last("b49"));
    let missed: BTreeSet<_> = ids("lost", 200).into_iter().collect();
    let arrived = subscriber.ids().iter().filter(|id| missed.contains(*id)).count();
    assert!(arrived < 200, "nothing was lost: the test shows nothing");
    assert_eq!(causes(&heard), ["forgotten"], "and it is told, once");
    let place = |found: &dyn Fn(&Value) -> bool| lines(&heard, "").iter().position(found).unwrap();
    let told = place(&|line| line.get("missed").is_some());
    let first = place(&|line| line["event"]["id"].as_str().is_some_and(|id| id == "b0"));
    assert!(told < first, "before anything that the new origin numbered");
    let own = || std::fs::read_to_string(mesh.path("own.jsonl")).unwrap();
    until("its own subscriber hears them too", || own().contains("\"b49\""));
    let told = causes(&mesh.path("own.jsonl"));
    assert!(told.iter().all(|cause| cause == "unknown_token"), "and no more: {told:?}");

    // Restarts of the other one tell nothing more.
    mesh.nodes[1].end(Signal::KILL);
    mesh.nodes[1].start();
    mesh.linked(1);
    publish(&mesh.client(0), &ids("c", 1), Assurance::Accepted).await;
    until("it goes on", || last("c0"));
    assert_eq!(causes(&heard), ["forgotten"]);

    // A third start tells of the second one alone.
    mesh.nodes[0].end(Signal::KILL);
    mesh.nodes[0].start();
    publish(&mesh.client(0), &ids("d", 1), Assurance::Accepted).await;
    until("it goes on once more", || last("d0"));
    assert_eq!(causes(&heard), ["forgotten", "forgotten"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_after_an_orderly_end_events_flow_and_nothing_is_left_behind() {
    let mut mesh = mesh(1, 2);
    let heard = mesh.path("heard.jsonl");
    let subscriber = Subscriber::start(&mesh.nodes[1].at(), heard.clone());
    publish(&mesh.client(0), &ids("a", 50), Assurance::Accepted).await;
    assert_eq!(mesh.nodes[0].end(Signal::TERM).code(), Some(0));
    let own = files(&mesh).into_iter().filter(|file| file.starts_with("web-1"));
    let expected = ["web-1.key", "web-1.log", "web-1.pem", "web-1.toml"];
    assert_eq!(own.collect::<Vec<_>>(), expected);
    assert!(mesh.nodes[0].log().contains("ended; nothing is kept"));
    let mut all = ids("a", 50);
    // Far more starts than last words that are told of one name.
    for prefix in ["b", "c", "d", "e", "f", "g", "h"] {
        mesh.nodes[0].start();
        mesh.linked(0);
        publish(&mesh.client(0), &ids(prefix, 50), Assurance::Accepted).await;
        all.extend(ids(prefix, 50));
        assert_eq!(mesh.nodes[0].end(Signal::TERM).code(), Some(0));
    }
    until("all of each start is heard", || subscriber.ids() == all);
    // Each former journal ended for good, and its last word had arrived.
    assert!(causes(&heard).is_empty(), "{:?}", causes(&heard));
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_what_a_node_without_a_disk_ended_with_while_one_was_away_comes_from_another() {
    let mut mesh = mesh(1, 3);
    let heard = mesh.path("heard.jsonl");
    let subscriber = Subscriber::start(&mesh.nodes[2].at(), heard.clone());
    let held = Subscriber::start(&mesh.nodes[1].at(), mesh.path("held.jsonl"));
    until("both have begun", || subscriber.caught_up() > 0 && held.caught_up() > 0);
    let mut all = BTreeSet::new();
    for round in ["a", "b", "c"] {
        mesh.nodes[2].end(Signal::KILL);
        publish(&mesh.client(0), &ids(round, 50), Assurance::Accepted).await;
        all.extend(ids(round, 50));
        until("another one holds all", || held.ids().len() == all.len());
        // Ordinary deployments. Who was away meets the last start before it has the rest of the
        // one that it knows, and never met the one between.
        for deployed in ["x", "y"] {
            assert_eq!(mesh.nodes[0].end(Signal::TERM).code(), Some(0));
            mesh.nodes[0].start();
            let one = [format!("{round}-{deployed}")];
            publish(&mesh.client(0), &one, Assurance::Accepted).await;
            all.extend(one);
            until("another one holds all", || held.ids().len() == all.len());
        }
        mesh.nodes[2].start();
        mesh.linked(2);
        let last = [format!("{round}-last")];
        publish(&mesh.client(0), &last, Assurance::Accepted).await;
        all.extend(last.clone());
        until("what comes next is heard", || subscriber.ids().contains(&last[0]));
        assert_eq!(subscriber.ids().into_iter().collect::<BTreeSet<_>>(), all, "and all before");
        until("by the other one, too", || held.ids().contains(&last[0]));
    }
    assert_eq!(causes(&heard), Vec::<String>::new(), "nothing is missed: a member held it");
}

#[tokio::test]
async fn p1_places_end_with_the_start_and_each_is_told_so_first() {
    let mut mesh = mesh(1, 1);
    let from = |from: From| v1::SubscribeOpen { from: Some(from), ..shop() };
    let durable = || from(From::DurableName("cdn".into()));
    let mut stream = subscribe(&mesh.client(0), durable()).await;
    let Heard::Missed(new) = second(&mut stream).await else { panic!("a new name misses") };
    acknowledge(&stream, new.offset).await;
    publish(&mesh.client(0), &ids("a", 1), Assurance::Accepted).await;
    let offset = keys(&mut stream, 1).await[0].0;
    acknowledge(&stream, offset).await;
    let applied = publish(&mesh.client(0), &ids("a", 1), Assurance::Applied).await;
    assert_eq!(applied.assured(), Assurance::Applied);
    drop(stream);
    // Within one start a name is as good as on any node.
    let mut stream = subscribe(&mesh.client(0), durable()).await;
    let Some(Heard::Opened(opened)) = stream.1.message().await.unwrap().unwrap().message else {
        panic!("opened comes first")
    };
    let caught_up = stream.1.message().await.unwrap().unwrap().message;
    assert!(matches!(caught_up, Some(Heard::CaughtUp(_))), "{caught_up:?}");
    let token = v1::ResumeToken { run: opened.run, offset };

    mesh.nodes[0].end(Signal::KILL);
    mesh.nodes[0].start();
    let cause = |heard: Heard| match heard {
        Heard::Missed(notice) => notice.missed.unwrap().cause(),
        other => panic!("before a missed: {other:?}"),
    };
    let mut stream = subscribe(&mesh.client(0), durable()).await;
    assert_eq!(cause(second(&mut stream).await), MissedCause::UnknownName);
    let mut stream = subscribe(&mesh.client(0), from(From::ResumeToken(token))).await;
    assert_eq!(cause(second(&mut stream).await), MissedCause::UnknownToken);
    publish(&mesh.client(0), &ids("b", 1), Assurance::Accepted).await;
    let heard = tokio::time::timeout(Duration::from_secs(30), keys(&mut stream, 1)).await.unwrap();
    assert_eq!(heard[0].1, "b0");
}

/// What a node says to a fence: it is done, or the reason and the message of a refusal.
async fn fence(client: &Client, answer: &v1::PublishResponse) -> Result<bool, (String, String)> {
    let Some(Outcome::Taken(taken)) = &answer.results[0].outcome else { panic!("{answer:?}") };
    let fence_token = taken.fence_token.clone();
    let request = v1::FenceRequest { fence_token, ..Default::default() };
    match client.events().fence(request).await {
        Ok(answer) => Ok(answer.into_inner().done),
        Err(refused) => Err((reason(&refused).to_owned(), refused.message().to_owned())),
    }
}

#[tokio::test]
async fn p9_a_token_of_a_former_journal_of_a_node_is_refused_there_as_one_it_never_gave() {
    let mut mesh = mesh(1, 2);
    let of_memory = publish(&mesh.client(0), &ids("a", 1), Assurance::Accepted).await;
    let of_disk = publish(&mesh.client(1), &ids("b", 1), Assurance::Stored).await;
    assert_eq!(fence(&mesh.client(0), &of_memory).await, Ok(true));
    assert_eq!(fence(&mesh.client(1), &of_disk).await, Ok(true));
    // Each start of a node in memory mode is another origin. With its disk, a node is the same one.
    for node in &mut mesh.nodes {
        node.end(Signal::KILL);
        node.start();
    }
    let ahead = |said: Result<bool, (String, String)>| {
        let (reason, message) = said.unwrap_err();
        assert_eq!(reason, "FENCE_AHEAD", "{message}");
        assert!(message.contains("former journal of this node"), "{message}");
    };
    ahead(fence(&mesh.client(0), &of_memory).await);
    assert_eq!(fence(&mesh.client(1), &of_disk).await, Ok(true));
    // Any other node can only say whose it is.
    let (reason, message) = fence(&mesh.client(1), &of_memory).await.unwrap_err();
    assert!(reason == "FENCE_ELSEWHERE" && message.contains("web-1"), "{reason}: {message}");
    // Another disk makes another origin of any node.
    mesh.nodes[1].end(Signal::KILL);
    std::fs::remove_dir_all(mesh.path("web-2.data")).unwrap();
    mesh.nodes[1].start();
    ahead(fence(&mesh.client(1), &of_disk).await);
}

/// The most that a process had in memory, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn p7_what_is_held_in_memory_stays_below_max_bytes() {
    let mesh = mesh(1, 1);
    let client = mesh.client(0);
    let mut live = subscribe(&client, shop()).await;
    assert!(matches!(second(&mut live).await, Heard::CaughtUp(_)));
    // Three times what it may hold, each call as large as one may be.
    for call in 0..256 {
        let mut request = request(&ids(&format!("{call}-"), 4), Assurance::Accepted);
        request.events.iter_mut().for_each(|event| event.data = vec![7; 190 * 1024].into());
        let answer = client.events().publish(request).await.unwrap().into_inner();
        assert_eq!(answer.assured(), Assurance::Accepted, "the oldest makes room");
        let heard = keys(&mut live, 4).await;
        assert_eq!(heard[3].1, format!("{call}-3"));
        acknowledge(&live, heard[3].0).await;
    }
    let held = status(&mesh.nodes[0])["journal"]["disk_bytes"].as_u64().unwrap();
    let peak = peak_mib(mesh.nodes[0].pid());
    eprintln!("holds {held} bytes of 190 MiB published; at most {peak} MiB in memory");
    assert!(held <= 64 << 20, "{held}");
    // What is held, one segment that is coalesced, the tail, what is unwritten, the state, itself.
    assert!(peak < 64 + 4 + 8 + 16 + 16 + 64, "{peak} MiB");
}
