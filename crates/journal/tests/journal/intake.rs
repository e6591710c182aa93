//! What append, take and miss number, and what they leave out.

use std::time::Duration;

use evermesh_event::{JournalId, Offset, Origin, ResumeToken, Sequence};
use evermesh_journal::{AppendError, Content, Journal, Missed, Resume, Taken};
use evermesh_proto::v1::MissedCause;

use crate::world::{
    World, append, block, entries, event, identity, intake, link, now, other, read_after,
};

const fn sends<T: Send>(value: T) -> T {
    value
}

#[test]
fn what_is_appended_is_shown_at_once_and_durable_after_a_turn() {
    let world = World::new(1);
    let (journal, mut writer) = world.open();
    assert!(writer.idle());
    let appended = append(&journal, &["a", "b"]);
    assert_eq!(journal.head(), appended.through);
    assert_eq!(entries(&read_after(&journal, Offset::ZERO)).len(), 2);
    assert!(journal.durable().borrow().own < appended.own_through, "not yet on the disk");
    assert_eq!(journal.durable_through(journal.origin()), Sequence::ZERO);
    let commit = writer.turn().unwrap();
    assert_eq!((commit.records, commit.ended), (1, false));
    assert_eq!(commit.durable.own, appended.own_through);
    assert_eq!(commit.durable.offset, appended.through);
    assert_eq!(journal.durable_frontier(), journal.frontier());
    assert!(writer.idle());
}

#[test]
fn p1_nothing_is_numbered_behind_the_last_word() {
    let world = World::new(1);
    let (journal, mut writer) = world.open();
    let last = append(&journal, &["a"]).own_through;
    // One that had to wait for its room comes behind it all the same.
    journal.seal();
    let late = now(journal.append(&identity(), [intake("late")]));
    assert!(matches!(late, Err(AppendError::Closed)), "{late:?}");
    let web_2 = other("web-2");
    let taken = now(journal.take(block(&web_2, 0, &[1]))).unwrap();
    assert!(matches!(taken, Taken::Appended { .. }), "what others numbered is taken");
    writer.turn().unwrap();
    assert_eq!(journal.own_head(), last);
    drop((journal, writer));
    let (journal, _writer) = world.open();
    append(&journal, &["late"]);
    assert!(journal.own_head() > last, "the next start takes it");
}

#[test]
fn p5_a_duplicate_keeps_its_first_number_in_flight_within_a_call_and_after_a_restart() {
    let world = World::new(2);
    let (journal, mut writer) = world.open();
    let first = append(&journal, &["a"]);
    let again = append(&journal, &["b", "a", "b"]);
    let marks: Vec<_> = again.taken.iter().map(|taken| taken.duplicate).collect();
    assert_eq!(marks, [false, true, true]);
    assert_eq!(again.taken[1].sequence, first.taken[0].sequence);
    assert_eq!(again.taken[2].sequence, again.taken[0].sequence);
    let only_duplicates = append(&journal, &["a"]);
    assert_eq!(only_duplicates.own_through, first.own_through, "the first one's assurance");
    writer.turn().unwrap();
    drop((journal, writer));
    world.disk.kill();
    let (journal, _writer) = world.open();
    let later = append(&journal, &["a", "c"]);
    assert!(later.taken[0].duplicate && !later.taken[1].duplicate);
    assert_eq!(later.taken[0].sequence, first.taken[0].sequence);
    assert_eq!(journal.status().window_ids, 3);
    let stranger = now(journal.append(&"uid:1000".into(), vec![intake("a")])).unwrap();
    assert!(!stranger.taken[0].duplicate, "another identity's ids are its own");
}

#[test]
fn p5_an_id_leaves_the_window_with_age_and_restarts_do_not_make_it_young() {
    let world = World::new(3);
    let (journal, mut writer) = world.open();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    world.clock.pass(Duration::from_secs(400));
    drop((journal, writer));
    world.disk.kill();
    let (journal, mut writer) = world.open();
    assert!(append(&journal, &["a"]).taken[0].duplicate);
    append(&journal, &["b"]);
    writer.turn().unwrap();
    world.clock.pass(Duration::from_secs(202));
    assert!(!append(&journal, &["a"]).taken[0].duplicate, "602 s old");
    drop((journal, writer));
    world.disk.kill();
    let (journal, _writer) = world.open();
    assert!(append(&journal, &["b"]).taken[0].duplicate, "202 s old");
}

#[test]
fn a_large_call_becomes_several_blocks_that_go_on_from_each_other() {
    let world = World::new(4);
    let (journal, mut writer) = world.open();
    let events = (0..8).map(|n| evermesh_journal::Intake {
        event: event(&n.to_string(), 120 * 1024),
        sampled: n == 7,
    });
    let appended = now(journal.append(&identity(), events.collect::<Vec<_>>())).unwrap();
    writer.turn().unwrap();
    let records = read_after(&journal, Offset::ZERO);
    assert!(records.len() > 1);
    let mut previous = Sequence::ZERO;
    for record in &records {
        let Content::Block { block, .. } = &record.content else { panic!("a block") };
        assert_eq!(block.previous(), previous);
        previous = block.last();
    }
    assert_eq!(previous, appended.own_through);
    assert_eq!(entries(&records).len(), 8);
}

