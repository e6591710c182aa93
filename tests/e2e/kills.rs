//! P1–P5 over SIGKILL, 20 times each, with publishing under way: sets and order compared.

use rustix::process::Signal;

use evermesh_event::verdict::Verdict;

use crate::history::{Publisher, Subscriber};
use crate::mesh::Mesh;
use crate::node::until;

const KILLS: usize = 20;
/// Handed in around each kill: enough that the kill falls between events.
const EVENTS: usize = 300;

/// What is killed, between two portions of events.
struct Run {
    mesh: Mesh,
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
}

impl Run {
    fn new() -> Self {
        let mesh = Mesh::started(3);
        let publisher = Publisher::start(&mesh.nodes[0].at(), mesh.path("published.jsonl"));
        let subscribers = (0..3).map(|n| {
            Subscriber::start(&mesh.nodes[n].at(), mesh.path(&format!("heard-{n}.jsonl")))
        });
        let subscribers = subscribers.collect();
        Self { mesh, publisher, subscribers }
    }

    /// Waits until so many more events are assured: the kill falls into the next ones.
    fn progress(&mut self, assured: usize) {
        until("publishing goes on", || self.publisher.assured() >= assured);
    }

    /// Everything that was assured is heard everywhere, in order, and nothing else.
    fn verdict(mut self) -> Verdict {
        self.publisher.finish();
        let published = self.publisher.published();
        let mut all = Verdict::default();
        for (n, subscriber) in self.subscribers.iter().enumerate() {
            until("everything assured is heard", || {
                let lost = Verdict::of(&published, &subscriber.history()).lost;
                lost == 0
            });
            let verdict = Verdict::of(&published, &subscriber.history());
            assert!(verdict.is_clean(), "at web-{}: {verdict:?}", n + 1);
            all.add(verdict);
        }
        drop(self.mesh);
        all
    }
}

#[test]
fn the_receiver_20_times() {
    let mut run = Run::new();
    for kill in 0..KILLS {
        run.publisher.hand_in(EVENTS);
        run.progress(kill * EVENTS + 1);
        run.mesh.nodes[1].end(Signal::KILL);
        run.mesh.nodes[1].start();
    }
    assert_eq!(run.verdict().renumbered, 0);
}

#[test]
fn the_origin_20_times() {
    let mut run = Run::new();
    for kill in 0..KILLS {
        run.publisher.hand_in(EVENTS);
        run.progress(kill * EVENTS + 1);
        run.mesh.nodes[0].end(Signal::KILL);
        run.mesh.nodes[0].start();
    }
    run.verdict();
}

#[test]
fn the_publisher_20_times() {
    let mut run = Run::new();
    for _ in 0..KILLS {
        let before = run.publisher.assured();
        run.publisher.hand_in(EVENTS);
        run.progress(before + 1);
        run.publisher.kill_and_go_on();
    }
    assert_eq!(run.verdict().renumbered, 0);
}

#[test]
fn the_subscriber_20_times() {
    let mut run = Run::new();
    for kill in 0..KILLS {
        run.publisher.hand_in(EVENTS);
        run.progress(kill * EVENTS + 1);
        run.subscribers[2].kill_and_resume();
    }
    let verdict = run.verdict();
    assert_eq!(verdict.renumbered, 0);
    assert_eq!(verdict.duplicated, 0, "each went on after the last line it had written");
}
