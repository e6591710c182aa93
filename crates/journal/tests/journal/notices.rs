//! P1: what was told without a range lay beside events in what is damaged. The events come back
//! from a member, and who did not pass the place hears what was told all the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use evermesh_event::assurance::Presence;
use evermesh_event::{Block, JournalId, Offset, Origin, Sequence};
use evermesh_journal::{Content, Journal, Limits, Missed, Record, Storage as _, Writer};
use evermesh_proto::v1::MissedCause;

use crate::world::{Seeded, World, append, block, link, look, now, other, read_after, small};

const HEADER: usize = 4096;

/// What a journal held, and what others hold.
struct Written {
    world: World,
    own: Origin,
    events: BTreeSet<(Origin, Sequence)>,
    told: Vec<(Offset, Missed)>,
    blocks: Vec<Block>,
}

fn notice(name: &str) -> Missed {
    let (from, through) = (Sequence::ZERO, Sequence::ZERO);
    let (origin, cause) = (Some(other(name)), MissedCause::Forgotten);
    Missed { origin, from, through, sites: Vec::new(), cause }
}

fn close(journal: &Journal, writer: &mut Writer) {
    let mut closing = Box::pin(journal.close());
    assert!(look(&mut closing).is_pending());
    while !writer.turn().unwrap().ended {}
}

fn events(records: &[Arc<Record>]) -> Vec<(Offset, (Origin, Sequence))> {
    let mut all = Vec::new();
    for record in records {
        let Content::Block { block, .. } = &record.content else { continue };
        let entries = record.taken_entries();
        all.extend(entries.map(|(at, entry)| (at, (block.origin().clone(), entry.sequence))));
    }
    all
}

fn told(records: &[Arc<Record>]) -> Vec<(Offset, Missed)> {
    let told = records.iter().filter_map(|record| match &record.content {
        Content::Missed(missed) => Some((record.end(), missed.clone())),
        Content::Block { .. } => None,
    });
    told.collect()
}

/// Two starts with own events, those of another, and something told beside every third block or so.
fn written(seed: u64) -> Written {
    let world = World::new(seed);
    let dice = Seeded::new(seed);
    let (mut id, mut at, mut gone) = (0_u64, 0_u64, 0_u64);
    for start in 0..2 {
        let (journal, mut writer) = world.open();
        for _ in 0..60 {
            let count = 1 + dice.below(5);
            match dice.below(4) {
                0 => {
                    let ids: Vec<_> = (id..id + count).map(|id| id.to_string()).collect();
                    id += count;
                    append(&journal, &ids.iter().map(String::as_str).collect::<Vec<_>>());
                }
                1 | 2 => {
                    let counters: Vec<_> = (at + 1..=at + count).collect();
                    now(journal.take(block(&other("web-2"), at, &counters))).unwrap();
                    at += count;
                }
                _ => {
                    gone += 1;
                    now(journal.miss(notice(&format!("gone-{gone}")))).unwrap();
                }
            }
            if dice.below(3) == 0 {
                writer.turn().unwrap();
            }
        }
        // What follows shows what is lacking.
        append(&journal, &[&format!("last-{start}")]);
        now(journal.take(block(&other("web-2"), at, &[at + 1]))).unwrap();
        at += 1;
        writer.turn().unwrap();
        close(&journal, &mut writer);
    }
    let copy = World { disk: world.disk.copy(), ..world.clone() };
    let (journal, _writer) = copy.open();
    let (own, records) = (journal.origin().clone(), read_after(&journal, Offset::ZERO));
    let blocks = records.iter().filter_map(|record| match &record.content {
        Content::Block { block, .. } => Some(block.clone()),
        Content::Missed(_) => None,
    });
    let events = events(&records).into_iter().map(|(_, event)| event).collect();
    Written { events, told: told(&records), blocks: blocks.collect(), world, own }
}

/// Zeros over some hundred bytes: several records in a row.
fn wipe(world: &World, dice: &Seeded, count: u64) -> String {
    let mut what = String::new();
    for _ in 0..count {
        let segments = world.disk.segments().unwrap();
        let first = segments[dice.below(segments.len() as u64) as usize];
        let mut bytes = world.disk.segment_bytes(first).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let length = 100 + dice.below(1500) as usize;
        let at = HEADER + dice.below((used - HEADER) as u64) as usize;
        bytes[at..used.min(at + length)].fill(0);
        world.disk.set_segment_bytes(first, &bytes);
        what.push_str(&format!("{first} {length} bytes from {at}, "));
    }
    what
}

