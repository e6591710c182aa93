//! What came back is put in its place: the writer's part, between two groups.
//!
//! The segment of a wound is written anew with it, synced, and renamed into its place, as when it
//! is coalesced; a wound before the first record of a segment gets a segment of its own. What is
//! not filled yet stays out. Before that it is stored which offsets are in another order than when
//! they were given: who resumes within them begins before all of them.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use evermesh_event::Offset;

use crate::error::Failure;
use crate::record::format::{self, Publishers};
use crate::record::{Content, Record};
use crate::segment::scan::Scan;
use crate::segment::{HEADER_BYTES, Header, Noted, Segment};
use crate::storage::SegmentFile;
use crate::survey;
use crate::wounds::{Fill, Place, Wound};
use crate::writer::{Newest, Writer, draw_marker};

/// One write at most.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// A segment while it is written anew.
struct Anew {
    file: Arc<dyn SegmentFile>,
    segment: Segment,
    buffer: Vec<u8>,
    written: u64,
    taken_ms: u64,
    /// Where other wounds of the segment lie now, by where they begin.
    moved: Vec<(Offset, Wound)>,
}

impl Writer {
    /// Fills the next wound for which enough came.
    pub(crate) fn heal(&mut self) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        if shared.wounds().is_empty() {
            return Ok(());
        }
        if !self.has_room()? {
            shared.wounds().abandon_all();
        }
        let fill = shared.wounds().next_fill();
        let version = shared.wounds();
        shared.wounds_changed(version);
        let Some(fill) = fill else { return Ok(()) };
        // Somebody may wait for the next.
        shared.bell.ring();
        let mended = shared.wounds().reorder(fill.wound.after);
        if let Some(mended) = mended {
            self.store_mended(&mended)?;
        }
        self.fill(&fill).map_err(|error| self.failed("heal a segment", error.to_string()))
    }

    /// The disk has room for the largest segment that is to be written anew. Else what was lost is
    /// missed: a full disk ends a node, and damage must not.
    fn has_room(&self) -> Result<bool, Failure> {
        let free = self.shared.storage.free_bytes();
        let free = free.map_err(|error| self.failed("ask for free space", error.to_string()))?;
        let catalog = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let wounds = self.shared.wounds();
        let lengths = wounds.segments().filter_map(|first| Some(catalog.get(first)?.length));
        let needed = lengths.max().unwrap_or(0) + self.shared.limits.reserve_bytes;
        Ok(free >= needed)
    }

    fn fill(&mut self, fill: &Fill) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let Wound { place, through, .. } = fill.wound;
        // Not in it: what was damaged there and is left out for now has no length, either.
        let before = through < place.segment;
        let first = match fill.records.first() {
            Some(record) if before => record.offset,
            _ => place.segment,
        };
        let old = {
            let catalog = shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
            catalog.get(first).map(|held| Old {
                length: held.length,
                end: held.end,
                coalesced: held.coalesced,
                newest: catalog.newest().is_some_and(|newest| newest.first == first),
            })
        };
        let Some(old) = old.filter(|_| !before) else {
            let mut anew = self.anew(first)?;
            fill.records.iter().try_for_each(|record| anew.put(record))?;
            return self.put_in_place(fill, anew, old.map_or(0, |old| old.length), None);
        };
        let file = shared.storage.open_segment(first)?;
        loop {
            let mut anew = self.anew(first)?;
            if anew.copy(&file, fill, &old, &shared)? {
                return self.put_in_place(fill, anew, old.length, Some(old));
            }
            // Something else in it is damaged: that stays out, as a wound of its own.
            if !survey::survey(&shared, first)? {
                return Err(io::Error::other("a record cannot be read"));
            }
        }
    }

    fn anew(&self, first: Offset) -> io::Result<Anew> {
        let marker = draw_marker(&*self.random);
        Ok(Anew {
            file: self.shared.storage.create_replacement(first)?,
            segment: Segment::new(first, marker, HEADER_BYTES),
            buffer: Vec::new(),
            written: HEADER_BYTES,
            taken_ms: u64::try_from(self.shared.now().as_millis()).unwrap_or(u64::MAX),
            moved: Vec::new(),
        })
    }

    fn put_in_place(
        &mut self,
        fill: &Fill,
        mut anew: Anew,
        before: u64,
        old: Option<Old>,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let end = anew.end();
        let old_end = old.map_or(HEADER_BYTES, |old| old.end);
        let newest = old.is_some_and(|old| old.newest);
        // The segment that is written keeps the room that it has.
        let length = if newest { end + before.saturating_sub(old_end) } else { end };
        anew.finish(length, shared.origin.journal)?;
        let Anew { mut segment, moved, .. } = anew;
        let (first, marker) = (segment.first, segment.marker);
        shared.storage.replace_segment(first)?;
        segment.coalesced = old.is_some_and(|old| old.coalesced);
        tracing::info!(
            file = shared.storage.segment_name(first),
            after = %fill.wound.after, records = fill.records.len(), complete = fill.complete,
            "what was damaged is healed from other members"
        );
        let shifted = end.cast_signed() - old_end.cast_signed();
        let mut numbering = shared.numbering();
        let planned = numbering.queue.iter().any(|pending| pending.begins.is_some());
        let shifted = if newest && !planned { shifted } else { 0 };
        numbering.space.mended(length.cast_signed() - before.cast_signed(), shifted);
        drop(numbering);
        let mut catalog = shared.catalog.write().unwrap_or_else(PoisonError::into_inner);
        if catalog.get(first).is_some() {
            catalog.replace(segment);
        } else {
            catalog.insert(segment);
        }
        // Both at once: a reader must not find the one without the other.
        let mut wounds = shared.wounds();
        wounds.filled(fill, &moved);
        drop(catalog);
        shared.wounds_changed(wounds);
        if newest {
            let file = shared.storage.open_segment(first)?;
            self.newest = Some(Newest { file, marker, position: end });
        }
        Ok(())
    }
}

