//! Readers: from memory, from the disk, across segments, and from the middle of a record.

use std::future::Future as _;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use evermesh_event::{Offset, Sequence};
use evermesh_journal::{Content, Journal, ReadError, Writer};

use crate::world::{World, append, block, entries, now, other, read_after};

/// Enough for several segments, most of it out of the tail.
fn filled(world: &World) -> (Journal, Writer) {
    let (journal, mut writer) = world.open();
    for round in 0..60 {
        let ids: Vec<_> = (0..10).map(|n| format!("{round}-{n}")).collect();
        append(&journal, &ids.iter().map(String::as_str).collect::<Vec<_>>());
        now(journal.take(block(&other("web-2"), round, &[round + 1]))).unwrap();
        writer.turn().unwrap();
    }
    (journal, writer)
}

#[test]
fn p2_the_same_from_disk_and_from_memory_from_every_offset() {
    let world = World::new(1);
    let (journal, _writer) = filled(&world);
    assert!(journal.status().disk_bytes > 4 * world.limits.segment_bytes, "several segments");
    let all = entries(&read_after(&journal, Offset::ZERO));
    assert_eq!(all.len(), 60 * 11);
    for (passed, (after, _)) in all.iter().enumerate() {
        let rest = entries(&read_after(&journal, *after));
        assert!(rest == all[passed + 1..], "after {after}: {} entries", rest.len());
    }
}

#[test]
fn a_reader_that_begins_within_a_record_gets_the_rest_of_it() {
    let world = World::new(2);
    let (journal, mut writer) = world.open();
    append(&journal, &["a", "b", "c"]);
    writer.turn().unwrap();
    let whole = read_after(&journal, Offset::ZERO);
    let rest = read_after(&journal, whole[0].offset);
    let Content::Block { skip, .. } = &rest[0].content else { panic!("a block") };
    assert_eq!((*skip, rest[0].end()), (1, whole[0].end()));
    assert!(whole[0].taken_body().ends_with(&rest[0].taken_body()));
    assert_eq!(entries(&rest), entries(&whole)[1..]);
}

#[test]
fn bytes_bound_what_comes_at_once_but_never_below_one_record() {
    let world = World::new(3);
    let (journal, mut writer) = world.open();
    for n in 0..10 {
        append(&journal, &[&n.to_string()]);
    }
    let mut reader = journal.reader(Offset::ZERO);
    assert_eq!(now(reader.next(1)).unwrap().len(), 1);
    assert!((2..8).contains(&now(reader.next(3000)).unwrap().len()));
    writer.turn().unwrap();
    assert!(now(reader.next(usize::MAX)).unwrap().len() > 1);
    assert_eq!(reader.position(), journal.head());
    assert_eq!(reader.try_next(1).unwrap(), None);
}

struct Counted(std::sync::atomic::AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_waiting_reader_is_woken_and_loses_nothing_when_its_call_is_dropped() {
    let world = World::new(4);
    let (journal, _writer) = world.open();
    let mut reader = journal.reader(Offset::ZERO);
    let counted = Arc::new(Counted(0.into()));
    let waker = Waker::from(Arc::clone(&counted));
    let mut waiting = Box::pin(reader.next(1));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    append(&journal, &["a"]);
    assert_eq!(counted.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(waiting);
    assert_eq!(now(reader.next(1)).unwrap().len(), 1);
}

#[test]
fn a_reader_at_the_head_hears_that_the_journal_was_closed() {
    let world = World::new(5);
    let (journal, mut writer) = world.open();
    append(&journal, &["a"]);
    let mut reader = journal.reader(Offset::ZERO);
    let mut closing = Box::pin(journal.close());
    assert!(crate::world::look(&mut closing).is_pending());
    assert!(writer.turn().unwrap().ended);
    assert_eq!(now(reader.next(1)).unwrap().len(), 1, "what is there is read first");
    assert_eq!(now(reader.next(1)), Err(ReadError::Closed));
}

#[test]
fn place_of_leads_before_every_block_above_a_sequence_and_not_far_before() {
    let world = World::new(6);
    let (journal, writer) = filled(&world);
    let check = |journal: &Journal| {
        for origin in [journal.origin().clone(), other("web-2")] {
            let all = entries(&read_after(journal, Offset::ZERO));
            for counter in 0..60 {
                let sequence = Sequence::from_u64(1 << 40 | counter);
                let place = journal.place_of(&origin, sequence);
                let above = all.iter().find(|(_, entry)| {
                    entry.as_ref().is_some_and(|(of, at, _)| *of == origin && *at > sequence)
                });
                let (first, _) = above.unwrap();
                assert!(place < *first, "{place} is not before {first}");
            }
            let head = journal.frontier().get(&origin);
            assert_eq!(journal.place_of(&origin, head), journal.head(), "nothing is above");
        }
    };
    check(&journal);
    let unknown = journal.place_of(&other("web-3"), Sequence::ZERO);
    assert_eq!(unknown, journal.head());
    drop((journal, writer));
    world.disk.kill();
    check(&world.open().0);
}
