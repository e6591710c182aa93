//! The real world: the system's clocks and its random numbers.
//!
//! Everything below takes them as arguments, so that a simulation can bring its own. Nothing else
//! in evermesh reads a clock or draws a number.

use std::io;
use std::time::{Duration, SystemTime};

use evermesh_event::world::{Clock, Random};
use rustix::time::{ClockId, clock_gettime};

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        // Since the machine started: neither part is ever negative.
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}

/// The random numbers of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemRandom(());

impl SystemRandom {
    /// Draws once, so that a machine without random numbers is found at the start.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn new() -> io::Result<Self> {
        let mut bytes = [0; 1];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(()))
    }
}

impl Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "an id that is not random would break every promise")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gave random numbers at the start");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_numbers_differ() {
        let begun = SystemClock.boot();
        assert!(begun > Duration::ZERO && SystemClock.boot() >= begun);
        let random = SystemRandom::new().unwrap();
        let (mut first, mut second) = ([0; 16], [0; 16]);
        random.fill(&mut first);
        random.fill(&mut second);
        assert_ne!(first, second);
    }
}
