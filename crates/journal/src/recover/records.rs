//! The records of one segment, in order, and what is known from each.

use std::time::Duration;

use evermesh_event::{Offset, Origin, Sequence};

use super::{Recovery, advance, rebase};
use crate::error::Error;
use crate::producers;
use crate::record::format::{DecodeError, Decoded};
use crate::record::{Content, Record};
use crate::segment::scan::Scan;
use crate::segment::{HEADER_BYTES, Noted, VERSION};
use crate::wounds::{Lack, Place};

impl Recovery<'_> {
    /// All records from the front; where they end. What is damaged is passed over and named.
    pub(super) fn records(
        &mut self,
        scan: &mut Scan,
        begin: Place,
        end: u64,
        last: bool,
    ) -> Result<u64, Error> {
        let mut position = HEADER_BYTES;
        while position < end {
            let read = scan.record_at(position);
            match read.map_err(|error| self.refused("read a segment", error))? {
                Ok(decoded) => {
                    let next = decoded.record.offset;
                    if position > HEADER_BYTES && !self.continues(next) {
                        self.wound(Place { position, ..begin }, position, next);
                    }
                    self.take(&decoded, position);
                    position += decoded.length as u64;
                }
                Err(DecodeError::Kind) => {
                    let file = self.storage.segment_name(begin.segment);
                    return Err(Error::Version { file, version: VERSION + 1, known: VERSION });
                }
                Err(_) => {
                    let rest = scan.not_zero_from(position);
                    let rest = rest.map_err(|error| self.refused("read a segment", error))?;
                    // Nothing more was written. If something was, the next segment says so: it goes
                    // on from elsewhere.
                    if rest.is_none() {
                        return Ok(position);
                    }
                    match self.damaged(scan, Place { position, ..begin }, last)? {
                        Some(next) => position = next,
                        None => return Ok(position),
                    }
                }
            }
        }
        Ok(position)
    }
    fn take(&mut self, decoded: &Decoded, position: u64) {
        let record = &decoded.record;
        self.recovered.head = record.end();
        self.proven = self.proven.max(decoded.durable_before);
        if let Some((origin, before)) = goes_on_from(record)
            && self.lacks(origin, before, record.offset)
        {
            self.recovered.bases.advance(origin, before);
        }
        let mut publishers = decoded.publishers.as_slice();
        if let Content::Block { block, .. } = &record.content
            && *block.origin() != self.expected.origin
        {
            // Who published under a former journal id counts anew.
            publishers = &[];
        } else if let Content::Block { block, .. } = &record.content {
            self.recovered.own_head = block.last();
            self.window.fill(decoded);
            for (text, _) in decoded.publishers.iter().filter(|(_, count)| *count == 0) {
                if let Some((key, counter)) = producers::decode(text) {
                    self.recovered.producers.note(key, counter, block.last());
                }
            }
        }
        if let Some(missed) = record.notice() {
            self.noticed.push((record.offset, record.end()));
            self.recovered.wounds.found_notice(record, missed);
        }
        if let Some((origin, _)) = record.moves() {
            match self.behind.get_mut(origin) {
                Some(behind) => *behind = record.end(),
                None => drop(self.behind.insert(origin.clone(), record.end())),
            }
        }
        advance(&mut self.recovered.frontier, &self.expected.origin, record);
        rebase(&mut self.recovered.bases, record);
        if let Some(segment) = self.recovered.catalog.newest_mut() {
            segment.note(&Noted {
                record,
                position,
                length: decoded.length as u64,
                publishers,
                taken: Duration::from_millis(decoded.taken_ms),
            });
        }
    }

    /// Everything of an origin through a sequence was there before an offset. True if it is lost
    /// with what is damaged.
    pub(super) fn lacks(&mut self, origin: &Origin, before: Sequence, hi: Offset) -> bool {
        let at = self.recovered.frontier.get(origin);
        if before <= at || self.recovered.wounds.is_empty() {
            return false;
        }
        let lo = self.behind.get(origin).copied().unwrap_or(Offset::ZERO);
        self.recovered.wounds.lacks(Lack::new(origin.clone(), at, before, lo, hi))
    }
}

/// Where its origin was before a record.
pub(crate) fn goes_on_from(record: &Record) -> Option<(&Origin, Sequence)> {
    match &record.content {
        Content::Block { block, .. } => Some((block.origin(), block.previous())),
        Content::Missed(missed) => {
            let before = missed.from.as_u64().checked_sub(1)?;
            Some((record.moves()?.0, Sequence::from_u64(before)))
        }
    }
}