fn heal(written: &Written, journal: &Journal, writer: &mut Writer, what: &str) {
    for _ in 0..100 {
        let (lacking, wounds) = (journal.lacking(), *journal.wounds().borrow());
        for lacking in &lacking {
            let of = written.blocks.iter().filter(|block| *block.origin() == lacking.origin);
            for block in of {
                journal.mend(block);
            }
        }
        writer.turn().unwrap();
        if lacking.is_empty() && wounds == *journal.wounds().borrow() {
            return;
        }
    }
    panic!("{what}: still lacking {:?}", journal.lacking());
}

/// Whoever was at any place hears what was told behind it, once, and every event behind it.
fn check(written: &Written, journal: &Journal, what: &str) {
    let records = read_after(journal, Offset::ZERO);
    let found = events(&records);
    let all: BTreeSet<_> = found.iter().map(|(_, event)| event.clone()).collect();
    assert!(all == written.events && found.len() == all.len(), "{what}: events");
    let heard = told(&records);
    assert_eq!(heard, written.told, "{what}: what was told");
    for at in written.told.iter().flat_map(|(at, _)| [at.as_u64() - 1, at.as_u64()]) {
        let behind = told(&read_after(journal, Offset::from_u64(at)));
        let expected = written.told.iter().filter(|(told, _)| told.as_u64() > at);
        assert!(behind.iter().eq(expected), "{what}: after {at}: {behind:?}");
    }
}

#[test]
fn p1_what_was_told_beside_events_that_are_healed_is_told_again_in_its_place() {
    let mut damaged = 0;
    for seed in 0..4 {
        let written = written(seed);
        assert!(written.told.len() > 15, "{}", written.told.len());
        let dice = Seeded::new(seed + 50);
        for round in 0..16 {
            let world = World { disk: written.world.disk.copy(), ..written.world.clone() };
            let what = wipe(&world, &dice, 1 + round % 3);
            let what = format!("seed {seed}, round {round}: {what}");
            let (journal, mut writer) = world.open();
            journal.await_mending();
            damaged += journal.lacking().len();
            heal(&written, &journal, &mut writer, &what);
            check(&written, &journal, &what);
            drop((journal, writer));
            world.disk.kill();
            // And again in the place to which it was written then.
            let again = wipe(&world, &dice, 1);
            let what = format!("{what}then {again}");
            let (journal, mut writer) = world.open();
            journal.await_mending();
            heal(&written, &journal, &mut writer, &what);
            check(&written, &journal, &what);
        }
    }
    assert!(damaged > 40, "{damaged}");
}

#[test]
fn p1_what_was_told_is_told_again_where_nobody_holds_the_events_beside_it() {
    for seed in 10..12 {
        let written = written(seed);
        let dice = Seeded::new(seed + 50);
        for round in 0..12 {
            let world = World { disk: written.world.disk.copy(), ..written.world.clone() };
            let what = format!("seed {seed}, round {round}: {}", wipe(&world, &dice, 1));
            let (journal, mut writer) = world.open();
            journal.await_mending();
            for lacking in journal.lacking() {
                journal.give_up(&lacking, lacking.through);
            }
            writer.turn().unwrap();
            check_given_up(&written, &journal, &what);
        }
    }
}

/// It is told in its place, or everything is.
fn check_given_up(written: &Written, journal: &Journal, what: &str) {
    let records = read_after(journal, Offset::ZERO);
    assert!(records.is_sorted_by(|one, other| one.end() < other.offset), "{what}");
    let heard = told(&records);
    for (at, missed) in &written.told {
        let everything = |(told, missed): &(Offset, Missed)| {
            missed.origin.is_none() && *told >= *at && missed.cause == MissedCause::Damaged
        };
        let told = heard.contains(&(*at, missed.clone())) || heard.iter().any(everything);
        assert!(told, "{what}: {missed:?} at {at} is untold: {heard:?}");
    }
}

