//! What was on the disk: every record of every segment, checked, before anything new is numbered.
//!
//! A torn end is what a crash leaves of a group that was not synced: it is cut, and nobody was
//! assured of it. Anything else that is not what was written is damage, and named: it stays as it
//! is, and readers meet in its place what they may have missed. What tells them apart: each record
//! says through where everything was durable when it was written, a segment is begun only when the
//! one before it is durable, and the state database knows where each former start ended.

mod damage;
mod end;
mod expected;
mod header;
mod records;
mod torn;
mod window;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use evermesh_event::{Frontier, Offset, Origin, Sequence};

pub(crate) use self::expected::Expected;
pub(crate) use self::records::goes_on_from;
pub(crate) use self::window::Window;
use crate::cuts::Cuts;
use crate::error::Error;
use crate::open::Options;
use crate::producers::Producers;
use crate::record::{Content, Missed, Record};
use crate::segment::scan::Scan;
use crate::segment::{Catalog, HEADER_BYTES, Segment};
use crate::state::Mended;
use crate::storage::Storage;
use crate::wounds::{Place, Wounds};
use crate::writer::Newest;

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
    /// Missed that name no range and were durable, and stand nowhere: to be told anew.
    pub(crate) untold: Vec<Missed>,
}

/// Reads, checks and completes everything.
///
/// # Errors
/// If the disk refuses, or something durable is damaged.
pub(crate) fn recover(
    options: &Options,
    expected: &Expected,
    window: &mut Window,
    cuts: &Cuts,
    producers: Producers,
    mended: Vec<Mended>,
) -> Result<Recovered, Error> {
    let (storage, cut) = (&options.storage, cuts.frontier());
    let recovered = Recovered {
        catalog: Catalog::default(),
        head: cuts.end,
        own_head: cut.get(&expected.origin),
        frontier: cut,
        bases: cuts.bases(),
        newest: None,
        producers,
        wounds: Wounds::new(mended, expected.notices.clone().unwrap_or_default()),
        lost_end: false,
        untold: Vec::new(),
    };
    let proven = expected.floor;
    let behind = BTreeMap::new();
    let noticed = Vec::new();
    let mut recovery =
        Recovery { options, storage, expected, window, recovered, behind, noticed, proven };
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
    recovery.finish()
}

struct Recovery<'a> {
    options: &'a Options,
    storage: &'a Arc<dyn Storage>,
    expected: &'a Expected,
    window: &'a mut Window,
    recovered: Recovered,
    /// Where the last record of each origin ended.
    behind: BTreeMap<Origin, Offset>,
    /// The first and last offset of each missed that names no range.
    noticed: Vec<(Offset, Offset)>,
    /// Everything through here was durable.
    proven: Offset,
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
        let end = length.min(header.length);
        let mut scan = Scan::new(Arc::clone(&file), header.marker, end);
        // What was put in the place of what was lost before it begins earlier than it was meant to.
        let begins = scan.record_at(HEADER_BYTES);
        let begins = begins.map_err(|error| self.refused("read a segment", error))?;
        let begins = begins.map_or(first, |decoded| decoded.record.offset.min(first));
        let place = Place { segment: first, marker: header.marker, position: HEADER_BYTES };
        if !self.continues(begins) {
            let file = self.storage.segment_name(first);
            tracing::error!(file, after = %self.recovered.head, "records before it are lacking");
            self.wound(place, HEADER_BYTES, begins);
        }
        let segment = Segment::new(first, header.marker, header.length);
        self.recovered.catalog.push(segment);
        let position = self.records(&mut scan, place, end, last)?;
        if !last {
            return Ok(());
        }
        let unproven = self.recovered.catalog.locate(self.proven);
        let unproven = unproven.map_or(HEADER_BYTES, |place| place.position);
        torn::complete(&*file, position, unproven, &mut scan, length, header.length)
            .map_err(|error| self.refused("complete the last segment", error))?;
        self.recovered.newest = Some(Newest { file, marker: header.marker, position });
        Ok(())
    }

    fn finish(mut self) -> Result<Recovered, Error> {
        self.lost_end()?;
        self.stored_frontier();
        if self.recovered.head < self.proven {
            tracing::error!(
                place = self.storage.place(), after = %self.recovered.head, through = %self.proven,
                "{LACKING}: what was lost is asked of other members or told as missed"
            );
            self.recovered.lost_end = true;
        }
        self.notices();
        Ok(self.recovered)
    }

    fn refused(&self, what: &'static str, source: io::Error) -> Error {
        Error::Storage { what, place: self.storage.place(), source }
    }
}

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
