//! What the state database says must be there.

use std::collections::BTreeMap;

use evermesh_event::{Epoch, Frontier, Offset, Origin};

use crate::state::FormerStart;

/// What the state database says must be there.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(super) origin: Origin,
    /// Where each ended start ended.
    pub(super) ends: BTreeMap<Epoch, Offset>,
    /// The furthest of them.
    pub(super) floor: Offset,
    /// Through where nothing was lacking when it was stored last.
    pub(super) frontier: Frontier,
}

impl Expected {
    pub(crate) fn new(origin: Origin, starts: &[FormerStart], frontier: Frontier) -> Self {
        let ended = starts.iter().filter(|former| former.ended);
        let ends: BTreeMap<_, _> = ended.map(|former| (former.start.epoch, former.end)).collect();
        let floor = ends.values().copied().max().unwrap_or(Offset::ZERO);
        Self { origin, ends, floor, frontier }
    }
}
