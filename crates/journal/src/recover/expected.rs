//! What the state database says must be there.

use std::collections::BTreeMap;

use evermesh_event::{Epoch, Frontier, Offset, Origin};

use crate::notices::Notice;
use crate::state::Past;

/// What the state database says must be there.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(super) origin: Origin,
    /// Where each ended start ended.
    pub(super) ends: BTreeMap<Epoch, Offset>,
    /// The furthest of them.
    pub(super) floor: Offset,
    /// The start that comes next, if the last one was closed: then all that was written is known.
    pub(super) next: Option<Epoch>,
    /// Through where nothing was lacking when it was stored last.
    pub(super) frontier: Frontier,
    /// Missed that name no range; `None`: it is not known which there were.
    pub(super) notices: Option<BTreeMap<Offset, Notice>>,
}

impl Expected {
    pub(crate) fn new(origin: Origin, past: &Past) -> Self {
        let ended = past.starts.iter().filter(|former| former.ended);
        let ends: BTreeMap<_, _> = ended.map(|former| (former.start.epoch, former.end)).collect();
        let floor = ends.values().copied().max().unwrap_or(Offset::ZERO);
        let last = past.starts.last().filter(|last| last.ended);
        let next = last.and_then(|last| last.start.epoch.next());
        let (frontier, notices) = (past.frontier.clone(), past.notices.clone());
        Self { origin, ends, floor, next, frontier, notices }
    }
}
