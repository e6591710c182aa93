//! The newest records, in memory, shared with every reader that keeps up.
//!
//! Holds all that is not yet durable, and beyond that as much as its bound allows. Where it begins,
//! the disk ends: every record before it is durable and can be read there.

use std::collections::VecDeque;
use std::sync::Arc;

use evermesh_event::{Frontier, Offset, Origin, Sequence};

use crate::record::Record;

/// The newest records.
#[derive(Debug)]
pub(crate) struct Tail {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    bytes_max: usize,
    /// Everything through here is on the disk and no longer in the tail.
    begins_after: Offset,
    /// The newest record.
    head: Offset,
    /// How far each origin is in what is no longer here.
    passed: Frontier,
}

/// What the tail has for a reader.
#[derive(Debug)]
pub(crate) enum Found {
    /// These come next.
    Records(Vec<Arc<Record>>),
    /// What comes next is on the disk, through here.
    OnDisk {
        /// Where the tail begins.
        through: Offset,
    },
    /// Nothing comes next yet.
    AtHead,
}

impl Tail {
    /// An empty tail behind what was recovered.
    pub(crate) fn new(bytes_max: usize, head: Offset, passed: Frontier) -> Self {
        let records = VecDeque::new();
        Self { records, bytes: 0, bytes_max, begins_after: head, head, passed }
    }

    /// Shows a record.
    pub(crate) fn push(&mut self, record: Arc<Record>) {
        debug_assert!(record.offset > self.head, "{} is not above {}", record.offset, self.head);
        self.head = record.end();
        self.bytes += record.bytes();
        self.records.push_back(record);
    }

    /// Lets go of what is durable and does not fit.
    pub(crate) fn shorten(&mut self, durable: Offset) {
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.records.pop_front_if(|record| record.end() <= durable) else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(oldest.bytes());
            self.begins_after = oldest.end();
            if let Some((origin, through)) = oldest.moves() {
                self.passed.advance(origin, through);
            }
        }
    }

    /// What comes after an offset: at least one record, and no more than these bytes.
    pub(crate) fn after(&self, after: Offset, bytes_max: usize) -> Found {
        if after < self.begins_after {
            return Found::OnDisk { through: self.begins_after };
        }
        let first = self.records.partition_point(|record| record.end() <= after);
        let mut found = Vec::new();
        let mut bytes = 0;
        for record in self.records.range(first..) {
            bytes += record.bytes();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            if record.offset <= after {
                found.push(Arc::new(record.trimmed(after)));
            } else {
                found.push(Arc::clone(record));
            }
        }
        if found.is_empty() { Found::AtHead } else { Found::Records(found) }
    }

    /// The offset before the first record of an origin above a sequence; `None`: the disk must be
    /// asked.
    pub(crate) fn place_of(&self, origin: &Origin, sequence: Sequence) -> Option<Offset> {
        if self.passed.get(origin) > sequence {
            return None;
        }
        let mut before = self.begins_after;
        for record in &self.records {
            if record.moves().is_some_and(|(of, through)| of == origin && through > sequence) {
                return Some(before);
            }
            before = record.end();
        }
        Some(self.head)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use evermesh_event::Epoch;
    use evermesh_proto::v1::MissedCause;

    use super::*;
    use crate::record::{Content, Missed};

    fn record(counter: u64) -> Arc<Record> {
        let missed = Missed {
            origin: None,
            from: Sequence::ZERO,
            through: Sequence::ZERO,
            sites: Vec::new(),
            cause: MissedCause::Hole,
        };
        let offset = Offset::new(Epoch::new(1).unwrap(), counter).unwrap();
        Arc::new(Record::new(offset, Content::Missed(missed)))
    }

    #[test]
    fn what_is_not_durable_stays_whatever_the_bound() {
        let mut tail = Tail::new(0, Offset::ZERO, Frontier::default());
        let [first, second] = [record(1), record(2)];
        tail.push(Arc::clone(&first));
        tail.push(Arc::clone(&second));
        tail.shorten(Offset::ZERO);
        assert!(matches!(tail.after(Offset::ZERO, 1 << 20), Found::Records(all) if all.len() == 2));
        tail.shorten(first.end());
        let on_disk = tail.after(Offset::ZERO, 1);
        assert!(matches!(on_disk, Found::OnDisk { through } if through == first.end()));
        assert!(matches!(tail.after(first.end(), 1), Found::Records(all) if all == [second]));
    }
}
