//! What a receiver had, and is damaged there: sent again, block by block, beside everything else.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use evermesh_event::{Offset, Origin, Sequence};
use evermesh_journal::{Content, Journal, ReadError, Reader, Record};
use evermesh_proto::v1;

/// Ranges that wait on one feed: a receiver asks for one after the other.
const RANGES_MAX: usize = 64;
/// What one answer takes at most, and one block: the receiver has room for several.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    waiting: VecDeque<v1::OriginRange>,
    open: Option<Open>,
}

/// The range that is sent.
#[derive(Debug)]
struct Open {
    range: v1::OriginRange,
    origin: Origin,
    /// Through here it was sent.
    at: Sequence,
    through: Sequence,
    /// Through here this node lacks it.
    goes_on: Sequence,
    bytes: usize,
    reader: Reader,
    /// Nothing behind this is looked for.
    until: Offset,
    ended: bool,
}

impl Ranges {
    pub(super) fn want(&mut self, ranges: &[v1::OriginRange]) {
        let room = RANGES_MAX.saturating_sub(self.waiting.len());
        self.waiting.extend(ranges.iter().take(room).cloned());
    }

    /// Says that a range was sent, and begins the next.
    pub(super) fn ended(&mut self, journal: &Journal) -> Option<v1::RangeEnd> {
        if self.open.is_none() {
            let range = self.waiting.pop_front()?;
            match Open::new(range.clone(), journal) {
                Some(open) => self.open = Some(open),
                // Of nobody who can be: there is nothing of it.
                None => return Some(v1::RangeEnd { range: Some(range), goes_on: 0 }),
            }
        }
        let open = self.open.take_if(|open| open.is_done())?;
        let goes_on = open.goes_on.min(open.through).as_u64();
        Some(v1::RangeEnd { range: Some(open.range), goes_on })
    }

    pub(super) const fn reads(&self) -> bool {
        self.open.is_some()
    }

    pub(super) async fn next(&mut self, bytes: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        match &mut self.open {
            Some(open) => open.reader.next(bytes).await,
            None => std::future::pending().await,
        }
    }

    /// The blocks of these records that were asked for.
    pub(super) fn take(&mut self, records: Result<Vec<Arc<Record>>, ReadError>) -> Vec<Bytes> {
        let Some(open) = &mut self.open else { return Vec::new() };
        match records {
            Ok(records) => records.iter().filter_map(|record| open.take(record)).collect(),
            Err(error) => {
                let origin = &open.origin;
                tracing::warn!(%origin, %error, "what is wanted again cannot be read");
                open.ended = true;
                Vec::new()
            }
        }
    }
}

impl Open {
    fn new(range: v1::OriginRange, journal: &Journal) -> Option<Self> {
        let origin = Origin::from_proto(range.origin.as_ref()?).ok()?;
        let (at, through) = (Sequence::from_u64(range.after), Sequence::from_u64(range.through));
        let reader = journal.reader(journal.place_of(&origin, at));
        let (goes_on, bytes, until) = (Sequence::ZERO, 0, journal.head());
        let ended = journal.frontier().get(&origin) <= at;
        Some(Self { range, origin, at, through, goes_on, bytes, reader, until, ended })
    }

    /// All that was read was looked at, too.
    fn is_done(&self) -> bool {
        self.is_full() || self.reader.position() >= self.until
    }

    fn is_full(&self) -> bool {
        self.ended || self.at >= self.through || self.bytes >= ANSWER_BYTES_MAX
    }

    fn take(&mut self, record: &Record) -> Option<Bytes> {
        let (origin, last) = record.moves()?;
        if *origin != self.origin || last <= self.at || self.is_full() {
            return None;
        }
        match &record.content {
            Content::Block { block, .. } if block.previous() <= self.at => {
                self.at = last;
                self.bytes += block.encoded().len();
                return Some(block.encoded().clone());
            }
            Content::Block { block, .. } => self.goes_on = block.previous(),
            Content::Missed(missed) => self.goes_on = missed.through,
        }
        self.ended = true;
        None
    }
}
