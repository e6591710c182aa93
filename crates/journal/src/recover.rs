//! What was on the disk: every record of every segment, checked, before anything new is numbered.
//!
//! A torn end is what a crash leaves of a group that was not synced: it is cut, and nobody was
//! assured of it. Anything else that is not what was written is damage, and named: it stays as it
//! is, and readers meet in its place what they may have missed. What tells them apart: each record
//! says through where everything was durable when it was written, a segment is begun only when the
//! one before it is durable, and the state database knows where each former start ended.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evermesh_event::world::Clock;
use evermesh_event::{DedupeWindow, Epoch, Frontier, Offset, Origin, Sequence};

use crate::cuts::Cuts;
use crate::error::Error;
use crate::producers::{self, Producers};
use crate::record::format::{DecodeError, Decoded};
use crate::record::{Content, Record};
use crate::segment::scan::Scan;
use crate::segment::{Catalog, HEADER_BYTES, Header, HeaderError, Noted, Segment, VERSION};
use crate::state::FormerStart;
use crate::storage::{SegmentFile, Storage};
use crate::wounds::{Place, Wound, Wounds};
use crate::writer::Newest;

/// How much is written at a time where zeros or the same bytes are written again.
const REWRITE_BYTES: usize = 1024 * 1024;

/// What the state database says must be there.
#[derive(Debug)]
pub(crate) struct Expected {
    origin: Origin,
    /// Where each ended start ended.
    ends: BTreeMap<Epoch, Offset>,
    /// The furthest of them.
    floor: Offset,
}

impl Expected {
    pub(crate) fn new(origin: Origin, starts: &[FormerStart]) -> Self {
        let ended = starts.iter().filter(|former| former.ended);
        let ends: BTreeMap<_, _> = ended.map(|former| (former.start.epoch, former.end)).collect();
        let floor = ends.values().copied().max().unwrap_or(Offset::ZERO);
        Self { origin, ends, floor }
    }
}

/// What was there.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) catalog: Catalog,
    pub(crate) head: Offset,
    pub(crate) own_head: Sequence,
    pub(crate) frontier: Frontier,
    pub(crate) bases: Frontier,
    pub(crate) newest: Option<Newest>,
    pub(crate) producers: Producers,
    /// What is damaged and passed over.
    pub(crate) wounds: Wounds,
    /// Something that was durable is lacking at the end.
    pub(crate) lost_end: bool,
}

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
    fn fill(&mut self, decoded: &Decoded) {
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

/// Reads, checks and completes everything.
///
/// # Errors
/// If the disk refuses, or something durable is damaged.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    expected: &Expected,
    window: &mut Window,
    cuts: &Cuts,
    producers: Producers,
) -> Result<Recovered, Error> {
    let cut = cuts.frontier();
    let recovered = Recovered {
        catalog: Catalog::default(),
        head: cuts.end,
        own_head: cut.get(&expected.origin),
        frontier: cut.clone(),
        bases: cut,
        newest: None,
        producers,
        wounds: Wounds::default(),
        lost_end: false,
    };
    let proven = expected.floor;
    let cut = cuts.end;
    let mut recovery = Recovery { storage, expected, window, recovered, proven, cut };
    let firsts = storage.segments().map_err(|error| recovery.refused("list segments", error))?;
    let (cut, firsts): (Vec<_>, Vec<_>) = firsts.into_iter().partition(|first| *first <= cuts.end);
    for first in cut {
        let removed = storage.remove_segment(first).and_then(|()| storage.sync_directory());
        removed.map_err(|error| recovery.refused("remove a segment that was cut", error))?;
    }
    let count = firsts.len();
    for (number, first) in firsts.into_iter().enumerate() {
        recovery.segment(first, number + 1 == count)?;
    }
    Ok(recovery.finish())
}

struct Recovery<'a> {
    storage: &'a Arc<dyn Storage>,
    expected: &'a Expected,
    window: &'a mut Window,
    recovered: Recovered,
    /// Everything through here was durable.
    proven: Offset,
    /// Everything through here was cut before.
    cut: Offset,
}

