//! P6: what any living member holds reaches the others without its origin.

use evermesh_event::verdict::Verdict;
use rustix::process::Signal;

use crate::history::{Publisher, Subscriber};
use crate::mesh::{Mesh, status};
use crate::node::until;

const EVENTS: usize = 300;

/// How many events of `web-1` a node holds.
fn held(mesh: &Mesh, node: usize) -> u64 {
    status(&mesh.nodes[node])["journal"]["events_received"].as_u64().unwrap()
}

/// A publisher at `web-1`, whose events `web-2` holds and `web-3`, which does not run, lacks;
/// `web-1` is killed and does not come back.
fn origin_lost(mesh: &mut Mesh) -> Publisher {
    let mut publisher = Publisher::start(&mesh.nodes[0].at(), mesh.path("published.jsonl"));
    publisher.hand_in(EVENTS);
    until("the first half is assured", || publisher.assured() == EVENTS);
    until("and at web-3", || held(mesh, 2) == EVENTS as u64);
    mesh.settled(2);
    mesh.nodes[2].end(Signal::KILL);
    publisher.hand_in(EVENTS);
    until("the second half is assured", || publisher.assured() == 2 * EVENTS);
    until("and at web-2", || held(mesh, 1) == 2 * EVENTS as u64);
    mesh.settled(1);
    mesh.nodes[0].end(Signal::KILL);
    publisher.finish();
    publisher
}

/// `missed`: how often at most something was told as missed.
fn heard(publisher: &Publisher, subscriber: &Subscriber, missed: u64) {
    let verdict = || Verdict::of(&publisher.published(), &subscriber.history());
    until("everything is heard without the origin", || verdict().lost == 0);
    let verdict = verdict();
    assert!(verdict.missed <= missed, "{verdict:?}");
    assert_eq!((verdict.lost, verdict.reordered, verdict.phantom), (0, 0, 0), "{verdict:?}");
    assert_eq!(verdict.duplicated, 0, "{verdict:?}");
}

#[test]
fn p6_a_member_that_was_away_hears_what_a_dead_origin_published() {
    let mut mesh = Mesh::started(3);
    let mut subscriber = Subscriber::start(&mesh.nodes[2].at(), mesh.path("heard.jsonl"));
    let publisher = origin_lost(&mut mesh);
    mesh.nodes[2].start();
    subscriber.kill_and_resume();
    heard(&publisher, &subscriber, 0);
}

#[test]
fn p6_a_member_that_lost_its_disk_hears_all_from_others() {
    let mut mesh = Mesh::started(3);
    let publisher = origin_lost(&mut mesh);
    std::fs::remove_dir_all(mesh.path("web-3.data")).unwrap();
    mesh.nodes[2].start();
    let subscriber = Subscriber::start(&mesh.nodes[2].at(), mesh.path("heard.jsonl"));
    // What it had published itself under its former journal id nobody can know.
    heard(&publisher, &subscriber, 1);
}

#[test]
fn p6_the_origin_goes_on_itself_once_it_is_back() {
    let mut mesh = Mesh::started(3);
    let mut subscriber = Subscriber::start(&mesh.nodes[2].at(), mesh.path("heard.jsonl"));
    let mut publisher = origin_lost(&mut mesh);
    mesh.nodes[2].start();
    subscriber.kill_and_resume();
    heard(&publisher, &subscriber, 0);
    mesh.nodes[0].start();
    publisher.kill_and_go_on();
    publisher.hand_in(EVENTS);
    until("it assures again", || publisher.assured() == 3 * EVENTS);
    heard(&publisher, &subscriber, 0);
}
