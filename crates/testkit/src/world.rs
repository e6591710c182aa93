//! The clock of the simulation, and randomness from a seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use evermesh_event::world::{Clock, Random};

/// When every simulation begins, on the wall.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);

/// Simulated time; all nodes have the same.
#[derive(Clone, Copy, Debug)]
pub struct SimClock;

impl Clock for SimClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + BEGINNING + self.boot()
    }

    fn boot(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }
}

/// Randomness from a seed: xorshift64*, which is plenty for tests and nothing else.
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Seeded {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below another.
    pub fn below(&self, bound: u64) -> u64 {
        (self.next() >> 16) % bound.max(1)
    }

    /// A duration between two.
    pub fn between(&self, from: Duration, until: Duration) -> Duration {
        let span = until.saturating_sub(from).as_millis();
        from + Duration::from_millis(self.below(u64::try_from(span).unwrap_or(u64::MAX)))
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            let [.., a, b, c, d] = self.next().to_le_bytes();
            chunk.iter_mut().zip([a, b, c, d]).for_each(|(byte, random)| *byte = random);
        }
    }
}
