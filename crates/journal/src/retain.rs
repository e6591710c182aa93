//! What is kept and what goes: the writer's part between two groups.
//!
//! A sealed segment goes once every member, subscription and durable name is past it and it is old
//! enough that no resume token needs it, or once it is older than anything may be. Under pressure
//! of `max_bytes` what newer events replace is left out first; only then the oldest goes, and who
//! lacks it is told. What is cut leaves its marks on the disk before its file is removed.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use evermesh_event::Offset;

use crate::coalesce::{Look, Pass, Rewrite};
use crate::error::Failure;
use crate::record::format;
use crate::segment::scan::Scan;
use crate::segment::{HEADER_BYTES, Header, Noted, Segment};
use crate::storage::SegmentFile;
use crate::writer::{Writer, draw_marker};

/// How often is looked for what nobody needs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// With so many segments left before publishes would be refused, coalescing begins, one segment
/// between two groups.
const SEGMENTS_SOFT: u64 = 4;
/// And with so many, one of them for a record of the largest size, it is brought to its end before
/// anything else is written.
const SEGMENTS_HARD: u64 = 2;
/// A segment is written anew if that saves at least one part in so many.
const GAIN_PARTS: u64 = 8;
/// One write at most.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What retention remembers between two turns.
#[derive(Debug, Default)]
pub(crate) struct Retain {
    looked: Duration,
    pass: Option<Pass>,
    aged: Aged,
}

/// Whether what newer events replace is left out before what is too old is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Aged {
    #[default]
    Nothing,
    /// A pass is on its way.
    Passes,
    /// It was looked at.
    Passed,
}

/// Why a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Unneeded,
    Replaced,
    Old,
    Pressed,
}

impl Writer {
    /// Cuts what may go, and makes room where it is needed.
    pub(crate) fn retain(&mut self) -> Result<(), Failure> {
        let now = self.shared.clock.boot();
        let pressed =
            |writer: &Self, segments| writer.shared.numbering().space.is_pressed(segments);
        if pressed(self, SEGMENTS_SOFT) {
            self.coalesce_step()?;
            // What was written during a pass may make another one worth it.
            while pressed(self, SEGMENTS_HARD) && self.coalesce_step()? {}
            while pressed(self, SEGMENTS_HARD) && self.cut_oldest(Why::Pressed)? {}
        }
        if self.retain.aged == Aged::Passes {
            self.coalesce_step()?;
        } else if now.saturating_sub(self.retain.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.retain.looked = now;
        while let Some(why) = self.may_go() {
            if why == Why::Old && self.passes_first() {
                // There may be nothing else to do.
                self.shared.bell.ring();
                return Ok(());
            }
            if !self.cut_oldest(why)? {
                break;
            }
        }
        self.retain.aged = Aged::Nothing;
        Ok(())
    }

    /// Something that somebody lacks is too old: what newer events replace is left out before it
    /// goes. Once: what cannot be rewritten does not stay for that.
    fn passes_first(&mut self) -> bool {
        if self.retain.aged == Aged::Nothing {
            self.retain.pass = self.retain.pass.take().or_else(|| self.begin_pass());
        }
        let passes = self.retain.pass.is_some() && self.retain.aged != Aged::Passed;
        self.retain.aged = if passes { Aged::Passes } else { Aged::Passed };
        passes
    }

    /// Whether the oldest segment may go.
    fn may_go(&self) -> Option<Why> {
        let shared = &self.shared;
        let catalog = shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = catalog.sealed().first()?;
        let age = shared.now().saturating_sub(oldest.taken);
        let old = age > shared.limits.max_age;
        let members = shared.cursors.snapshot();
        let past = (old || age >= shared.limits.keep_at_least)
            && shared.applied.past(&oldest.reaches)
            && shared.needs().past(&members, &shared.origin, &oldest.reaches);
        if past { Some(Why::Unneeded) } else { old.then_some(Why::Old) }
    }

    /// Cuts the oldest segment; false if there is none but the one that is written, or if something
    /// would be lost of what is to be replaced.
    fn cut_oldest(&mut self, why: Why) -> Result<bool, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut cuts = shared.cuts().clone();
        let catalog = shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let Some(oldest) = catalog.sealed().first() else { return Ok(false) };
        let end = oldest.last;
        cuts.add(end, &oldest.reaches);
        let (first, length) = (oldest.first, oldest.length);
        let producers = oldest.producers.clone();
        drop(catalog);
        shared.wounds().mark(end, &mut cuts);
        if why == Why::Replaced && cuts.lose_more_than(&shared.cuts()) {
            return Ok(false);
        }
        self.store_cuts(&cuts, &producers)?;
        let mut numbering = shared.numbering();
        for (origin, cut) in &cuts.origins {
            numbering.bases.advance(origin, cut.lost);
        }
        numbering.space.freed(length);
        drop(numbering);
        let end = cuts.end;
        *shared.cuts_mut() = cuts;
        shared.catalog.write().unwrap_or_else(PoisonError::into_inner).remove_oldest();
        let mut wounds = shared.wounds();
        wounds.cut(end);
        shared.wounds_changed(wounds);
        let file = shared.storage.segment_name(first);
        match why {
            Why::Unneeded => tracing::info!(file, through = %end, "everybody is past it: removed"),
            Why::Replaced => {
                tracing::info!(file, through = %end, "newer events replace all of it: removed");
            }
            Why::Old => tracing::warn!(file, through = %end, "older than max_age: removed"),
            Why::Pressed => tracing::warn!(
                file, through = %end,
                "the journal is at max_bytes: the oldest is removed, who lacks it is told missed"
            ),
        }
        let removed = shared.storage.remove_segment(first);
        if let Err(error) = removed.and_then(|()| shared.storage.sync_directory()) {
            // The next start removes it.
            tracing::warn!(file, %error, "a segment that is not needed cannot be removed");
        }
        Ok(true)
    }

