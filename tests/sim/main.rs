//! Whole nodes under turmoil: the production journal, peer, local and gate on a simulated network,
//! disk and clock, with applications of every kind, under crashes, torn writes, cuts, stand-stills,
//! disks that refuse, and clocks that are wrong. Then everything heals, and the checker judges what
//! was recorded (P1 to P5, P9, P11). `docs/simulation.md` says more.
//!
//! `EVERMESH_SIM_SEEDS` says how many seeds, `EVERMESH_SIM_SEED` runs one and writes down what
//! happened; with `EVERMESH_SIM_MEMORY` there are nodes without a disk in each run; with
//! `EVERMESH_SIM_LOG=evermesh=debug` it says what the nodes log. A seed decides
//! everything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod cast;
mod evidence;
mod faults;
mod links;
mod planted;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use evermesh_event::Planted;
use evermesh_testkit::checker::to_json_lines;

use crate::world::{Outcome, run};

/// In each run of the tests.
const SEEDS: u64 = 256;
/// Of those, how many are run twice.
const REPLAYED: u64 = 16;

fn seeds() -> std::ops::RangeInclusive<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let first = number("EVERMESH_SIM_FIRST").unwrap_or(1);
    match number("EVERMESH_SIM_SEED") {
        Some(seed) => seed..=seed,
        None => first..=first + number("EVERMESH_SIM_SEEDS").unwrap_or(SEEDS) - 1,
    }
}

thread_local! {
    /// What runs on this thread.
    static RUNS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A node that panics may take the process with it: which seed that was stands before all else.
fn name_seeds() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if let Ok(filter) = std::env::var("EVERMESH_SIM_LOG") {
            tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            eprintln!("seed {}:", RUNS.get());
            hook(panic);
        }));
    });
}

/// Runs seeds on all cores; what `look` says of each, in their order.
fn each<T: Send>(
    seeds: std::ops::RangeInclusive<u64>,
    look: impl Fn(u64) -> T + Sync,
) -> Vec<(u64, T)> {
    name_seeds();
    let next = AtomicU64::new(*seeds.start());
    let looks = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > *seeds.end() {
                        return;
                    }
                    RUNS.set(seed);
                    let looked = look(seed);
                    looks.lock().unwrap().push((seed, looked));
                }
            });
        }
    });
    let mut looks = looks.into_inner().unwrap();
    looks.sort_by_key(|(seed, _)| *seed);
    looks
}

/// What is wrong with a run, if anything, with where it is written down.
fn wrong(outcome: &Outcome) -> Option<String> {
    let alone = std::env::var_os("EVERMESH_SIM_SEED").is_some();
    if outcome.findings.is_clean() && outcome.broken.is_empty() && !alone {
        return None;
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{}.jsonl", outcome.seed));
    std::fs::write(&file, to_json_lines(&outcome.lines)).expect("the history is written");
    if outcome.findings.is_clean() && outcome.broken.is_empty() {
        return None;
    }
    let faults = outcome.findings.faults.iter().map(ToString::to_string);
    let all: Vec<_> = outcome.broken.iter().cloned().chain(faults).take(8).collect();
    let (seed, nodes, file) = (outcome.seed, outcome.nodes, file.display());
    let wrong = format!("seed {seed} ({nodes} nodes), {file}:\n  {}", all.join("\n  "));
    eprintln!("{wrong}");
    Some(wrong)
}

#[test]
fn what_is_promised_holds_in_every_run() {
    let looks = each(seeds(), |seed| {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, Planted::Nothing, storm())));
        match outcome {
            Ok(outcome) => (wrong(&outcome), outcome.findings.counts),
            Err(_) => (Some(format!("seed {seed} panicked")), Default::default()),
        }
    });
    let wrong: Vec<_> = looks.iter().filter_map(|(_, (wrong, _))| wrong.as_deref()).collect();
    assert!(wrong.is_empty(), "{} of {} seeds:\n{}", wrong.len(), looks.len(), wrong.join("\n"));
}

/// The first line in which two histories differ, with both.
fn difference(first: &Outcome, second: &Outcome) -> Option<String> {
    if first.trace() == second.trace() {
        return None;
    }
    let (first, second) = (to_json_lines(&first.lines), to_json_lines(&second.lines));
    let mut pairs = first.lines().zip(second.lines()).enumerate();
    let differs = pairs.find(|(_, (first, second))| first != second);
    Some(format!("{differs:#?}"))
}

#[test]
fn a_seed_replays() {
    let differences = each(1..=REPLAYED, |seed| {
        // On another thread, where everything that is random by itself is random anew.
        let again = std::thread::spawn(move || run(seed, Planted::Nothing, None));
        let first = run(seed, Planted::Nothing, None);
        difference(&first, &again.join().unwrap())
    });
    for (seed, difference) in differences {
        assert_eq!(difference, None, "seed {seed} did not replay");
    }
}

/// One kind of trouble that prevails.
fn storm() -> Option<faults::Kind> {
    std::env::var("EVERMESH_SIM_STORM").ok().map(|kind| faults::Kind::named(&kind))
}
