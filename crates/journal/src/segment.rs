//! Segments: the header of each file, and the catalog that finds a place in them.
//!
//! The catalog is in memory: for each 64 KiB of records one point, with how far each origin got in
//! it. Built at recovery, kept by the writer, asked by readers that fell behind. It never says
//! anything of what is not durable.

mod header;
pub(crate) mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use evermesh_event::{Frontier, Offset, Origin, Sequence};

pub(crate) use self::header::{HEADER_BYTES, Header, HeaderError, VERSION};
use crate::cuts::Reaches;
use crate::producers::{self, Highest};
use crate::record::{Content, Record};

/// One point for so many bytes: a lagging reader reads at most this in vain, and 4 GiB take 65 536
/// points.
const POINT_BYTES: u64 = 64 * 1024;

/// All segments, rising.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    segments: Vec<Segment>,
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The offset of its first record; its name.
    pub(crate) first: Offset,
    /// With which its records begin.
    pub(crate) marker: u32,
    /// Of its file.
    pub(crate) length: u64,
    /// Where its last durable record ends.
    pub(crate) end: u64,
    /// The last offset in it.
    pub(crate) last: Offset,
    /// How far each origin gets in it.
    pub(crate) reaches: Reaches,
    /// The highest counter of each producer in it, and that event.
    pub(crate) producers: BTreeMap<Arc<str>, Highest>,
    /// When its last record was taken, by the journal's own time.
    pub(crate) taken: Duration,
    /// What newer events replace was left out of it already, as far as it was then.
    pub(crate) coalesced: bool,
    points: Vec<Point>,
}

/// A record of a segment, where it lies, and what stands beside it.
#[derive(Debug)]
pub(crate) struct Noted<'a> {
    pub(crate) record: &'a Record,
    pub(crate) position: u64,
    pub(crate) length: u64,
    pub(crate) publishers: &'a [(Arc<str>, u32)],
    pub(crate) taken: Duration,
}

/// A stretch of records.
#[derive(Debug)]
struct Point {
    /// Of its first record.
    offset: Offset,
    /// Where that lies in the file.
    position: u64,
    /// How far each origin gets in this stretch.
    reaches: BTreeMap<Origin, Sequence>,
}

/// Where to begin to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) segment: Offset,
    pub(crate) marker: u32,
    pub(crate) position: u64,
    /// Where the segment's durable records end.
    pub(crate) end: u64,
}

impl Place {
    /// Both lie in one file.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.segment == other.segment && self.marker == other.marker
    }
}

impl Segment {
    pub(crate) fn new(first: Offset, marker: u32, length: u64) -> Self {
        Self {
            first,
            marker,
            length,
            end: HEADER_BYTES,
            last: Offset::ZERO,
            reaches: Reaches::default(),
            producers: BTreeMap::new(),
            taken: Duration::ZERO,
            coalesced: false,
            points: Vec::new(),
        }
    }

    /// The next record.
    pub(crate) fn note(&mut self, noted: &Noted<'_>) {
        let Noted { record, position, length, publishers, taken } = *noted;
        self.last = record.end();
        self.taken = self.taken.max(taken);
        self.reaches.note(record);
        if let Content::Block { block, .. } = &record.content {
            for (text, _) in publishers.iter().filter(|(_, count)| *count == 0) {
                if let Some((key, counter)) = producers::decode(text) {
                    let highest = Highest { counter, sequence: block.last() };
                    self.producers.insert(key.into(), highest);
                }
            }
        }
        let here = |point: &Point| position < point.position + POINT_BYTES;
        if !self.points.last().is_some_and(here) {
            let reaches = BTreeMap::new();
            // What is damaged before the record is met by who begins to read there.
            self.points.push(Point { offset: record.offset, position: self.end, reaches });
        }
        if let (Some(point), Some((origin, through))) = (self.points.last_mut(), record.moves()) {
            match point.reaches.get_mut(origin) {
                Some(reached) => *reached = through.max(*reached),
                None => drop(point.reaches.insert(origin.clone(), through)),
            }
        }
        self.end = position + length;
    }

