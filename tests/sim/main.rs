//! Whole nodes under turmoil: three nodes with the production journal, peer, local and gate; events
//! published at two of them, a crash with lost writes, a partition, then healing. Afterwards every
//! subscriber has heard everything that was assured, in order, and nobody was told to have missed
//! anything (P1, P2, P3).
//!
//! `EVERMESH_SIM_SEEDS` says how many seeds, `EVERMESH_SIM_SEED` runs one. A seed decides the
//! faults, their times, the network's latencies and every id.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod faults;
mod world;

use crate::world::World;

/// In each run of the tests.
const SEEDS: u64 = 8;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("EVERMESH_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("EVERMESH_SIM_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

#[test]
fn p1_p2_p3_hold_over_a_crash_and_a_partition() {
    for seed in seeds() {
        World::new(seed).run();
    }
}

#[test]
fn a_planted_loss_is_caught() {
    let mut world = World::new(1);
    world.plant_loss();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    assert!(caught.is_err(), "one subscriber never heard an event, and nobody noticed");
}
