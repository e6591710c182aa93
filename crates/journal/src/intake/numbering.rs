//! The numbers: who is next, what is known already, what waits for the writer. One short lock
//! guards all of it.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::{
    Block, BlockBuilder, DedupeWindow, Frontier, JournalId, NodeName, Offset, Origin, Planted,
    Sequence, Start, Verdict,
};
use evermesh_proto::v1;
use prost::Message as _;

use super::{Appended, Counted, Intake, Numbered, RECORD_OVERHEAD_BYTES, Taken};
use crate::error::AppendError;
use crate::producers::{self, Highest, Producers};
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

    /// Everything of a name may be lost, because its journal was restored or is gone.
    fn tell(&mut self, shared: &Shared, origin: Origin, cause: v1::MissedCause) {
        let (from, through) = (Sequence::ZERO, Sequence::ZERO);
        let missed = Missed { origin: Some(origin), from, through, sites: Vec::new(), cause };
        self.show(shared, Content::Missed(missed), Publishers::new());
    }

    /// This journal was restored from a copy, or ran twice: under its former id events were
    /// numbered that nobody has.
    pub(crate) fn tell_restored(&mut self, shared: &Shared, former: Origin) {
        self.tell(shared, former, v1::MissedCause::RolledBack);
        self.uncharged = false;
    }

    /// What was told and durable is not there.
    pub(crate) fn tell_again(&mut self, shared: &Shared, missed: Missed) {
        tracing::warn!(?missed, "what was told is lacking at the end: it is told again");
        self.show(shared, Content::Missed(missed), Publishers::new());
        self.uncharged = false;
    }

    /// What was durable at the end of the journal is not there. Of this node's own events it is
    /// known through where: others may hold them. What else it was is pulled again, as far as it
    /// came from others; but it may have been a missed.
    pub(crate) fn tell_lost_end(&mut self, shared: &Shared, own_end: Sequence) {
        let (cause, sites) = (v1::MissedCause::Damaged, Vec::new());
        if own_end > self.own_head {
            let from = self.own_head.plus(1).unwrap_or(self.own_head);
            self.own_head = own_end;
            let origin = self.origin.clone();
            self.frontier.advance(&origin, own_end);
            self.bases.advance(&origin, own_end);
            let missed = Missed { origin: Some(origin), from, through: own_end, sites, cause };
            self.show(shared, Content::Missed(missed), Publishers::new());
        }
        self.tell_everything(shared, cause);
        self.uncharged = false;
    }

    /// Whatever anybody published may be lost.
    fn tell_everything(&mut self, shared: &Shared, cause: v1::MissedCause) {
        let (from, through) = (Sequence::ZERO, Sequence::ZERO);
        let missed = Missed { origin: None, from, through, sites: Vec::new(), cause };
        self.show(shared, Content::Missed(missed), Publishers::new());
    }

    /// An origin is met. A second journal of one name means that the former may be lost with what
    /// nobody had: that is told before anything of the new one. True if it was.
    pub(super) fn meet(&mut self, shared: &Shared, origin: &Origin) -> bool {
        if *origin == self.origin || self.knows(shared, origin) {
            return false;
        }
        if origin.node == self.origin.node && !shared.storage.outlives() {
            // A former start of this node. Every place that was given out there is unknown here,
            // and whoever comes back with one is told so; everybody else began after it.
            self.frontier.advance(origin, Sequence::ZERO);
            return false;
        }
        let mut others = self.untold(shared, &origin.node);
        others.retain(|other| other != origin && *other != self.origin);
        let seen = shared.starts().durable_head(origin);
        let closed = shared.roster.is_closed(origin, self.frontier.get(origin), seen);
        if origin.node == self.origin.node && !closed {
            // This node itself had another journal, of which its disk knows nothing.
            others.push(origin.clone());
        }
        self.frontier.advance(origin, Sequence::ZERO);
        if shared.planted.is(Planted::OtherJournalUntold) {
            return false;
        }
        for other in &others {
            tracing::warn!(
                former = %other, present = %origin,
                "this name has another journal: what nobody had of the former one is missed"
            );
            self.tell_forgotten(shared, other);
        }
        !others.is_empty()
    }

    /// A member is linked under this journal. If it was under another one last, that may be lost
    /// with what nobody had, be this one new or an older one that came back. `there`: under which
    /// journals nodes of this name are there now. None of those is lost yet: it is told once its
    /// node is not there any more.
    pub(super) fn present(
        &mut self,
        shared: &Shared,
        origin: &Origin,
        there: &[JournalId],
    ) -> bool {
        let before = shared.roster.present_of(&origin.node);
        let mut others = self.untold(shared, &origin.node);
        others.retain(|other| other != origin);
        if before.contains(&origin.journal) {
            // What was linked before those was told when they were.
            others.retain(|other| before.contains(&other.journal));
        }
        let (beside, mut gone): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|other| there.contains(&other.journal));
        if shared.planted.is(Planted::OtherJournalUntold) {
            gone.clear();
        }
        for other in &gone {
            tracing::warn!(
                former = %other, present = %origin,
                "this name is back under another journal: what nobody had of the former is missed"
            );
            self.tell_forgotten(shared, other);
        }
        let beside = beside.into_iter().map(|other| other.journal);
        let present = std::iter::once(origin.journal).chain(beside).collect();
        shared.roster.present(&origin.node, present);
        !gone.is_empty()
    }

    /// What nobody has of a member that left is told. True if there may be something.
    pub(super) fn depart(&mut self, shared: &Shared, node: &NodeName) -> bool {
        let others = self.untold_of_departed(shared, node);
        for other in &others {
            tracing::warn!(
                origin = %other,
                "its node left, or was forgotten: what nobody had of it is missed"
            );
            self.tell_forgotten(shared, other);
        }
        if self.is_unmet(shared, node) && shared.roster.ended_of(node).is_empty() {
            tracing::warn!(
                member = %node,
                "it left, or was forgotten, and was never met: what nobody had of it is missed"
            );
            self.tell_everything(shared, v1::MissedCause::Forgotten);
            return true;
        }
        !others.is_empty()
    }

    /// The journals of a member that left of which something may be missed that was not told. Of
    /// who was never met, those whose last word others heard.
    pub(super) fn untold_of_departed(&self, shared: &Shared, node: &NodeName) -> Vec<Origin> {
        if !self.is_unmet(shared, node) {
            return self.untold(shared, node);
        }
        let mut ended = shared.roster.ended_of(node);
        ended.retain(|of| !shared.roster.is_closed(of, Sequence::ZERO, Sequence::ZERO));
        ended
    }

    /// No journal of this name is known.
    fn is_unmet(&self, shared: &Shared, node: &NodeName) -> bool {
        let held = self.frontier.iter().any(|(held, _)| held.node == *node);
        !held && shared.starts().origins_of(node).next().is_none()
    }

    /// The journals of a name of which something may be missed that was not told.
    pub(super) fn untold(&self, shared: &Shared, node: &NodeName) -> Vec<Origin> {
        let starts = shared.starts();
        let mut origins: Vec<_> = starts.origins_of(node).cloned().collect();
        let held = self.frontier.iter().map(|(held, _)| held);
        origins.extend(held.filter(|held| held.node == *node).cloned());
        let closed = |of: &Origin| {
            shared.roster.is_closed(of, self.frontier.get(of), starts.durable_head(of))
        };
        origins.retain(|of| !closed(of));
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// Whatever was known of a name that left long ago is known no more. False while something of
    /// it is held.
    pub(crate) fn forget(&mut self, shared: &Shared, node: &NodeName) -> bool {
        let of = self.frontier.iter().filter(|(origin, _)| origin.node == *node);
        let of: Vec<_> = of.map(|(origin, at)| (origin.clone(), at)).collect();
        let cut = shared.cuts().frontier();
        let gone = |origin: &Origin| cut.get(origin).max(self.bases.get(origin));
        if of.iter().any(|(origin, at)| gone(origin) < *at) {
            return false;
        }
        let mut starts = shared.starts();
        let seen: Vec<_> = starts.origins_of(node).cloned().collect();
        seen.iter().for_each(|origin| starts.forget(origin));
        drop(starts);
        let mut cuts = shared.cuts_mut();
        for (origin, _) in of {
            self.frontier.remove(&origin);
            self.durable_frontier.remove(&origin);
            self.bases.remove(&origin);
            cuts.forget(&origin);
            shared.replaced().remove(&origin);
        }
        true
    }

    fn tell_forgotten(&mut self, shared: &Shared, origin: &Origin) {
        self.tell(shared, origin.clone(), v1::MissedCause::Forgotten);
        if origin.node != self.origin.node {
            shared.roster.close(origin);
        }
    }

    fn knows(&self, shared: &Shared, origin: &Origin) -> bool {
        self.frontier.contains(origin) || shared.starts().knows(origin)
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

/// Where one producer is, while its events are numbered.
struct Count<'a> {
    key: Arc<str>,
    before: Highest,
    counters: std::slice::Iter<'a, u64>,
    /// Of the event that is looked at.
    current: u64,
    /// The highest that is in the open block.
    in_block: u64,
}

impl<'a> Count<'a> {
    fn new(numbering: &Numbering, identity: &str, counted: &'a Counted) -> Self {
        let key = producers::key(identity, &counted.producer);
        let before = numbering.producers.get(&key);
        Self {
            key,
            before,
            counters: counted.counters.iter(),
            current: 0,
            in_block: before.counter,
        }
    }

    /// The next event; of one that was taken before, the producer's newest sequence.
    fn next(&mut self) -> Option<Sequence> {
        self.current = self.counters.next().copied().unwrap_or(self.current);
        (self.current <= self.before.counter).then_some(self.before.sequence)
    }

    /// It goes into the open block.
    const fn took(&mut self) {
        self.in_block = self.current;
    }
}
