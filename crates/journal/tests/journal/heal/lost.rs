//! P11: the only segment, all of them, or the last is lost after the node was closed: all of it
//! comes back, own events included, and what is written next lies behind the former end.

use super::*;

/// All in one segment.
fn written_in_one(seed: u64) -> Written {
    let mut world = World::new(seed);
    world.limits.segment_bytes = 1024 * 1024;
    let written = written_in(world, seed);
    assert_eq!(written.world.disk.segments().unwrap().len(), 1);
    written
}

/// Loses the only segment: a byte of its header is another one, or its file is gone.
fn lose_all(world: &World, flipped: Option<usize>) {
    for first in world.disk.segments().unwrap() {
        let mut bytes = world.disk.segment_bytes(first).unwrap();
        if let Some(at) = flipped {
            bytes[at] ^= 1;
            world.disk.set_segment_bytes(first, &bytes);
        } else {
            world.disk.remove_segment(first).unwrap();
            world.disk.sync_directory().unwrap();
        }
    }
}

#[test]
fn p11_the_only_segment_comes_back() {
    let written = written_in_one(61);
    let end = written.all.last().unwrap().0;
    for flipped in [Some(7), Some(20), None] {
        let what = format!("{flipped:?}");
        let world = written.damaged(|world| lose_all(world, flipped));
        check_healed(&written, &world, &what);
        // A node that is killed before anything came back asks again; what it took meanwhile lies
        // behind the former end.
        let world = written.damaged(|world| lose_all(world, flipped));
        drop(open(&world));
        world.disk.kill();
        let (journal, mut writer) = open(&world);
        let lacking = journal.lacking();
        let nodes: Vec<_> = lacking.iter().map(|lacking| lacking.origin.node.as_str()).collect();
        assert_eq!(nodes.len(), 3, "{what}: {nodes:?}");
        assert_eq!(read_after(&journal, Offset::ZERO), [], "{what}: readers wait");
        let own = journal.own_head();
        let next = append(&journal, &["next"]);
        assert!(next.through > end && next.own_through > own && own > Sequence::ZERO, "{what}");
        writer.turn().unwrap();
        drop((journal, writer));
        world.disk.kill();
        let (journal, mut writer) = open(&world);
        assert_eq!(journal.lacking(), lacking, "{what}");
        heal(&written, &journal, &mut writer);
        assert_eq!(missed(&journal), [], "{what}");
        let mut found = entries(&read_after(&journal, Offset::ZERO));
        assert_eq!(found.pop().unwrap().0, next.through, "{what}");
        check_whole(&written, &found, &what);
        check_resumed(&written, &journal, &what);
    }
}

#[test]
fn p11_of_the_only_segment_what_nobody_holds_is_missed_and_nothing_else() {
    let written = written_in_one(62);
    let world = written.damaged(|world| lose_all(world, Some(7)));
    for start in 0..2 {
        let (journal, mut writer) = open(&world);
        let lacking = journal.lacking();
        assert_eq!(lacking.len(), 3, "start {start}: {lacking:?}");
        lacking.iter().for_each(|lacking| journal.give_up(lacking, lacking.through));
        writer.turn().unwrap();
        let told: Vec<_> = missed(&journal).into_iter().map(|(_, missed)| missed).collect();
        assert_eq!(told.len(), 3, "start {start}: {told:?}");
        for lacking in lacking {
            let of = told.iter().find(|missed| missed.origin.as_ref() == Some(&lacking.origin));
            assert_eq!(of.unwrap().through, lacking.through, "start {start}");
        }
        close(&journal, &mut writer);
    }
    check_healed(&written, &world, "a member came that holds it");
}

#[test]
fn p11_all_segments_come_back_and_nothing_that_was_cut_is_asked_for() {
    let written = written(64);
    for flipped in [Some(7), None] {
        let world = written.damaged(|world| lose_all(world, flipped));
        check_healed(&written, &world, &format!("{flipped:?}"));
    }
    let mut world = World::new(65);
    let segment_bytes = 40 * 1024;
    let (max_bytes, reserve_bytes) = (16 * segment_bytes, 2 * segment_bytes);
    world.limits = Limits { segment_bytes, max_bytes, reserve_bytes, ..small() };
    let (journal, mut writer) = world.open();
    for id in 0..10_000 {
        append(&journal, &[&id.to_string()]);
        writer.turn().unwrap();
    }
    let (cut, end) = (journal.oldest(), journal.own_head());
    assert!(cut > Offset::ZERO);
    let all = read_after(&journal, cut);
    close(&journal, &mut writer);
    drop((journal, writer));
    lose_all(&world, Some(7));
    // The first of them is killed before anything comes back.
    drop(open(&world));
    world.disk.kill();
    let (journal, mut writer) = open(&world);
    let lacking = journal.lacking();
    assert_eq!(lacking.len(), 1, "{lacking:?}");
    let Content::Block { block, .. } = &all[0].content else { panic!("{:?}", all[0]) };
    assert_eq!((lacking[0].after, lacking[0].through), (block.previous(), end));
    for record in &all {
        let Content::Block { block, .. } = &record.content else { panic!("{record:?}") };
        assert!(journal.mend(block));
    }
    for _ in 0..100 {
        writer.turn().unwrap();
    }
    assert_eq!(entries(&read_after(&journal, cut)), entries(&all));
}

#[test]
fn p11_the_last_segment_comes_back_also_if_a_start_before_ended_in_it() {
    let mut healed = 0;
    for kib in (24..80).step_by(8) {
        let mut world = World::new(kib);
        world.limits.segment_bytes = kib * 1024;
        let written = written_in(world, kib);
        let last = *written.world.disk.segments().unwrap().last().unwrap();
        let world = written.damaged(|world| {
            let mut bytes = world.disk.segment_bytes(last).unwrap();
            bytes[7] ^= 1;
            world.disk.set_segment_bytes(last, &bytes);
        });
        check_healed(&written, &world, &format!("{kib} KiB, {last}"));
        healed += u64::from(last.epoch() < written.all.last().unwrap().0.epoch());
    }
    assert!(healed > 1, "{healed}");
}

#[test]
fn p11_once_it_is_told_that_the_end_is_lost_nothing_own_is_waited_for() {
    let world = written_in_one(66).world;
    // Killed: nobody knows where the start ended.
    drop(world.open());
    world.disk.kill();
    lose_all(&world, Some(7));
    let (journal, mut writer) = open(&world);
    assert_eq!(missed(&journal).len(), 2);
    writer.turn().unwrap();
    assert!(journal.own_head() > Sequence::ZERO);
    assert_eq!(*journal.durable().borrow(), crate::world::durable_of(&journal));
}
