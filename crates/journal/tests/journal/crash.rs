//! P1, P2, P5, P11 over crashes: random work on a disk that loses, tears and forgets, against a
//! shadow that knows what was promised. `JOURNAL_SEED` replays one seed, `JOURNAL_SEEDS` changes
//! how many are run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evermesh_event::{Frontier, Offset, Origin, ResumeToken, Sequence};
use evermesh_journal::{Journal, Missed, Resume, SeenStarts, Taken, Writer};
use evermesh_proto::v1::MissedCause;

use crate::world::{Entry, World, append, block, entries, look, now, other, read_after};

const SEEDS: u64 = 256;
const LIVES: u64 = 6;
const STEPS: u64 = 30;

/// What was promised, and what was shown.
#[derive(Default)]
struct Shadow {
    /// Everything that was reported durable, in order.
    durable: Vec<Entry>,
    /// Everything of this life, durable or not.
    shown: Vec<Entry>,
    /// Whatever was shown under a sequence, in any life.
    ever: BTreeMap<(Origin, Sequence), Vec<u8>>,
    /// Ids that were taken in this life or found at its start.
    ids: BTreeMap<String, Sequence>,
    epochs: BTreeSet<u32>,
    tokens: Vec<ResumeToken>,
    seen_durable: SeenStarts,
    next_id: u64,
}

impl Shadow {
    /// Everything that readers see is what they saw, and nothing under one number is ever another.
    fn see(&mut self, journal: &Journal) {
        let after = self.shown.last().map_or(Offset::ZERO, |(offset, _)| *offset);
        for entry in entries(&read_after(journal, after)) {
            if let (_, Some((origin, sequence, event))) = &entry {
                let number = (origin.clone(), *sequence);
                let first = self.ever.entry(number).or_insert_with(|| event.clone());
                assert!(first == event, "{sequence} of {origin} is two events");
            }
            let last = self.shown.last().map(|(offset, _)| *offset);
            assert!(last < Some(entry.0), "offsets rise");
            self.shown.push(entry);
        }
        let durable = *journal.durable().borrow();
        let count = self.shown.iter().take_while(|(offset, _)| *offset <= durable.offset).count();
        assert!(count >= self.durable.len());
        self.durable = self.shown[..count].to_vec();
        self.tokens.push(ResumeToken { run: journal.run(), offset: journal.head() });
    }

    /// After a restart: all that was durable, then a part of what was shown, in the same order with
    /// the same bytes.
    fn check_recovered(&mut self, journal: &Journal, clean: bool) {
        let found = entries(&read_after(journal, Offset::ZERO));
        assert!(found.len() >= self.durable.len(), "{} < {}", found.len(), self.durable.len());
        assert!(found.len() <= self.shown.len());
        assert!(found == self.shown[..found.len()], "same offsets, order and bytes");
        assert!(!clean || found.len() == self.shown.len(), "nothing is lost by closing");
        assert!(self.epochs.insert(journal.start().epoch.get()));
        assert_eq!(self.epochs.last(), Some(&journal.start().epoch.get()), "epochs rise");
        let own = |entry: &&Entry| {
            entry.1.as_ref().is_some_and(|(origin, _, _)| origin == journal.origin())
        };
        let last = found.iter().rev().find(own).map(|(_, entry)| entry.as_ref().unwrap().1);
        assert_eq!(journal.own_head(), last.unwrap_or(Sequence::ZERO));
        assert_eq!(*journal.durable().borrow(), crate::world::durable_of(journal));
        for token in &self.tokens {
            let end = found.last().map_or(Offset::ZERO, |(offset, _)| *offset);
            let Resume::After(after) = journal.resume(token) else { panic!("a known start") };
            assert!(after <= token.offset && after <= end.max(journal.head()));
        }
        for (origin, seen) in &self.seen_durable {
            let kept = &journal.seen_starts()[origin];
            assert!(seen.iter().all(|seen| kept.iter().any(|kept| {
                kept.start == seen.start && kept.durable_head >= seen.durable_head
            })));
        }
        self.shown.clone_from(&found);
        self.durable = found;
    }

    fn check_frontier(&self, journal: &Journal, expected: &Frontier) {
        assert_eq!(&journal.frontier(), expected);
        assert_eq!(&journal.durable_frontier(), expected);
    }
}

/// Through where nothing is lacking, by the records alone.
fn frontier_of(journal: &Journal) -> Frontier {
    let mut frontier = Frontier::default();
    for record in read_after(journal, Offset::ZERO) {
        match &record.content {
            evermesh_journal::Content::Block { block, .. } => {
                frontier.advance(block.origin(), block.last());
            }
            evermesh_journal::Content::Missed(missed) => {
                if let (Some(origin), true) = (&missed.origin, missed.through > Sequence::ZERO) {
                    frontier.advance(origin, missed.through);
                }
            }
        }
    }
    frontier
}

