//! Who is forgotten because nobody hears it: the rule by itself. No await, no clock.
//!
//! A node that does not hear a member may be the one that is cut off. So a member is forgotten only
//! when all others who are there agree: each of them either says now that it did not hear it for
//! that long, or was not heard for that long itself.

use std::collections::BTreeSet;
use std::time::Duration;

use evermesh_event::NodeName;

/// Another member that did not leave, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) name: NodeName,
    /// For how long it was not heard; zero: it is.
    pub(super) silent: Duration,
    /// Whom it said, when it was heard last, not to have heard for long.
    pub(super) away: BTreeSet<NodeName>,
}

impl Seen {
    pub(super) fn is_away(&self, forget_after: Duration) -> bool {
        self.silent >= forget_after
    }

    /// What a member said before it fell silent itself may be otherwise since.
    fn says_away(&self, of: &Self) -> bool {
        self.silent.is_zero() && self.away.contains(&of.name)
    }
}

/// Who is forgotten now.
pub(super) fn unheard(there: &[Seen], forget_after: Duration) -> Vec<NodeName> {
    let agrees = |other: &Seen, of: &Seen| other.is_away(forget_after) || other.says_away(of);
    let forgotten = there.iter().filter(|seen| {
        let mut others = there.iter().filter(|other| other.name != seen.name);
        seen.is_away(forget_after) && others.all(|other| agrees(other, seen))
    });
    forgotten.map(|seen| seen.name.clone()).collect()
}

#[cfg(test)]
mod tests;