    /// Coalesces one segment, and begins or ends a pass around it; false if no pass is worth it.
    fn coalesce_step(&mut self) -> Result<bool, Failure> {
        let Some(mut pass) = self.retain.pass.take().or_else(|| self.begin_pass()) else {
            return Ok(false);
        };
        let Some(first) = pass.waiting.pop() else { return Ok(false) };
        let coalesced = self.coalesce_segment(&mut pass, first);
        coalesced.map_err(|error| self.failed("coalesce a segment", error.to_string()))?;
        if pass.waiting.is_empty() {
            // Else each pass would read what earlier ones left of them.
            while self.cut_oldest(Why::Replaced)? {}
        } else {
            self.retain.pass = Some(pass);
        }
        Ok(true)
    }

    /// A pass, if enough of the journal was not looked at yet: else it would be read again and
    /// again for little.
    fn begin_pass(&self) -> Option<Pass> {
        let catalog = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = catalog.sealed();
        let all: u64 = sealed.iter().map(|segment| segment.length).sum();
        let fresh = sealed.iter().filter(|segment| !segment.coalesced);
        let fresh: Vec<_> = fresh.map(|segment| (segment.first, segment.length)).collect();
        let waiting = sealed.iter().map(|segment| segment.first).collect();
        drop(catalog);
        let wounds = self.shared.wounds();
        // What is wounded stays as it is until it is healed.
        let fresh = fresh.iter().filter(|(first, _)| !wounds.is_wounded(*first));
        let fresh: u64 = fresh.map(|(_, length)| length).sum();
        drop(wounds);
        let worth = fresh > 0 && fresh >= all / 4;
        let heads = self.shared.starts().snapshot();
        worth.then(|| Pass::new(self.shared.origin.clone(), heads, self.shared.planted, waiting))
    }

