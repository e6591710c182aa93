//! Who may still trust what this node said when it ran on another disk, or on none (P9).
//!
//! A start knows that there was one before it by what is on its disk. Where that is a new one, only
//! others know, and say so by their frontiers when a link or a feed begins: before anything that
//! was applied here is told to them, or by them.

use evermesh_event::Origin;
use evermesh_journal::margin;
use evermesh_proto::v1;

use super::Members;

impl Members {
    /// What another node knows of this one's name. If it bore another journal, nobody here knows
    /// who was granted a lease then: until all of those are over, nothing counts as applied.
    pub(crate) fn former(&self, frontier: &[v1::OriginFrontier]) {
        let own = self.journal.origin();
        let known = frontier.iter().filter_map(|of| of.origin.as_ref());
        let mut known = known.filter_map(|origin| Origin::from_proto(origin).ok());
        if known.any(|origin| origin.node == own.node && origin != *own) {
            let leased = self.lease + margin(self.lease);
            self.journal.applied().former(self.began.0 + leased);
        }
    }
}
