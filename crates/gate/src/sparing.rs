//! A sparing log line: at most one in a while, with the number of those that were left out.
//!
//! Anybody who reaches the port can cause refusals, so their lines must not fill a disk. The
//! counters tell the whole number.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// One line in this time. An operator who looks sees one; a flood writes a few kilobytes a minute.
const LINE_EVERY_MILLIS: u64 = 5_000;

/// Whether a line of one kind is due. One value per kind and listener.
#[derive(Debug)]
pub(crate) struct Sparing {
    begun: Instant,
    /// Milliseconds after `begun` from which on the next line is due.
    next: AtomicU64,
    left_out: AtomicU64,
}

impl Sparing {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), next: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Some(how many were left out since the last line) if a line is due now; counts it otherwise.
    pub(crate) fn due(&self) -> Option<u64> {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let after = now.saturating_add(LINE_EVERY_MILLIS);
        let mine = now >= next
            && self
                .next
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_a_while_that_tells_what_was_left_out() {
        let sparing = Sparing::new();
        assert_eq!(sparing.due(), Some(0));
        assert_eq!(sparing.due(), None);
        assert_eq!(sparing.due(), None);
        tokio::time::advance(std::time::Duration::from_millis(LINE_EVERY_MILLIS)).await;
        assert_eq!(sparing.due(), Some(2));
        assert_eq!(sparing.due(), None);
    }
}