    fn coalesce_segment(&mut self, pass: &mut Pass, first: Offset) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let found = {
            let catalog = shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
            let mut sealed = catalog.sealed().iter();
            let segment = sealed.find(|segment| segment.first == first);
            segment.map(|s| (s.marker, s.length, s.end, s.producers.clone(), s.taken))
        };
        // It was cut meanwhile.
        let Some((marker, length, end, producers, taken)) = found else { return Ok(()) };
        if shared.wounds().is_wounded(first) {
            return Ok(());
        }
        let file = shared.storage.open_segment(first)?;
        let mut look = Look::default();
        let read = each(&file, marker, end, |decoded| {
            pass.look(&mut look, &decoded.record);
            Ok(())
        })?;
        let mut coalesced = None;
        if read && look.gains {
            coalesced = self.rewrite(pass, &look, &file, Old { first, marker, length, end })?;
        }
        pass.done(look);
        let Some(mut segment) = coalesced else {
            let mut catalog = shared.catalog.write().unwrap_or_else(PoisonError::into_inner);
            catalog.mark_coalesced(first);
            return Ok(());
        };
        self.store_cuts(&shared.cuts().clone(), &producers).map_err(std::io::Error::other)?;
        shared.storage.replace_segment(first)?;
        segment.taken = taken;
        tracing::info!(
            file = shared.storage.segment_name(first),
            from = length,
            to = segment.length,
            "what newer events replace is left out"
        );
        shared.numbering().space.freed(length.saturating_sub(segment.length));
        shared.catalog.write().unwrap_or_else(PoisonError::into_inner).replace(segment);
        Ok(())
    }

    /// Writes a segment anew, synced and not yet in its place; `None`: not worth it.
    fn rewrite(
        &mut self,
        pass: &Pass,
        look: &Look,
        file: &Arc<dyn SegmentFile>,
        old: Old,
    ) -> std::io::Result<Option<Segment>> {
        let shared = Arc::clone(&self.shared);
        let marker = draw_marker(&*self.random);
        let into = shared.storage.create_replacement(old.first)?;
        let mut segment = Segment::new(old.first, marker, HEADER_BYTES);
        let (mut rewrite, mut buffer) = (Rewrite::new(old.first), Vec::new());
        let mut written = HEADER_BYTES;
        let whole = each(file, old.marker, old.end, |decoded| {
            let Some(record) = pass.rewrite(look, &mut rewrite, &decoded) else { return Ok(()) };
            let begin = buffer.len();
            let (taken_ms, durable) = (decoded.taken_ms, decoded.durable_before);
            format::encode(&mut buffer, marker, &record, &Vec::new(), taken_ms, durable);
            segment.note(&Noted {
                record: &record,
                position: written + begin as u64,
                length: (buffer.len() - begin) as u64,
                publishers: &[],
                taken: Duration::ZERO,
            });
            if buffer.len() >= WRITE_BYTES_MAX {
                into.write_all_at(&buffer, written)?;
                written += buffer.len() as u64;
                buffer.clear();
            }
            Ok(())
        })?;
        let length = written + buffer.len() as u64;
        if !whole || length > old.length - old.length / GAIN_PARTS {
            return Ok(None);
        }
        into.write_all_at(&buffer, written)?;
        let journal = shared.origin.journal;
        let header = Header { marker, first: old.first, length, journal };
        into.write_all_at(&header.encode(), 0)?;
        into.sync_data()?;
        segment.length = length;
        segment.coalesced = true;
        Ok(Some(segment))
    }
}

/// A segment that is written anew.
#[derive(Clone, Copy, Debug)]
struct Old {
    first: Offset,
    marker: u32,
    length: u64,
    end: u64,
}

/// Every record of a segment, in order; false if one of them cannot be read: then nothing of the
/// segment is changed.
fn each(
    file: &Arc<dyn SegmentFile>,
    marker: u32,
    end: u64,
    mut take: impl FnMut(format::Decoded) -> std::io::Result<()>,
) -> std::io::Result<bool> {
    let mut scan = Scan::new(Arc::clone(file), marker, end);
    let mut position = HEADER_BYTES;
    while position < end {
        let Ok(decoded) = scan.record_at(position)? else { return Ok(false) };
        position += decoded.length as u64;
        take(decoded)?;
    }
    Ok(true)
}
