//! The numbers: who is next, what is known already, what waits for the writer. One short lock
//! guards all of it.

mod count;
mod forgotten;
mod told;

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::{
    Block, BlockBuilder, DedupeWindow, Frontier, Offset, Origin, Planted, Sequence, Start, Verdict,
};
use evermesh_proto::v1;
use prost::Message as _;

use self::count::Count;
use super::{Appended, Counted, Intake, Numbered, RECORD_OVERHEAD_BYTES, Taken};
use crate::error::AppendError;
use crate::producers::{self, Producers};
use crate::record::format::{self, Publishers};
use crate::record::{Content, Missed, Record};
use crate::recover::{advance, rebase};
use crate::shared::Shared;
use crate::space::{Space, Use};

/// A missed names sites up to here; more of them become all sites: a wider scope is never wrong.
const MISSED_BYTES_MAX: usize = 8 * 1024;

/// A record that the writer has not taken yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) record: Arc<Record>,
    pub(crate) publishers: Publishers,
    pub(crate) taken_ms: u64,
    /// The length of the segment that it begins.
    pub(crate) begins: Option<u64>,
    /// Permits of `Shared::room` that come back when it is durable.
    pub(crate) units: usize,
}

/// The numbers of one start.
#[derive(Debug)]
pub(crate) struct Numbering {
    pub(crate) origin: Origin,
    pub(crate) start: Start,
    /// The last offset given in this epoch.
    pub(crate) last_offset: Offset,
    /// The last sequence given in this epoch.
    pub(crate) last_sequence: Sequence,
    /// The newest offset shown, be it of a former start.
    pub(crate) head: Offset,
    /// The newest own sequence, be it of a former start: what the next block goes on from.
    pub(crate) own_head: Sequence,
    pub(crate) frontier: Frontier,
    pub(crate) durable_frontier: Frontier,
    /// The end of the last hole in what is held of each origin: whoever is there can be served.
    pub(crate) bases: Frontier,
    pub(crate) window: DedupeWindow,
    /// What the window's time is ahead of the clock, so that ids of former starts have an age.
    pub(crate) window_lead: Duration,
    pub(crate) producers: Producers,
    pub(crate) space: Space,
    pub(crate) queue: Vec<Pending>,
    /// Queued by the call that holds the lock, and not yet charged with its permits.
    pub(crate) uncharged: bool,
    /// Nothing more of this node's own is numbered: what it numbered last was told as its last
    /// word, or is about to be.
    pub(crate) sealed: bool,
    /// Former journals that ended, and that the members themselves hold which are linked under
    /// others: told once they do not come.
    pub(crate) awaited: Vec<Origin>,
    pub(crate) published: u64,
    pub(crate) received: u64,
}

impl Numbering {
    pub(crate) const fn head(&self) -> Offset {
        self.head
    }

    /// Gives the permits of a call to the last record that it queued; `false` if it queued none.
    pub(crate) fn charge(&mut self, units: usize) -> bool {
        let queued = std::mem::take(&mut self.uncharged);
        if queued && let Some(pending) = self.queue.last_mut() {
            pending.units += units;
        }
        queued
    }

    pub(super) fn append(
        &mut self,
        shared: &Shared,
        identity: &Arc<str>,
        events: &[Intake],
        counted: Option<&Counted>,
        bytes: usize,
        now: Duration,
    ) -> Result<Appended, AppendError> {
        if self.sealed {
            return Err(AppendError::Closed);
        }
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        self.numbers_left(count)?;
        let records = 1 + bytes / (evermesh_event::limits::BLOCK_BYTES_MAX / 2);
        let most = bytes + records * (RECORD_OVERHEAD_BYTES + 2 * identity.len());
        let room = self.space.check(Use::Publish, u64::try_from(most).unwrap_or(u64::MAX));
        if room.is_err()
            && self.last_sequence == self.own_head
            && shared.planted.is(Planted::ReuseNumber)
        {
            self.own_head = Sequence::from_u64(self.own_head.as_u64() - 1);
            self.last_sequence = self.own_head;
        }
        room?;
        let identity = format::stored_identity(identity);
        let now = now + self.window_lead;
        self.window.expire(now);
        let mut producer = counted.map(|counted| Count::new(self, &identity, counted));
        let mut taken = Vec::with_capacity(events.len());
        let mut own_through = Sequence::ZERO;
        let mut open: Option<BlockBuilder> = None;
        for Intake { event, sampled } in events {
            let key = self.window.key(&identity, &event.event().site, &event.event().id);
            let counted_before = producer.as_mut().and_then(Count::next);
            let first = counted_before.or_else(|| self.window.get(key));
            let sequence = if let Some(first) = first {
                first
            } else {
                if let Some(full) = open.take_if(|block| !block.fits(event)) {
                    self.seal(shared, full, &identity, producer.as_ref());
                }
                let block = open.get_or_insert_with(|| {
                    BlockBuilder::new(self.origin.clone(), self.start.id, self.own_head)
                });
                self.last_sequence = self.last_sequence.plus(1).unwrap_or(self.last_sequence);
                block.push(self.last_sequence, event, *sampled);
                self.window.insert(key, self.last_sequence, now);
                if let Some(producer) = &mut producer {
                    producer.took();
                }
                self.last_sequence
            };
            own_through = own_through.max(sequence);
            taken.push(Numbered { sequence, duplicate: first.is_some() });
        }
        if let Some(block) = open {
            self.seal(shared, block, &identity, producer.as_ref());
        }
        Ok(Appended { taken, through: self.head, own_through })
    }