fn publish(world: &World, journal: &Journal, shadow: &mut Shadow) {
    let mut ids = Vec::new();
    for _ in 0..=world.random.below(4) {
        let again = shadow.next_id > 0 && world.random.below(4) == 0;
        let id = if again { world.random.below(shadow.next_id) } else { shadow.next_id };
        shadow.next_id = shadow.next_id.max(id + 1);
        ids.push(format!("id-{id}"));
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let appended = append(journal, &ids);
    for (id, numbered) in ids.iter().zip(&appended.taken) {
        let known = shadow.ids.insert((*id).into(), numbered.sequence);
        assert_eq!(numbered.duplicate, known.is_some(), "{id}");
        assert!(known.is_none_or(|first| first == numbered.sequence));
    }
    let highest = appended.taken.iter().map(|taken| taken.sequence).max();
    assert_eq!(Some(appended.own_through), highest);
}

fn receive(world: &World, journal: &Journal) {
    let origin = other(["web-2", "web-3"][world.random.below(2) as usize]);
    let at = journal.frontier().get(&origin).counter();
    let previous = (at + 1).saturating_sub(world.random.below(4));
    let count = 1 + world.random.below(5);
    let counters: Vec<_> = (previous + 1..=previous + count).collect();
    let taken = now(journal.take(block(&origin, previous, &counters))).unwrap();
    let expected_hole = previous > at;
    assert_eq!(matches!(taken, Taken::Hole { .. }), expected_hole);
    assert_eq!(taken == Taken::Duplicate, !expected_hole && previous + count <= at);
}

fn miss(world: &World, journal: &Journal) {
    let origin = other("web-3");
    let at = journal.frontier().get(&origin);
    let through = Sequence::from_u64((1 << 40) | (at.counter() + world.random.below(3)));
    let sites = vec!["shop".into()];
    let cause = MissedCause::Hole;
    now(journal.miss(Missed { origin: Some(origin), from: at, through, sites, cause })).unwrap();
}

fn turn(world: &World, journal: &Journal, writer: &mut Writer, shadow: &mut Shadow) {
    let noted = journal.seen_starts();
    let waits = !writer.idle();
    writer.turn().unwrap();
    if waits {
        shadow.seen_durable = noted;
        shadow.seen_durable.remove(journal.origin());
    }
    world.clock.pass(Duration::from_millis(world.random.below(50)));
}

/// One life of a node; `true` if it was closed.
fn live(world: &World, journal: &Journal, mut writer: Writer, shadow: &mut Shadow) -> bool {
    for _ in 0..world.random.below(STEPS) {
        match world.random.below(10) {
            0..=3 => publish(world, journal, shadow),
            4..=5 => receive(world, journal),
            6 => miss(world, journal),
            7 => journal
                .note_head(&other("web-2"), Sequence::from_u64((1 << 40) | world.random.below(99))),
            _ => turn(world, journal, &mut writer, shadow),
        }
        shadow.see(journal);
    }
    match world.random.below(5) {
        0 => {
            let mut closing = Box::pin(journal.close());
            assert!(look(&mut closing).is_pending());
            assert!(writer.turn().unwrap().ended);
            assert!(now(closing).is_ok());
            shadow.see(journal);
            true
        }
        1 => {
            // The power goes somewhere in the middle of a turn.
            let more = world.random.below(30);
            for _ in 0..more {
                publish(world, journal, shadow);
            }
            world.disk.stop_after(world.random.below(12));
            let _ = writer.turn();
            shadow.see(journal);
            drop(writer);
            world.disk.crash(&*world.random);
            false
        }
        2 => {
            drop(writer);
            world.disk.kill();
            false
        }
        _ => {
            drop(writer);
            world.disk.crash(&*world.random);
            false
        }
    }
}

fn run(seed: u64) {
    let world = World::new(seed);
    let mut shadow = Shadow::default();
    let mut clean = true;
    for _ in 0..LIVES {
        let (journal, writer) = world.open();
        shadow.check_recovered(&journal, clean);
        shadow.check_frontier(&journal, &frontier_of(&journal));
        // What was lost was never assured: its ids are free again.
        let own = |(_, entry): &Entry| {
            let (origin, sequence, _) = entry.as_ref()?;
            (origin == journal.origin()).then_some(*sequence)
        };
        let kept: BTreeSet<_> = shadow.durable.iter().filter_map(own).collect();
        shadow.ids.retain(|_, sequence| kept.contains(sequence));
        clean = live(&world, &journal, writer, &mut shadow);
        if world.random.below(8) == 0 {
            interrupt_opening(&world);
        }
    }
}

/// The power goes while the journal is opened, or right after: nothing may depend on having come
/// further.
fn interrupt_opening(world: &World) {
    world.disk.stop_after(world.random.below(60));
    drop(Journal::open(world.options()));
    world.disk.crash(&*world.random);
}

#[test]
fn p1_p2_p5_p11_whatever_was_durable_is_there_after_any_crash() {
    if let Ok(seed) = std::env::var("JOURNAL_SEED") {
        return run(seed.parse().unwrap());
    }
    let seeds = std::env::var("JOURNAL_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "replay with JOURNAL_SEED={seed}");
    }
}

#[test]
fn the_power_may_go_at_the_very_beginning() {
    for seed in 0..256 {
        let world = World::new(seed);
        for _ in 0..3 {
            interrupt_opening(&world);
        }
        let (journal, mut writer) = world.open();
        append(&journal, &["a"]);
        writer.turn().unwrap();
    }
}
