//! A link against a scripted peer: what it takes, and what ends it. In memory, in paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod departed;
mod leaving;
mod redials;
mod scripted;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use evermesh_event::assurance::{Presence, applied, replicated};
use evermesh_event::{
    Block, BlockBuilder, Fill, JournalId, NodeName, Offset, Origin, Sequence, StartId, validate,
};
use evermesh_journal::Limits;
use evermesh_journal::simulated::MemoryDisk;
use evermesh_proto::v1;

use crate::scripted::{Peer, Script};

fn origin(name: &str) -> Origin {
    Origin { node: NodeName::new(name).unwrap(), journal: JournalId::new([7; 16]) }
}

/// A block of `web-2` with these sequences, all of one start.
fn block(name: &str, previous: u64, sequences: &[u64]) -> Block {
    block_of(origin(name), previous, sequences)
}

fn block_of(origin: Origin, previous: u64, sequences: &[u64]) -> Block {
    let at = |counter: u64| Sequence::from_u64((1 << 40) + counter);
    let previous = if previous == 0 { Sequence::ZERO } else { at(previous) };
    let mut builder = BlockBuilder::new(origin, StartId::new([1; 16]), previous);
    for sequence in sequences {
        let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() };
        let fill = Fill { id: uuid::Uuid::nil(), now: SystemTime::UNIX_EPOCH };
        builder.push(at(*sequence), &validate(event, fill).unwrap(), false);
    }
    builder.finish().unwrap()
}