    fn seal(
        &mut self,
        shared: &Shared,
        block: BlockBuilder,
        identity: &Arc<str>,
        producer: Option<&Count<'_>>,
    ) {
        let Some(block) = block.finish() else {
            return;
        };
        self.own_head = block.last();
        self.published += u64::from(block.count());
        let mut publishers = vec![(Arc::clone(identity), block.count())];
        if let Some(producer) = producer {
            publishers.push((producers::encode(&producer.key, producer.in_block), 0));
            self.producers.note(&producer.key, producer.in_block, block.last());
        }
        self.show(shared, Content::Block { block, skip: 0 }, publishers);
    }

    pub(super) fn take(&mut self, shared: &Shared, block: Block) -> Result<Taken, AppendError> {
        if *block.origin() == self.origin {
            return Ok(Taken::Duplicate);
        }
        let skip = match self.frontier.judge(&block) {
            Verdict::Duplicate => return Ok(Taken::Duplicate),
            Verdict::Hole { at, needed } => return Ok(Taken::Hole { at, needed }),
            Verdict::Next => 0,
            Verdict::Straddling { skip } => skip,
        };
        self.numbers_left(u64::from(block.count()))?;
        let most = block.encoded().len() + RECORD_OVERHEAD_BYTES;
        self.space.check(Use::Reserve, u64::try_from(most).unwrap_or(u64::MAX))?;
        self.meet(shared, block.origin());
        if self.frontier.get(block.origin()).epoch() < block.last().epoch() {
            shared.starts().note_start(block.origin(), block.last().epoch(), block.start());
        }
        self.received += u64::from(block.count().saturating_sub(skip));
        if shared.planted.is(Planted::DropBlock) && self.received.is_multiple_of(7) {
            self.frontier.advance(block.origin(), block.last());
            return Ok(Taken::Duplicate);
        }
        let content = Content::Block { block, skip };
        shared.came(&content);
        let offset = self.show(shared, content, Publishers::new());
        Ok(Taken::Appended { offset, skip })
    }

    pub(super) fn miss(
        &mut self,
        shared: &Shared,
        mut missed: Missed,
    ) -> Result<Option<Offset>, AppendError> {
        let passed = missed.through > Sequence::ZERO
            && missed.origin.as_ref().is_some_and(|of| self.frontier.get(of) >= missed.through);
        if passed {
            return Ok(None);
        }
        self.numbers_left(1)?;
        self.space.check(Use::Reserve, RECORD_OVERHEAD_BYTES as u64)?;
        if let Some(origin) = &missed.origin {
            // Before it moves the frontier: an origin that is known is not met any more.
            self.meet(shared, origin);
        }
        if missed.to_proto().encoded_len() > MISSED_BYTES_MAX {
            missed.sites.clear();
        }
        if missed.cause == v1::MissedCause::Unspecified {
            tracing::warn!(?missed, "a missed without a cause");
        }
        let content = Content::Missed(missed);
        shared.came(&content);
        Ok(Some(self.show(shared, content, Publishers::new())))
    }

    /// Gives the next offsets to what comes, shows it to readers, and queues it for the writer.
    fn show(&mut self, shared: &Shared, content: Content, publishers: Publishers) -> Offset {
        let offset = self.last_offset.plus(1).unwrap_or(self.last_offset);
        let record = Arc::new(Record::new(offset, content));
        self.last_offset = record.end();
        self.head = record.end();
        advance(&mut self.frontier, &self.origin, &record);
        rebase(&mut self.bases, &record);
        let length = format::length(&record, &publishers);
        let begins = self.space.place(u64::try_from(length).unwrap_or(u64::MAX));
        let taken_ms = u64::try_from(shared.now().as_millis()).unwrap_or(u64::MAX);
        shared.tail().push(Arc::clone(&record));
        self.queue.push(Pending { record, publishers, taken_ms, begins, units: 0 });
        self.uncharged = true;
        offset
    }

    /// A record is on the disk. Returns the own sequence through which all is.
    pub(crate) fn made_durable(&mut self, record: &Record) -> Sequence {
        advance(&mut self.durable_frontier, &self.origin, record);
        self.durable_frontier.get(&self.origin)
    }

    fn numbers_left(&self, count: u64) -> Result<(), AppendError> {
        let left = self.last_sequence.plus(count).is_some()
            && self.last_offset.plus(count.max(1)).is_some();
        if left { Ok(()) } else { Err(AppendError::Exhausted) }
    }
}
