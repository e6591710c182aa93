//! What comes from outside, as arguments: the clock and randomness. The server brings the real
//! ones, a simulation its own.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

/// The two clocks that evermesh reads.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall clock: for certificates, event times and log lines, never for order or waiting.
    fn wall(&self) -> SystemTime;

    /// Time since an arbitrary instant, running on through suspension (CLOCK_BOOTTIME): for leases
    /// and windows.
    fn boot(&self) -> Duration;
}

/// Where random bytes come from.
pub trait Random: Debug + Send + Sync + 'static {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// 16 random bytes.
#[must_use]
pub fn draw(random: &dyn Random) -> [u8; 16] {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes
}
