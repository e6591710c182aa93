//! P1–P3, P8: SIGKILL and SIGSTOP, again and again, with publishing under way at every node.
//!
//! By hand 200 cycles over a million events:
//! `EVERMESH_CYCLES=200 EVERMESH_CYCLE_EVENTS=1000000 cargo test --release --test root cycles`.

use std::collections::HashMap;

use evermesh_event::verdict::Verdict;
use rustix::process::Signal;

use crate::dice::Dice;
use crate::everywhere;
use crate::history::{Publisher, Subscriber};
use crate::mesh::{Mesh, status};
use crate::needs::count;
use crate::node::until;

const NODES: usize = 3;
/// Cycles, if nobody says how many.
const CYCLES: usize = 20;
/// After so many all is heard, acknowledged and stored once: from then on none of it comes again.
const SETTLES_EVERY: usize = 5;
/// Events over all of them.
const EVENTS: usize = 40_000;

struct Run {
    mesh: Mesh,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    dice: Dice,
    /// Of each publisher, in each cycle.
    portion: usize,
    /// How much each subscriber had heard when all of that was acknowledged, and stored where it
    /// listens.
    stored: [Vec<u64>; NODES],
}

impl Run {
    fn new(cycles: usize) -> Self {
        let mesh = Mesh::started(NODES);
        let (publishers, subscribers) = everywhere::start(&mesh);
        let portion = count("EVERMESH_CYCLE_EVENTS", EVENTS).div_ceil(cycles * NODES);
        let (dice, stored) = (Dice::new(), Default::default());
        Self { mesh, publishers, subscribers, dice, portion, stored }
    }

    fn assured(&self, node: usize) -> usize {
        self.publishers[node].assured()
    }

    /// Everybody publishes; returns somewhere in between, as the one at a node sees it.
    fn under_way(&mut self, node: usize) {
        let before = self.assured(node);
        self.publishers.iter_mut().for_each(|publisher| publisher.hand_in(self.portion));
        let more = 1 + self.dice.below(self.portion);
        until("publishing goes on", || self.assured(node) >= before + more);
    }

    /// All that was handed in at the other nodes is assured, and heard at them, while this one is
    /// away.
    fn others_go_on(&self, away: usize) {
        let others = || (0..NODES).filter(|node| *node != away);
        for node in others() {
            let publisher = &self.publishers[node];
            until("others publish", || publisher.assured() >= publisher.handed_in());
            let newest = publisher.newest().unwrap();
            for at in others() {
                until(&format!("web-{} hears {newest} of web-{}", at + 1, node + 1), || {
                    self.subscribers[at].history().has_heard(&newest)
                });
            }
        }
    }

    /// One fault at one node.
    fn cycle(&mut self, cycle: usize) {
        let node = self.dice.below(NODES);
        self.under_way(node);
        match cycle % 4 {
            // The node, and at once again.
            0 => drop(self.mesh.nodes[node].end(Signal::KILL)),
            // The node, and the others go on.
            1 => {
                self.mesh.nodes[node].end(Signal::KILL);
                self.others_go_on(node);
            }
            // The node only pauses, longer than anybody waits for its lease.
            2 => {
                self.mesh.nodes[node].signal(Signal::STOP);
                self.others_go_on(node);
                self.mesh.nodes[node].signal(Signal::CONT);
                return;
            }
            // A subscriber, which goes on after what it had written. One that finds nobody at its
            // very beginning ends.
            _ => {
                let caught_up = self.subscribers[node].caught_up();
                self.subscribers[node].kill_and_resume();
                until("it is there", || self.subscribers[node].caught_up() > caught_up);
                return;
            }
        }
        self.mesh.nodes[node].start();
    }

    /// Lets everybody hear and acknowledge everything, and every node store it.
    fn settle(&mut self) {
        for publisher in &mut self.publishers {
            until("all is assured", || publisher.assured() >= publisher.handed_in());
            // Of what was not assured when its node was killed the others may have heard some, and
            // hear it again under its new number: all of that lies before this one.
            publisher.hand_in(1);
        }
        for publisher in &self.publishers {
            until("the last is assured", || publisher.assured() >= publisher.handed_in());
            let newest = publisher.newest().unwrap();
            for subscriber in &self.subscribers {
                until("all is heard", || subscriber.history().has_heard(&newest));
            }
        }
        for node in &self.mesh.nodes {
            until("all is acknowledged and stored", || {
                let status = status(node);
                let [only] = &status["subscriptions"].as_array().unwrap()[..] else { return false };
                let journal = &status["journal"];
                only["unacknowledged"] == 0 && journal["head"] == journal["durable"]
            });
        }
        for (subscriber, stored) in self.subscribers.iter().zip(&mut self.stored) {
            stored.push(subscriber.history().deliveries());
        }
    }

    /// What was acknowledged and stored is never heard again.
    fn never_again(&self) {
        for (subscriber, stored) in self.subscribers.iter().zip(&self.stored) {
            let mut first = HashMap::new();
            for (place, id) in (0..).zip(subscriber.ids()) {
                let settled = stored.partition_point(|before| *before <= place);
                let since = *first.entry(id.clone()).or_insert(settled);
                assert_eq!(since, settled, "{id} was acknowledged and stored, and is heard again");
            }
        }
    }

    fn finish(mut self) {
        self.publishers.iter_mut().for_each(Publisher::finish);
        let published = everywhere::published(&self.publishers);
        let mut all = Verdict::default();
        for subscriber in &self.subscribers {
            until("everything assured is heard", || {
                Verdict::of(&published, &subscriber.history()).lost == 0
            });
            let verdict = Verdict::of(&published, &subscriber.history());
            assert!(verdict.is_clean(), "{verdict:?}");
            all.add(verdict);
        }
        self.never_again();
        for node in &mut self.mesh.nodes {
            assert_eq!(node.end(Signal::TERM).code(), Some(0), "{}", node.log());
        }
        let events = published.assured();
        eprintln!("{events} events, {NODES} subscribers: {all:?}");
    }
}

#[test]
fn kills_and_pauses_lose_nothing() {
    let cycles = count("EVERMESH_CYCLES", CYCLES);
    let mut run = Run::new(cycles);
    for cycle in 0..cycles {
        run.cycle(cycle);
        if cycle % SETTLES_EVERY == SETTLES_EVERY - 1 {
            run.settle();
        }
    }
    run.finish();
}
