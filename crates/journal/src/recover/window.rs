//! The deduplication window, while it is filled again from own records.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evermesh_event::DedupeWindow;
use evermesh_event::world::Clock;

use crate::record::format::Decoded;

/// The deduplication window, while it is filled again.
#[derive(Debug)]
pub(crate) struct Window {
    window: DedupeWindow,
    wall: SystemTime,
    now: Duration,
    lead: Duration,
    age_max: Duration,
    last: Duration,
}

impl Window {
    /// The window's time runs ahead of the clock by its own length, so that what came before this
    /// boot has an age.
    pub(crate) fn new(window: DedupeWindow, clock: &dyn Clock, age_max: Duration) -> Self {
        let now = clock.boot() + age_max;
        Self { window, wall: clock.wall(), now, lead: age_max, age_max, last: Duration::ZERO }
    }

    pub(crate) fn into_parts(self) -> (DedupeWindow, Duration) {
        (self.window, self.lead)
    }

    /// The ids of an own record. A clock that was set back makes them young, never old.
    pub(super) fn fill(&mut self, decoded: &Decoded) {
        let taken = UNIX_EPOCH.checked_add(Duration::from_millis(decoded.taken_ms));
        let age = taken.and_then(|taken| self.wall.duration_since(taken).ok()).unwrap_or_default();
        if age > self.age_max {
            return;
        }
        self.last = self.last.max(self.now.saturating_sub(age));
        let entries = decoded.record.taken_entries();
        let publishers = decoded.publishers.iter().flat_map(|(identity, count)| {
            std::iter::repeat_n(identity, usize::try_from(*count).unwrap_or(usize::MAX))
        });
        for ((_, entry), identity) in entries.zip(publishers) {
            let glance = entry.glance();
            let key = self.window.key(identity, glance.site, glance.id);
            if self.window.get(key).is_none() {
                self.window.insert(key, entry.sequence, self.last);
            }
        }
    }
}
