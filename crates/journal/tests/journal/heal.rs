//! P1, P11: what is damaged comes back from a member that holds it, before any reader passes: the
//! right payloads, each origin in its order, and nothing missed. A shadow of what was written is
//! that member.

mod lost;

use std::collections::BTreeMap;

use evermesh_event::assurance::Presence;
use evermesh_event::{Block, Offset, Origin, ResumeToken, Run, Sequence};
use evermesh_journal::{Content, Journal, Lacking, Limits, Missed, Resume, Storage as _, Writer};

use crate::world::{
    Entry, Seeded, World, append, block, entries, identity, look, other, read_after, small,
};

const HEADER: usize = 4096;

/// What a journal held, and what others hold.
struct Written {
    world: World,
    all: Vec<Entry>,
    blocks: Vec<Block>,
    runs: BTreeMap<u32, Run>,
}

fn close(journal: &Journal, writer: &mut Writer) {
    let mut closing = Box::pin(journal.close());
    assert!(look(&mut closing).is_pending());
    while !writer.turn().unwrap().ended {}
}

/// A durable name that is at the end.
fn name(journal: &Journal, key: &str) {
    journal.open_name(key, &identity(), &["shop".into()]).unwrap();
    let (head, frontier) = journal.here();
    journal.advance_name(key, head, &frontier, true);
}

/// Three starts with own events and those of two others, one to five in a block; the last is
/// closed.
fn written(seed: u64) -> Written {
    written_in(World::new(seed), seed)
}

/// The same in segments of another size.
fn written_in(world: World, seed: u64) -> Written {
    let dice = Seeded::new(seed);
    let mut runs = BTreeMap::new();
    let (mut id, mut at) = (0_u64, [0_u64; 2]);
    for start in 0..3 {
        let (journal, mut writer) = world.open();
        runs.insert(journal.start().epoch.get(), journal.run());
        for turn in 0..80 {
            let count = 1 + dice.below(5);
            if turn % 7 == 0 {
                name(&journal, &format!("name-{start}-{turn}"));
            }
            match dice.below(3) {
                0 => {
                    let ids: Vec<_> = (id..id + count).map(|id| id.to_string()).collect();
                    id += count;
                    append(&journal, &ids.iter().map(String::as_str).collect::<Vec<_>>());
                }
                which => {
                    let at = &mut at[which as usize - 1];
                    let counters: Vec<_> = (*at + 1..=*at + count).collect();
                    let origin = other(["web-2", "web-3"][which as usize - 1]);
                    crate::world::now(journal.take(block(&origin, *at, &counters))).unwrap();
                    *at += count;
                }
            }
            if dice.below(3) == 0 {
                writer.turn().unwrap();
            }
        }
        writer.turn().unwrap();
        if start == 1 {
            drop((journal, writer));
            world.disk.kill();
        } else {
            close(&journal, &mut writer);
        }
    }
    let copy = World { disk: world.disk.copy(), ..world.clone() };
    let (journal, _writer) = copy.open();
    let records = read_after(&journal, Offset::ZERO);
    let blocks = records.iter().filter_map(|record| match &record.content {
        Content::Block { block, .. } => Some(block.clone()),
        Content::Missed(_) => None,
    });
    Written { all: entries(&records), blocks: blocks.collect(), world, runs }
}

impl Written {
    fn damaged(&self, damage: impl FnOnce(&World)) -> World {
        let world = World { disk: self.world.disk.copy(), ..self.world.clone() };
        damage(&world);
        world
    }

    /// Gives what is lacking, as a member that holds all.
    fn serve(&self, journal: &Journal, lacking: &Lacking) {
        for block in &self.blocks {
            let next = *block.origin() == lacking.origin && block.last() > lacking.after;
            if next && block.previous() < lacking.through {
                journal.mend(block);
            }
        }
    }
}