#[test]
fn p2_the_receivers_rule() {
    let world = World::new(5);
    let (journal, mut writer) = world.open();
    let b = other("web-2");
    let at = |counter: u64| Sequence::from_u64(1 << 40 | counter);
    let taken = now(journal.take(block(&b, 0, &[1, 2]))).unwrap();
    assert!(matches!(taken, Taken::Appended { skip: 0, .. }));
    assert_eq!(now(journal.take(block(&b, 0, &[1, 2]))), Ok(Taken::Duplicate));
    let hole = now(journal.take(block(&b, 4, &[5]))).unwrap();
    assert_eq!(hole, Taken::Hole { at: at(2), needed: at(4) });
    let straddling = now(journal.take(block(&b, 1, &[2, 3, 4]))).unwrap();
    assert!(matches!(straddling, Taken::Appended { skip: 1, .. }));
    writer.turn().unwrap();
    let sequences: Vec<_> = entries(&read_after(&journal, Offset::ZERO))
        .into_iter()
        .map(|(_, entry)| entry.unwrap().1)
        .collect();
    assert_eq!(sequences, [at(1), at(2), at(3), at(4)]);
    assert_eq!(journal.frontier().get(&b), at(4));
    assert_eq!(journal.status().events_received, 4);
    assert_eq!(journal.seen_starts()[&b].len(), 1, "the start came with the block");
}

#[test]
fn a_missed_steps_over_a_hole_and_own_numbers_are_never_stepped_over() {
    let world = World::new(6);
    let (journal, mut writer) = world.open();
    let b = other("web-2");
    let at = |counter: u64| Sequence::from_u64(1 << 40 | counter);
    let missed = |origin, through| Missed {
        origin,
        from: at(1),
        through,
        sites: vec!["shop".into()],
        cause: MissedCause::Hole,
    };
    now(journal.miss(missed(Some(b.clone()), at(4)))).unwrap();
    let taken = now(journal.take(block(&b, 4, &[5]))).unwrap();
    assert!(matches!(taken, Taken::Appended { .. }));
    now(journal.miss(missed(Some(b.clone()), Sequence::ZERO))).unwrap();
    now(journal.miss(missed(None, at(99)))).unwrap();
    now(journal.miss(missed(Some(journal.origin().clone()), at(1 << 30)))).unwrap();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let before = (journal.frontier(), read_after(&journal, Offset::ZERO));
    assert_eq!(before.0.get(&b), at(5));
    assert_eq!(before.0.get(journal.origin()), at(1));
    drop((journal, writer));
    world.disk.kill();
    let (journal, _writer) = world.open();
    assert_eq!((journal.frontier(), read_after(&journal, Offset::ZERO)), before);
}

#[test]
fn an_own_block_that_comes_back_is_a_duplicate() {
    let world = World::new(7);
    let (journal, mut writer) = world.open();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let records = read_after(&journal, Offset::ZERO);
    let Content::Block { block, .. } = records[0].content.clone() else { panic!("a block") };
    assert_eq!(now(journal.take(block)), Ok(Taken::Duplicate));
}

#[test]
fn resume_tokens_of_this_start_of_former_ones_and_of_nobody() {
    let world = World::new(8);
    let (journal, mut writer) = world.open();
    let kept = append(&journal, &["a", "b"]).through;
    writer.turn().unwrap();
    let run = journal.run();
    let lost = append(&journal, &["c"]).through;
    let token = |offset| ResumeToken { run, offset };
    assert_eq!(journal.resume(&token(lost)), Resume::After(lost));
    let beyond = Offset::from_u64(lost.as_u64() + 1);
    assert_eq!(journal.resume(&token(beyond)), Resume::Unknown, "never given out");
    drop((journal, writer));
    world.disk.crash(&*World::new(0).random);
    let (journal, _writer) = world.open();
    let end = journal.head();
    assert!(end >= kept);
    assert_eq!(journal.resume(&token(kept)), Resume::After(kept));
    assert_eq!(journal.resume(&token(beyond)), Resume::After(end), "past its durable end");
    let mut stranger = token(kept);
    stranger.run.start = evermesh_event::StartId::new([1; 16]);
    assert_eq!(journal.resume(&stranger), Resume::Unknown);
    stranger.run = journal.run();
    stranger.run.journal = JournalId::new([1; 16]);
    assert_eq!(journal.resume(&stranger), Resume::Unknown);
}

