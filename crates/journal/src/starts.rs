//! Which starts of each origin this node has seen, and which durable heads it heard: what tells a
//! lost tail from a restored copy or a twin.

use std::collections::{BTreeMap, BTreeSet};

use evermesh_event::{Epoch, NodeName, Origin, Sequence, StartId};

/// Starts kept for each origin: the newest.
const STARTS_MAX: usize = 16;
/// Origins kept: as many as members that a mesh may remember.
const ORIGINS_MAX: usize = 4096;

/// One start of an origin, as it was seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenStart {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its start id.
    pub start: StartId,
    /// The highest sequence of this start that the origin said was on its disk.
    pub durable_head: Sequence,
}

/// For each origin its newest starts, rising.
pub type SeenStarts = BTreeMap<Origin, Vec<SeenStart>>;

/// What was seen, and what of it is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    seen: SeenStarts,
    dirty: BTreeSet<Origin>,
}

impl Starts {
    pub(crate) const fn new(seen: SeenStarts) -> Self {
        Self { seen, dirty: BTreeSet::new() }
    }

    pub(crate) fn snapshot(&self) -> SeenStarts {
        self.seen.clone()
    }

    /// Some start of it was seen.
    pub(crate) fn knows(&self, origin: &Origin) -> bool {
        self.seen.contains_key(origin)
    }

    /// All origins of which a start was seen.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.seen.keys()
    }

    /// The origins of a name of which a start was seen.
    pub(crate) fn origins_of(&self, node: &NodeName) -> impl Iterator<Item = &Origin> {
        self.seen.keys().filter(move |origin| origin.node == *node)
    }

    /// The highest sequence of it that was said to be on its disk.
    pub(crate) fn durable_head(&self, origin: &Origin) -> Sequence {
        let starts = self.seen.get(origin).into_iter().flatten();
        starts.map(|seen| seen.durable_head).max().unwrap_or(Sequence::ZERO)
    }

    /// A start was seen. Two ids for one epoch are both kept.
    pub(crate) fn note_start(&mut self, origin: &Origin, epoch: Epoch, start: StartId) {
        if !self.seen.contains_key(origin) && self.seen.len() >= ORIGINS_MAX {
            tracing::warn!(%origin, "more than {ORIGINS_MAX} origins: its starts are not kept");
            return;
        }
        let starts = self.seen.entry(origin.clone()).or_default();
        if starts.iter().any(|seen| seen.epoch == epoch && seen.start == start) {
            return;
        }
        let at = starts.partition_point(|seen| seen.epoch <= epoch);
        starts.insert(at, SeenStart { epoch, start, durable_head: Sequence::ZERO });
        let surplus = starts.len().saturating_sub(STARTS_MAX);
        starts.drain(..surplus);
        self.dirty.insert(origin.clone());
    }

    /// A durable head was heard. It belongs to the start of its epoch; of a start never seen it
    /// says nothing.
    pub(crate) fn note_head(&mut self, origin: &Origin, head: Sequence) {
        let starts = self.seen.get_mut(origin).map(Vec::as_mut_slice).unwrap_or_default();
        let newest = starts.iter_mut().rev().find(|seen| seen.epoch == head.epoch());
        if let Some(seen) = newest.filter(|seen| seen.durable_head < head) {
            seen.durable_head = head;
            self.dirty.insert(origin.clone());
        }
    }

    /// An origin is not known any more.
    pub(crate) fn forget(&mut self, origin: &Origin) {
        if self.seen.remove(origin).is_some() {
            self.dirty.insert(origin.clone());
        }
    }

    /// What is to be stored before the next commit. No starts: it is known no more.
    pub(crate) fn take_dirty(&mut self) -> Vec<(Origin, Vec<SeenStart>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let starts = |origin: Origin| {
            let starts = self.seen.get(&origin).cloned().unwrap_or_default();
            (origin, starts)
        };
        dirty.into_iter().map(starts).collect()
    }
}
