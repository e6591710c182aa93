//! A group of records on its way to the disk: encoded, handed to the file, synced, then durable.
//!
//! Always holds: nothing counts as durable, and nothing is read from the disk, before fdatasync
//! returned for it; no record lies in a segment whose header and name are not durable.

use std::sync::PoisonError;
use std::time::Duration;

use evermesh_event::{Offset, Planted, Sequence};

use super::{Newest, Writer, draw_marker};
use crate::error::Failure;
use crate::intake::numbering::Pending;
use crate::record::format;
use crate::segment::{HEADER_BYTES, Header, Noted, Segment};

/// One write at most: large enough that the call costs nothing, small enough to be kept.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Written {
    pending: Pending,
    position: u64,
    length: u64,
}

impl Writer {
    pub(super) fn encode(
        &mut self,
        pending: Pending,
        durable_before: Offset,
    ) -> Result<(), Failure> {
        if self.buffer.len() >= WRITE_BYTES_MAX {
            self.write()?;
        }
        let Some(newest) = &self.newest else {
            return Err(self.failed("write", "no segment is open".into()));
        };
        let begin = self.buffer.len();
        let Pending { record, publishers, taken_ms, .. } = &pending;
        let buffer = &mut self.buffer;
        format::encode(buffer, newest.marker, record, publishers, *taken_ms, durable_before);
        let position = newest.position + begin as u64;
        let length = (self.buffer.len() - begin) as u64;
        // Before anybody can find it damaged.
        if let Some(missed) = record.notice() {
            self.shared.wounds().notices.note(record.offset, missed);
        }
        self.written.push(Written { pending, position, length });
        Ok(())
    }

    /// Hands the buffer to the file.
    fn write(&mut self) -> Result<(), Failure> {
        if let Some(newest) = &mut self.newest {
            let written = newest.file.write_all_at(&self.buffer, newest.position);
            newest.position += self.buffer.len() as u64;
            self.buffer.clear();
            written.map_err(|error| self.failed("write", error.to_string()))?;
        }
        Ok(())
    }

    /// Hands the buffer to the file and waits for the disk; then what was written may be read from
    /// there.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        if self.written.is_empty() {
            return Ok(());
        }
        self.write()?;
        let planted = self.shared.planted.is(Planted::AssureBeforeSync);
        if let (Some(newest), false) = (&self.newest, planted) {
            let synced = newest.file.sync_data();
            synced.map_err(|error| self.failed("sync", error.to_string()))?;
            self.shared.count_sync();
        }
        self.catalog_written();
        Ok(())
    }

    /// Creates a segment: its header and its name are durable before any record of it is written.
    pub(super) fn begin_segment(&mut self, first: Offset, length: u64) -> Result<(), Failure> {
        let marker = draw_marker(&*self.random);
        let header = Header { marker, first, length, journal: self.shared.origin.journal };
        let create = || {
            let file = self.shared.storage.create_segment(first, length)?;
            file.write_all_at(&header.encode(), 0)?;
            file.sync_data()?;
            self.shared.storage.sync_directory()?;
            Ok(file)
        };
        let file = create()
            .map_err(|error: std::io::Error| self.failed("create a segment", error.to_string()))?;
        self.shared.count_sync();
        self.newest = Some(Newest { file, marker, position: HEADER_BYTES });
        self.shared.numbering().space.created(length);
        let mut catalog = self.shared.catalog.write().unwrap_or_else(PoisonError::into_inner);
        catalog.push(Segment::new(first, marker, length));
        Ok(())
    }

    fn catalog_written(&mut self) {
        let mut catalog = self.shared.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let Some(segment) = catalog.newest_mut() else {
            return;
        };
        for Written { pending, position, length } in &self.written {
            segment.note(&Noted {
                record: &pending.record,
                position: *position,
                length: *length,
                publishers: &pending.publishers,
                taken: Duration::from_millis(pending.taken_ms),
            });
        }
        drop(catalog);
        self.settle();
    }

    /// Gives permits back and moves what is durable.
    fn settle(&mut self) {
        let Some(through) = self.written.last().map(|written| written.pending.record.end()) else {
            return;
        };
        let mut own = Sequence::ZERO;
        let mut numbering = self.shared.numbering();
        let mut units = 0;
        for Written { pending, .. } in self.written.drain(..) {
            units += pending.units;
            own = own.max(numbering.made_durable(&pending.record));
        }
        drop(numbering);
        self.shared.durable.send_modify(|durable| {
            durable.offset = through;
            durable.own = durable.own.max(own);
        });
        self.shared.tail().shorten(through);
        self.shared.room.add_permits(units);
    }
}