/// Asks until nothing is lacking and the writer has nothing to do. What lacks last is answered
/// before all else, so that what is damaged is not only healed from its beginning on.
fn heal(written: &Written, journal: &Journal, writer: &mut Writer) {
    for round in 0..100 {
        let (lacking, wounds) = (journal.lacking(), *journal.wounds().borrow());
        let answered = if round == 0 { 1 } else { lacking.len() };
        lacking.iter().rev().take(answered).for_each(|lacking| written.serve(journal, lacking));
        writer.turn().unwrap();
        if lacking.is_empty() && wounds == *journal.wounds().borrow() {
            return;
        }
    }
    panic!("still lacking: {:?}", journal.lacking());
}

/// Opens it with somebody who asks.
fn open(world: &World) -> (Journal, Writer) {
    let (journal, writer) = world.open();
    journal.await_mending();
    (journal, writer)
}

type Held = BTreeMap<(Origin, Sequence), Vec<u8>>;

fn held(entries: &[Entry]) -> Held {
    let events = entries.iter().filter_map(|(_, entry)| entry.clone());
    events.map(|(origin, sequence, event)| ((origin, sequence), event)).collect()
}

/// Nothing missed, every payload once, each origin in its order, offsets that rise.
fn check_whole(written: &Written, found: &[Entry], what: &str) {
    let missed = found.iter().filter(|(_, entry)| entry.is_none()).count();
    let marks = found.len() - held(found).len();
    assert!(missed == marks, "{what}: an event came twice");
    let (now, was) = (held(found), held(&written.all));
    let lacking: Vec<_> = was.keys().filter(|event| !now.contains_key(event)).collect();
    assert!(lacking.is_empty(), "{what}: lacking: {lacking:?}");
    assert!(now == was, "{what}: other events");
    let mut at = BTreeMap::new();
    for (_, entry) in found {
        let Some((origin, sequence, _)) = entry else { continue };
        let before = at.insert(origin.clone(), *sequence);
        assert!(before < Some(*sequence), "{what}: {origin} is out of order");
    }
    assert!(found.is_sorted_by_key(|(offset, _)| *offset), "{what}: offsets");
}

fn missed(journal: &Journal) -> Vec<(Offset, Missed)> {
    let all = read_after(journal, Offset::ZERO);
    let missed = all.iter().filter_map(|record| match &record.content {
        Content::Missed(missed) => Some((record.offset, missed.clone())),
        Content::Block { .. } => None,
    });
    missed.collect()
}

/// Whoever was at any place before the damage hears everything behind it.
fn check_resumed(written: &Written, journal: &Journal, what: &str) {
    for (offset, _) in written.all.iter().step_by(37) {
        let run = written.runs[&offset.epoch().get()];
        let resumed = journal.resume(&ResumeToken { run, offset: *offset });
        let Resume::After(after) = resumed else { panic!("{what}: {offset} is not known") };
        assert!(after <= *offset);
        let heard = held(&entries(&read_after(journal, after)));
        let behind = written.all.iter().filter(|(at, _)| at > offset).cloned();
        for event in held(&behind.collect::<Vec<_>>()).keys() {
            assert!(heard.contains_key(event), "{what}: {offset} → {after}: {event:?} is skipped");
        }
    }
}