impl Recovery<'_> {
    fn segment(&mut self, first: Offset, last: bool) -> Result<(), Error> {
        let file = self.storage.open_segment(first);
        let file = file.map_err(|error| self.refused("open a segment", error))?;
        let length = file.length().map_err(|error| self.refused("read a segment", error))?;
        let Some(header) = self.header(&file, first, length, last)? else {
            return Ok(());
        };
        // A segment is begun only when everything before it is durable.
        self.proven = self.proven.max(self.recovered.head);
        if !self.continues(first, true) {
            let file = self.storage.segment_name(first);
            self.wound(Place { segment: first, position: HEADER_BYTES }, HEADER_BYTES, first);
            tracing::error!(file, after = %self.recovered.head, "records before it are lacking");
        }
        let segment = Segment::new(first, header.marker, header.length);
        self.recovered.catalog.push(segment);
        let end = length.min(header.length);
        let mut scan = Scan::new(Arc::clone(&file), header.marker, end);
        let position = self.records(&mut scan, first, end, last)?;
        if !last {
            return Ok(());
        }
        let mut complete = || -> io::Result<()> {
            write_zeros(&*file, position, &mut scan, length, header.length)?;
            let unproven = self.recovered.catalog.locate(self.proven);
            let unproven = unproven.map_or(HEADER_BYTES, |place| place.position);
            rewrite(&*file, unproven, position)?;
            file.sync_data()
        };
        complete().map_err(|error| self.refused("complete the last segment", error))?;
        self.recovered.newest = Some(Newest { file, marker: header.marker, position });
        Ok(())
    }

    /// The header; `None`: the segment was being created when the node stopped, and is removed.
    fn header(
        &mut self,
        file: &Arc<dyn SegmentFile>,
        first: Offset,
        length: u64,
        last: bool,
    ) -> Result<Option<Header>, Error> {
        let mut bytes = vec![0; usize::try_from(length.min(HEADER_BYTES)).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0).map_err(|error| self.refused("read a segment", error))?;
        match Header::decode(&bytes) {
            Ok(header) if header.first == first => Ok(Some(header)),
            Ok(_) => {
                let file = self.storage.segment_name(first);
                tracing::error!(file, "it is named otherwise than it says: passed over");
                self.without(first, last)
            }
            Err(HeaderError::Version(version)) => {
                let file = self.storage.segment_name(first);
                Err(Error::Version { file, version, known: VERSION })
            }
            Err(HeaderError::Damaged) => {
                let mut scan = Scan::new(Arc::clone(file), 0, length);
                let behind = scan.not_zero_from(HEADER_BYTES.min(length));
                let behind = behind.map_err(|error| self.refused("read a segment", error))?;
                if !last || behind.is_some() || self.proven >= first {
                    tracing::error!(
                        file = %self.storage.segment_name(first),
                        "its header is not what was written: the file stays as it is and is passed \
                        over; what was lost is asked of other members or told as missed"
                    );
                    return self.without(first, last);
                }
                tracing::warn!(
                    file = %self.storage.segment_name(first),
                    "the segment was being created when the node stopped: it is removed"
                );
                let removed = self.storage.remove_segment(first);
                removed
                    .and_then(|()| self.storage.sync_directory())
                    .map_err(|error| self.refused("remove a segment", error))?;
                self.reopen_newest()?;
                Ok(None)
            }
        }
    }

    /// A segment cannot be read. If it was the last, its place must be free for a new one.
    fn without(&mut self, first: Offset, last: bool) -> Result<Option<Header>, Error> {
        let aside = self.storage.set_segment_aside(first);
        aside.map_err(|error| self.refused("set a damaged segment aside", error))?;
        if last {
            self.proven = self.proven.max(first);
            self.reopen_newest()?;
        }
        Ok(None)
    }

    /// The segment before the one that was removed is the last after all.
    fn reopen_newest(&mut self) -> Result<(), Error> {
        let Some(newest) = self.recovered.catalog.newest() else {
            return Ok(());
        };
        let (first, marker, position) = (newest.first, newest.marker, newest.end);
        let file = self.storage.open_segment(first);
        let file = file.map_err(|error| self.refused("open a segment", error))?;
        file.sync_data().map_err(|error| self.refused("sync a segment", error))?;
        self.recovered.newest = Some(Newest { file, marker, position });
        Ok(())
    }

    /// All records from the front; where they end. What is damaged is passed over and named.
    fn records(
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

    /// What is not what was written begins there. Where the next whole record lies that must be
    /// taken; `None`: there is none, or what follows is what a crash left of a group that was not
    /// durable, and is cut.
    fn damaged(
        &mut self,
        scan: &mut Scan,
        first: Offset,
        position: u64,
        last: bool,
    ) -> Result<Option<u64>, Error> {
        let head = self.recovered.head;
        let (mut at, mut found, mut durable) = (position, None, self.proven);
        // In the last segment only what some record proves was durable for certain.
        loop {
            let next = scan.record_from(at);
            let next = next.map_err(|error| self.refused("read a segment", error))?;
            let Some((found_at, decoded)) = next else { break };
            durable = durable.max(decoded.durable_before);
            at = found_at + decoded.length as u64;
            if decoded.record.offset > head && found.is_none() {
                found = Some((found_at, decoded.record.offset));
            }
            if !last {
                break;
            }
        }
        let file = self.storage.segment_name(first);
        if last && durable <= head {
            tracing::warn!(
                file, position, after = %head,
                "the node stopped while it wrote: what was not durable is cut, nobody was assured \
                of it"
            );
            return Ok(None);
        }
        self.proven = durable;
        let next = found.filter(|(_, next)| !last || *next <= durable);
        tracing::error!(
            file, position, after = %head,
            "{NOT_WRITTEN}: it stays as it is and is passed over; what was lost is asked of other \
            members or told as missed"
        );
        let Some((found_at, next)) = next else { return Ok(None) };
        self.wound(Place { segment: first, position }, found_at, next);
        Ok(Some(found_at))
    }

    /// Everything between the head and an offset is lost.
    fn wound(&mut self, place: Place, goes_on_at: u64, next: Offset) {
        let after = self.recovered.head;
        let before_next = Offset::from_u64(next.as_u64().saturating_sub(1));
        // The first offset of a start has nothing before it in that start.
        let first = next.counter() <= 1 && after > Offset::ZERO;
        let through = if first { after.plus(1).unwrap_or(after) } else { before_next };
        self.recovered.wounds.add(place, Wound::new(goes_on_at, after, through));
        self.recovered.head = through;
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

    /// What follows the head must be the next offset, or the first of a later start where the
    /// former is known to end here. `begins`: it is the first of a segment.
    fn continues(&self, next: Offset, begins: bool) -> bool {
        let head = self.recovered.head;
        let same_start = next.epoch() == head.epoch() && head.plus(1) == Some(next);
        let ended = || {
            let between = self.expected.ends.range(head.epoch()..next.epoch());
            between.map(|(_, end)| *end).all(|end| end <= head)
        };
        let later_start = next.epoch() > head.epoch() && next.counter() == 1 && ended();
        // Behind what was cut there is no telling how the start before it ended.
        let cut = begins && head == self.cut && next.epoch() > head.epoch() && next.counter() == 1;
        same_start || later_start || cut
    }

    fn finish(mut self) -> Recovered {
        if self.recovered.head < self.proven {
            tracing::error!(
                place = self.storage.place(), after = %self.recovered.head, through = %self.proven,
                "{LACKING}: what was lost is asked of other members or told as missed"
            );
            self.recovered.lost_end = true;
        }
        self.recovered.wounds.close();
        self.recovered
    }

    fn refused(&self, what: &'static str, source: io::Error) -> Error {
        Error::Storage { what, place: self.storage.place(), source }
    }
}

const NOT_WRITTEN: &str = "a record is not what was written";
const LACKING: &str = "durable records behind it are lacking";

/// Moves a frontier by a record. Own numbers are moved by own blocks alone: they come from here.
pub(crate) fn advance(frontier: &mut Frontier, own: &Origin, record: &Record) {
    if let Some((origin, through)) = record.moves()
        && (origin != own || matches!(record.content, Content::Block { .. }))
    {
        frontier.advance(origin, through);
    }
}

/// A missed leaves a hole: who is before its end cannot be served over it.
pub(crate) fn rebase(bases: &mut Frontier, record: &Record) {
    if let (Content::Missed(_), Some((origin, through))) = (&record.content, record.moves()) {
        bases.advance(origin, through);
    }
}

/// Zeros from a place to the last byte that is none, and where the file is shorter than it says.
fn write_zeros(
    file: &dyn SegmentFile,
    position: u64,
    scan: &mut Scan,
    length: u64,
    full: u64,
) -> io::Result<()> {
    let mut at = position;
    while let Some(not_zero) = scan.not_zero_from(at)? {
        let count = (length - not_zero).min(REWRITE_BYTES as u64);
        zero(file, not_zero, count)?;
        at = not_zero + count;
    }
    let mut at = length;
    while at < full {
        let count = (full - at).min(REWRITE_BYTES as u64);
        zero(file, at, count)?;
        at += count;
    }
    Ok(())
}

fn zero(file: &dyn SegmentFile, position: u64, count: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(count).map_err(io::Error::other)?];
    file.write_all_at(&zeros, position)
}

/// Writes the same bytes again. After a failed fsync the system may take pages for written that are
/// not: only a new write makes the next fsync mean what it says.
fn rewrite(file: &dyn SegmentFile, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let count =
            usize::try_from((to - at).min(REWRITE_BYTES as u64)).map_err(io::Error::other)?;
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, at)?;
        file.write_all_at(&bytes, at)?;
        at += count as u64;
    }
    Ok(())
}
