//! Who is asked for which origin, and when a hole is real. Pure: no await, no clock.
//!
//! Each origin is pulled from the member that numbers it, while that is linked. Otherwise, and for
//! what that member says not to hold, from another linked member that holds more than this node
//! (P6). Missed is told only for what every linked member was asked for in vain (P1). What a member
//! says that it holds is a hint whom to ask first; only its answer counts.

use std::collections::{BTreeMap, BTreeSet};

use evermesh_event::{Frontier, NodeName, Origin, Sequence};
use evermesh_journal::{Holding, Missed};

/// Origins that one member may list: as many as a mesh may remember.
const ORIGINS_MAX: usize = 4096;

/// What each linked member holds, and what it could not serve.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    links: BTreeMap<NodeName, Linked>,
}

#[derive(Debug)]
struct Linked {
    /// Whose events it numbers.
    origin: Origin,
    held: BTreeMap<Origin, Holding>,
    /// What it said not to hold, of each origin that it was asked for.
    lacks: BTreeMap<Origin, Missed>,
}

/// What is wanted of one member beside its own origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Each origin, and through where this node lacks nothing of it.
    pub(crate) origins: BTreeMap<Origin, Sequence>,
    /// The member waits to be told from where it shall go on with these.
    pub(crate) again: BTreeSet<Origin>,
}

impl Repair {
    /// A member is linked.
    pub(crate) fn linked(&mut self, origin: Origin, held: BTreeMap<Origin, Holding>) {
        let name = origin.node.clone();
        let linked = Linked { origin, held: BTreeMap::new(), lacks: BTreeMap::new() };
        self.links.insert(name.clone(), linked);
        self.holds(&name, held);
    }

    /// It is linked no more: what it holds cannot be had.
    pub(crate) fn unlinked(&mut self, name: &NodeName) {
        self.links.remove(name);
    }

    /// What a member holds, where that changed.
    pub(crate) fn holds(&mut self, name: &NodeName, held: BTreeMap<Origin, Holding>) {
        let Some(linked) = self.links.get_mut(name) else { return };
        for (origin, holding) in held {
            if linked.held.len() < ORIGINS_MAX || linked.held.contains_key(&origin) {
                linked.held.insert(origin, holding);
            }
        }
    }

    /// A member does not hold what was wanted of it.
    pub(crate) fn lacks(&mut self, name: &NodeName, missed: Missed) {
        let Some(linked) = self.links.get_mut(name) else { return };
        if let Some(origin) = &missed.origin
            && (linked.lacks.len() < ORIGINS_MAX || linked.lacks.contains_key(origin))
        {
            linked.lacks.insert(origin.clone(), missed);
        }
    }

    /// What shall be wanted of a member now.
    pub(crate) fn wants(&self, name: &NodeName, own: &Origin, here: &Frontier) -> Wants {
        let mut wants = Wants::default();
        let Some(linked) = self.links.get(name) else { return wants };
        for origin in linked.held.keys().filter(|origin| *origin != own) {
            let at = here.get(origin);
            let passed = linked.lacks.get(origin).is_some_and(|lacks| lacks.through <= at);
            if *origin == linked.origin {
                if passed {
                    wants.again.insert(origin.clone());
                    wants.origins.insert(origin.clone(), at);
                }
            } else if self.source(origin, at) == Some(name) {
                if passed {
                    wants.again.insert(origin.clone());
                }
                wants.origins.insert(origin.clone(), at);
            }
        }
        wants
    }

    /// It was told from where to go on.
    pub(crate) fn told(&mut self, name: &NodeName, origins: &BTreeSet<Origin>) {
        if let Some(linked) = self.links.get_mut(name) {
            linked.lacks.retain(|origin, _| !origins.contains(origin));
        }
    }

    /// Who serves an origin to a node that is at a sequence; `None`: nobody who was not asked.
    fn source(&self, origin: &Origin, at: Sequence) -> Option<&NodeName> {
        let serves = |linked: &Linked| !linked.lacks_at(origin, at);
        if let Some((name, linked)) = self.links.get_key_value(&origin.node)
            && linked.origin == *origin
            && serves(linked)
        {
            return Some(name);
        }
        let holding = |linked: &Linked| {
            let held = linked.held.get(origin)?;
            (held.through > at && serves(linked)).then_some(held.base > at)
        };
        let able = self.links.iter().filter_map(|(name, linked)| Some((holding(linked)?, name)));
        able.min().map(|(_, name)| name)
    }

    /// Somebody who is linked holds more of an origin than this node, which is at a sequence, and
    /// did not say that it lacks what comes next.
    pub(crate) fn is_held(&self, origin: &Origin, at: Sequence) -> bool {
        self.source(origin, at).is_some()
    }

    /// Under which journal a member is linked.
    pub(crate) fn link_of(&self, name: &NodeName) -> Option<&Origin> {
        self.links.get(name).map(|linked| &linked.origin)
    }

    /// What nobody who is linked can serve: of each origin the smallest of the holes that were
    /// named.
    pub(crate) fn holes(&self, here: &Frontier) -> Vec<Missed> {
        let mut holes = BTreeMap::<&Origin, &Missed>::new();
        for linked in self.links.values() {
            for (origin, missed) in &linked.lacks {
                let at = here.get(origin);
                if !linked.lacks_at(origin, at) || self.source(origin, at).is_some() {
                    continue;
                }
                let smallest = holes.entry(origin).or_insert(missed);
                if missed.through < smallest.through {
                    *smallest = missed;
                }
            }
        }
        holes.into_values().cloned().collect()
    }
}

impl Linked {
    /// It said not to hold what comes next.
    fn lacks_at(&self, origin: &Origin, at: Sequence) -> bool {
        self.lacks.get(origin).is_some_and(|lacks| at < lacks.through)
    }
}

#[cfg(test)]
mod tests;