/// What it was before.
#[derive(Clone, Copy)]
struct Old {
    length: u64,
    end: u64,
    coalesced: bool,
    newest: bool,
}

impl Anew {
    const fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Everything that is there, with what came back in its place. False if a record cannot be
    /// read.
    fn copy(
        &mut self,
        from: &Arc<dyn SegmentFile>,
        fill: &Fill,
        old: &Old,
        shared: &crate::shared::Shared,
    ) -> io::Result<bool> {
        let wounds = shared.wounds().in_segment(self.segment.first);
        let mut scan = Scan::new(Arc::clone(from), fill.wound.place.marker, old.end);
        let mut position = HEADER_BYTES;
        let mut passed = None;
        loop {
            let here = wounds.iter().find(|wound| wound.place.position == position);
            if let Some(wound) = here.filter(|wound| passed != Some(wound.after)) {
                passed = Some(wound.after);
                self.pass(wound, fill)?;
                position = wound.goes_on_at;
                continue;
            }
            if position >= old.end {
                return Ok(true);
            }
            let Ok(decoded) = scan.record_at(position)? else { return Ok(false) };
            self.taken_ms = decoded.taken_ms;
            let own = match &decoded.record.content {
                Content::Block { block, .. } => *block.origin() == shared.origin,
                Content::Missed(_) => true,
            };
            // Who published under a former journal id counts anew.
            let none = Publishers::new();
            let publishers = if own { &decoded.publishers } else { &none };
            self.write(&decoded.record, publishers, decoded.durable_before)?;
            position += decoded.length as u64;
        }
    }

    /// A wound: with what came back, or left as it is, without the damaged bytes.
    fn pass(&mut self, wound: &Wound, fill: &Fill) -> io::Result<()> {
        let filled = wound.after == fill.wound.after;
        if filled {
            fill.records.iter().try_for_each(|record| self.put(record))?;
        }
        if !filled || !fill.complete {
            let position = self.end();
            let (segment, marker) = (self.segment.first, self.segment.marker);
            let place = Place { segment, marker, position };
            self.moved.push((wound.after, Wound { place, goes_on_at: position, ..*wound }));
        }
        Ok(())
    }

    fn put(&mut self, record: &Record) -> io::Result<()> {
        let before = Offset::from_u64(record.offset.as_u64().saturating_sub(1));
        self.write(record, &Publishers::new(), before)
    }

    fn write(
        &mut self,
        record: &Record,
        publishers: &Publishers,
        durable_before: Offset,
    ) -> io::Result<()> {
        let position = self.end();
        let (marker, taken_ms) = (self.segment.marker, self.taken_ms);
        format::encode(&mut self.buffer, marker, record, publishers, taken_ms, durable_before);
        self.segment.note(&Noted {
            record,
            position,
            length: self.end() - position,
            publishers,
            taken: Duration::from_millis(taken_ms),
        });
        if self.buffer.len() >= WRITE_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Zeros up to its length, and its header.
    fn finish(&mut self, length: u64, journal: evermesh_event::JournalId) -> io::Result<()> {
        self.flush()?;
        let zeros = vec![0; WRITE_BYTES_MAX];
        let mut at = self.written;
        while at < length {
            let count = usize::try_from(length - at).unwrap_or(usize::MAX).min(zeros.len());
            self.file.write_all_at(zeros.get(..count).unwrap_or_default(), at)?;
            at += count as u64;
        }
        self.segment.length = length;
        let Segment { first, marker, .. } = self.segment;
        let header = Header { marker, first, length, journal };
        self.file.write_all_at(&header.encode(), 0)?;
        self.file.sync_data()
    }
}