/// Who was at a place under a durable name hears everything behind it; and whoever acknowledges the
/// same place now, where everything is healed, goes on there.
fn check_names(written: &Written, journal: &Journal, what: &str) -> u64 {
    let (names, mut moved) = (journal.names(), 0);
    assert!(names.len() > 20);
    for (key, name) in names {
        let open = || journal.open_name(&key, &name.identity, &name.sites).unwrap().acknowledged;
        let after = open();
        assert!(after <= name.acknowledged);
        moved += u64::from(after < name.acknowledged);
        let heard = held(&entries(&read_after(journal, after)));
        let behind = written.all.iter().filter(|(at, _)| *at > name.acknowledged).cloned();
        for event in held(&behind.collect::<Vec<_>>()).keys() {
            assert!(heard.contains_key(event), "{what}: {key} → {after}: {event:?} is skipped");
        }
        // It hears again what it had acknowledged, and is where it acknowledged that now.
        let again = Offset::from_u64(name.acknowledged.as_u64().saturating_sub(1));
        if again > after {
            journal.advance_name(&key, again, &name.through, true);
            assert_eq!(open(), again, "{what}: {key}");
        }
        journal.advance_name(&key, name.acknowledged, &name.through, true);
        assert_eq!(open(), name.acknowledged, "{what}: {key}");
        let given = ResumeToken { run: journal.run(), offset: name.acknowledged };
        assert_eq!(journal.resume(&given), Resume::After(name.acknowledged), "{what}: {key}");
    }
    moved
}

/// What was acknowledged in a former start, once everything had been healed, does not come again.
fn check_exact(journal: &Journal, run: Run, what: &str) {
    for (key, name) in journal.names() {
        let opened = journal.open_name(&key, &name.identity, &name.sites).unwrap();
        assert_eq!(opened.acknowledged, name.acknowledged, "{what}: {key}");
        let token = ResumeToken { run, offset: name.acknowledged };
        assert_eq!(journal.resume(&token), Resume::After(name.acknowledged), "{what}: {key}");
    }
}

/// Flips so many bits somewhere where something was written.
fn flip(world: &World, dice: &Seeded, count: u64) -> String {
    let segments = world.disk.segments().unwrap();
    let mut what = String::new();
    for _ in 0..count {
        let first = segments[dice.below(segments.len() as u64) as usize];
        let mut bytes = world.disk.segment_bytes(first).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let at = HEADER + dice.below((used - HEADER) as u64) as usize;
        bytes[at] ^= 1 << dice.below(8);
        world.disk.set_segment_bytes(first, &bytes);
        what.push_str(&format!("{first} byte {at}, "));
    }
    what
}

/// How many durable names begin earlier than they were.
fn check_healed(written: &Written, world: &World, what: &str) -> u64 {
    let (journal, mut writer) = open(world);
    heal(written, &journal, &mut writer);
    assert_eq!(missed(&journal), [], "{what}");
    let found = entries(&read_after(&journal, Offset::ZERO));
    check_whole(written, &found, what);
    check_resumed(written, &journal, what);
    let moved = check_names(written, &journal, what);
    append(&journal, &["next"]);
    writer.turn().unwrap();
    let run = journal.run();
    drop((journal, writer));
    world.disk.kill();
    // It is as if it had never been damaged, and nobody is asked again.
    let (journal, _writer) = open(world);
    assert_eq!(journal.lacking(), [], "{what}");
    let again = entries(&read_after(&journal, Offset::ZERO));
    assert!(again[..again.len() - 1] == found[..], "{what}: after the next start");
    check_resumed(written, &journal, what);
    check_exact(&journal, run, what);
    moved
}

#[test]
fn p11_whatever_bits_flip_a_member_that_holds_all_heals_it_and_nothing_is_missed() {
    for seed in 0..3 {
        let written = written(seed);
        assert!(written.world.disk.segments().unwrap().len() > 3);
        let dice = Seeded::new(seed + 100);
        for round in 0..12 {
            let mut what = String::new();
            let world = written.damaged(|world| what = flip(world, &dice, 1 + round % 4));
            check_healed(&written, &world, &format!("seed {seed}, round {round}: {what}"));
        }
    }
}

#[test]
fn p11_what_stays_damaged_at_the_beginning_of_a_segment_does_not_stand_for_all_of_it() {
    let written = written(3);
    for first in written.world.disk.segments().unwrap() {
        let world = written.damaged(|world| {
            let mut bytes = world.disk.segment_bytes(first).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            for at in [HEADER + 8, HEADER + (used - HEADER) / 2] {
                bytes[at] ^= 1;
            }
            world.disk.set_segment_bytes(first, &bytes);
        });
        check_healed(&written, &world, &format!("{first}"));
    }
}

