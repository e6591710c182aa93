//! Makes deliveries of records: whole bodies where everything is heard, runs of entries elsewhere.
//! No await, no clock.

use std::collections::VecDeque;
use std::sync::Arc;

use evermesh_event::block::EntryView;
use evermesh_event::{Block, Coverage, Filter, Offset, Origin};
use evermesh_journal::{Content, Missed, Record};
use evermesh_proto::{Delivery, v1};

use crate::deliver::progress::Passed;
use crate::deliver::rejects::Rejects;

/// One delivery at most. Large enough that a message costs nothing per event, small enough that
/// acknowledging is not held up.
const DELIVERY_BYTES_MAX: usize = 256 * 1024;

/// What goes to the application next.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Entries of one origin.
    Delivery {
        delivery: Delivery,
        /// Runs of offsets that follow by one: the first, and how many.
        runs: Vec<(Offset, u32)>,
    },
    /// A scope that may be lost.
    Missed { missed: Missed, offset: Offset },
}

impl Outgoing {
    /// The offset of its first entry, or of the missed.
    pub(crate) fn first(&self) -> Offset {
        match self {
            Self::Delivery { runs, .. } => {
                runs.first().map(|(first, _)| *first).unwrap_or_default()
            }
            Self::Missed { offset, .. } => *offset,
        }
    }
}

/// Records that were read and not yet delivered, and how far they were looked at.
#[derive(Debug)]
pub(crate) struct Batches {
    records: VecDeque<Arc<Record>>,
    /// Everything through here was delivered or left out.
    at: Offset,
    /// Records that were passed since somebody asked.
    passed: Vec<Passed>,
    /// An entry that was set aside and is told next.
    aside: Option<(Missed, Offset)>,
}

/// A delivery that is being made.
#[derive(Debug)]
struct Draft {
    origin: Origin,
    delivery: Delivery,
    runs: Vec<(Offset, u32)>,
    count: u32,
    bytes: usize,
}

impl Draft {
    fn new(origin: &Origin) -> Self {
        let mut delivery = Delivery::default();
        delivery.origin = Some(origin.to_proto());
        Self { origin: origin.clone(), delivery, runs: Vec::new(), count: 0, bytes: 0 }
    }

    /// Entries of another attempt go into another delivery.
    const fn takes(&self, attempt: u32) -> bool {
        self.count == 0 || self.delivery.attempt == attempt
    }

    fn add(&mut self, first: Offset, count: u32, run: bytes::Bytes) {
        if count == 0 {
            // Only a watermark: nothing of the block was taken.
            return;
        }
        self.count += count;
        self.bytes += run.len();
        self.delivery.splice(run);
        match self.runs.last_mut() {
            Some((begin, n)) if begin.as_u64() + u64::from(*n) == first.as_u64() => *n += count,
            _ => self.runs.push((first, count)),
        }
    }

    fn finish(mut self) -> Outgoing {
        if let [(first, _)] = self.runs.as_slice() {
            self.delivery.first_offset = first.as_u64();
        } else {
            let every = self.runs.iter().flat_map(|(first, count)| {
                let first = first.as_u64();
                first..first + u64::from(*count)
            });
            self.delivery.offsets = every.collect();
            self.delivery.first_offset = self.delivery.offsets.first().copied().unwrap_or_default();
        }
        Outgoing::Delivery { delivery: self.delivery, runs: self.runs }
    }
}

impl Batches {
    /// Nothing was read; everything through `after` is past.
    pub(crate) const fn new(after: Offset) -> Self {
        Self { records: VecDeque::new(), at: after, passed: Vec::new(), aside: None }
    }

    /// Begins again after an earlier place: what was read is to be read anew.
    pub(crate) fn rewind(&mut self, before: Offset) {
        *self = Self::new(before);
    }

    /// The records that were passed since this was asked last.
    pub(crate) fn take_passed(&mut self) -> Vec<Passed> {
        std::mem::take(&mut self.passed)
    }

    /// Everything through here was delivered or left out.
    pub(crate) const fn at(&self) -> Offset {
        self.at
    }

    /// More has to be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What was read.
    pub(crate) fn extend(&mut self, records: Vec<Arc<Record>>) {
        self.records.extend(records);
    }

