//! Members that left: what is told of them, how often, and that nothing of them stays for ever.

use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_event::{Epoch, JournalId, NodeName, Offset, Origin, Sequence, StartId};
use evermesh_journal::simulated::Refusal;
use evermesh_journal::{Content, Journal, Listed, Writer};
use evermesh_proto::v1::MissedCause;

use crate::world::{World, append, block, link, now, other, read_after};

fn name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// A journal that knows web-2, and holds an event of it.
fn met(world: &World) -> (Journal, Writer, Origin) {
    let (journal, mut writer) = world.open();
    let origin = other("web-2");
    journal.merge_members(&origin.node, &[(origin.node.clone(), Listed::default())]);
    now(journal.meet(&origin)).unwrap();
    now(journal.take(block(&origin, 0, &[1]))).unwrap();
    writer.turn().unwrap();
    (journal, writer, origin)
}

fn causes(journal: &Journal) -> Vec<(Option<Origin>, MissedCause)> {
    let records = read_after(journal, Offset::ZERO);
    let missed = records.iter().filter_map(|record| match &record.content {
        Content::Missed(missed) => Some((missed.origin.clone(), missed.cause)),
        Content::Block { .. } => None,
    });
    missed.collect()
}

#[test]
fn p1_who_is_forgotten_is_missed_once_also_over_restarts() {
    let world = World::new(1);
    let (journal, mut writer, origin) = met(&world);
    assert!(journal.forget_member(&origin.node) && !journal.forget_member(&origin.node));
    assert!(journal.may_lack_of(&origin.node));
    now(journal.depart(&origin.node)).unwrap();
    writer.turn().unwrap();
    assert_eq!(causes(&journal), [(Some(origin.clone()), MissedCause::Forgotten)]);
    drop((journal, writer));
    let (journal, mut writer) = world.open();
    assert!(journal.departed().iter().all(|departed| departed.settled));
    assert!(!journal.may_lack_of(&origin.node));
    // It comes back under another journal id: what may be lost of the former one was told.
    let back = Origin { journal: JournalId::new([9; 16]), ..origin.clone() };
    let listed = Listed { incarnation: 1, ..Listed::default() };
    assert!(journal.merge_members(&back.node, &[(back.node.clone(), listed)]).changed);
    now(journal.meet(&back)).unwrap();
    writer.turn().unwrap();
    assert_eq!(causes(&journal).len(), 1);
}

#[test]
fn p1_an_older_journal_of_a_name_that_comes_back_is_another_one() {
    let world = World::new(5);
    let (journal, mut writer, first) = met(&world);
    let second = Origin { journal: JournalId::new([9; 16]), ..first.clone() };
    let link = |journal: &Journal, writer: &mut Writer, origin: &Origin| {
        now(journal.meet(origin)).unwrap();
        now(journal.linked(origin, &[])).unwrap();
        journal.journal_lives(origin);
        writer.turn().unwrap();
    };
    link(&journal, &mut writer, &first);
    assert!(causes(&journal).is_empty());
    link(&journal, &mut writer, &second);
    let forgotten = |origin: &Origin| (Some(origin.clone()), MissedCause::Forgotten);
    assert_eq!(causes(&journal), [forgotten(&first)]);
    // A restart of this node, and of that one, change nothing.
    drop((journal, writer));
    let (journal, mut writer) = world.open();
    link(&journal, &mut writer, &second);
    assert_eq!(causes(&journal), [forgotten(&first)]);
    // Somebody puts the first disk back: what only the second had is gone.
    link(&journal, &mut writer, &first);
    assert_eq!(causes(&journal), [forgotten(&first), forgotten(&second)]);
    link(&journal, &mut writer, &first);
    assert_eq!(causes(&journal).len(), 2);
}