#[test]
fn p11_a_segment_that_is_gone_comes_back() {
    let written = written(7);
    let mut moved = 0;
    for first in written.world.disk.segments().unwrap() {
        let world = written.damaged(|world| {
            world.disk.remove_segment(first).unwrap();
            world.disk.sync_directory().unwrap();
        });
        moved += check_healed(&written, &world, &format!("{first}"));
    }
    assert!(moved > 10, "{moved}");
}

#[test]
fn p11_a_node_that_is_killed_while_it_heals_heals_on() {
    let written = written(11);
    let dice = Seeded::new(12);
    for round in 0..6 {
        let mut what = String::new();
        let world = written.damaged(|world| what = flip(world, &dice, 6));
        for turns in 0..4 {
            let (journal, mut writer) = open(&world);
            for lacking in journal.lacking() {
                written.serve(&journal, &lacking);
            }
            for _ in 0..turns {
                writer.turn().unwrap();
            }
            drop((journal, writer));
            world.disk.kill();
        }
        check_healed(&written, &world, &format!("round {round}: {what}"));
    }
}

#[test]
fn p11_what_no_member_holds_is_missed_and_all_else_comes_back() {
    let written = written(21);
    let dice = Seeded::new(22);
    for round in 0..24 {
        let mut what = String::new();
        let flips = [1, 3][round % 2];
        let world = written.damaged(|world| what = flip(world, &dice, flips));
        let (journal, mut writer) = open(&world);
        // Of one origin every other block is lost everywhere.
        let gone = |block: &Block| block.origin().node.as_str() == "web-2" && block.count() != 2;
        for _ in 0..100 {
            let lacking = journal.lacking();
            for lacking in &lacking {
                let blocks = written.blocks.iter().filter(|block| !gone(block));
                let of = blocks.filter(|block| *block.origin() == lacking.origin);
                let mut of = of.filter(|block| block.last() > lacking.after);
                match of.next() {
                    Some(block) if block.previous() <= lacking.after => {
                        assert!(journal.mend(block), "{what}");
                    }
                    next => {
                        let next = next.map_or(lacking.through, |next| next.previous());
                        journal.give_up(lacking, next);
                    }
                }
            }
            writer.turn().unwrap();
        }
        let records = read_after(&journal, Offset::ZERO);
        let found = held(&entries(&records));
        let told: Vec<_> = missed(&journal);
        for (event, payload) in &held(&written.all) {
            let (origin, sequence) = event;
            let told = told.iter().any(|(_, missed)| {
                let range = missed.from..=missed.through;
                missed.origin.as_ref() == Some(origin) && range.contains(sequence)
            });
            let heard = found.get(event);
            assert!(heard == Some(payload) || told, "{what}: {event:?} is lost in silence");
            assert!(heard.is_none() || !told, "{what}: {event:?} is missed needlessly");
        }
        // A missed takes an offset, too: with several wounds there may be none left for an event.
        if flips > 1 {
            continue;
        }
        let others = told.iter().filter(|(_, missed)| {
            missed.origin.as_ref().is_none_or(|origin| origin.node.as_str() != "web-2")
        });
        assert_eq!(others.count(), 0, "round {round}, {what}: {told:?}");
    }
}

