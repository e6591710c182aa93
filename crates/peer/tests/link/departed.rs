//! Members that are gone, over days and months of simulated time.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_event::{JournalId, NodeName, Offset, Origin, Sequence};
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Content, Listed, Missed};
use evermesh_proto::v1;
use evermesh_proto::v1::MissedCause;

use crate::scripted::{Peer, Script};
use crate::{block, block_of, bytes, origin};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn web_2() -> NodeName {
    NodeName::new("web-2").unwrap()
}

/// As web-2 tells of itself.
fn listed(incarnation: u64) -> Vec<v1::ListedMember> {
    vec![Listed { incarnation, ..Listed::default() }.to_proto(&web_2())]
}

/// As somebody tells who was linked with web-2 under this journal.
fn seen(journal: JournalId) -> Vec<v1::ListedMember> {
    vec![Listed { present: vec![journal], ..Listed::default() }.to_proto(&web_2())]
}

/// A node that knows web-2 from a former start, and now cannot reach it.
async fn alone(blocks: &[evermesh_event::Block]) -> Peer {
    let disk = Arc::new(MemoryDisk::new());
    let script = Script { blocks: bytes(blocks), members: listed(0), ..Script::default() };
    let former = Peer::start_on(&disk, script);
    let last = blocks.len() as u64;
    let here = |peer: &Peer| last == 0 || peer.stored().contains(&last);
    former.until(|peer| peer.status().pulling && here(peer)).await;
    former.journal.close().await.unwrap();
    drop(former);
    Peer::start_on(&disk, Script { there: false, ..Script::default() })
}

/// How often FORGOTTEN was told.
async fn forgotten(peer: &Peer) -> usize {
    all_forgotten(peer).await.len()
}

/// Of which journals FORGOTTEN was told.
async fn all_forgotten(peer: &Peer) -> Vec<Origin> {
    let (mut reader, head) = (peer.journal.reader(Offset::ZERO), peer.journal.head());
    let mut all = Vec::new();
    while reader.position() < head {
        for record in reader.next(1 << 20).await.unwrap() {
            if let Content::Missed(missed) = &record.content
                && missed.cause == MissedCause::Forgotten
            {
                all.extend(missed.origin.clone());
            }
        }
    }
    all
}

fn presence(peer: &Peer) -> Option<Presence> {
    let members = peer.journal.cursors().snapshot();
    members.into_iter().find(|member| member.label == "web-2").map(|member| member.presence)
}

/// Time passes in small steps, and whoever looks at it does.
pub(crate) async fn step(time: Duration) {
    const STEP: Duration = Duration::from_millis(10);
    for _ in 0..time.as_millis() / STEP.as_millis() {
        tokio::time::advance(STEP).await;
        tokio::task::yield_now().await;
    }
}