    /// The next message, with at most so many entries; `None`: nothing that was read is heard.
    pub(crate) fn next(
        &mut self,
        filter: &Filter,
        rejects: &Rejects,
        room: u32,
    ) -> Option<Outgoing> {
        let mut draft: Option<Draft> = None;
        let hears = Hears { filter, rejects };
        while let Some(record) = self.records.front().cloned() {
            let (block, skip) = match &record.content {
                Content::Block { block, skip } => (block, *skip),
                Content::Missed(_) if draft.is_some() => break,
                Content::Missed(missed) => {
                    self.past(&record);
                    if concerns(missed, filter) {
                        let (missed, offset) = (missed.clone(), record.end());
                        return Some(Outgoing::Missed { missed, offset });
                    }
                    continue;
                }
            };
            let coverage = filter.coverage(block);
            if coverage == Coverage::None {
                self.past(&record);
                continue;
            }
            if draft.as_ref().is_some_and(|draft| draft.origin != *block.origin()) {
                break;
            }
            let draft = draft.get_or_insert_with(|| Draft::new(block.origin()));
            let left = room.saturating_sub(draft.count);
            let body = record.taken_body();
            let whole = coverage == Coverage::All
                && record.contiguous()
                && self.at < record.offset
                && hears.alike(&record)
                && draft.takes(hears.attempt(record.offset));
            let fits = draft.bytes == 0 || draft.bytes + body.len() <= DELIVERY_BYTES_MAX;
            let count = block.count().saturating_sub(skip);
            if whole && count <= left && fits {
                draft.delivery.attempt = hears.attempt(record.offset);
                draft.add(record.offset, count, body);
                self.past(&record);
                continue;
            }
            if !self.entries(&record, block, &hears, draft, left) {
                break;
            }
        }
        if draft.as_ref().is_none_or(|draft| draft.count == 0)
            && let Some((missed, offset)) = self.aside.take()
        {
            return Some(Outgoing::Missed { missed, offset });
        }
        draft.filter(|draft| draft.count > 0).map(Draft::finish)
    }

    /// Adds entry by entry; false where the delivery is full before the record is past.
    fn entries(
        &mut self,
        record: &Record,
        block: &Block,
        hears: &Hears<'_>,
        draft: &mut Draft,
        left: u32,
    ) -> bool {
        let (body, mut left, mut run) = (block.body(), left, Run::default());
        let mut done = true;
        let at = self.at;
        for (offset, entry) in record.taken_entries().filter(|(offset, _)| *offset > at) {
            if hears.filter.hears(&entry.glance()) {
                let begun = draft.count + run.count > 0;
                if begun && draft.delivery.attempt != hears.attempt(offset) {
                    done = false;
                    break;
                }
                draft.delivery.attempt = hears.attempt(offset);
                if hears.rejects.aside().contains(&offset) {
                    done = false;
                    if draft.count + run.count == 0 && left > 0 {
                        self.aside = Some((set_aside(block, &entry), offset));
                        self.at = offset;
                        if offset == record.end() {
                            self.past(record);
                        }
                    }
                    break;
                }
                let bytes = entry.range.len();
                let full = draft.count + run.count > 0
                    && draft.bytes + run.bytes() + bytes > DELIVERY_BYTES_MAX;
                if left == 0 || full {
                    done = false;
                    break;
                }
                left -= 1;
                if !run.takes(offset, &entry.range) {
                    run.flush(body, draft);
                }
                run.extend(offset, entry.range);
            } else {
                run.flush(body, draft);
            }
            self.at = offset;
        }
        run.flush(body, draft);
        if done {
            self.past(record);
        }
        done
    }

    fn past(&mut self, record: &Record) {
        self.at = self.at.max(record.end());
        if let Some((origin, through)) = record.moves() {
            let without = record.replaced().map(|(_, before)| before);
            let (end, origin) = (record.end(), origin.clone());
            self.passed.push(Passed { end, origin, through, without });
        }
        self.records.pop_front();
    }
}

/// What decides about each entry of a record.
struct Hears<'a> {
    filter: &'a Filter,
    rejects: &'a Rejects,
}

impl Hears<'_> {
    /// Which delivery of an entry this is.
    fn attempt(&self, offset: Offset) -> u32 {
        let again = self.rejects.again().filter(|again| offset <= again.through);
        again.map_or(1, |again| again.attempt)
    }

    /// No entry of a record needs to be looked at by itself because of a reject.
    fn alike(&self, record: &Record) -> bool {
        self.attempt(record.offset) == self.attempt(record.end())
            && self.rejects.aside().range(record.offset..=record.end()).next().is_none()
    }
}

/// What is told in place of an entry that was rejected too often.
fn set_aside(block: &Block, entry: &EntryView) -> Missed {
    Missed {
        origin: Some(block.origin().clone()),
        from: entry.sequence,
        through: entry.sequence,
        sites: vec![entry.glance().site.to_owned()],
        cause: v1::MissedCause::DeadLetter,
    }
}

/// Entries that stand beside each other in a body.
#[derive(Debug, Default)]
struct Run {
    first: Offset,
    count: u32,
    range: std::ops::Range<usize>,
}

impl Run {
    fn bytes(&self) -> usize {
        self.range.len()
    }

    /// It stands beside what is here, and its offset follows by one.
    fn takes(&self, offset: Offset, range: &std::ops::Range<usize>) -> bool {
        let next = self.first.as_u64() + u64::from(self.count);
        self.count == 0 || (next == offset.as_u64() && self.range.end == range.start)
    }

    fn extend(&mut self, offset: Offset, range: std::ops::Range<usize>) {
        if self.count == 0 {
            self.first = offset;
            self.range.start = range.start;
        }
        self.range.end = range.end;
        self.count += 1;
    }

    fn flush(&mut self, body: &bytes::Bytes, draft: &mut Draft) {
        let Self { first, count, range } = std::mem::take(self);
        if count > 0 {
            draft.add(first, count, body.slice(range));
        }
    }
}

/// Whether a missed may concern a subscription.
fn concerns(missed: &Missed, filter: &Filter) -> bool {
    missed.sites.is_empty() || missed.sites.iter().any(|site| filter.hears_site(site))
}

#[cfg(test)]
mod tests;