fn bytes(blocks: &[Block]) -> Vec<Bytes> {
    blocks.iter().map(|block| block.encoded().clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_taken_once_and_said_to_be_stored() {
    let blocks =
        [block("web-2", 0, &[1, 2]), block("web-2", 0, &[1, 2]), block("web-2", 1, &[2, 3])];
    let peer = Peer::start(Script { blocks: bytes(&blocks), ..Script::default() });
    peer.until(|peer| peer.stored().contains(&3)).await;
    let status = peer.journal.status();
    assert_eq!(status.events_received, 3, "a duplicate and a straddling entry died in the rule");
    assert_eq!(peer.hellos().len(), 1, "one link did it");
}

#[tokio::test(start_paused = true)]
async fn damage_on_the_way_is_not_taken_and_asked_for_again() {
    let mut damaged = block("web-2", 0, &[1]).encoded().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let peer = Peer::start(Script { blocks: vec![damaged.into()], ..Script::default() });
    peer.until(|peer| peer.hellos().len() >= 3).await;
    assert_eq!(peer.journal.status().events_received, 0);
    assert!(peer.trouble().contains("checksum"), "{}", peer.trouble());
}

#[tokio::test(start_paused = true)]
async fn p1_starts_are_told_of_whom_nothing_is_held_as_well() {
    let damaged = vec![Bytes::from_static(b"no block")];
    let peer = Peer::start(Script { blocks: damaged, ..Script::default() });
    let (silent, epoch) = (origin("web-2"), Sequence::from_u64(1 << 40).epoch());
    peer.journal.note_start(&silent, epoch, StartId::new([5; 16]));
    let told = |hello: &v1::Hello| {
        let of = hello.frontier.iter().find(|of| of.origin == Some(silent.to_proto()));
        of.is_some_and(|of| of.starts.iter().any(|seen| *seen.start == [5; 16]))
    };
    peer.until(|peer| peer.hellos().iter().any(told)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_never_stepped_over() {
    let blocks = bytes(&[block("web-2", 0, &[1]), block("web-2", 5, &[6])]);
    let peer = Peer::start(Script { blocks, ..Script::default() });
    peer.until(|peer| peer.hellos().len() >= 2).await;
    assert_eq!(peer.journal.status().events_received, 1);
    assert!(peer.trouble().contains("left a hole"), "{}", peer.trouble());
    let again = &peer.hellos()[1].frontier;
    let asked = again.iter().find(|f| f.origin.as_ref().unwrap().node == "web-2").unwrap();
    assert_eq!(asked.sequence, (1 << 40) + 1, "it asks from where it is");
}

#[tokio::test(start_paused = true)]
async fn p10_a_peer_speaks_for_itself_only() {
    let blocks = bytes(&[block("web-3", 0, &[1])]);
    let peer = Peer::start(Script { blocks, ..Script::default() });
    peer.until(|peer| peer.hellos().len() >= 2).await;
    assert_eq!(peer.journal.status().events_received, 0);
    assert!(peer.trouble().contains("web-3"), "{}", peer.trouble());
    let peer = Peer::start(Script { welcome: "web-9".into(), ..Script::default() });
    peer.until(|peer| peer.hellos().len() >= 2).await;
    assert!(peer.trouble().contains("the certificate says web-2"), "{}", peer.trouble());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_left_and_dialled_again() {
    let peer = Peer::start(Script { echoes: false, ..Script::default() });
    peer.until(|peer| peer.trouble().contains("did not answer pings")).await;
    peer.until(|peer| peer.hellos().len() >= 2).await;
}

#[tokio::test(start_paused = true)]
async fn p4_a_member_that_falls_silent_is_suspended_after_its_lease() {
    let peer = Peer::start(Script::default());
    peer.until(|peer| peer.status().pulling).await;
    let needed = Sequence::from_u64(1);
    let judge = || replicated(needed, &peer.journal.cursors().snapshot(), 0);
    assert!(!judge().done, "configured, linked, and never heard to ping: pending");
    // It pings once, and never again.
    let mesh = peer.ping_once().await;
    assert!(!judge().done, "within its lease it is waited for");
    peer.until(|peer| peer.status().suspended).await;
    peer.until(|_| judge().done).await;
    assert_eq!(judge().members[0].1, v1::MemberStanding::Suspended);
    drop(mesh);
}

#[tokio::test(start_paused = true)]
async fn p9_what_a_former_start_knew_of_acknowledgements_does_not_count() {
    let disk = Arc::new(MemoryDisk::new());
    let former = Peer::start_on(&disk, Script::default());
    former.until(|peer| peer.status().pulling).await;
    former.append("e0").await;
    let needed = former.journal.own_head();
    // It is on the disk there, and no application acknowledged it.
    former.journal.cursors().applied("web-2", needed, vec![("shop".into(), Sequence::ZERO)]);
    former.journal.close().await.unwrap();
    drop(former);
    let peer = Peer::start_on(&disk, Script::default());
    let members = peer.journal.cursors().snapshot();
    assert!(replicated(needed, &members, 0).done, "what it stored is known still");
    assert!(!applied(&[("shop", needed)], &members).done, "it has not said what was applied");
    peer.journal.cursors().applied("web-2", needed, Vec::new());
    assert!(applied(&[("shop", needed)], &peer.journal.cursors().snapshot()).done);
}

#[tokio::test(start_paused = true)]
async fn a_newer_feed_of_one_member_takes_over() {
    let peer = Peer::start(Script::default());
    let mut first = peer.pull("web-2").await.unwrap();
    assert!(first.message().await.unwrap().is_some(), "welcome");
    let mut second = peer.pull("web-2").await.unwrap();
    assert!(second.message().await.unwrap().is_some(), "welcome");
    let ended = first.message().await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::Aborted, "{ended}");
    assert!(peer.status().feeding);
}

#[tokio::test(start_paused = true)]
async fn a_feed_sends_what_lies_above_the_frontier_and_says_goodbye() {
    let peer = Peer::start(Script::default());
    for n in 0..3 {
        peer.append(&format!("e{n}")).await;
    }
    let mut pulled = peer.pull("web-2").await.unwrap();
    let mut events = 0;
    let welcome = pulled.message().await.unwrap().unwrap().message;
    assert!(matches!(welcome, Some(v1::pull_response::Message::Welcome(_))), "{welcome:?}");
    while events < 3 {
        let Some(v1::pull_response::Message::Blocks(blocks)) =
            pulled.message().await.unwrap().unwrap().message
        else {
            panic!("blocks")
        };
        for block in blocks.blocks {
            events += Block::decode(block).unwrap().count();
        }
    }
    let peers = peer.peers.clone();
    let goodbye = tokio::spawn(async move { peers.goodbye().await });
    let last = pulled.message().await.unwrap().unwrap().message;
    let Some(v1::pull_response::Message::Goodbye(said)) = last else { panic!("{last:?}") };
    assert_eq!(said.head, peer.journal.durable().borrow().own.as_u64());
    assert!(pulled.message().await.unwrap().is_none());
    tokio::time::timeout(Duration::from_secs(5), goodbye).await.unwrap().unwrap();
}

/// What comes after the welcome, until a block ends at a sequence: how many events, which of them
/// have a key, and the blocks without any.
async fn pulled(peer: &Peer, through: Sequence) -> (u32, Vec<String>, Vec<Block>) {
    let mut pulled = peer.pull("web-2").await.unwrap();
    pulled.message().await.unwrap().unwrap();
    let (mut events, mut keyed, mut marks) = (0, Vec::new(), Vec::new());
    loop {
        let blocks = match pulled.message().await.unwrap().unwrap().message {
            Some(v1::pull_response::Message::Blocks(blocks)) => blocks.blocks,
            other => panic!("{other:?}"),
        };
        for block in blocks.into_iter().map(|block| Block::decode(block).unwrap()) {
            events += block.count();
            let entries = block.entries().map(|entry| entry.glance().id.to_owned());
            keyed.extend(entries.filter(|id| id.starts_with("keyed")));
            let last = block.last();
            marks.extend((block.count() == 0).then_some(block));
            if last == through {
                return (events, keyed, marks);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p1_what_was_cut_after_it_had_been_replaced_is_led_over_and_not_missed() {
    let segment_bytes = 40 * 1024;
    let peer = Peer::start_within(Limits {
        segment_bytes,
        max_bytes: 16 * segment_bytes,
        reserve_bytes: 2 * segment_bytes,
        tail_bytes: 4 * 1024,
        ..Limits::default()
    });
    peer.journal.cursors().presence("web-2", Presence::Expected);
    let data = Bytes::from(vec![b'x'; 4000]);
    let mut published = 0;
    // Segments of which nothing is left go at once.
    while peer.journal.oldest() == Offset::ZERO {
        let (id, key, data) = (format!("keyed-{published}"), "k".into(), data.clone());
        let event = v1::Event { id, key, coalesce: true, data, ..Default::default() };
        peer.append_event(event).await;
        published += 1;
    }
    let (origin, head) = (peer.journal.origin().clone(), peer.journal.own_head());
    assert_eq!(peer.journal.holdings()[&origin].base, Sequence::ZERO, "it serves everybody");
    let (events, keyed, marks) = pulled(&peer, head).await;
    assert!(events < published, "{events} of {published}");
    assert_eq!(keyed.last(), Some(&format!("keyed-{}", published - 1)));
    assert_eq!(marks[0].previous(), Sequence::ZERO);
}

#[tokio::test(start_paused = true)]
async fn p1_what_a_peer_says_before_it_ends_is_read_to_its_last_word() {
    let blocks: Vec<_> = (1..=200).map(|n| block("web-2", n - 1, &[n])).collect();
    let peer = Peer::start(Script { blocks: bytes(&blocks), ends: true, ..Script::default() });
    let last_word = (origin("web-2").journal, Sequence::from_u64((1 << 40) + 200));
    let ended = || peer.journal.member(&origin("web-2").node).map(|listed| listed.ended);
    peer.until(|_| ended() == Some(vec![last_word])).await;
    assert_eq!(peer.journal.frontier().get(&origin("web-2")), last_word.1);
    assert_eq!(peer.hellos().len(), 1, "on the first link");
}

#[tokio::test(start_paused = true)]
async fn p9_who_trusted_this_node_on_another_disk_is_waited_for() {
    let former = Origin { journal: JournalId::new([9; 16]), ..origin("web-1") };
    for (knows, dials) in [(true, false), (true, true), (false, false), (false, true)] {
        let blocks = bytes(&[block("web-2", 0, &[1])]);
        let knows_it = if knows { vec![former.clone()] } else { Vec::new() };
        let peer =
            Peer::start(Script { blocks, knows: knows_it, there: !dials, ..Script::default() });
        if dials {
            // It has heard of this one before this one hears it.
            let mut fed = peer.pull_as("web-2", 7).await.unwrap();
            assert!(fed.message().await.unwrap().is_some());
        } else {
            peer.until(|peer| peer.stored().contains(&1)).await;
        }
        let through = Sequence::from_u64((1 << 40) + 1);
        let lagging = || peer.journal.applied().lagging(&origin("web-2"), through);
        let nobody_knows = vec![(String::new(), Sequence::ZERO)];
        assert_eq!(lagging(), if knows { nobody_knows } else { Vec::new() }, "{knows} {dials}");
        peer.until(|_| lagging().is_empty()).await;
    }
}