/// Time passes at once, and then whoever looks at it does.
async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    step(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn who_left_counts_for_a_lease_is_named_for_days_and_known_for_30_and_finds_back() {
    let peer = alone(&[]).await;
    pass(HOUR).await;
    assert_eq!(presence(&peer), Some(Presence::Expected), "an hour is not long");
    peer.peers.forget(&web_2()).unwrap();
    step(Duration::from_secs(1)).await;
    assert_eq!(presence(&peer), Some(Presence::Expected), "who trusts its cache is waited for");
    pass(Duration::from_secs(3)).await;
    assert_eq!(presence(&peer), Some(Presence::Left));
    assert_eq!(forgotten(&peer).await, 1);
    pass(DAY).await;
    assert_eq!(presence(&peer), Some(Presence::Left));
    pass(DAY).await;
    assert_eq!(presence(&peer), None, "named for twice what it takes to be forgotten");
    assert!(peer.journal.member(&web_2()).unwrap().left && !peer.journal.is_dropped(&web_2()));
    pass(DAY * 28).await;
    assert!(peer.journal.is_dropped(&web_2()));
    assert!(peer.journal.members().iter().all(|(name, _)| *name != web_2()));
    // Its disk is found again. First it hears that it left, then it joins anew.
    let blocks = bytes(&[block("web-2", 0, &[1, 2])]);
    let hellos = peer.hellos().len();
    peer.rewrite(|script| {
        (script.there, script.members, script.blocks) = (true, listed(0), blocks);
    });
    let told = |hello: &v1::Hello| hello.members.iter().any(|m| m.node == "web-2" && m.left);
    peer.until(|peer| peer.hellos().iter().skip(hellos).any(told)).await;
    assert!(!peer.status().pulling && peer.stored().is_empty(), "not before it came back");
    peer.rewrite(|script| script.members = listed(1));
    peer.until(|peer| peer.stored().contains(&2)).await;
    let back = peer.journal.member(&web_2()).unwrap();
    assert_eq!((back.incarnation, back.left), (1, false));
    assert_eq!(presence(&peer), Some(Presence::Expected));
    assert_eq!(forgotten(&peer).await, 1, "nothing more is missed");
}

#[tokio::test(start_paused = true)]
async fn p1_what_is_lacking_of_who_left_is_awaited_before_it_is_missed() {
    for comes in [true, false] {
        let peer = alone(&[block("web-2", 0, &[1])]).await;
        pass(HOUR).await;
        let web_2s = origin("web-2");
        peer.journal.journal_ended(&web_2s, Sequence::from_u64((1 << 40) + 2));
        assert!(peer.journal.forget_member(&web_2()));
        // Two leases of two seconds.
        step(Duration::from_secs(3)).await;
        assert_eq!(forgotten(&peer).await, 0, "another member may hold it");
        if comes {
            peer.journal.take(block("web-2", 1, &[2])).await.unwrap();
        }
        pass(Duration::from_secs(3)).await;
        assert_eq!(forgotten(&peer).await, usize::from(!comes));
        assert!(peer.journal.departed()[0].settled);
    }
}

#[tokio::test(start_paused = true)]
async fn p1_a_former_journal_that_others_hold_is_what_may_be_missed_and_not_the_present_one() {
    let present = origin("web-2");
    let former = Origin { journal: JournalId::new([5; 16]), ..present.clone() };
    let next = Origin { journal: JournalId::new([9; 16]), ..present.clone() };
    let blocks = [block("web-2", 0, &[1]), block_of(former.clone(), 0, &[1, 2])];
    let (blocks, members) = (bytes(&blocks), seen(former.journal));
    let peer = Peer::start(Script { blocks, members, ..Script::default() });
    peer.until(|peer| peer.journal.frontier().get(&former) > Sequence::ZERO).await;
    step(Duration::from_secs(6)).await;
    assert_eq!(all_forgotten(&peer).await.as_slice(), std::slice::from_ref(&former));
    // It goes on as the one that is there: should it vanish, that is told.
    peer.rewrite(|script| (script.journal, script.blocks) = (9, Vec::new()));
    peer.end_link();
    peer.until(|peer| peer.journal.present_of(&next.node) == [next.journal]).await;
    assert_eq!(all_forgotten(&peer).await, [former, present]);
}

#[tokio::test(start_paused = true)]
async fn p1_a_former_journal_that_is_older_than_this_node_is_missed_by_nobody() {
    let former = Origin { journal: JournalId::new([5; 16]), ..origin("web-2") };
    let blocks = bytes(&[block("web-2", 0, &[1]), block_of(former.clone(), 0, &[1, 2])]);
    let peer = Peer::start(Script { blocks, members: listed(0), ..Script::default() });
    peer.until(|peer| peer.journal.frontier().get(&former) > Sequence::ZERO).await;
    step(Duration::from_secs(10)).await;
    assert_eq!(forgotten(&peer).await, 0, "nobody was linked with it since this node is there");
}

#[tokio::test(start_paused = true)]
async fn p1_a_former_journal_is_missed_unless_it_comes_through_its_last_word() {
    for last in [2, 3] {
        let former = Origin { journal: JournalId::new([5; 16]), ..origin("web-2") };
        let blocks = [block("web-2", 0, &[1]), block_of(former.clone(), 0, &[1, 2])];
        let ended = vec![(former.journal, Sequence::from_u64((1 << 40) + last))];
        let present = vec![former.journal];
        let members = vec![Listed { ended, present, ..Listed::default() }.to_proto(&web_2())];
        let (blocks, knows) = (bytes(&blocks), vec![former.clone()]);
        let peer = Peer::start(Script { blocks, members, knows, ..Script::default() });
        peer.until(|peer| peer.journal.frontier().get(&former) > Sequence::ZERO).await;
        step(Duration::from_secs(6)).await;
        let missed: Vec<_> = (last == 3).then_some(former).into_iter().collect();
        assert_eq!(all_forgotten(&peer).await, missed, "it ended with {last}");
        step(Duration::from_secs(10)).await;
        assert_eq!(all_forgotten(&peer).await, missed, "once");
    }
}

#[tokio::test(start_paused = true)]
async fn p1_who_is_there_is_not_missed_for_what_is_cut_of_its_former_journal_but_once_it_is_lost() {
    let present = origin("web-2");
    let former = Origin { journal: JournalId::new([5; 16]), ..present.clone() };
    let lacks = Missed {
        origin: Some(former.clone()),
        from: Sequence::from_u64(1),
        through: Sequence::from_u64((1 << 40) + 3),
        sites: Vec::new(),
        cause: MissedCause::Retention,
    };
    let blocks = bytes(&[block("web-2", 0, &[1])]);
    let (members, lacks) = (seen(former.journal), Some(lacks));
    let peer = Peer::start(Script { blocks, lacks, members, ..Script::default() });
    peer.until(|peer| peer.journal.frontier().get(&former) > Sequence::ZERO).await;
    step(Duration::from_secs(6)).await;
    assert_eq!(all_forgotten(&peer).await.as_slice(), std::slice::from_ref(&former));
    // It is lost with what nobody had of the journal that was there.
    peer.rewrite(|script| (script.journal, script.blocks, script.lacks) = (9, Vec::new(), None));
    peer.end_link();
    let next = JournalId::new([9; 16]);
    peer.until(|peer| peer.journal.present_of(&present.node) == [next]).await;
    assert_eq!(all_forgotten(&peer).await, [former, present]);
}

#[tokio::test(start_paused = true)]
async fn p1_what_is_left_of_a_connection_hurries_nobody_to_miss_what_may_come() {
    let (former, next) = (origin("web-2"), JournalId::new([8; 16]));
    // Nobody ever answers as web-3: it is waited for.
    let address = "https://web-3:7443".to_owned();
    let web_3 = Listed { address, ..Listed::default() };
    let web_3 = web_3.to_proto(&NodeName::new("web-3").unwrap());
    let members = [listed(0), vec![web_3]].concat();
    let blocks = bytes(&[block("web-2", 0, &[1])]);
    let peer = Peer::start(Script { members, blocks, ..Script::default() });
    peer.until(|peer| peer.stored().contains(&1)).await;
    let _dead = peer.pull_as("web-2", 7).await.unwrap();
    peer.ping_as(7).await;
    peer.rewrite(|script| (script.journal, script.blocks) = (8, Vec::new()));
    peer.end_link();
    step(Duration::from_secs(2)).await;
    assert_eq!(forgotten(&peer).await, 0, "the rest of it, and its last word, may be on its way");
    peer.journal.take(block("web-2", 1, &[2])).await.unwrap();
    peer.journal.journal_ended(&former, Sequence::from_u64((1 << 40) + 2));
    peer.until(|peer| peer.journal.present_of(&former.node).first() == Some(&next)).await;
    step(Duration::from_secs(10)).await;
    assert_eq!(forgotten(&peer).await, 0, "all of it is here");
}

#[tokio::test(start_paused = true)]
async fn p1_who_is_there_beside_another_that_others_found_is_missed_once_it_is_lost() {
    let one = origin("web-2");
    let other = Origin { journal: JournalId::new([8; 16]), ..one.clone() };
    let next = JournalId::new([9; 16]);
    let found = Listed { present: vec![other.journal], ..Listed::default() };
    let blocks = bytes(&[block("web-2", 0, &[1])]);
    let peer = Peer::start(Script { blocks, members: listed(0), ..Script::default() });
    peer.until(|peer| peer.stored().contains(&1)).await;
    let blocks = bytes(&[block_of(other.clone(), 0, &[1])]);
    let members = vec![found.to_proto(&web_2())];
    peer.rewrite(|script| (script.blocks, script.members) = (blocks, members));
    peer.end_link();
    peer.until(|peer| peer.journal.frontier().get(&other) > Sequence::ZERO).await;
    step(Duration::from_secs(6)).await;
    assert_eq!(all_forgotten(&peer).await.as_slice(), std::slice::from_ref(&other), "it is gone");
    peer.rewrite(|script| (script.journal, script.blocks) = (9, Vec::new()));
    peer.end_link();
    peer.until(|peer| peer.journal.present_of(&one.node) == [next]).await;
    assert_eq!(all_forgotten(&peer).await, [other, one]);
}

#[tokio::test(start_paused = true)]
async fn p1_of_two_that_bear_one_name_one_that_only_pulls_is_missed_once_it_is_gone() {
    let peer = Peer::start(Script { members: listed(0), ..Script::default() });
    peer.until(|peer| peer.status().pulling).await;
    let other = peer.pull_as("web-2", 8).await.unwrap();
    for _ in 0..10 {
        peer.ping_as(8).await;
        step(Duration::from_secs(1)).await;
    }
    assert_eq!(forgotten(&peer).await, 0, "both are there");
    drop(other);
    step(Duration::from_secs(10)).await;
    let gone = Origin { journal: JournalId::new([8; 16]), ..origin("web-2") };
    assert_eq!(all_forgotten(&peer).await, [gone]);
}

#[tokio::test(start_paused = true)]
async fn p1_who_left_without_a_last_word_is_missed_at_once() {
    let peer = alone(&[block("web-2", 0, &[1])]).await;
    peer.journal.forget_member(&web_2());
    step(Duration::from_secs(1)).await;
    assert_eq!(forgotten(&peer).await, 1);
}

#[tokio::test(start_paused = true)]
async fn p1_of_two_that_bear_one_name_none_is_missed_while_both_are_there() {
    let peer = Peer::start(Script { members: listed(0), ..Script::default() });
    peer.until(|peer| peer.status().pulling).await;
    let one = peer.pull_as("web-2", 7).await.unwrap();
    peer.ping_as(7).await;
    let mut other = peer.pull_as("web-2", 8).await.unwrap();
    assert!(other.message().await.unwrap().is_some(), "both are served");
    let mut links = peer.hellos().len();
    for journal in [8, 7, 8, 7, 8] {
        peer.ping_as(7).await;
        peer.ping_as(8).await;
        peer.rewrite(|script| script.journal = journal);
        peer.end_link();
        peer.until(|peer| peer.hellos().len() > links && peer.status().pulling).await;
        links = peer.hellos().len();
        assert_eq!(forgotten(&peer).await, 1, "that the name has another journal, once");
    }
    // One falls silent, while the other one is linked and pings.
    for _ in 0..6 {
        peer.ping_as(8).await;
        step(Duration::from_secs(1)).await;
    }
    assert_eq!(forgotten(&peer).await, 2);
    drop(one);
    peer.ping_as(8).await;
    step(Duration::from_secs(8)).await;
    assert_eq!(forgotten(&peer).await, 2, "once; and the other one is waited for like any member");
    assert_eq!(peer.hellos().len(), links, "it was linked all the time");
}

#[tokio::test(start_paused = true)]
async fn p9_of_two_that_bear_one_name_the_one_that_remains_is_never_taken_for_silent() {
    let peer = Peer::start(Script { members: listed(0), ..Script::default() });
    peer.until(|peer| peer.status().pulling).await;
    let _one = peer.pull_as("web-2", 7).await.unwrap();
    peer.ping_as(7).await;
    let mut other = peer.pull_as("web-2", 8).await.unwrap();
    assert!(other.message().await.unwrap().is_some(), "both are served");
    // Its power was lost: nobody hears that it is gone.
    for _ in 0..4 {
        peer.ping_as(8).await;
        step(Duration::from_secs(1)).await;
    }
    assert_eq!(presence(&peer), Some(Presence::Suspended));
    let mut other = peer.pull_as("web-2", 8).await.unwrap();
    assert!(other.message().await.unwrap().is_some());
    assert_eq!(peer.journal.cursors().snapshot().len(), 1, "now it bears the name alone");
    assert_eq!(presence(&peer), Some(Presence::Expected), "its last ping is a second ago");
    step(Duration::from_secs(3)).await;
    assert_eq!(presence(&peer), Some(Presence::Suspended), "and counts for a lease");
}
