//! The only one who writes: group commit, by turns.
//!
//! A turn takes all that waits, writes it in order, calls fdatasync once (twice where a segment
//! ends), and moves the durable watermark. What comes in meanwhile is the next turn's: no timer,
//! and the slower the disk, the larger the groups. A failed write or fsync ends it for good: after
//! one nobody knows what is on the disk (P11).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use evermesh_event::world::Random;
use evermesh_event::{NodeName, Offset, Origin, Planted, Sequence};

use crate::cuts::Cuts;
use crate::error::Failure;
use crate::intake::numbering::Pending;
use crate::producers::Highest;
use crate::record::format;
use crate::retain::Retain;
use crate::roster::{Leaving, Row};
use crate::segment::{HEADER_BYTES, Header, Noted, Segment};
use crate::shared::{Durable, Shared, Stage};
use crate::starts::SeenStart;
use crate::state::{Mended, State};
use crate::storage::{Held, SegmentFile};

/// One write at most: large enough that the call costs nothing, small enough to be kept.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What the buffer keeps while nothing waits, so that an idle node stays small.
const KEPT_BYTES: usize = 256 * 1024;

/// How often cursors of durable names are stored while events keep the writer busy. It is a
/// transaction of its own, which costs about as much as a group of events.
const PLACES_EVERY: Duration = Duration::from_millis(50);

/// Owns the disk. One for each journal.
#[derive(Debug)]
pub struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: Arc<dyn Random>,
    /// `None` once it ended.
    state: Option<State>,
    /// The ownership of the directory, given back after the state database is closed.
    held: Option<Box<dyn Held>>,
    pub(crate) newest: Option<Newest>,
    buffer: Vec<u8>,
    /// Written and not yet in the catalog: record, place, length.
    written: Vec<Written>,
    failure: Option<Failure>,
    /// When names and letters were stored last.
    places_stored: Duration,
    pub(crate) retain: Retain,
    /// The first group tells what may be lost of a former journal id.
    untold: bool,
}

/// The segment that is written.
#[derive(Debug)]
pub(crate) struct Newest {
    pub(crate) file: Arc<dyn SegmentFile>,
    pub(crate) marker: u32,
    /// Where the buffer goes.
    pub(crate) position: u64,
}

/// What is known of other nodes and not stored yet.
#[derive(Debug)]
struct News {
    seen: Vec<(Origin, Vec<SeenStart>)>,
    roster: Vec<(NodeName, Option<Row>)>,
}