#[test]
fn another_name_draws_another_journal_id_and_serves_the_past_as_received() {
    let mut world = World::new(9);
    let (journal, mut writer) = world.open();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let (was, token) =
        (journal.origin().clone(), ResumeToken { run: journal.run(), offset: journal.head() });
    let past = read_after(&journal, Offset::ZERO);
    drop((journal, writer));
    world.disk.kill();
    world.node = "web-9";
    let (journal, mut writer) = world.open();
    assert_ne!(journal.origin().journal, was.journal);
    assert_eq!(read_after(&journal, Offset::ZERO), past);
    assert!(journal.frontier().get(&was) > Sequence::ZERO);
    assert_eq!(journal.own_head(), Sequence::ZERO);
    assert_eq!(journal.resume(&token), Resume::Unknown);
    let appended = append(&journal, &["a"]);
    assert!(!appended.taken[0].duplicate);
    writer.turn().unwrap();
    let records = read_after(&journal, past[0].end());
    let Content::Block { block, .. } = &records[0].content else { panic!("a block") };
    assert_eq!(block.previous(), Sequence::ZERO);
}

#[test]
fn seen_starts_and_heads_are_stored_before_the_next_commit() {
    let world = World::new(10);
    let (journal, mut writer) = world.open();
    let b = other("web-2");
    let epoch = |n| evermesh_event::Epoch::new(n).unwrap();
    let id = |n| evermesh_event::StartId::new([n; 16]);
    for n in 1..=20 {
        journal.note_start(&b, epoch(u32::from(n)), id(n));
    }
    journal.note_start(&b, epoch(20), id(99));
    journal.note_head(&b, Sequence::begin(epoch(19)).plus(7).unwrap());
    journal.note_head(&b, Sequence::begin(epoch(2)).plus(7).unwrap());
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let seen = journal.seen_starts();
    assert_eq!(seen[&b].len(), 16, "the newest");
    drop((journal, writer));
    world.disk.crash(&*world.random);
    let (journal, _writer) = world.open();
    assert_eq!(journal.seen_starts()[&b], seen[&b]);
    let twins = seen[&b].iter().filter(|seen| seen.epoch == epoch(20)).count();
    assert_eq!(twins, 2, "two ids for one epoch are both kept");
    let own = &journal.seen_starts()[journal.origin()];
    assert_eq!(own.len(), 2);
    assert!(own[0].durable_head > Sequence::ZERO && own[1].start == journal.start().id);
}

#[test]
fn closing_makes_everything_durable_and_takes_nothing_more() {
    let world = World::new(11);
    let (journal, mut writer) = world.open();
    let appended = append(&journal, &["a"]);
    let handle: Journal = journal.clone();
    let mut closing = Box::pin(sends(handle.close()));
    assert!(crate::world::look(&mut closing).is_pending());
    let refused = now(journal.append(&identity(), vec![intake("b")]));
    assert_eq!(refused, Err(AppendError::Closed));
    let commit = writer.turn().unwrap();
    assert!(commit.ended && commit.durable.own == appended.own_through);
    assert!(now(closing).is_ok());
    let (again, _writer) = world.open();
    assert_eq!(again.own_head(), appended.own_through, "the directory is free at once");
    drop(sends(journal.append(&identity(), Vec::new())));
    let mut reader = journal.reader(Offset::ZERO);
    drop(sends(reader.next(1)));
}

#[tokio::test]
async fn as_a_task_the_writer_turns_by_itself_and_ends_with_the_journal() {
    let world = World::new(12);
    let (journal, writer) = world.open();
    let task = tokio::spawn(writer.run());
    let mut durable = journal.durable();
    for n in 0..50 {
        let events = vec![intake(&n.to_string())];
        let appended = journal.append(&identity(), events).await.unwrap();
        let own = durable.wait_for(|durable| durable.own >= appended.own_through).await.unwrap();
        assert!(!own.failed);
    }
    journal.close().await.unwrap();
    task.await.unwrap();
    assert_eq!(journal.status().events_published, 50);
}

#[test]
fn p1_an_origin_that_is_met_by_what_is_missed_of_it_has_another_journal_too() {
    let (journal, mut writer) = World::new(7).open();
    let later = other("web-2");
    let former = Origin { journal: JournalId::new([4; 16]), ..later.clone() };
    link(&journal, &later);
    now(journal.take(block(&later, 0, &[1]))).unwrap();
    let (from, through) = (Sequence::from_u64(1), Sequence::from_u64((1 << 40) + 4));
    let (origin, sites) = (Some(former), Vec::new());
    let cause = MissedCause::Retention;
    now(journal.miss(Missed { origin, from, through, sites, cause })).unwrap();
    writer.turn().unwrap();
    let told = read_after(&journal, Offset::ZERO).iter().any(|record| {
        matches!(&record.content, Content::Missed(missed)
            if missed.cause == MissedCause::Forgotten && missed.origin.as_ref() == Some(&later))
    });
    assert!(told, "what nobody had of the name may be lost");
}
