//! P9: what newer events replace is applied once those are, and not when it is passed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use evermesh_event::world::Clock as _;
use evermesh_event::{Block, BlockBuilder, Offset, StartId};
use evermesh_journal::{Echo, Intake, Missed};
use evermesh_proto::v1;

use super::super::fixture::{LEASE, Node, at, event, other};
use super::super::{Deliver, freshness};
use super::*;

/// Events of the other node, and what is left of them where only some stay.
fn block(previous: u64, last: u64, stay: &[u64]) -> Block {
    let mut block = BlockBuilder::new(other(), StartId::new([1; 16]), at(previous));
    (previous + 1..=last).for_each(|n| block.push(at(n), &event(&n.to_string()), false));
    let whole = block.finish().unwrap();
    whole.coalesce(at(previous), |entry| stay.contains(&entry.sequence.counter()))
}

impl Node {
    /// It is so many seconds, and web-2 echoes a ping that was sent just now.
    fn echo(&self, second: u64, head: u64) {
        self.clock.set(second);
        let (pinged, head) = (self.clock.boot(), at(head));
        let echo = Echo { origin: other(), pinged, head, durable_head: head };
        self.journal().leases().echoed("web-2", echo, Offset::ZERO, LEASE, pinged);
    }

    /// Whether every subscription here is said to have applied an event of web-2.
    fn applied(&self, counter: u64) -> bool {
        self.journal().applied().lagging(&other(), at(counter)).is_empty()
    }
}

impl Deliver<'_> {
    /// Everything that is here is delivered and acknowledged.
    async fn hears_all(&mut self) {
        let head = self.local.parts.journal.head();
        while self.batches.at() < head {
            let records = self.reader.next(1 << 20).await.unwrap();
            self.batches.extend(records);
            while !self.batches.is_empty() {
                self.next_message().unwrap();
            }
        }
        self.window.acknowledge(head).unwrap();
        self.progress.settle(&self.window, true);
    }

    /// Until when its application may trust what a node published, from now on.
    fn trusts(&mut self, node: &str) -> Duration {
        self.progress.settle(&self.window, false);
        let (local, through) = (self.local, self.window.applied());
        let ping = v1::SubscribePing::default();
        let leases = freshness::freshness(local, &self.progress, through, ping).leases;
        let lease = leases.into_iter().find(|lease| lease.node == node).unwrap();
        lease.remains.unwrap().try_into().unwrap()
    }
}

#[tokio::test]
async fn p9_what_newer_events_replace_is_applied_once_they_are() {
    let node = Node::new();
    node.journal().take(block(0, 1, &[1])).await.unwrap();
    let mut stream = node.stream(Offset::ZERO);
    node.echo(1, 1);
    stream.hears_all().await;
    assert_eq!(stream.trusts("web-2"), LEASE);
    // 2 was replaced by 4, which is not here yet.
    node.journal().take(block(1, 3, &[3])).await.unwrap();
    stream.hears_all().await;
    assert!(node.applied(1) && !node.applied(2), "it may show what was before 2");
    assert_eq!(stream.trusts("web-2"), Duration::ZERO);
    node.echo(2, 4);
    assert_eq!(stream.trusts("web-2"), Duration::ZERO);
    assert!(!node.applied(2), "4 is not here, and the lease of second 1 is not over");
    node.journal().take(block(3, 4, &[4])).await.unwrap();
    stream.hears_all().await;
    assert!(node.applied(4));
    assert_eq!(stream.trusts("web-2"), LEASE);
}

#[tokio::test]
async fn p9_a_head_from_before_what_was_replaced_came_bounds_nothing() {
    let node = Node::new();
    let mut stream = node.stream(Offset::ZERO);
    node.echo(1, 0);
    stream.hears_all().await;
    assert_eq!(stream.trusts("web-2"), LEASE);
    node.journal().take(block(0, 3, &[3])).await.unwrap();
    // The ping was sent in the same second: it cannot be told which came first.
    node.echo(1, 3);
    stream.hears_all().await;
    assert!(!node.applied(1));
    node.echo(2, 3);
    assert_eq!(stream.trusts("web-2"), LEASE);
    assert!(node.applied(3), "and what is replaced lies within what was heard");
}

