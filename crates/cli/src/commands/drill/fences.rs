//! What fences promise, against what every subscription knows at that moment (P9).
//!
//! All of it is judged in this process, by one clock: a subscription has applied the event of a
//! fence that is done, or its own clock says that its cache is not to be trusted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::seat::{Heard, Seat};

/// Who has not applied an event though its fence is done is looked at again: it must not become
/// fresh before it has.
const OWING_MAX: usize = 4096;
/// How many of the unsound ones are described.
const EXAMPLES_MAX: usize = 5;

/// The judge of fences.
#[derive(Debug)]
pub(super) struct Fences {
    seats: Vec<Arc<Seat>>,
    found: Mutex<Found>,
}

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Fences that were done.
    pub(super) done: u64,
    /// Fences that ended without: the node said so, or went away.
    pub(super) undone: u64,
    /// Subscriptions that were fresh and had not applied the event, each time.
    pub(super) unsound: u64,
    /// Of how many subscriptions it was seen that they had applied the event.
    pub(super) applied: u64,
    /// And of how many that they were not fresh.
    pub(super) stale: u64,
    pub(super) examples: Vec<String>,
    /// Seat and event.
    owing: VecDeque<(usize, String)>,
}

/// What one subscription is to a fence that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Applied,
    Stale,
    /// Fresh, without having applied the event.
    Deceived,
}

fn standing(heard: &Heard, id: &str) -> Standing {
    if heard.history.has(id) {
        return Standing::Applied;
    }
    // Under the lock of what was heard: nothing is applied between the two looks.
    match &heard.freshness {
        Some(freshness) if freshness.is_fresh() => Standing::Deceived,
        _ => Standing::Stale,
    }
}

impl Fences {
    pub(super) fn new(seats: Vec<Arc<Seat>>) -> Self {
        Self { seats, found: Mutex::default() }
    }

    pub(super) fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A fence ended without being done.
    pub(super) fn undone(&self) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).undone += 1;
    }

    /// A fence is done, just now: looks at every subscription of the event's site.
    pub(super) fn done(&self, id: &str, at: &str, aside: bool) {
        let judged: Vec<_> = self.seats.iter().enumerate().collect();
        let judged = judged.into_iter().filter(|(_, seat)| !aside || seat.kind.both_sites());
        let judged: Vec<_> = judged.map(|(n, seat)| (n, standing(&seat.heard(), id))).collect();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.done += 1;
        for (n, standing) in judged {
            match standing {
                Standing::Applied => found.applied += 1,
                Standing::Stale => {
                    found.stale += 1;
                    if found.owing.len() < OWING_MAX {
                        found.owing.push_back((n, id.to_owned()));
                    }
                }
                Standing::Deceived => self.deceived(&mut found, n, id, &format!("a fence at {at}")),
            }
        }
        drop(found);
        self.look_again();
    }

    /// Looks again at who has still not applied what it must have before it becomes fresh.
    pub(super) fn look_again(&self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for (n, id) in std::mem::take(&mut found.owing) {
            let Some(seat) = self.seats.get(n) else { continue };
            let standing = standing(&seat.heard(), &id);
            match standing {
                Standing::Applied => {}
                Standing::Stale => found.owing.push_back((n, id)),
                Standing::Deceived => self.deceived(&mut found, n, &id, "a fence done earlier"),
            }
        }
    }

    fn deceived(&self, found: &mut Found, n: usize, id: &str, fence: &str) {
        found.unsound += 1;
        let label = self.seats.get(n).map(|seat| seat.label.as_str()).unwrap_or_default();
        if found.examples.len() < EXAMPLES_MAX {
            found.examples.push(format!("{label} is fresh without {id}, behind {fence}"));
        }
    }
}
