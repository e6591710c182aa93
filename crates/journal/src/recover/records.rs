//! The records of one segment, in order, and what is known from each.

use std::time::Duration;

use evermesh_event::Offset;

use super::{Recovery, advance, rebase};
use crate::error::Error;
use crate::producers;
use crate::record::Content;
use crate::record::format::{DecodeError, Decoded};
use crate::segment::scan::Scan;
use crate::segment::{HEADER_BYTES, Noted, VERSION};
use crate::wounds::Place;

impl Recovery<'_> {
    /// All records from the front; where they end. What is damaged is passed over and named.
    pub(super) fn records(
        &mut self,
        scan: &mut Scan,
        first: Offset,
        end: u64,
        last: bool,
    ) -> Result<u64, Error> {
        let mut position = HEADER_BYTES;
        while position < end {
            let read = scan.record_at(position);
            match read.map_err(|error| self.refused("read a segment", error))? {
                Ok(decoded) => {
                    let next = decoded.record.offset;
                    if position > HEADER_BYTES && !self.continues(next, false) {
                        self.wound(Place { segment: first, position }, position, next);
                    }
                    self.take(&decoded, position);
                    position += decoded.length as u64;
                }
                Err(DecodeError::Kind) => {
                    let file = self.storage.segment_name(first);
                    return Err(Error::Version { file, version: VERSION + 1, known: VERSION });
                }
                Err(_) => {
                    let rest = scan.not_zero_from(position);
                    let rest = rest.map_err(|error| self.refused("read a segment", error))?;
                    if rest.is_none() && (last || self.recovered.head >= self.proven) {
                        return Ok(position);
                    }
                    match self.damaged(scan, first, position, last)? {
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
        if let Content::Block { block, .. } = &record.content {
            let at = self.recovered.frontier.get(block.origin());
            if block.previous() > at && self.recovered.wounds.lacks(block, at) {
                self.recovered.bases.advance(block.origin(), block.previous());
            }
        }
        if let Content::Block { block, .. } = &record.content
            && *block.origin() == self.expected.origin
        {
            self.recovered.own_head = block.last();
            self.window.fill(decoded);
            for (text, _) in decoded.publishers.iter().filter(|(_, count)| *count == 0) {
                if let Some((key, counter)) = producers::decode(text) {
                    self.recovered.producers.note(key, counter, block.last());
                }
            }
        }
        advance(&mut self.recovered.frontier, &self.expected.origin, record);
        rebase(&mut self.recovered.bases, record);
        if let Some(segment) = self.recovered.catalog.newest_mut() {
            segment.note(&Noted {
                record,
                position,
                length: decoded.length as u64,
                publishers: &decoded.publishers,
                taken: Duration::from_millis(decoded.taken_ms),
            });
        }
    }
}
