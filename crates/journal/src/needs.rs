//! What each member was last known to hold: until every one is past it, nothing is cut that fits
//! the limits. In memory; a member that was not heard in this start needs everything.

use std::collections::BTreeMap;

use evermesh_event::assurance::{Presence, Replica};
use evermesh_event::{Frontier, Origin};

use crate::cuts::Reaches;

/// By name, through where a member lacks nothing. Bounded by the members that are counted.
#[derive(Debug, Default)]
pub(crate) struct Needs(BTreeMap<String, Frontier>);

impl Needs {
    /// A member said through where it lacks nothing of some origins.
    pub(crate) fn note(&mut self, member: &str, here: &Frontier) {
        let known = self.0.entry(member.to_owned()).or_default();
        here.iter().for_each(|(origin, at)| known.advance(origin, at));
    }

    /// Every member that counts is past all of these records.
    pub(crate) fn past(&mut self, members: &[Replica], own: &Origin, reaches: &Reaches) -> bool {
        self.0.retain(|name, _| members.iter().any(|member| member.label == *name));
        let here: Vec<_> = members.iter().filter(|m| m.presence != Presence::Left).collect();
        reaches.iter().all(|(origin, reach)| {
            here.iter().all(|member| {
                if origin == own {
                    return member.stored >= reach.through;
                }
                let known = self.0.get(&member.label).map(|known| known.get(origin));
                // Its own events are nothing that it needs of others.
                origin.node.as_str() == member.label || known.is_some_and(|at| at >= reach.through)
            })
        })
    }
}
