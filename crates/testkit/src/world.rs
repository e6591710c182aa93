//! The clocks of a simulation, and randomness from a seed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use evermesh_event::world::{Clock, Random};

/// When every simulation begins, on the wall.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);
/// What rates are told in.
const MILLION: u64 = 1_000_000;

/// The clocks of one machine: simulated time at a rate of its own, and a wall that may be wrong.
#[derive(Clone, Debug)]
pub struct SimClock {
    /// How many parts in a million it is too fast.
    fast: i64,
    /// What the wall is ahead, in seconds.
    ahead: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that is so many parts in a million too fast; too slow, if negative.
    #[must_use]
    pub fn new(fast: i64) -> Self {
        Self { fast, ahead: Arc::default() }
    }

    /// Sets the wall to be so many seconds ahead.
    pub fn jump(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// How long a duration of this clock is in simulated time.
    #[must_use]
    pub fn real(&self, own: Duration) -> Duration {
        let rate = MILLION.saturating_add_signed(self.fast);
        let micros = u64::try_from(own.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros.saturating_mul(MILLION) / rate)
    }
}

impl Clock for SimClock {
    fn wall(&self) -> SystemTime {
        let true_wall = SystemTime::UNIX_EPOCH + BEGINNING + self.boot();
        let ahead = self.ahead.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let jumped = if ahead < 0 { true_wall.checked_sub(by) } else { true_wall.checked_add(by) };
        jumped.unwrap_or(true_wall)
    }

    fn boot(&self) -> Duration {
        let rate = MILLION.saturating_add_signed(self.fast);
        let micros = u64::try_from(elapsed().as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros.saturating_mul(rate) / MILLION)
    }
}

thread_local! {
    /// When a host of the run on this thread looked at the time last.
    static LAST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A run begins on this thread.
pub fn begin() {
    LAST.set(Duration::ZERO);
}

/// Simulated time since the run began. Between its steps, where an operator acts, it is the time
/// that was looked at last.
#[must_use]
pub fn elapsed() -> Duration {
    if let Some(now) = turmoil::sim_elapsed() {
        LAST.set(now);
    }
    LAST.get()
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

    /// Another source, whose numbers do not depend on how many were drawn from this one since.
    #[must_use]
    pub fn branch(&self) -> Self {
        Self::new(self.next())
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

    /// A place in something of this length.
    pub fn place(&self, length: usize) -> usize {
        let bound = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or_default()
    }

    /// One of some.
    pub fn one_of<T: Copy>(&self, of: &[T]) -> Option<T> {
        of.get(self.place(of.len())).copied()
    }

    /// True once in so many times.
    pub fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
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
