//! The counters of one producer, while its events are numbered.

use std::sync::Arc;

use evermesh_event::Sequence;

use super::{Counted, Numbering};
use crate::producers::{self, Highest};

/// Where one producer is, while its events are numbered.
pub(super) struct Count<'a> {
    pub(super) key: Arc<str>,
    before: Highest,
    counters: std::slice::Iter<'a, u64>,
    /// Of the event that is looked at.
    current: u64,
    /// The highest that is in the open block.
    pub(super) in_block: u64,
}

impl<'a> Count<'a> {
    pub(super) fn new(numbering: &Numbering, identity: &str, counted: &'a Counted) -> Self {
        let key = producers::key(identity, &counted.producer);
        let before = numbering.producers.get(&key);
        Self {
            key,
            before,
            counters: counted.counters.iter(),
            current: 0,
            in_block: before.counter,
        }
    }

    /// The next event; of one that was taken before, the producer's newest sequence.
    pub(super) fn next(&mut self) -> Option<Sequence> {
        self.current = self.counters.next().copied().unwrap_or(self.current);
        (self.current <= self.before.counter).then_some(self.before.sequence)
    }

    /// It goes into the open block.
    pub(super) const fn took(&mut self) {
        self.in_block = self.current;
    }
}
