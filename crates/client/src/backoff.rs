//! Back-off: how long to wait before the next try, so that a node that comes back is not overrun.

use std::time::Duration;

use evermesh_event::world::Random;

/// The first wait: about what a node's restart takes at least.
const WAIT_MIN: Duration = Duration::from_millis(20);
/// The longest wait: a node that came back is found within a second.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Doubles with each failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: between half of it and all of it, so that many clients
    /// which lost the same node do not return at one moment.
    pub(crate) fn next(&mut self, random: &dyn Random) -> Duration {
        let wait = WAIT_MIN.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        let mut drawn = [0; 2];
        random.fill(&mut drawn);
        wait / 2 + wait / 2 * u32::from(u16::from_le_bytes(drawn)) / u32::from(u16::MAX)
    }

    /// It worked.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Waits as long as [`Backoff::next`], or the node, says.
pub(crate) async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Always(u8);

    impl Random for Always {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    fn waits(drawn: u8) -> Vec<u128> {
        let mut backoff = Backoff::default();
        (0..40).map(|_| backoff.next(&Always(drawn)).as_millis()).collect()
    }

    #[test]
    fn it_doubles_up_to_a_second_and_is_spread_over_the_upper_half() {
        assert!(waits(255).starts_with(&[20, 40, 80, 160, 320, 640, 1000, 1000]));
        assert!(waits(0).starts_with(&[10, 20, 40, 80, 160, 320, 500, 500]));
        assert_eq!(waits(255).last(), Some(&1000));
    }

    #[test]
    fn a_success_begins_anew() {
        let mut backoff = Backoff::default();
        (0..5).for_each(|_| assert!(backoff.next(&Always(255)) > Duration::ZERO));
        backoff.reset();
        assert_eq!(backoff.next(&Always(255)), WAIT_MIN);
    }
}
