//! P11: a disk that refuses is believed at once and for good.

use std::task::Poll;

use evermesh_event::{Offset, Sequence};
use evermesh_journal::simulated::Refusal;
use evermesh_journal::{AppendError, Intake, ReadError};

use crate::world::{World, append, event, identity, intake, look, now, read_after};

#[test]
fn p11_a_failed_sync_ends_assuring_for_good() {
    for seed in 0..64 {
        let world = World::new(seed);
        let (journal, mut writer) = world.open();
        let kept = append(&journal, &["kept"]);
        writer.turn().unwrap();
        let lost = append(&journal, &["lost"]);
        world.disk.refuse_syncs(Some(Refusal::Failed));
        let failure = writer.turn().unwrap_err();
        assert!(failure.to_string().contains("Nothing more is assured"), "{failure}");
        // The disk recovers; the journal does not believe it.
        world.disk.refuse_syncs(None);
        assert_eq!(writer.turn(), Err(failure));
        let durable = *journal.durable().borrow();
        assert!(durable.failed && durable.own == kept.own_through);
        let refused = now(journal.append(&identity(), vec![intake("later")]));
        assert_eq!(refused, Err(AppendError::Failed));
        assert!(now(journal.close()).is_err());
        let mut reader = journal.reader(kept.through);
        assert_eq!(now(reader.next(1)).unwrap().len(), 1, "what was shown stays shown");
        assert_eq!(now(reader.next(1)), Err(ReadError::Failed));
        drop((journal, writer));
        // The system believes the pages clean; what is read back before a crash need not be there
        // after it.
        world.disk.kill();
        let (journal, writer) = world.open();
        let seen = read_after(&journal, Offset::ZERO);
        assert_eq!(*journal.durable().borrow(), crate::world::durable_of(&journal));
        drop((journal, writer));
        world.disk.crash(&*world.random);
        let (journal, _writer) = world.open();
        assert_eq!(read_after(&journal, Offset::ZERO), seen, "seed {seed}: said to be durable");
        assert!(journal.own_head() >= kept.own_through && journal.own_head() <= lost.own_through);
    }
}

#[test]
fn p11_a_refused_write_and_a_full_disk_are_failures_in_spite_of_the_reserve() {
    for refusal in [Refusal::Failed, Refusal::NoSpace] {
        let world = World::new(1);
        let (journal, mut writer) = world.open();
        append(&journal, &["a"]);
        world.disk.refuse_writes(Some(refusal));
        writer.turn().unwrap_err();
        assert!(journal.durable().borrow().failed);
        assert_eq!(journal.durable().borrow().own, Sequence::ZERO);
    }
}

#[test]
fn those_who_wait_hear_of_the_failure() {
    let mut world = World::new(2);
    world.limits.unwritten_bytes_max = 512 * 1024;
    world.limits.segment_bytes = 1 << 20;
    let (journal, mut writer) = world.open();
    let large = |id: &str| vec![Intake { event: event(id, 250 * 1024), sampled: false }];
    let who = identity();
    now(journal.append(&who, large("a"))).unwrap();
    now(journal.append(&who, large("b"))).unwrap();
    let mut waiting = Box::pin(journal.append(&who, large("c")));
    assert!(look(&mut waiting).is_pending());
    let mut durable = journal.durable();
    let mut assured = Box::pin(durable.wait_for(|durable| durable.failed));
    assert!(look(&mut assured).is_pending());
    let mut closing = Box::pin(journal.close());
    world.disk.refuse_syncs(Some(Refusal::Failed));
    writer.turn().unwrap_err();
    assert_eq!(look(&mut waiting), Poll::Ready(Err(AppendError::Failed)));
    assert!(look(&mut assured).is_ready());
    assert!(matches!(look(&mut closing), Poll::Ready(Err(_))));
}

#[test]
fn a_writer_that_is_dropped_leaves_nobody_waiting() {
    let world = World::new(3);
    let (journal, writer) = world.open();
    append(&journal, &["a"]);
    drop(writer);
    assert!(journal.durable().borrow().failed);
    let refused = now(journal.append(&identity(), vec![intake("b")]));
    assert_eq!(refused, Err(AppendError::Failed));
    drop(world.open());
}