#[test]
fn p1_of_two_that_run_under_one_name_neither_is_former_before_it_is_gone() {
    let world = World::new(8);
    let (journal, mut writer, first) = met(&world);
    let second = Origin { journal: JournalId::new([9; 16]), ..first.clone() };
    let both = [first.journal, second.journal];
    let link = |journal: &Journal, writer: &mut Writer, origin: &Origin, there| {
        now(journal.meet(origin)).unwrap();
        now(journal.linked(origin, there)).unwrap();
        journal.journal_lives(origin);
        journal.note_start(origin, Epoch::new(1).unwrap(), StartId::new([1; 16]));
        writer.turn().unwrap();
        causes(journal).len()
    };
    assert_eq!(link(&journal, &mut writer, &first, &[]), 0);
    assert_eq!(link(&journal, &mut writer, &second, &both), 1, "that there is another one");
    for _ in 0..3 {
        assert_eq!(link(&journal, &mut writer, &first, &both), 1);
        assert_eq!(link(&journal, &mut writer, &second, &both), 1);
    }
    drop((journal, writer));
    let (journal, mut writer) = world.open();
    assert!(journal.not_alone().contains(&second.node));
    assert_eq!(link(&journal, &mut writer, &first, &both), 1, "nor after a restart of this one");
    // The other one is there no more: once.
    for there in [&both[..1], &both[..1], &[]] {
        now(journal.beside(&first.node, there)).unwrap();
        writer.turn().unwrap();
        let forgotten = |origin: &Origin| (Some(origin.clone()), MissedCause::Forgotten);
        assert_eq!(causes(&journal), [forgotten(&first), forgotten(&second)]);
    }
    assert!(journal.not_alone().is_empty());
    // It comes back when the first is gone.
    assert_eq!(link(&journal, &mut writer, &second, &[]), 3);
}

#[test]
fn p1_a_journal_that_only_others_met_is_missed_when_its_node_is_gone() {
    let world = World::new(9);
    let (journal, mut writer, first) = met(&world);
    let second = Origin { journal: JournalId::new([9; 16]), ..first.clone() };
    let forgotten = (Some(second.clone()), MissedCause::Forgotten);
    // The first ended in order, and all of it is here.
    journal.journal_ended(&first, journal.frontier().get(&first));
    let hear = |journal: &Journal, left: bool, present: Vec<JournalId>| {
        let listed = Listed { left, present, ..Listed::default() };
        journal.merge_members(&name("web-3"), &[(second.node.clone(), listed)])
    };
    assert!(hear(&journal, false, vec![first.journal]).changed);
    assert!(journal.forget_member(&first.node));
    now(journal.depart(&first.node)).unwrap();
    writer.turn().unwrap();
    assert!(causes(&journal).is_empty(), "nothing is lacking of the first");
    // Only now comes who had been linked with the second.
    assert!(hear(&journal, true, vec![second.journal]).changed);
    writer.turn().unwrap();
    drop((journal, writer));
    let (journal, mut writer) = world.open();
    assert!(journal.may_lack_of(&second.node));
    assert!(journal.departed().iter().all(|departed| !departed.settled));
    now(journal.depart(&second.node)).unwrap();
    writer.turn().unwrap();
    assert_eq!(causes(&journal), [forgotten]);
    for _ in 0..2 {
        assert!(!hear(&journal, true, vec![second.journal]).changed, "it was told");
        assert!(!journal.may_lack_of(&second.node));
    }
}

#[test]
fn p1_a_journal_that_only_others_met_is_missed_when_another_comes() {
    let world = World::new(10);
    let (journal, mut writer, first) = met(&world);
    let origin = |id| Origin { journal: JournalId::new([id; 16]), ..first.clone() };
    let hear = |present: Vec<JournalId>| {
        let listed = Listed { present, ..Listed::default() };
        journal.merge_members(&name("web-3"), &[(first.node.clone(), listed)]);
    };
    let mut link = |origin: &Origin| {
        now(journal.meet(origin)).unwrap();
        now(journal.linked(origin, &[])).unwrap();
        writer.turn().unwrap();
        causes(&journal).len()
    };
    assert_eq!(link(&first), 0);
    hear(vec![origin(9).journal]);
    assert_eq!(link(&first), 0, "it may be another's old news");
    assert_eq!(link(&origin(8)), 2, "the first, and the one between");
    hear(vec![origin(8).journal]);
    hear(vec![origin(9).journal]);
    assert_eq!(link(&origin(8)), 2);
    assert_eq!(link(&origin(7)), 3);
}

