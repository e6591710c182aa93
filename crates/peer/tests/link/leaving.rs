//! Who holds up a node that leaves, and for how long.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Listed, margin};

use crate::departed::{step, web_2};
use crate::scripted::{LEASE, Peer, Script};

/// A node that published an event, and that nobody reaches. It knows web-2 by its address alone, or
/// from a former start; and web-3, which holds the event or does not.
async fn alone(is_known: bool, is_held: bool) -> Peer {
    let disk = Arc::new(MemoryDisk::new());
    if is_known {
        let members = vec![Listed::default().to_proto(&web_2())];
        let former = Peer::start_on(&disk, Script { members, ..Script::default() });
        former.until(|peer| peer.status().pulling).await;
        former.journal.close().await.unwrap();
    }
    let peer = Peer::start_on(&disk, Script { there: false, ..Script::default() });
    peer.append("e0").await;
    let cursors = peer.journal.cursors();
    cursors.presence("web-3", Presence::Expected);
    if is_held {
        cursors.applied("web-3", peer.journal.own_head(), Vec::new());
    }
    peer
}

#[tokio::test(start_paused = true)]
async fn who_was_never_heard_in_this_start_holds_up_a_leave_for_one_lease_only() {
    let young = LEASE + margin(LEASE);
    for is_known in [true, false] {
        let peer = alone(is_known, true).await;
        let name = if is_known { "web-2" } else { "https://web-2:7443" };
        let peers = peer.peers.clone();
        let leaves = tokio::spawn(async move { peers.held_by_all().await });
        step(young - Duration::from_millis(100)).await;
        let held = peer.peers.held();
        assert_eq!((&*held.pending, &*held.lacks), (&[name.to_owned()][..], &[][..]));
        assert!(!held.is_enough() && !leaves.is_finished(), "it may be about to come");
        step(Duration::from_millis(100) + LEASE / 4).await;
        assert!(leaves.is_finished(), "nothing else changed, and the time did");
        let held = leaves.await.unwrap();
        assert_eq!((&*held.pending, &*held.lacks), (&[][..], &[name.to_owned()][..]));
        assert!(held.safely && held.holds == ["web-3"], "{held:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p1_who_was_never_heard_counts_for_nothing_where_nobody_holds_everything() {
    let peer = alone(true, false).await;
    let peers = peer.peers.clone();
    let leaves = tokio::spawn(async move { peers.held_by_all().await });
    step(LEASE * 5).await;
    let held = peer.peers.held();
    assert_eq!((held.lacks.len(), held.safely), (2, false), "{held:?}");
    assert!(!held.is_enough() && !leaves.is_finished(), "what it published would be lost");
    // Nobody was heard; but somebody tells now to hold it.
    peer.journal.cursors().applied("web-3", peer.journal.own_head(), Vec::new());
    step(Duration::from_millis(10)).await;
    assert!(leaves.await.unwrap().is_enough());
}

#[tokio::test(start_paused = true)]
async fn who_is_there_holds_up_a_leave_as_long_as_it_lacks_something() {
    let peer = alone(true, true).await;
    let peers = peer.peers.clone();
    let leaves = tokio::spawn(async move { peers.held_by_all().await });
    for _ in 0..10 {
        peer.ping_as(7).await;
        step(LEASE / 2).await;
    }
    let held = peer.peers.held();
    assert_eq!((&*held.pending, &*held.lacks), (&["web-2".to_owned()][..], &[][..]));
    assert!(!leaves.is_finished(), "it pings, and is about to have it");
    // It falls silent: now it may get it from web-3.
    step(LEASE * 2).await;
    assert_eq!(leaves.await.unwrap().lacks, ["web-2"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_bear_one_name_each_holds_up_a_leave_while_it_is_there() {
    let peer = alone(true, true).await;
    peer.ping_as(7).await;
    let _one = peer.pull_as("web-2", 7).await.unwrap();
    let mut other = peer.pull_as("web-2", 8).await.unwrap();
    assert!(other.message().await.unwrap().is_some(), "both are served");
    for _ in 0..10 {
        peer.ping_as(7).await;
        peer.ping_as(8).await;
        step(LEASE / 2).await;
    }
    let held = peer.peers.held();
    assert_eq!((held.pending.len(), held.lacks.len()), (2, 0), "{held:?}");
    assert!(held.pending.iter().all(|label| label.starts_with("web-2")), "{held:?}");
}
