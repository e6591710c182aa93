//! The end of what a node wrote that was closed: where it is lost, the state database knows what
//! it was, and it is a wound like any other. Where no segment is left, one is made for it: readers
//! meet what is damaged in a file, and what is written next goes on behind it.

use std::io;

use evermesh_event::Offset;

use super::Recovery;
use crate::error::Error;
use crate::segment::{HEADER_BYTES, Header, Segment};
use crate::wounds::{Place, Wound};
use crate::writer::{Newest, draw_marker};

impl Recovery<'_> {
    /// The end of a start that was closed is lost, and what it held is known: that is a wound like
    /// any other, before what the next start writes.
    pub(super) fn lost_end(&mut self) -> Result<(), Error> {
        let (after, through) = (self.recovered.head, self.proven);
        let known = self.expected.frontier.iter();
        let lost = known.filter(|(origin, at)| *at > self.recovered.frontier.get(origin)).count();
        // Of a start that was not closed nobody knows where it ended.
        let closed = self.expected.next.is_some() || after.epoch() == through.epoch();
        if through != self.expected.floor || !closed || lost == 0 || after >= through {
            return Ok(());
        }
        if self.recovered.newest.is_none() {
            self.begin_anew(through)?;
        }
        let Some(newest) = &self.recovered.newest else { return Ok(()) };
        let Some(segment) = self.recovered.catalog.newest() else { return Ok(()) };
        let position = newest.position;
        let place = Place { segment: segment.first, marker: newest.marker, position };
        self.recovered.wounds.add(Wound { place, goes_on_at: position, after, through });
        self.recovered.head = through;
        Ok(())
    }

    /// No segment is left: the one that the next start would begin. Its name is behind all that was
    /// lost, so that a later start, too, finds that lacking before it.
    fn begin_anew(&mut self, behind: Offset) -> Result<(), Error> {
        let Some(first) = self.expected.next.and_then(|next| Offset::begin(next).plus(1)) else {
            return Ok(());
        };
        let limits = &self.options.limits;
        let free = self.storage.free_bytes();
        let free = free.map_err(|error| self.refused("ask for its free space", error))?;
        if first <= behind || free < limits.segment_bytes + limits.reserve_bytes {
            return Ok(());
        }
        let marker = draw_marker(&*self.options.random);
        let length = limits.segment_bytes;
        let journal = self.expected.origin.journal;
        let create = || -> io::Result<_> {
            let file = self.storage.create_segment(first, length)?;
            file.write_all_at(&Header { marker, first, length, journal }.encode(), 0)?;
            file.sync_data()?;
            self.storage.sync_directory()?;
            Ok(file)
        };
        let file = create().map_err(|error| self.refused("create a segment", error))?;
        tracing::error!(
            place = self.storage.place(), through = %behind,
            "no segment is left: what was lost is asked of other members or told as missed"
        );
        self.recovered.catalog.push(Segment::new(first, marker, length));
        self.recovered.newest = Some(Newest { file, marker, position: HEADER_BYTES });
        Ok(())
    }
}
