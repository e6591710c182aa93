//! P1–P3, P8: three nodes in networks that part, one way or both, once or again and again.
//! Publishers are assured at their own node all the time; when it is over everybody has heard
//! everything, in order, and missed nothing.

use evermesh_event::verdict::Verdict;
use rustix::process::Signal;

use crate::everywhere;
use crate::history::{Publisher, Subscriber};
use crate::mesh::{Mesh, status};
use crate::needs::{self, Need, count};
use crate::network::{Network, host};
use crate::node::until;

const NEEDS: &[Need] = &[Need::Networks, Need::Rules];
const NODES: usize = 3;
/// Handed in by each publisher in each state of the network.
const EVENTS: usize = 200;
/// How often a network parts and heals, if nobody says it.
const FLAPS: usize = 10;

struct Parted {
    mesh: Mesh,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Goes last: whatever runs in it is gone then.
    network: Network,
}

impl Parted {
    fn new() -> Self {
        let network = Network::new(NODES);
        let hosts: Vec<_> = (0..NODES).map(host).collect();
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        let mut mesh = Mesh::on(&hosts);
        for (number, node) in mesh.nodes.iter_mut().enumerate() {
            node.within(&network.within(number));
        }
        mesh.start();
        let (publishers, subscribers) = everywhere::start(&mesh);
        Self { mesh, publishers, subscribers, network }
    }

    /// Everybody publishes, and is assured.
    fn publish(&mut self) {
        for publisher in &mut self.publishers {
            let before = publisher.assured();
            publisher.hand_in(EVENTS);
            until("publishers are assured", || publisher.assured() >= before + EVENTS);
        }
    }

    /// What so far was lost to a node, of the events of another.
    fn lacks(&self, node: usize, publisher: usize) -> u64 {
        let published = self.publishers[publisher].published();
        Verdict::of(&published, &self.subscribers[node].history()).lost
    }

    /// Everything that was assured is heard everywhere, each once, and nothing was missed.
    fn converges(&self, what: &str) {
        let published = everywhere::published(&self.publishers);
        for subscriber in &self.subscribers {
            until(&format!("everybody heard everything after {what}"), || {
                Verdict::of(&published, &subscriber.history()).lost == 0
            });
            assert_eq!(
                Verdict::of(&published, &subscriber.history()),
                Verdict::default(),
                "{what}"
            );
        }
    }

    /// Whether a node knows that it does not hear another.
    fn noticed(&self, node: usize, other: usize) -> bool {
        let status = status(&self.mesh.nodes[node]);
        let name = format!("web-{}", other + 1);
        let mut members = status["members"].as_array().unwrap().iter();
        let member = members.find(|member| member["node"] == name.as_str()).unwrap();
        member["pulling"] == false && member["suspended"] == true
    }

    fn finish(mut self) {
        self.publishers.iter_mut().for_each(Publisher::finish);
        self.converges("all");
        for node in &mut self.mesh.nodes {
            assert_eq!(node.end(Signal::TERM).code(), Some(0), "{}", node.log());
        }
    }
}

#[test]
fn networks_that_part_lose_nothing() {
    if !needs::are_there(NEEDS) {
        return;
    }
    let mut parted = Parted::new();
    parted.publish();
    parted.converges("nothing");
    type Cut = fn(&Network);
    let cuts: [(&str, Cut); 4] = [
        ("the first node was alone", |network| {
            network.part(0, 1);
            network.part(0, 2);
        }),
        ("two did not hear each other", |network| network.part(0, 1)),
        ("one did not hear the other", |network| network.deafen(1, 0)),
        ("the other did not hear the one", |network| network.deafen(0, 1)),
    ];
    for (what, cut) in cuts {
        cut(&parted.network);
        parted.publish();
        // The third hears the second all the time.
        until("others go on", || parted.lacks(2, 1) == 0);
        if what.contains("alone") {
            let lacks = [(1, 0), (2, 0), (0, 1), (0, 2)].map(|(at, of)| parted.lacks(at, of));
            assert_eq!(lacks, [EVENTS as u64; 4], "the network did not part");
        }
        until("it is noticed", || parted.noticed(1, 0) || parted.noticed(0, 1));
        parted.publish();
        parted.network.heal();
        parted.converges(what);
    }
    parted.finish();
}

#[test]
fn a_network_that_flaps_loses_nothing() {
    if !needs::are_there(NEEDS) {
        return;
    }
    let mut parted = Parted::new();
    for flap in 0..count("EVERMESH_FLAPS", FLAPS) {
        let (one, other) = [(0, 1), (1, 2), (2, 0)][flap % 3];
        if flap % 2 == 0 {
            parted.network.part(one, other);
        } else {
            parted.network.deafen(one, other);
        }
        parted.publish();
        if flap % 4 == 3 {
            until("it is noticed", || parted.noticed(one, other));
        }
        parted.network.heal();
        parted.publish();
    }
    parted.finish();
}

/// Its connections stay, and nothing comes through them.
#[test]
fn a_peer_that_fell_silent_is_noticed_and_concerns_nobody_else() {
    if !needs::are_there(NEEDS) {
        return;
    }
    let mut parted = Parted::new();
    parted.publish();
    parted.converges("nothing");
    parted.network.part(0, 2);
    parted.network.part(1, 2);
    until("both notice", || parted.noticed(0, 2) && parted.noticed(1, 2));
    until("it notices, too", || parted.noticed(2, 0) && parted.noticed(2, 1));
    parted.publish();
    until("the others go on", || parted.lacks(0, 1) == 0 && parted.lacks(1, 0) == 0);
    assert!(!parted.noticed(0, 1) && !parted.noticed(1, 0), "and hear each other");
    assert_eq!([parted.lacks(2, 0), parted.lacks(2, 1)], [EVENTS as u64; 2]);
    parted.network.heal();
    parted.finish();
}