#[tokio::test]
async fn p9_what_replaces_it_may_be_replaced_too() {
    let node = Node::new();
    let mut stream = node.stream(Offset::ZERO);
    node.echo(1, 0);
    stream.hears_all().await;
    assert_eq!(stream.trusts("web-2"), LEASE);
    // 4 replaced 1, and 6 replaced 4 before that came.
    node.journal().take(block(0, 3, &[2, 3])).await.unwrap();
    stream.hears_all().await;
    node.echo(2, 4);
    assert_eq!(stream.trusts("web-2"), Duration::ZERO);
    node.journal().take(block(3, 5, &[5])).await.unwrap();
    stream.hears_all().await;
    assert!(!node.applied(1), "4 was passed, and not heard");
    node.echo(3, 6);
    assert_eq!(stream.trusts("web-2"), Duration::ZERO);
    node.journal().take(block(5, 6, &[6])).await.unwrap();
    stream.hears_all().await;
    assert!(node.applied(6));
    assert_eq!(stream.trusts("web-2"), LEASE);
}

#[tokio::test]
async fn p9_what_was_replaced_holds_nothing_back_once_the_leases_from_before_are_over() {
    let node = Node::new();
    let mut stream = node.stream(Offset::ZERO);
    node.echo(1, 0);
    stream.hears_all().await;
    assert_eq!(stream.trusts("web-2"), LEASE);
    node.journal().take(block(0, 2, &[2])).await.unwrap();
    stream.hears_all().await;
    // Granted in second 1 for two, and a margin of one.
    node.echo(3, 9);
    assert_eq!(stream.trusts("web-2"), Duration::ZERO);
    assert!(!node.applied(1));
    assert_eq!(stream.progress.withheld_for(), Some(Duration::from_secs(1)));
    node.echo(4, 9);
    assert_eq!(stream.trusts("web-2"), Duration::ZERO, "9 may replace it");
    assert!(node.applied(2), "and nobody trusts what was before");
    assert_eq!(stream.progress.withheld_for(), None);
}

#[tokio::test]
async fn p9_a_stream_that_opens_behind_what_was_replaced_waits_for_what_replaces_it() {
    let node = Node::new();
    node.echo(1, 0);
    node.journal().take(block(0, 2, &[2])).await.unwrap();
    // Its application passed 1 on an earlier stream; its lease began before that.
    let mut stream = node.stream(node.journal().head());
    assert_eq!(stream.trusts("web-2"), Duration::ZERO);
    node.echo(2, 3);
    assert_eq!(stream.trusts("web-2"), Duration::ZERO, "3 is not here yet");
    node.journal().take(block(2, 3, &[3])).await.unwrap();
    stream.hears_all().await;
    assert_eq!(stream.trusts("web-2"), LEASE);
    node.echo(3, 3);
    let mut whole = node.stream(node.journal().head());
    assert_eq!(whole.trusts("web-2"), LEASE, "what replaces it is here");
}

#[tokio::test]
async fn p9_a_missed_of_other_sites_passes_over_what_newer_events_replaced_there() {
    let node = Node::new();
    node.journal().take(block(0, 1, &[1])).await.unwrap();
    let mut stream = node.stream(Offset::ZERO);
    node.echo(1, 1);
    stream.hears_all().await;
    assert_eq!(stream.trusts("web-2"), LEASE);
    // 2 was of this subscription's site and left out before the rest of them was cut.
    let miss = async |from, through, sites: &[&str]| {
        let sites = sites.iter().map(ToString::to_string).collect();
        let cause = v1::MissedCause::Retention;
        let missed = Missed { origin: Some(other()), from: at(from), through, sites, cause };
        node.journal().miss(missed).await.unwrap();
    };
    miss(2, at(3), &["blog"]).await;
    stream.hears_all().await;
    assert!(node.applied(1) && !node.applied(2));
    node.echo(2, 3);
    assert_eq!(stream.trusts("web-2"), LEASE);
    miss(4, at(5), &[]).await;
    stream.hears_all().await;
    assert!(node.applied(5), "all of it was told");
}

#[tokio::test]
async fn p9_what_was_replaced_of_this_node_waits_for_what_it_had_numbered() {
    let node = Node::new();
    let append = async |id: &str| {
        let intake = Intake { event: event(id), sampled: false };
        node.journal().append(&Arc::from("editor"), vec![intake]).await.unwrap().own_through
    };
    let (own, first) = (node.journal().origin().clone(), append("1").await);
    let second = append("2").await;
    let until = Duration::from_secs(9);
    let mut replaced = Replaced::default();
    replaced.note(&own, Sequence::ZERO, Duration::ZERO, until);
    let mut passed = |through, now| {
        let moves = Frontier::from_iter([(own.clone(), through)]);
        let counts = replaced.counts(&moves, node.journal(), now).get(&own);
        (counts, replaced.is_heard(&own))
    };
    assert_eq!(passed(first, Duration::ZERO), (Sequence::ZERO, false));
    append("3").await;
    assert_eq!(passed(second, Duration::ZERO), (second, true), "3 replaced nothing then");
}
