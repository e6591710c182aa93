//! The only one who writes: group commit, by turns.
//!
//! A turn takes all that waits, writes it in order, calls fdatasync once (twice where a segment
//! ends), and moves the durable watermark. What comes in meanwhile is the next turn's: no timer,
//! and the slower the disk, the larger the groups. A failed write or fsync ends it for good: after
//! one nobody knows what is on the disk (P11).

mod database;
mod end;
mod group;

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::world::Random;
use evermesh_event::{NodeName, Origin};

use self::group::Written;
use crate::error::Failure;
use crate::intake::numbering::Pending;
use crate::retain::Retain;
use crate::roster::Row;
use crate::shared::{Durable, Shared};
use crate::starts::SeenStart;
use crate::state::State;
use crate::storage::{Held, SegmentFile};

/// What the buffer keeps while nothing waits, so that an idle node stays small.
const KEPT_BYTES: usize = 256 * 1024;

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

    fn refresh_space(&self) {
        match self.shared.storage.free_bytes() {
            Ok(free) => self.shared.numbering().space.refresh(free),
            Err(error) => tracing::warn!(%error, "cannot ask the file system for its free space"),
        }
    }
}

/// A marker: random, and never the zeros of unwritten space.
pub(crate) fn draw_marker(random: &dyn Random) -> u32 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    u32::from_le_bytes(bytes).max(1)
}
