//! P7: at the edge of each limit.

use evermesh_event::{Offset, Sequence};
use evermesh_journal::{AppendError, Error, Intake, Journal, Limits, Missed, Taken};
use evermesh_proto::v1::MissedCause;

use crate::world::{World, append, block, event, identity, intake, look, now, other, read_after};

#[test]
fn p7_publishes_are_refused_before_the_disk_is_full_and_what_comes_from_others_uses_the_reserve() {
    let mut world = World::new(1);
    world.limits.reserve_bytes = 64 * 1024;
    world.disk.set_free_bytes(160 * 1024);
    let (journal, mut writer) = world.open();
    let free = |journal: &Journal, world: &World| {
        let used = journal.status().disk_bytes;
        world.disk.set_free_bytes((160 * 1024_u64).saturating_sub(used));
    };
    let mut taken = 0;
    let refused = loop {
        let event = Intake { event: event(&taken.to_string(), 1000), sampled: false };
        match now(journal.append(&identity(), vec![event])) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        free(&journal, &world);
        writer.turn().unwrap();
        assert!(taken < 1000);
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!(journal.status().disk_bytes <= 96 * 1024, "the reserve is untouched");
    let head = journal.own_head();
    let b = other("web-2");
    let mut came = 0;
    while matches!(now(journal.take(block(&b, came, &[came + 1]))), Ok(Taken::Appended { .. })) {
        came += 1;
        free(&journal, &world);
        writer.turn().unwrap();
        assert!(came < 1000);
    }
    assert!(came > 20, "the reserve holds {came}");
    assert!(journal.status().disk_bytes <= 160 * 1024);
    assert_eq!(journal.own_head(), head, "nothing was numbered in vain");
    assert!(!journal.durable().borrow().failed, "full is not failed");
}

#[test]
fn p7_a_missed_uses_the_reserve() {
    let mut world = World::new(2);
    world.disk.set_free_bytes(100 * 1024);
    world.limits.reserve_bytes = 96 * 1024;
    let (journal, mut writer) = world.open();
    let refused = now(journal.append(&identity(), vec![intake("a")]));
    assert!(matches!(refused, Err(AppendError::Full { .. })), "free space counts too");
    let missed = Missed {
        origin: None,
        from: Sequence::ZERO,
        through: Sequence::ZERO,
        sites: Vec::new(),
        cause: MissedCause::Forgotten,
    };
    now(journal.miss(missed)).unwrap();
    writer.turn().unwrap();
    world.disk.set_free_bytes(1 << 30);
    let refused = now(journal.append(&identity(), vec![intake("a")]));
    assert!(matches!(refused, Err(AppendError::Full { .. })), "not looked at again yet");
    writer.turn().unwrap();
    append(&journal, &["a"]);
}

#[test]
fn p7_appends_wait_while_too_much_is_unwritten_first_come_first_served() {
    let mut world = World::new(3);
    world.limits.unwritten_bytes_max = 512 * 1024;
    world.limits.segment_bytes = 1 << 20;
    let (journal, mut writer) = world.open();
    let large = |id: &str| vec![Intake { event: event(id, 200 * 1024), sampled: false }];
    now(journal.append(&identity(), large("a"))).unwrap();
    now(journal.append(&identity(), large("b"))).unwrap();
    let who = identity();
    let mut third = Box::pin(journal.append(&who, large("c")));
    assert!(look(&mut third).is_pending());
    let mut small = Box::pin(journal.append(&who, vec![intake("d")]));
    assert!(look(&mut small).is_pending(), "it does not overtake");
    let mut dropped = Box::pin(journal.append(&who, large("e")));
    assert!(look(&mut dropped).is_pending());
    drop(dropped);
    let before = journal.own_head();
    writer.turn().unwrap();
    assert!(look(&mut third).is_ready() && look(&mut small).is_ready());
    assert_eq!(journal.own_head().as_u64(), before.as_u64() + 2, "what was dropped has no number");
    writer.turn().unwrap();
    now(journal.append(&identity(), large("e"))).unwrap();
}

#[test]
fn p7_the_tail_lets_go_of_what_is_durable_and_keeps_what_is_not() {
    let world = World::new(4);
    let (journal, mut writer) = world.open();
    for n in 0..100 {
        append(&journal, &[&n.to_string()]);
    }
    assert_eq!(read_after(&journal, Offset::ZERO).len(), 100, "nothing is on the disk yet");
    writer.turn().unwrap();
    let before = world.disk.syncs();
    assert_eq!(read_after(&journal, Offset::ZERO).len(), 100, "now most of it is");
    assert_eq!(world.disk.syncs(), before);
    assert_eq!(journal.status().syncs, before_syncs(&journal));
}

fn before_syncs(journal: &Journal) -> u64 {
    journal.status().syncs
}

#[test]
fn one_turn_is_one_sync_however_much_waits() {
    let mut world = World::new(5);
    world.limits.segment_bytes = 1 << 20;
    let (journal, mut writer) = world.open();
    append(&journal, &["first"]);
    writer.turn().unwrap();
    let before = journal.status().syncs;
    for n in 0..200 {
        append(&journal, &[&n.to_string()]);
    }
    assert_eq!(writer.turn().unwrap().records, 200);
    assert_eq!(journal.status().syncs, before + 1);
}

#[test]
fn limits_that_cannot_work_are_refused_before_anything_is_touched() {
    let mut world = World::new(6);
    for limits in [
        Limits { segment_bytes: 100, ..world.limits.clone() },
        Limits { max_bytes: 70 * 1024, ..world.limits.clone() },
        Limits { unwritten_bytes_max: 1000, ..world.limits.clone() },
    ] {
        world.limits = limits;
        let refused = Journal::open(world.options()).unwrap_err();
        assert!(matches!(refused, Error::Limits(_)), "{refused}");
    }
    for max_bytes in [16 << 20, 256 << 20, 4 << 30, 1 << 40] {
        world.limits = Limits::with_max_bytes(max_bytes);
        drop(world.open());
        world.limits = Limits::in_memory(max_bytes);
        drop(world.open());
    }
}