/// One of the journals of web-2.
fn nth(n: u16) -> Origin {
    let mut id = [1; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    Origin { journal: JournalId::new(id), ..other("web-2") }
}

/// web-2 is there under a journal, and publishes an event.
fn comes(journal: &Journal, writer: &mut Writer, origin: &Origin, ends: bool) {
    now(journal.meet(origin)).unwrap();
    now(journal.linked(origin, &[])).unwrap();
    journal.journal_lives(origin);
    now(journal.take(block(origin, 0, &[1]))).unwrap();
    if ends {
        journal.journal_ended(origin, journal.frontier().get(origin));
    }
    writer.turn().unwrap();
}

/// It is there under one journal after another; `ends` says of each whether it ended in order. What
/// was told, in its order.
fn one_after_another(seed: u64, ends: impl Fn(u16) -> bool) -> Vec<(Option<Origin>, MissedCause)> {
    let world = World::new(seed);
    let (mut journal, mut writer, first) = met(&world);
    journal.journal_ended(&first, journal.frontier().get(&first));
    for n in 0..100 {
        comes(&journal, &mut writer, &nth(n), ends(n));
        if n % 30 == 29 {
            drop((journal, writer));
            world.disk.kill();
            (journal, writer) = world.open();
        }
    }
    causes(&journal)
}

#[test]
fn p1_who_ends_in_order_again_and_again_under_new_journals_is_never_missed() {
    assert_eq!(one_after_another(11, |_| true), []);
}

#[test]
fn p1_who_is_killed_again_and_again_under_new_journals_is_missed_once_for_each() {
    let told = one_after_another(12, |n| n % 2 == 0);
    assert_eq!(told.len(), 49, "each that did not end in order, but for the last, which is there");
    let different: std::collections::BTreeSet<_> = told.iter().map(|told| &told.0).collect();
    assert_eq!(different.len(), told.len());
}

#[test]
fn p1_what_is_told_of_a_departure_is_on_the_disk_before_that_it_was() {
    let world = World::new(2);
    let (journal, mut writer, origin) = met(&world);
    journal.forget_member(&origin.node);
    writer.turn().unwrap();
    // The node is killed between the two.
    drop((journal, writer));
    let (journal, mut writer) = world.open();
    assert!(journal.departed().iter().all(|departed| !departed.settled), "it is told again");
    now(journal.depart(&origin.node)).unwrap();
    writer.turn().unwrap();
    assert_eq!(causes(&journal).len(), 1);
}

#[test]
fn p1_whose_last_word_is_here_is_not_missed() {
    let world = World::new(3);
    let (journal, mut writer, origin) = met(&world);
    journal.journal_ended(&origin, Sequence::from_u64(1 << 40 | 2));
    journal.forget_member(&origin.node);
    assert!(journal.may_lack_of(&origin.node), "one is lacking");
    now(journal.take(block(&origin, 1, &[2]))).unwrap();
    assert!(!journal.may_lack_of(&origin.node));
    now(journal.depart(&origin.node)).unwrap();
    writer.turn().unwrap();
    assert!(causes(&journal).is_empty());
}

#[test]
fn p7_nothing_of_who_left_long_ago_is_known_and_who_was_behind_is_told() {
    let world = World::new(4);
    let (journal, mut writer, origin) = met(&world);
    journal.journal_ended(&origin, Sequence::from_u64(1 << 40 | 1));
    journal.forget_member(&origin.node);
    now(journal.depart(&origin.node)).unwrap();
    writer.turn().unwrap();
    journal.drop_departed(&origin.node);
    assert!(journal.frontier().contains(&origin), "something of it is held");
    // It is cut in its time.
    for n in 0..400 {
        append(&journal, &[&n.to_string()]);
        writer.turn().unwrap();
    }
    world.clock.pass(Duration::from_secs(8 * 24 * 60 * 60));
    append(&journal, &["young"]);
    writer.turn().unwrap();
    world.clock.pass(Duration::from_secs(2));
    writer.turn().unwrap();
    assert!(journal.oldest() > Offset::ZERO);
    journal.drop_departed(&origin.node);
    assert!(journal.is_dropped(&origin.node));
    let unknown = |journal: &Journal| {
        assert!(!journal.frontier().contains(&origin) && !journal.holdings().contains_key(&origin));
        assert!(!journal.seen_starts().contains_key(&origin));
        assert!(journal.members().iter().all(|(name, _)| *name != origin.node));
        let told = causes(journal);
        assert!(told.contains(&(None, MissedCause::Retention)), "{told:?}");
    };
    unknown(&journal);
    // More is cut, by which that is stored.
    for n in 0..400 {
        append(&journal, &[&format!("more-{n}")]);
        writer.turn().unwrap();
    }
    world.clock.pass(Duration::from_secs(8 * 24 * 60 * 60));
    append(&journal, &["younger"]);
    writer.turn().unwrap();
    world.clock.pass(Duration::from_secs(2));
    writer.turn().unwrap();
    now_closed(&journal, &mut writer);
    let (journal, _writer) = world.open();
    assert!(journal.is_dropped(&name("web-2")));
    unknown(&journal);
    journal.cursors().presence("web-2", Presence::Left);
}

fn now_closed(journal: &Journal, writer: &mut Writer) {
    let mut close = Box::pin(journal.close());
    assert!(crate::world::look(&mut close).is_pending());
    assert!(writer.turn().unwrap().ended);
}

#[test]
fn p1_who_is_forgotten_and_was_never_met_is_missed_all_the_same() {
    // Another node told that there is one; it may have published, and nobody has that.
    for ended in [None, Some(0), Some(1 << 40 | 1)] {
        let world = World::new(7);
        let (journal, mut writer) = world.open();
        let origin = other("web-2");
        let head = ended.map(|head| (origin.journal, Sequence::from_u64(head)));
        let listed = Listed { ended: head.into_iter().collect(), ..Listed::default() };
        journal.merge_members(&name("web-3"), &[(origin.node.clone(), listed)]);
        writer.turn().unwrap();
        drop((journal, writer));
        let (journal, mut writer) = world.open();
        journal.forget_member(&origin.node);
        now(journal.depart(&origin.node)).unwrap();
        writer.turn().unwrap();
        let told = match ended {
            None => vec![(None, MissedCause::Forgotten)],
            Some(0) => vec![],
            Some(_) => vec![(Some(origin.clone()), MissedCause::Forgotten)],
        };
        assert_eq!(causes(&journal), told, "{ended:?}");
        assert!(journal.departed()[0].settled && !journal.may_lack_of(&origin.node));
    }
}

/// What two nodes say to each other of whom they know, as each welcome does.
fn meets(one: &Journal, two: &Journal) {
    let other = two.origin();
    one.merge_members(&other.node, &two.members());
    now(one.meet(other)).unwrap();
    now(one.linked(other, &[])).unwrap();
    one.journal_lives(other);
}

/// web-2, of which everything reached web-1; it leaves, and ends before it could say goodbye.
fn left_halfway(world: &World, refused: bool) -> (Journal, Writer, World) {
    let leaver = World { node: "web-2", ..World::new(99) };
    let (journal, mut writer) = leaver.open();
    let (here, mut writing) = world.open();
    let published = append(&journal, &["a", "b"]);
    writer.turn().unwrap();
    meets(&here, &journal);
    now(here.take(block(journal.origin(), 0, &[1, 2]))).unwrap();
    writing.turn().unwrap();
    assert_eq!(here.frontier().get(journal.origin()), published.own_through);
    let mut leaves = Box::pin(journal.leave());
    assert!(crate::world::look(&mut leaves).is_pending());
    if refused {
        leaver.disk.refuse_syncs(Some(Refusal::NoSpace));
        writer.turn().unwrap_err();
        leaver.disk.refuse_syncs(None);
    } else {
        writer.turn().unwrap();
    }
    drop(leaves);
    drop((journal, writer));
    leaver.disk.kill();
    (here, writing, leaver)
}

#[test]
fn p1_who_ended_while_it_left_says_its_last_word_when_it_joins_anew() {
    for refused in [false, true] {
        let world = World::new(5);
        let (here, mut writing, leaver) = left_halfway(&world, refused);
        let former = here.frontier();
        let (back, mut writer) = leaver.open();
        assert!(!former.contains(back.origin()), "under a new journal id");
        // It may be killed once more before anybody hears it.
        writer.turn().unwrap();
        drop((back, writer));
        leaver.disk.kill();
        let (back, _writer) = leaver.open();
        meets(&here, &back);
        writing.turn().unwrap();
        assert!(causes(&here).is_empty(), "everything had reached the others");
        for origin in
            former.iter().map(|(origin, _)| origin).filter(|o| o.node == back.origin().node)
        {
            now(back.meet(origin)).unwrap();
        }
        assert!(causes(&back).is_empty(), "nor is its own past somebody else's");
    }
}

#[test]
fn p1_who_had_nothing_to_say_before_it_left_is_not_told_of_its_own_past() {
    let leaver = World { node: "web-2", ..World::new(98) };
    let (journal, mut writer) = leaver.open();
    let former = journal.origin().clone();
    let mut leaves = Box::pin(journal.leave());
    assert!(crate::world::look(&mut leaves).is_pending());
    writer.turn().unwrap();
    drop(leaves);
    drop((journal, writer));
    for _ in 0..3 {
        leaver.disk.kill();
        let (back, mut writer) = leaver.open();
        assert_ne!(*back.origin(), former);
        // Others still know of it.
        now(back.meet(&former)).unwrap();
        writer.turn().unwrap();
        assert!(causes(&back).is_empty());
    }
}

#[test]
fn p1_the_last_word_of_a_copy_hides_nothing() {
    let world = World::new(6);
    let leaver = World { node: "web-2", ..World::new(99) };
    let (journal, mut writer) = leaver.open();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let (here, mut writing) = world.open();
    meets(&here, &journal);
    now(here.take(block(journal.origin(), 0, &[1, 2]))).unwrap();
    writing.turn().unwrap();
    // The disk is put back as it was when there was one event, and that leaves without a witness.
    let former = journal.origin().clone();
    let mut leaves = Box::pin(journal.leave());
    assert!(crate::world::look(&mut leaves).is_pending());
    writer.turn().unwrap();
    drop(leaves);
    drop((journal, writer));
    let (back, _writer) = leaver.open();
    meets(&here, &back);
    writing.turn().unwrap();
    assert_eq!(causes(&here), [(Some(former), MissedCause::Forgotten)]);
}

#[test]
fn p1_what_ended_before_a_journal_knew_anybody_alarms_nobody_there() {
    for heard in [false, true] {
        let (journal, mut writer) = World::new(12).open();
        let origin = |id| Origin { journal: JournalId::new([id; 16]), ..other("web-2") };
        if heard {
            // Somebody was linked with the first one still.
            let listed = Listed { present: vec![origin(1).journal], ..Listed::default() };
            journal.merge_members(&name("web-3"), &[(origin(1).node, listed)]);
        }
        for id in [1, 2] {
            now(journal.take(block(&origin(id), 0, &[1]))).unwrap();
        }
        link(&journal, &origin(3));
        writer.turn().unwrap();
        let missed: Vec<_> =
            heard.then_some((Some(origin(1)), MissedCause::Forgotten)).into_iter().collect();
        assert_eq!(causes(&journal), missed);
        assert!(journal.open_formers().is_empty());
        // From now on each that it was linked with, or might have been, is told.
        now(journal.take(block(&origin(4), 0, &[1]))).unwrap();
        link(&journal, &origin(5));
        writer.turn().unwrap();
        assert_eq!(causes(&journal).len(), missed.len() + 2);
    }
}
