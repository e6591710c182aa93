//! Which entries newer ones replace, and a segment without them. Pure but for the bytes that it is
//! given.
//!
//! Replaced is only what a newer event of the same origin, start, site, type, key and source
//! replaces, both of which say `coalesce`, and the newer of which is on this disk and on its
//! origin's: an origin that loses its end in a crash would otherwise take the older one with it.
//! What stays keeps its bytes and its offset; every origin keeps its watermark.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher as _;
use std::sync::Arc;

use evermesh_event::block::EntryView;
use evermesh_event::{Block, Epoch, Offset, Origin, Planted, Sequence, StartId};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::record::format::Decoded;
use crate::record::{Content, Kept, Record};
use crate::starts::SeenStarts;

/// Keys that are remembered in a pass: 24 MiB at most. Events of further keys stay.
const KEYS_MAX: usize = 1 << 20;

/// A pass over sealed segments, the newest first.
#[derive(Debug)]
pub(crate) struct Pass {
    /// This node's origin: what is on its disk is durable.
    own: Origin,
    heads: SeenStarts,
    planted: Planted,
    /// Keys with a newer event, in segments that were looked at before.
    newer: HashSet<u128>,
    /// Segments that wait, oldest first.
    pub(crate) waiting: Vec<Offset>,
}

/// What is known of one segment before it is written anew.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// The newest replacing event of each key in this segment.
    newest: HashMap<u128, Sequence>,
    /// The last record of each origin and start: its watermark stays.
    lasts: BTreeMap<(Origin, StartId), Offset>,
    /// The last record of each of this node's starts: offsets of the next begin behind it.
    ends: BTreeMap<Epoch, Offset>,
    /// Something would be left out.
    pub(crate) gains: bool,
}

/// A segment that is written anew.
#[derive(Debug)]
pub(crate) struct Rewrite {
    /// The next record begins there, if it is of this start.
    next: Offset,
    /// Where blocks that were left out whole began, until one of the same start takes that over.
    previous: BTreeMap<(Origin, StartId), Sequence>,
}

impl Rewrite {
    /// Of a segment that begins there.
    pub(crate) const fn new(first: Offset) -> Self {
        Self { next: first, previous: BTreeMap::new() }
    }
}

impl Pass {
    pub(crate) fn new(
        own: Origin,
        heads: SeenStarts,
        planted: Planted,
        waiting: Vec<Offset>,
    ) -> Self {
        Self { own, heads, planted, newer: HashSet::new(), waiting }
    }

    /// Looks at the records of a segment, in order, before any of it is written anew.
    pub(crate) fn look(&self, look: &mut Look, record: &Record) {
        look.ends.insert(record.offset.epoch(), record.offset);
        let Content::Block { block, .. } = &record.content else { return };
        let start = (block.origin().clone(), block.start());
        look.lasts.insert(start, record.offset);
        for (_, entry) in record.taken_entries() {
            let Some(key) = key(block, &entry) else { continue };
            if self.newer.contains(&key) {
                look.gains = true;
            } else if self.durable(block, entry.sequence)
                && look.newest.len() + self.newer.len() < KEYS_MAX
            {
                look.gains |= look.newest.insert(key, entry.sequence).is_some();
            }
        }
    }

    /// It is on its origin's disk, as far as this node heard in that start.
    fn durable(&self, block: &Block, sequence: Sequence) -> bool {
        let starts = self.heads.get(block.origin()).map(Vec::as_slice).unwrap_or_default();
        let start = starts.iter().find(|seen| seen.start == block.start());
        *block.origin() == self.own
            || self.planted.is(Planted::CoalesceUndurable)
            || start.is_some_and(|seen| seen.durable_head >= sequence)
    }

    /// The record without what is replaced; `None`: nothing of it is left.
    pub(crate) fn rewrite(
        &self,
        look: &Look,
        rewrite: &mut Rewrite,
        decoded: &Decoded,
    ) -> Option<Record> {
        let record = &decoded.record;
        let epoch = record.offset.epoch();
        // The first offset of a start has the counter 1.
        let first = || Offset::begin(epoch).plus(1).unwrap_or(record.offset);
        let begin = if rewrite.next.epoch() == epoch { rewrite.next } else { first() };
        let place = |offset: Offset| {
            u32::try_from(offset.as_u64().saturating_sub(begin.as_u64())).unwrap_or(u32::MAX)
        };
        let (content, places) = match &record.content {
            Content::Missed(_) => (record.content.clone(), Vec::new()),
            Content::Block { block, .. } => {
                let start = (block.origin().clone(), block.start());
                let left: BTreeMap<Sequence, Offset> = record
                    .taken_entries()
                    .filter(|(_, entry)| self.stays(look, block, entry))
                    .map(|(offset, entry)| (entry.sequence, offset))
                    .collect();
                let held = rewrite.previous.get(&start).copied();
                let previous = held.unwrap_or_else(|| block.previous()).min(block.previous());
                let last = look.lasts.get(&start) == Some(&record.offset)
                    || look.ends.get(&epoch) == Some(&record.offset);
                if left.is_empty() && !last {
                    rewrite.previous.insert(start, previous);
                    return None;
                }
                rewrite.previous.remove(&start);
                let places = left.values().map(|offset| place(*offset)).collect();
                let block = block.coalesce(previous, |entry| left.contains_key(&entry.sequence));
                (Content::Block { block, skip: 0 }, places)
            }
        };
        let end = record.end();
        rewrite.next = end.plus(1).unwrap_or(end);
        Some(Record { offset: begin, content, kept: Some(Arc::new(Kept { end, places })) })
    }

    fn stays(&self, look: &Look, block: &Block, entry: &EntryView) -> bool {
        key(block, entry).is_none_or(|key| {
            let newer_here = look.newest.get(&key).is_some_and(|newest| *newest > entry.sequence);
            !newer_here && !self.newer.contains(&key)
        })
    }

    /// The segment was looked at: what it holds replaces what is in older ones.
    pub(crate) fn done(&mut self, look: Look) {
        self.newer.extend(look.newest.into_keys());
    }
}

/// What an event replaces, if it says that it does.
fn key(block: &Block, entry: &EntryView) -> Option<u128> {
    let glance = entry.glance();
    if !glance.coalesce || glance.key.is_empty() {
        return None;
    }
    let mut hasher = SipHasher13::new();
    hasher.write(block.origin().journal.as_bytes());
    hasher.write(block.start().as_bytes());
    let words = [block.origin().node.as_str(), glance.site, glance.r#type, glance.key];
    for word in words.into_iter().chain([glance.source]) {
        hasher.write_usize(word.len());
        hasher.write(word.as_bytes());
    }
    Some(hasher.finish128().as_u128())
}