#[test]
fn p1_damage_that_comes_while_the_node_runs_takes_nothing_that_was_told() {
    for seed in 20..24 {
        let written = written(seed);
        let dice = Seeded::new(seed + 50);
        let world = World { disk: written.world.disk.copy(), ..written.world.clone() };
        let (journal, mut writer) = world.open();
        journal.await_mending();
        now(journal.miss(notice("gone-while-it-runs"))).unwrap();
        let ids: Vec<_> = (0..200).map(|n| format!("more-{n}")).collect();
        ids.iter().for_each(|id| drop(append(&journal, &[id])));
        writer.turn().unwrap();
        let before = read_after(&journal, Offset::ZERO);
        let all: BTreeSet<_> = events(&before).into_iter().map(|(_, event)| event).collect();
        let blocks = before.iter().filter_map(|record| match &record.content {
            Content::Block { block, .. } => Some(block.clone()),
            Content::Missed(_) => None,
        });
        let (told, blocks) = (told(&before), blocks.collect());
        assert_eq!(told.len(), written.told.len() + 1);
        let own = written.own.clone();
        let shadow = Written { events: all, told, blocks, world: world.clone(), own };
        let what = format!("seed {seed}: {}", wipe(&world, &dice, 6));
        for _ in 0..20 {
            read_after(&journal, Offset::ZERO);
            heal(&shadow, &journal, &mut writer, &what);
        }
        check(&shadow, &journal, &what);
    }
}

#[test]
fn p1_where_nobody_knows_what_was_told_any_more_damage_is_missed_of_every_origin() {
    let written = written(30);
    let dice = Seeded::new(31);
    for round in 0..12 {
        let world = World { disk: written.world.disk.copy(), ..written.world.clone() };
        let what = format!("round {round}: {}", wipe(&world, &dice, 1));
        let state = world.disk.state().unwrap();
        let pages = state.len().unwrap() / 4096;
        (1..pages).for_each(|page| state.write(page * 4096 + 40, &[0x5a; 400]).unwrap());
        drop(state);
        // Killed before anything is healed: the next start knows that nobody knew.
        let (journal, _) = world.open();
        assert_ne!(journal.origin(), &written.own, "the state database was believed");
        drop(journal);
        world.disk.kill();
        let (journal, mut writer) = world.open();
        journal.await_mending();
        heal(&written, &journal, &mut writer, &what);
        check_given_up(&written, &journal, &what);
    }
}

#[test]
fn p1_what_was_told_last_before_a_crash_and_is_damaged_is_told_anew() {
    let world = World::new(40);
    let (journal, mut writer) = world.open();
    append(&journal, &["before"]);
    writer.turn().unwrap();
    append(&journal, &["beside"]);
    now(journal.miss(notice("gone"))).unwrap();
    writer.turn().unwrap();
    drop((journal, writer));
    world.disk.kill();
    let first = world.disk.segments().unwrap()[0];
    let mut bytes = world.disk.segment_bytes(first).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    world.disk.set_segment_bytes(first, &bytes);
    // The first time it is killed before it told it.
    for turns in [0, 1, 0, 0] {
        let (journal, mut writer) = world.open();
        let heard = told(&read_after(&journal, Offset::ZERO));
        let heard: Vec<_> = heard.into_iter().map(|(_, missed)| missed).collect();
        assert_eq!(heard, [notice("gone")]);
        for _ in 0..turns {
            writer.turn().unwrap();
        }
        drop((journal, writer));
        world.disk.kill();
    }
}

