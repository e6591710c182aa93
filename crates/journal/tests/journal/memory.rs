//! The journal of a node that keeps no disk.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_event::{JournalId, Offset, Origin, ResumeToken};
use evermesh_journal::{Content, Error, Journal, Limits, Memory, Resume, Storage, Writer};

use crate::world::{
    World, append, block, entries, identity, intake, link, now, other, read_after, small,
};

fn open(world: &World, memory: &Arc<Memory>) -> (Journal, Writer) {
    Journal::open(world.options_on(Arc::clone(memory) as Arc<dyn Storage>)).unwrap()
}

#[test]
fn p1_each_start_is_a_new_origin_that_knows_nothing_of_the_former() {
    let (world, memory) = (World::new(1), Arc::new(Memory::new()));
    let (journal, mut writer) = open(&world, &memory);
    assert!(journal.is_memory());
    append(&journal, &["a"]);
    now(journal.take(block(&other("web-2"), 0, &[1]))).unwrap();
    journal.open_name("cdn", &identity(), &[]).unwrap();
    writer.turn().unwrap();
    assert_eq!(journal.durable().borrow().offset, journal.head(), "who waits for it goes on");
    assert_eq!(journal.status().syncs, 0, "and no disk said so");
    let (former, token) =
        (journal.origin().clone(), ResumeToken { run: journal.run(), offset: journal.head() });
    assert_eq!(journal.resume(&token), Resume::After(journal.head()));
    let second = Journal::open(world.options_on(Arc::clone(&memory) as _)).unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second}");
    drop((journal, writer));

    let (journal, _writer) = open(&world, &memory);
    assert_ne!(*journal.origin(), former);
    assert_eq!(journal.resume(&token), Resume::Unknown);
    assert!(read_after(&journal, Offset::ZERO).is_empty());
    assert!(journal.status().frontier.iter().next().is_none(), "nothing of others either");
    assert!(journal.names().is_empty());
}

#[test]
fn p1_a_former_start_of_itself_alarms_nobody_and_of_others_everybody() {
    let (world, memory) = (World::new(5), Arc::new(Memory::new()));
    let (journal, mut writer) = open(&world, &memory);
    let mut former = other("web-1");
    now(journal.take(block(&former, 0, &[1]))).unwrap();
    former.journal = JournalId::new([4; 16]);
    now(journal.meet(&former)).unwrap();
    link(&journal, &other("web-2"));
    now(journal.take(block(&other("web-2"), 0, &[1]))).unwrap();
    let next = Origin { journal: JournalId::new([4; 16]), ..other("web-2") };
    now(journal.meet(&next)).unwrap();
    writer.turn().unwrap();
    let all = read_after(&journal, Offset::ZERO);
    let missed = all.iter().filter_map(|record| match &record.content {
        Content::Missed(missed) => missed.origin.clone(),
        Content::Block { .. } => None,
    });
    assert_eq!(missed.collect::<Vec<_>>(), [other("web-2")]);
    assert_eq!(entries(&all).len(), 3, "what others hold of it is taken");
}

#[test]
fn p7_memory_is_bounded_as_a_disk_is_and_readers_see_what_is_held() {
    let (mut world, memory) = (World::new(2), Arc::new(Memory::new()));
    let segment_bytes = 40 * 1024;
    world.limits = Limits {
        segment_bytes,
        max_bytes: 16 * segment_bytes,
        reserve_bytes: 2 * segment_bytes,
        ..small()
    };
    let (journal, mut writer) = open(&world, &memory);
    journal.cursors().presence("web-2", Presence::Expected);
    let web_2 = other("web-2");
    for n in 0..2000_u64 {
        append(&journal, &[&n.to_string()]);
        now(journal.take(block(&web_2, n, &[n + 1]))).unwrap();
        writer.turn().unwrap();
        assert!(journal.status().disk_bytes <= world.limits.max_bytes);
    }
    assert!(journal.oldest() > Offset::ZERO, "the oldest went, though web-2 lacks it");
    let held = read_after(&journal, journal.oldest());
    assert_eq!(held.last().unwrap().end(), journal.head());
    assert!(held.len() > 1000, "{}", held.len());
    let lacks = read_after(&journal, Offset::ZERO);
    assert!(lacks.len() > held.len(), "who is before it is told what is missed");
}

#[test]
fn p7_what_everybody_is_past_goes() {
    let (world, memory) = (World::new(3), Arc::new(Memory::new()));
    let (journal, mut writer) = open(&world, &memory);
    journal.cursors().in_memory("web-2", true);
    for n in 0..200 {
        append(&journal, &[&n.to_string()]);
        writer.turn().unwrap();
    }
    let all = journal.status().disk_bytes;
    world.clock.pass(Duration::from_secs(601));
    writer.turn().unwrap();
    assert_eq!(journal.status().disk_bytes, all, "a member lacks it");
    journal.cursors().stored("web-2", journal.own_head());
    world.clock.pass(Duration::from_secs(2));
    writer.turn().unwrap();
    assert!(journal.status().disk_bytes < all, "one in memory mode is past it as any other");
}

#[tokio::test]
async fn it_closes_with_the_thread_and_lets_go() {
    let (mut world, memory) = (World::new(4), Arc::new(Memory::new()));
    world.limits = Limits::in_memory(1 << 40);
    let (journal, writer) = open(&world, &memory);
    let thread = writer.spawn().unwrap();
    let appended = journal.append(&identity(), vec![intake("a")]).await.unwrap();
    let mut durable = journal.durable();
    durable.wait_for(|durable| durable.own >= appended.own_through).await.unwrap();
    journal.close().await.unwrap();
    thread.join().unwrap();
    drop(memory.lock().unwrap());
}
