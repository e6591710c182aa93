//! Chance that can be repeated as far as the processes allow: from `EVERMESH_SEED`, or the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Splitmix64.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Said on standard error, which is shown when the test fails.
    pub(crate) fn new() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        let said = std::env::var("EVERMESH_SEED").ok();
        let seed = said.map_or_else(now, |text| text.parse().expect("EVERMESH_SEED"));
        eprintln!("EVERMESH_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}