/// The power goes at every operation around what is told of another journal of a name, and what
/// was told is damaged: it is told, now or when that journal is met again.
#[test]
fn p1_whenever_the_power_goes_what_is_damaged_is_told_or_its_cause_is_met_again() {
    let mut reached = 0;
    // One batch in one segment, and one that goes on in another.
    for (operations, more) in (0..60).flat_map(|n| [(n, 1), (n, 120)]) {
        let world = World::new(50);
        let (journal, mut writer) = world.open();
        link(&journal, &other("web-2"));
        now(journal.take(block(&other("web-2"), 0, &[1]))).unwrap();
        writer.turn().unwrap();
        let first = world.disk.segments().unwrap()[0];
        let bytes = world.disk.segment_bytes(first).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        world.disk.stop_after(operations);
        let another = Origin { journal: JournalId::new([9; 16]), ..other("web-2") };
        now(journal.take(block(&another, 0, &[1]))).unwrap();
        let ids: Vec<_> = (0..more).map(|n| n.to_string()).collect();
        ids.iter().for_each(|id| drop(append(&journal, &[id])));
        reached += u64::from(writer.turn().is_err());
        drop((journal, writer));
        world.disk.crash(&*world.random);
        let mut bytes = world.disk.segment_bytes(first).unwrap();
        // Two records behind what was durable: what was told, and a block that hides it.
        let at = end.next_multiple_of(16);
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        bytes[at + 60] ^= 1;
        bytes[at + length.next_multiple_of(16) + 60] ^= 1;
        world.disk.set_segment_bytes(first, &bytes);
        for _ in 0..2 {
            let (journal, mut writer) = world.open();
            journal.await_mending();
            for lacking in journal.lacking() {
                journal.mend(&block(&another, 0, &[1]));
                journal.give_up(&lacking, lacking.through);
            }
            now(journal.take(block(&another, 0, &[1]))).unwrap();
            writer.turn().unwrap();
            let heard = told(&read_after(&journal, Offset::ZERO));
            let named = |(_, missed): &(Offset, Missed)| {
                missed.origin.is_none() || missed.origin == Some(other("web-2"))
            };
            assert!(heard.iter().any(named), "{more} after {operations}: {heard:?}");
            drop((journal, writer));
            world.disk.kill();
        }
    }
    assert!((20..120).contains(&reached), "{reached}");
}

#[test]
fn p1_p7_what_was_told_and_is_cut_is_told_to_whoever_did_not_pass_it() {
    for damaged in [false, true] {
        let mut world = World::new(60);
        let segment_bytes = 40 * 1024;
        let (max_bytes, reserve_bytes) = (16 * segment_bytes, 2 * segment_bytes);
        world.limits = Limits { segment_bytes, max_bytes, reserve_bytes, ..small() };
        let (journal, mut writer) = world.open();
        journal.cursors().presence("web-9", Presence::Expected);
        append(&journal, &["first"]);
        let all = Missed { origin: None, cause: MissedCause::Damaged, ..notice("x") };
        let at = now(journal.miss(all)).unwrap().unwrap();
        let of = now(journal.miss(notice("gone"))).unwrap().unwrap();
        writer.turn().unwrap();
        append(&journal, &["behind"]);
        writer.turn().unwrap();
        close(&journal, &mut writer);
        drop((journal, writer));
        if damaged {
            let first = world.disk.segments().unwrap()[0];
            let mut bytes = world.disk.segment_bytes(first).unwrap();
            let marker = bytes[HEADER..HEADER + 4].to_vec();
            for begin in (HEADER..bytes.len()).step_by(16).collect::<Vec<_>>() {
                // Kind 2: a missed.
                if bytes[begin..].starts_with(&marker) && bytes[begin + 12] == 2 {
                    bytes[begin + 50] ^= 1;
                }
            }
            world.disk.set_segment_bytes(first, &bytes);
        }
        let (journal, mut writer) = world.open();
        assert_eq!(told(&read_after(&journal, Offset::ZERO)).len(), 2);
        journal.cursors().presence("web-9", Presence::Expected);
        for n in 0..20_000 {
            append(&journal, &[&n.to_string()]);
            if n % 100 == 99 {
                writer.turn().unwrap();
            }
            if journal.oldest() >= of {
                break;
            }
        }
        assert!(journal.oldest() >= of, "it was never cut");
        let heard = |after| told(&read_after(&journal, after));
        let everything = |(_, missed): &(Offset, Missed)| missed.origin.is_none();
        let gone = |(_, missed): &(Offset, Missed)| missed.origin == Some(other("gone"));
        let before = heard(Offset::from_u64(at.as_u64() - 1));
        assert!(before.iter().any(everything) && before.iter().any(gone), "{before:?}");
        let behind = heard(at);
        assert!(behind.iter().any(gone) && !behind.iter().any(everything), "{at}: {behind:?}");
        assert!(!heard(of).iter().any(gone));
    }
}
