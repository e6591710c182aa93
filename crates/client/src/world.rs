//! The world of an application: the system's clocks and random numbers, unless others are given.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use evermesh_event::world::{Clock, Random};
use rustix::time::{ClockId, clock_gettime};

use crate::Error;

/// Where a client takes time and randomness from: ids of events are made of both.
#[derive(Clone, Debug)]
pub struct World {
    /// The time in a new event's id.
    pub clock: Arc<dyn Clock>,
    /// The rest of that id, and the jitter of back-off.
    pub random: Arc<dyn Random>,
}

impl World {
    /// The system's own.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn system() -> Result<Self, Error> {
        let random = |error| Error::World(io::Error::other(error));
        getrandom::fill(&mut [0; 1]).map_err(random)?;
        Ok(Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) })
    }
}

#[derive(Debug)]
struct SystemClock;

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

#[derive(Debug)]
struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "an id that is not random would break every promise")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gave random numbers at the start");
    }
}