#[derive(Debug)]
struct Written {
    pending: Pending,
    position: u64,
    length: u64,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// What is on the disk now.
    pub durable: Durable,
    /// How many records it wrote.
    pub records: usize,
    /// The journal was closed and the directory is free: this was the last turn.
    pub ended: bool,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        random: Arc<dyn Random>,
        state: State,
        held: Box<dyn Held>,
        newest: Option<Newest>,
        untold: bool,
    ) -> Self {
        Self {
            shared,
            random,
            state: Some(state),
            held: Some(held),
            newest,
            buffer: Vec::new(),
            written: Vec::new(),
            failure: None,
            places_stored: Duration::ZERO,
            retain: Retain::default(),
            untold,
        }
    }

    /// Nothing waits to be written.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.shared.numbering().queue.is_empty()
    }

    /// Writes all that waits, calls fdatasync, moves the watermark. Blocks while the disk works.
    ///
    /// # Errors
    /// If a write or fsync fails, now or earlier: the journal failed for good.
    pub fn turn(&mut self) -> Result<Commit, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.state.is_none() {
            let durable = *self.shared.durable.borrow();
            return Ok(Commit { durable, records: 0, ended: true });
        }
        if let Some(why) = self.shared.renewal.get().cloned() {
            return Err(self.renew(why));
        }
        let (batch, news) = self.take();
        let records = batch.len();
        let done = self.commit(batch, &news).and_then(|()| self.store_members(&news));
        let done = done.and_then(|()| self.store_places());
        let done = done.and_then(|()| self.heal()).and_then(|()| self.retain());
        let done = done.and_then(|()| self.end_if_closing());
        match done {
            Ok(ended) => {
                self.buffer.shrink_to(KEPT_BYTES);
                Ok(Commit { durable: *self.shared.durable.borrow(), records, ended })
            }
            Err(failure) => Err(self.fail(failure)),
        }
    }

    /// What waits. Together under one lock: what is known because a record was shown before is
    /// never stored before that record, and what a record rests on never after it.
    fn take(&self) -> (Vec<Pending>, News) {
        let mut numbering = self.shared.numbering();
        let batch = std::mem::take(&mut numbering.queue);
        let seen = if batch.is_empty() { Vec::new() } else { self.shared.starts().take_dirty() };
        (batch, News { seen, roster: self.shared.roster.take_dirty() })
    }

    /// Turns as a task, for a simulation whose disk does not block: returns when the journal is
    /// closed or failed.
    pub async fn run(self) {
        self.run_paced(|| std::future::ready(())).await;
    }

    /// The same with a disk that takes its time: `pace` is waited for before each turn.
    pub async fn run_paced<P: Future<Output = ()>>(mut self, mut pace: impl FnMut() -> P) {
        loop {
            pace().await;
            match self.turn() {
                Ok(Commit { ended: false, .. }) => {}
                Ok(_) | Err(_) => return,
            }
            tokio::task::yield_now().await;
            self.shared.bell.wait().await;
        }
    }

    /// Turns on this thread until the journal is closed or failed.
    pub(crate) fn run_blocking(mut self) -> Result<(), Failure> {
        while !self.turn()?.ended {
            self.shared.bell.wait_blocking();
        }
        Ok(())
    }

    /// Stores that the next start takes a new journal id, and ends: nothing more is assured.
    fn renew(&mut self, why: String) -> Failure {
        let stored = self.state.take().map(|state| state.store_renewal(&why));
        self.held = None;
        let failure = match stored {
            Some(Err(error)) => self.failed("store that the journal needs a new id", error),
            Some(Ok(())) | None => self.failed(Failure::RENEWAL, why),
        };
        self.fail(failure)
    }

    fn commit(&mut self, batch: Vec<Pending>, news: &News) -> Result<(), Failure> {
        if batch.is_empty() {
            self.refresh_space();
            return Ok(());
        }
        let durable_before = self.shared.durable.borrow().offset;
        for pending in batch {
            if let Some(length) = pending.begins {
                self.sync()?;
                self.store_notices()?;
                self.begin_segment(pending.record.offset, length)?;
                self.store_frontier()?;
            }
            self.encode(pending, durable_before)?;
        }
        self.sync()?;
        self.shared.wounds().notices.told_anew();
        self.store_notices()?;
        // Behind the records: who is told that a name has another journal is told before that is
        // known for the next start.
        self.store_starts(&news.seen)?;
        self.store_addresses(false)?;
        self.store_told()?;
        self.refresh_space();
        Ok(())
    }

    /// What was told without a range, behind the record and before anything behind it: so it is
    /// known even where the record is damaged.
    fn store_notices(&self) -> Result<(), Failure> {
        let changed = self.shared.wounds().notices.take_changed();
        let Some(state) = self.state.as_ref().filter(|_| !changed.is_empty()) else {
            return Ok(());
        };
        let stored = state.store_notices(&changed);
        stored.map_err(|error| self.failed("store what was told", error))
    }

    /// The first group of a start holds what is told of a former journal id.
    fn store_told(&mut self) -> Result<(), Failure> {
        if let (true, Some(state)) = (std::mem::take(&mut self.untold), &self.state) {
            let stored = state.store_told();
            stored.map_err(|error| self.failed("store what was told", error))?;
        }
        Ok(())
    }

    fn encode(&mut self, pending: Pending, durable_before: Offset) -> Result<(), Failure> {
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
    fn sync(&mut self) -> Result<(), Failure> {
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
    fn begin_segment(&mut self, first: Offset, length: u64) -> Result<(), Failure> {
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

    fn store_starts(&mut self, seen: &[(Origin, Vec<SeenStart>)]) -> Result<(), Failure> {
        let Some(state) = self.state.as_ref().filter(|_| !seen.is_empty()) else { return Ok(()) };
        let stored = state.store_starts(seen);
        stored.map_err(|error| self.failed("store the starts of members", error))
    }

    /// Who is a member, and that this node is none any more.
    fn store_members(&mut self, news: &News) -> Result<(), Failure> {
        let Some(state) = &self.state else { return Ok(()) };
        if !news.roster.is_empty() {
            let stored = state.store_roster(&news.roster);
            stored.map_err(|error| self.failed("store who is a member", error))?;
        }
        if *self.shared.roster.leaving.borrow() == Leaving::Asked {
            let stored = state.store_left();
            stored.map_err(|error| self.failed("store that this node leaves", error))?;
            self.shared.roster.leaving.send_replace(Leaving::Stored);
        }
        Ok(())
    }

    /// With each segment: so that a later start knows what was lost, if the end of this one is.
    fn store_frontier(&self) -> Result<(), Failure> {
        let frontier = self.shared.numbering().durable_frontier.clone();
        let Some(state) = &self.state else { return Ok(()) };
        let stored = state.store_frontier(&frontier);
        stored.map_err(|error| self.failed("store what is here", error))
    }

    pub(crate) fn store_mended(&self, mended: &Mended) -> Result<(), Failure> {
        let Some(state) = &self.state else { return Ok(()) };
        let stored = state.store_mended(mended, self.shared.cuts().end);
        stored.map_err(|error| self.failed("store what is mended", error))
    }

    pub(crate) fn store_cuts(
        &self,
        cuts: &Cuts,
        producers: &BTreeMap<Arc<str>, Highest>,
    ) -> Result<(), Failure> {
        let Some(state) = &self.state else { return Ok(()) };
        let stored = state.store_cuts(cuts, producers);
        stored.map_err(|error| self.failed("store what is cut", error))
    }

    fn store_addresses(&mut self, end: bool) -> Result<(), Failure> {
        let members = self.shared.members().take(&self.shared.cursors, end);
        if let (Some(members), Some(state)) = (members, &self.state) {
            let stored = state.store_members(&members);
            stored.map_err(|error| self.failed("store the members", error))?;
        }
        Ok(())
    }

    /// Names and letters that changed. While there is more to write, not in every turn: cursors may
    /// wait for a moment, publishers should not.
    fn store_places(&mut self) -> Result<(), Failure> {
        let clean = self.shared.names().is_clean() && self.shared.letters().is_clean();
        let now = self.shared.clock.boot();
        let due = now.saturating_sub(self.places_stored) >= PLACES_EVERY;
        let Some(state) = self.state.as_ref().filter(|_| !clean && (due || self.idle())) else {
            return Ok(());
        };
        let durable = self.shared.durable.borrow().offset;
        // Names first: a letter that comes in between is stored before the cursor behind it.
        let names = self.shared.names().take_changed(durable);
        let letters = self.shared.letters().take_changed();
        let stored = state.store_places(&names, &letters);
        self.places_stored = now;
        stored.map_err(|error| self.failed("store the places of durable names", error))
    }

    fn refresh_space(&self) {
        match self.shared.storage.free_bytes() {
            Ok(free) => self.shared.numbering().space.refresh(free),
            Err(error) => tracing::warn!(%error, "cannot ask the file system for its free space"),
        }
    }

    /// Ends it, if it is to be closed and nothing waits.
    fn end_if_closing(&mut self) -> Result<bool, Failure> {
        if self.shared.stage() != Stage::Closing || !self.idle() {
            return Ok(false);
        }
        let seen = self.shared.starts().take_dirty();
        let news = News { seen, roster: self.shared.roster.take_dirty() };
        self.store_starts(&news.seen)?;
        self.store_members(&news)?;
        self.places_stored = Duration::ZERO;
        self.store_places()?;
        self.store_addresses(true)?;
        let durable = *self.shared.durable.borrow();
        let frontier = self.shared.numbering().durable_frontier.clone();
        if let Some(state) = self.state.take() {
            let stored = state.store_end(
                &self.shared.origin,
                self.shared.start,
                durable.offset,
                durable.own,
                &frontier,
            );
            stored.map_err(|error| self.failed("store the end of this start", error))?;
        }
        self.held = None;
        let numbering = self.shared.numbering();
        self.shared.enter(&numbering, Stage::Closed);
        Ok(true)
    }

    pub(crate) fn failed(&self, what: &'static str, reason: String) -> Failure {
        Failure { place: self.shared.storage.place(), what, reason }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        tracing::error!(%failure, "the journal failed");
        self.failure = Some(failure.clone());
        let numbering = self.shared.numbering();
        self.shared.enter(&numbering, Stage::Failed);
        failure
    }
}

impl Drop for Writer {
    /// A writer that ends before its journal was closed assures nothing more.
    fn drop(&mut self) {
        let numbering = self.shared.numbering();
        if matches!(self.shared.stage(), Stage::Running | Stage::Closing) {
            self.shared.enter(&numbering, Stage::Failed);
        }
        drop(numbering);
        // The database goes before the lock does.
        self.state = None;
        self.held = None;
    }
}

/// A marker: random, and never the zeros of unwritten space.
pub(crate) fn draw_marker(random: &dyn Random) -> u32 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    u32::from_le_bytes(bytes).max(1)
}
