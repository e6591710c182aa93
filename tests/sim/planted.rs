//! Faults in the code of production, each planted alone: the checker must find every one of them,
//! by the verdict that is its own, in the trouble in which it shows.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use evermesh_event::Planted;
use evermesh_testkit::checker::Verdict;

use crate::each;
use crate::faults::Kind;
use crate::world::run;

/// What needs a rare turn of events is looked for from here on, where one is near; and in as many
/// seeds as everything else.
const RARE: [(Planted, u64); 5] = [
    (Planted::AssureBeforeSync, 100),
    (Planted::LeaseFromHearing, 170),
    (Planted::CoalesceUndurable, 300),
    (Planted::PassReplaced, 50),
    (Planted::DamageUntold, 640),
];

/// How many seeds a fault may need. Most need a few, and the first that finds it is the last that
/// runs; what needs a rare turn of events must not depend on one seed.
const SEEDS: u64 = 1024;

/// Each with the verdicts of which one must be told, and the trouble in which it shows.
const FAULTS: [(Planted, &[Verdict], Option<Kind>); 21] = [
    (Planted::AssureBeforeSync, &[Verdict::Lost, Verdict::NotLive], Some(Kind::PowerLoss)),
    (Planted::DropBlock, &[Verdict::Lost, Verdict::NotLive], None),
    (Planted::SwapTwo, &[Verdict::Reordered], None),
    (Planted::SkipMissed, &[Verdict::Lost, Verdict::NotLive], None),
    (Planted::ReuseNumber, &[Verdict::Reused], Some(Kind::Fill)),
    (Planted::ResumePastEnd, &[Verdict::Lost, Verdict::NotLive], Some(Kind::SlowPowerLoss)),
    (Planted::LeaseFromHearing, &[Verdict::Unsound], Some(Kind::StandAlone)),
    (Planted::LeaseInFull, &[Verdict::Unsound], Some(Kind::StandAlone)),
    (Planted::LeaseUnacknowledged, &[Verdict::Unsound], None),
    (Planted::ForgetCursor, &[Verdict::Duplicated, Verdict::MissedNeedlessly], Some(Kind::Stop)),
    (Planted::SuspendAtStart, &[Verdict::Hasty, Verdict::Unsound], Some(Kind::Flicker)),
    (Planted::ForgetFormerStart, &[Verdict::Unsound], Some(Kind::Flicker)),
    (Planted::MissedOnReconnect, &[Verdict::MissedNeedlessly], None),
    (Planted::CoalesceUndurable, &[Verdict::Lost, Verdict::NotLive], Some(Kind::LostEnd)),
    (Planted::PassReplaced, &[Verdict::Unsound], Some(Kind::LostEnd)),
    (Planted::PassRejected, &[Verdict::Lost, Verdict::NotLive], None),
    (Planted::TrustCopy, &[Verdict::Lost, Verdict::NotLive], Some(Kind::Restore)),
    (Planted::OtherJournalUntold, &[Verdict::Lost, Verdict::NotLive], Some(Kind::Empty)),
    (Planted::DamageUntold, &[Verdict::Lost, Verdict::NotLive], Some(Kind::Flip)),
    (Planted::WaitForDeparted, &[Verdict::NotLive], Some(Kind::Kill)),
    (Planted::FenceNeverDone, &[Verdict::NotLive], None),
];

/// The first seed that finds it.
fn found(planted: Planted, verdicts: &[Verdict], storm: Option<Kind>) -> Option<u64> {
    let first = AtomicU64::new(u64::MAX);
    let begin = RARE.iter().find(|(rare, _)| *rare == planted).map_or(1, |(_, seed)| *seed);
    each(begin..=begin + SEEDS, |seed| {
        if seed > first.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        let told = run(seed, planted, storm).findings.verdicts();
        if verdicts.iter().any(|verdict| told.contains(verdict)) {
            first.fetch_min(seed, Ordering::Relaxed);
        }
        ControlFlow::Continue(())
    });
    Some(first.into_inner()).filter(|seed| *seed < u64::MAX)
}

#[test]
fn each_planted_fault_is_found() {
    let mut missed = Vec::new();
    let only = std::env::var("EVERMESH_SIM_PLANTED").ok();
    for (planted, verdicts, storm) in FAULTS {
        if only.as_ref().is_some_and(|only| *only != format!("{planted:?}")) {
            continue;
        }
        match found(planted, verdicts, storm) {
            Some(seed) => println!("{planted:?} is found by seed {seed}"),
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "nobody notices {missed:?}");
}
