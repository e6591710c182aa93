//! What is damaged in the journal and passed over. Found anew at each start, the same each time.
//! Pure: no await, no clock.
//!
//! What was lost shows in the next block of each origin, which goes on from a sequence that is not
//! here. What nothing shows may have been anything: then it is a missed of every origin. The bytes
//! stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use evermesh_event::{Block, Offset, Sequence};
use evermesh_proto::v1::MissedCause;

use crate::record::{Content, Missed, Record};

/// A place in a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: Offset,
    pub(crate) position: u64,
}

/// Offsets that are lost, between two places.
#[derive(Debug)]
pub(crate) struct Wound {
    /// Where the next whole record lies, in the same file.
    pub(crate) goes_on_at: u64,
    after: Offset,
    through: Offset,
    lost: Vec<Missed>,
    /// What a reader meets in its place.
    pub(crate) met: Vec<Arc<Record>>,
}

/// All of them, in order.
#[derive(Debug, Default)]
pub(crate) struct Wounds(BTreeMap<Place, Wound>);

impl Wound {
    pub(crate) const fn new(goes_on_at: u64, after: Offset, through: Offset) -> Self {
        Self { goes_on_at, after, through, lost: Vec::new(), met: Vec::new() }
    }

    /// Gives what is missed its offsets: the last ones of those that are lost.
    fn close(&mut self) {
        let span = self.through.as_u64().saturating_sub(self.after.as_u64());
        let count = self.lost.len() as u64;
        if count == 0 || count > span {
            // Nothing shows what it was, or there are more origins than places to say so.
            self.lost = vec![Missed {
                origin: None,
                from: Sequence::ZERO,
                through: Sequence::ZERO,
                sites: Vec::new(),
                cause: MissedCause::Damaged,
            }];
        }
        let first = (self.through.as_u64() + 1).saturating_sub(self.lost.len() as u64);
        let lost = std::mem::take(&mut self.lost).into_iter();
        self.met = (first..)
            .zip(lost)
            .map(|(at, lost)| Arc::new(Record::new(Offset::from_u64(at), Content::Missed(lost))))
            .collect();
    }
}

impl Wounds {
    pub(crate) fn add(&mut self, place: Place, wound: Wound) {
        self.0.insert(place, wound);
    }

    /// A block goes on from a sequence that is not here. False if nothing is damaged before it.
    pub(crate) fn lacks(&mut self, block: &Block, at: Sequence) -> bool {
        let Some(mut last) = self.0.last_entry() else { return false };
        last.get_mut().lost.push(Missed {
            origin: Some(block.origin().clone()),
            from: at.plus(1).unwrap_or(at),
            through: block.previous(),
            sites: Vec::new(),
            cause: MissedCause::Damaged,
        });
        true
    }

    pub(crate) fn close(&mut self) {
        self.0.values_mut().for_each(Wound::close);
    }

    pub(crate) fn at(&self, place: Place) -> Option<&Wound> {
        self.0.get(&place)
    }
}
