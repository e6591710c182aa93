//! Journals that are not what they were: restored from an older copy, run twice, lost, renamed; and
//! one that is full of what a member that is away lacks.

use std::path::Path;
use std::process::Command;

use evermesh_event::verdict::Verdict;
use rustix::process::Signal;

use crate::history::{Publisher, Subscriber};
use crate::mesh::{Mesh, succeed};
use crate::node::until;

const EVENTS: usize = 200;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Everything assured is heard, or was told as missed before; nothing twice, nothing out of order.
fn settled(what: &str, publisher: &Publisher, subscriber: &Subscriber) -> Verdict {
    let verdict = || Verdict::of(&publisher.published(), &subscriber.history());
    until(what, || verdict().lost == 0);
    let verdict = verdict();
    assert_eq!((verdict.lost, verdict.reordered, verdict.phantom), (0, 0, 0), "{verdict:?}");
    verdict
}

#[test]
fn a_restored_copy_takes_a_new_journal_id_and_everybody_is_told() {
    let mut mesh = Mesh::started(3);
    let subscriber = Subscriber::start(&mesh.nodes[1].at(), mesh.path("heard.jsonl"));
    let mut publisher = Publisher::start(&mesh.nodes[0].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("the first are assured", || publisher.assured() == EVENTS);
    let before = mesh.journal_id(0);
    mesh.nodes[0].end(Signal::TERM);
    let (data, saved) = (mesh.path("web-1.data"), mesh.path("saved"));
    copy(&data, &saved);
    mesh.nodes[0].start();
    publisher.kill_and_go_on();
    publisher.hand_in(EVENTS);
    until("the second are assured", || publisher.assured() == 2 * EVENTS);
    settled("and heard", &publisher, &subscriber);
    mesh.nodes[0].end(Signal::KILL);
    // The operator puts yesterday's copy back.
    std::fs::remove_dir_all(&data).unwrap();
    copy(&saved, &data);
    mesh.nodes[0].start();
    until("it goes on under another journal id", || {
        // While it begins anew nobody answers.
        std::panic::catch_unwind(|| mesh.journal_id(0)).is_ok_and(|id| id != before)
    });
    publisher.kill_and_go_on();
    publisher.hand_in(EVENTS);
    until("it assures", || publisher.assured() == 3 * EVENTS);
    let verdict = settled("what is published then is heard", &publisher, &subscriber);
    assert!(verdict.missed > 0, "and the name was missed: {verdict:?}");
    assert!(mesh.nodes[0].log().contains("restored from an older copy"));
}

#[test]
fn a_twin_takes_a_new_journal_id() {
    let mut mesh = Mesh::started(3);
    let before = mesh.journal_id(2);
    mesh.nodes[2].end(Signal::TERM);
    let (data, saved) = (mesh.path("web-3.data"), mesh.path("saved"));
    copy(&data, &saved);
    mesh.nodes[2].start();
    mesh.linked(2);
    assert_eq!(mesh.journal_id(2), before, "an ordinary restart changes nothing");
    mesh.nodes[2].end(Signal::KILL);
    // The other one, of the same epoch, with a start id of its own.
    std::fs::remove_dir_all(&data).unwrap();
    copy(&saved, &data);
    mesh.nodes[2].start();
    until("it goes on under another journal id", || {
        std::panic::catch_unwind(|| mesh.journal_id(2)).is_ok_and(|id| id != before)
    });
    mesh.linked(2);
}

#[test]
fn p1_a_journal_that_is_lost_is_missed_by_name() {
    let mut mesh = Mesh::started(2);
    let subscriber = Subscriber::start(&mesh.nodes[1].at(), mesh.path("heard.jsonl"));
    let mut publisher = Publisher::start(&mesh.nodes[0].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("they are assured", || publisher.assured() == EVENTS);
    let verdict = settled("and heard", &publisher, &subscriber);
    assert_eq!(verdict.missed, 0, "{verdict:?}");
    mesh.nodes[0].end(Signal::KILL);
    std::fs::remove_dir_all(mesh.path("web-1.data")).unwrap();
    mesh.nodes[0].start();
    publisher.kill_and_go_on();
    publisher.hand_in(EVENTS);
    until("it assures again", || publisher.assured() == 2 * EVENTS);
    let verdict = settled("what is published then is heard", &publisher, &subscriber);
    assert_eq!(verdict.missed, 1, "the name, once: {verdict:?}");
    // What is heard before it is on the disk comes again after a kill, also what is missed; and so
    // does that before it is stored that it was told: whatever is published after that is later.
    mesh.settled(1);
    let kind = ["--site", "blog", "--type", "t", "--key", "k"];
    succeed(&[&["publish", "--at", &mesh.nodes[1].at()][..], &kind].concat());
    mesh.nodes[1].end(Signal::KILL);
    mesh.nodes[1].start();
    mesh.linked(1);
    mesh.nodes[0].end(Signal::KILL);
    mesh.nodes[0].start();
    mesh.linked(1);
    let verdict = settled("restarts tell nothing more", &publisher, &subscriber);
    assert_eq!(verdict.missed, 1, "{verdict:?}");
}

#[test]
fn p1_of_two_nodes_under_one_name_the_one_that_nobody_dialled_is_missed_once_it_is_gone() {
    let mut mesh = Mesh::started(3);
    let files = [0, 1, 2].map(|node| mesh.path(&format!("heard-{node}.jsonl")));
    let start = |node: usize| Subscriber::start(&mesh.nodes[node].at(), files[node].clone());
    let heard = [start(0), start(1), start(2)];
    let missed = |node: usize| {
        let text = std::fs::read_to_string(&files[node]).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("{\"missed\"")).count()
    };
    // Somebody copied a certificate and a configuration to a machine of its own.
    let mut twin = mesh.twin(0);
    twin.start();
    let told = "two nodes bear this name";
    until("both are told of both", || [1, 2].iter().all(|it| mesh.nodes[*it].log().contains(told)));
    let kind = ["--site", "shop", "--type", "t", "--key", "k", "--id", "lost"];
    succeed(&[&["publish", "--at", &twin.at()][..], &kind].concat());
    let mut publisher = Publisher::start(&mesh.nodes[0].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("the other one is served, too", || publisher.assured() == EVENTS);
    assert_eq!([0, 1, 2].map(missed), [0; 3], "both are there");
    twin.end(Signal::KILL);
    // Also on the one whose name it bore.
    until("it is gone, and missed", || [0, 1, 2].map(missed) == [1; 3]);
    // Once; and the other one goes on.
    mesh.nodes[1].end(Signal::KILL);
    mesh.nodes[1].start();
    mesh.linked(1);
    publisher.hand_in(EVENTS);
    until("it assures", || publisher.assured() == 2 * EVENTS);
    heard.iter().for_each(|heard| drop(settled("and is heard", &publisher, heard)));
    assert_eq!([0, 1, 2].map(missed), [1; 3]);
}
