//! The pace of publishers: events are spread over the whole drill, so that each fault falls among
//! them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// While faults are still to come, so much of all is published at the most by the planned end of
/// them; then ever slower.
const SHARE_BEFORE: f64 = 0.9;

/// How far publishers may be.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    span: Duration,
    faults_over: AtomicBool,
}

impl Pace {
    pub(super) fn new(span: Duration) -> Self {
        Self { began: Instant::now(), span, faults_over: AtomicBool::new(false) }
    }

    /// No fault comes any more: what is left is published as fast as it goes.
    pub(super) fn faults_are_over(&self) {
        self.faults_over.store(true, Ordering::Relaxed);
    }

    /// How many of so many events are due now.
    pub(super) fn due(&self, events: usize) -> usize {
        if self.faults_over.load(Ordering::Relaxed) {
            return events;
        }
        due(events, self.began.elapsed().as_secs_f64() / self.span.as_secs_f64())
    }
}

/// How many are due after this share of the planned time, which may be above 1.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count: at most the count, and exact enough"
)]
fn due(events: usize, elapsed: f64) -> usize {
    let share =
        if elapsed <= 1.0 { SHARE_BEFORE * elapsed } else { 1.0 - (1.0 - SHARE_BEFORE) / elapsed };
    (events as f64 * share) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_and_something_is_left_until_the_faults_are_over() {
        assert_eq!((due(1000, 0.0), due(1000, 0.5), due(1000, 1.0)), (0, 450, 900));
        assert_eq!((due(1000, 2.0), due(1000, 100.0)), (950, 999));
        let pace = Pace::new(Duration::from_secs(1000));
        assert!(pace.due(1000) < 100);
        pace.faults_are_over();
        assert_eq!(pace.due(1000), 1000);
    }
}