#[test]
fn p11_readers_wait_before_damage_until_it_came_back_or_was_given_up() {
    let written = written(31);
    let first = written.world.disk.segments().unwrap()[1];
    let world = written.damaged(|world| {
        let mut bytes = world.disk.segment_bytes(first).unwrap();
        bytes[HEADER + 3000] ^= 1;
        world.disk.set_segment_bytes(first, &bytes);
    });
    for heals in [true, false] {
        let world = World { disk: world.disk.copy(), ..world.clone() };
        let (journal, mut writer) = open(&world);
        let mut reader = journal.reader(Offset::ZERO);
        while reader.try_next(1).unwrap().is_some() {}
        let at = reader.position();
        assert!(at > first && at < journal.head());
        let mut next = Box::pin(reader.next(1));
        assert!(look(&mut next).is_pending());
        let lacking = journal.lacking();
        if heals {
            heal(&written, &journal, &mut writer);
        } else {
            lacking.iter().for_each(|lacking| journal.give_up(lacking, lacking.through));
        }
        let records = crate::world::now(next).unwrap();
        assert!(records[0].offset > at);
        let missed = matches!(records[0].content, Content::Missed(_));
        assert_eq!(missed, !heals, "{records:?}");
    }
}

#[test]
fn p11_damage_that_comes_while_the_node_runs_is_healed_without_a_restart() {
    let mut healed = 0;
    for seed in 0..12 {
        let written = written(40);
        let dice = Seeded::new(seed);
        let world = World { disk: written.world.disk.copy(), ..written.world.clone() };
        let (journal, mut writer) = open(&world);
        append(&journal, &["next"]);
        writer.turn().unwrap();
        let what = flip(&world, &dice, 2);
        let mut reader = journal.reader(Offset::ZERO);
        let mut found = Vec::new();
        for _ in 0..50 {
            while let Some(records) = reader.try_next(1).unwrap() {
                found.extend(entries(&records));
            }
            healed += journal.lacking().len();
            heal(&written, &journal, &mut writer);
        }
        // What was there last is still in memory, or was written after the flip was made.
        let next = found.pop().unwrap();
        assert_eq!(next.0, journal.head(), "{what}");
        check_whole(&written, &found, &what);
        check_resumed(&written, &journal, &what);
        drop((journal, writer, reader));
        world.disk.kill();
        let (journal, _writer) = open(&world);
        assert_eq!((journal.lacking(), missed(&journal)), (vec![], vec![]), "{what}");
    }
    assert!(healed > 8, "{healed}");
}

#[test]
fn p1_p7_what_was_damaged_and_is_cut_is_told_to_whoever_did_not_pass_it() {
    let mut world = World::new(51);
    let segment_bytes = 40 * 1024;
    let max_bytes = 16 * segment_bytes;
    let reserve_bytes = 2 * segment_bytes;
    world.limits = Limits { segment_bytes, max_bytes, reserve_bytes, ..small() };
    let (journal, mut writer) = world.open();
    journal.cursors().presence("web-9", Presence::Expected);
    let mut id = 0;
    let mut publish = |journal: &Journal, writer: &mut Writer, count: u64| {
        for _ in 0..count {
            id += 1;
            append(journal, &[&format!("{id}")]);
            writer.turn().unwrap();
        }
    };
    publish(&journal, &mut writer, 300);
    // The last record of the first segment: what follows it lies in the next.
    let segments = world.disk.segments().unwrap();
    let mut bytes = world.disk.segment_bytes(segments[0]).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last - 8] ^= 1;
    close(&journal, &mut writer);
    drop((journal, writer));
    world.disk.set_segment_bytes(segments[0], &bytes);
    let (journal, mut writer) = world.open();
    journal.cursors().presence("web-9", Presence::Expected);
    let told = missed(&journal);
    let [(at, lost)] = &told[..] else { panic!("{told:?}") };
    let before = Offset::from_u64(at.as_u64() - 1);
    for _ in 0..100 {
        publish(&journal, &mut writer, 100);
        if journal.oldest() >= *at {
            break;
        }
    }
    assert!(journal.oldest() >= *at, "it was never cut");
    let after = read_after(&journal, before);
    let Content::Missed(missed) = &after[0].content else { panic!("{:?}", after[0]) };
    assert_eq!(missed.origin, lost.origin);
    assert!(missed.through >= lost.through);
}
