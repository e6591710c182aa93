//! How long to wait before dialling again: full jitter under a bound that doubles.

use std::time::Duration;

use evermesh_event::world::{Random, draw};

/// The first bound: a restart takes longer than this.
const FIRST: Duration = Duration::from_millis(20);
/// The last bound: a node that is back is found within a second.
const LAST: Duration = Duration::from_secs(1);

/// Waits of one address.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self(FIRST)
    }

    /// It worked for so long. If that is longer than any wait, the next one is short again: who
    /// takes a link only to end it at once is not dialled more often for that.
    pub(crate) fn worked(&mut self, time: Duration) {
        if time >= LAST {
            self.0 = FIRST;
        }
    }

    /// A random part of the bound, so that nodes which lost each other at once do not come at once.
    pub(crate) fn next(&mut self, random: &dyn Random) -> Duration {
        let bound = self.0;
        self.0 = (bound * 2).min(LAST);
        let [a, b, ..] = draw(random);
        bound * (u32::from(u16::from_le_bytes([a, b])) + 1) / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct All(u8);

    impl Random for All {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn it_doubles_up_to_a_second_and_begins_anew() {
        let mut backoff = Backoff::new();
        let longest: Vec<_> = (0..8).map(|_| backoff.next(&All(255)).as_millis()).collect();
        assert_eq!(longest, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.worked(LAST - Duration::from_millis(1));
        assert_eq!(backoff.next(&All(255)), LAST, "it was ended at once");
        backoff.worked(LAST);
        assert!(backoff.next(&All(0)) < Duration::from_millis(1), "jitter is full");
    }
}