    const fn place(&self, position: u64) -> Place {
        Place { segment: self.first, marker: self.marker, position, end: self.end }
    }
}

impl Catalog {
    pub(crate) fn push(&mut self, segment: Segment) {
        debug_assert!(self.segments.last().is_none_or(|last| last.first < segment.first));
        self.segments.push(segment);
    }

    pub(crate) fn newest_mut(&mut self) -> Option<&mut Segment> {
        self.segments.last_mut()
    }

    pub(crate) fn newest(&self) -> Option<&Segment> {
        self.segments.last()
    }

    /// All but the one that is written, oldest first.
    pub(crate) fn sealed(&self) -> &[Segment] {
        self.segments.split_last().map(|(_, sealed)| sealed).unwrap_or_default()
    }

    /// The oldest is no more.
    pub(crate) fn remove_oldest(&mut self) {
        self.segments.drain(..self.segments.len().min(1));
    }

    /// Another file has the place of a segment.
    pub(crate) fn replace(&mut self, segment: Segment) {
        if let Some(place) = self.segments.iter_mut().find(|held| held.first == segment.first) {
            *place = segment;
        }
    }

    /// One more, among those that are sealed.
    pub(crate) fn insert(&mut self, segment: Segment) {
        let at = self.segments.partition_point(|held| held.first < segment.first);
        self.segments.insert(at, segment);
    }

    pub(crate) fn get(&self, first: Offset) -> Option<&Segment> {
        self.segments.iter().find(|held| held.first == first)
    }

    /// How far each origin gets before a segment.
    pub(crate) fn frontier_before(&self, first: Offset, frontier: &mut Frontier) {
        for segment in self.segments.iter().take_while(|held| held.first < first) {
            for (origin, reach) in segment.reaches.iter() {
                frontier.advance(origin, reach.through);
            }
        }
    }

    /// It was looked at, and nothing is to be gained.
    pub(crate) fn mark_coalesced(&mut self, first: Offset) {
        if let Some(segment) = self.segments.iter_mut().find(|held| held.first == first) {
            segment.coalesced = true;
        }
    }

    /// What all files take.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Where to begin to read, so that every record that ends behind an offset is met.
    pub(crate) fn locate(&self, after: Offset) -> Option<Place> {
        let behind = self.segments.partition_point(|segment| segment.first <= after);
        let segment = self.segments.get(behind.saturating_sub(1))?;
        let behind = segment.points.partition_point(|point| point.offset <= after);
        let position = match segment.points.get(behind.saturating_sub(1)) {
            Some(point) => point.position,
            None => HEADER_BYTES,
        };
        Some(segment.place(position))
    }

    /// The same place as of now; at the end of its segment the beginning of the next, if there is
    /// one.
    pub(crate) fn go_on(&self, place: Place) -> Option<Place> {
        let behind = self.segments.partition_point(|segment| segment.first <= place.segment);
        let segment = self.segments.get(behind.checked_sub(1)?)?;
        // It may have been cut, or coalesced: then the place is another one.
        if segment.first != place.segment || segment.marker != place.marker {
            return None;
        }
        if place.position < segment.end {
            return Some(segment.place(place.position));
        }
        self.segments.get(behind).map(|next| next.place(HEADER_BYTES))
    }

    /// An offset before every record of an origin above a sequence; `None`: there is no such
    /// record.
    pub(crate) fn place_of(&self, origin: &Origin, sequence: Sequence) -> Option<Offset> {
        let points = self.segments.iter().flat_map(|segment| &segment.points);
        let mut reaching =
            points.filter(|point| point.reaches.get(origin).is_some_and(|at| *at > sequence));
        let first = reaching.next()?.offset;
        // A counter is at least 1, so this is the same epoch's offset before it.
        Some(Offset::from_u64(first.as_u64().saturating_sub(1)))
    }
}
