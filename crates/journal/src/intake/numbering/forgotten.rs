//! The journals of one name. A second one, or that its node left, means that what nobody had of the
//! former may be lost: that is told as FORGOTTEN, before anything that comes after it.
//!
//! The list of members holds the other end: which journals are there now, which ended for good, of
//! which it was told, and which only others were linked with.

use evermesh_event::{JournalId, NodeName, Origin, Planted, Sequence};
use evermesh_proto::v1;

use super::Numbering;
use crate::shared::Shared;
use crate::starts::Starts;

impl Numbering {
    /// An origin is met. A second journal of one name means that the former may be lost with what
    /// nobody had: that is told before anything of the new one. True if it was.
    pub(in crate::intake) fn meet(&mut self, shared: &Shared, origin: &Origin) -> bool {
        if *origin == self.origin || self.knows(shared, origin) {
            return false;
        }
        if origin.node == self.origin.node && !shared.storage.outlives() {
            // A former start of this node. Every place that was given out there is unknown here,
            // and whoever comes back with one is told so; everybody else began after it.
            self.frontier.advance(origin, Sequence::ZERO);
            return false;
        }
        // Of those of which nothing was seen here nobody knows whether they came before this one.
        let mut others = self.known_of(&shared.starts(), &origin.node);
        others.retain(|other| *other != self.origin && self.is_open(shared, other));
        others.sort_unstable();
        others.dedup();
        others.retain(|other| !self.awaited.contains(other));
        self.leave_out_older(shared, &origin.node, &mut others);
        let seen = shared.starts().durable_head(origin);
        let closed = shared.roster.is_closed(origin, self.frontier.get(origin), seen);
        if origin.node == self.origin.node && !closed {
            // This node itself had another journal, of which its disk knows nothing.
            others.push(origin.clone());
        }
        self.frontier.advance(origin, Sequence::ZERO);
        if shared.planted.is(Planted::OtherJournalUntold) {
            return false;
        }
        for other in &others {
            tracing::warn!(
                member = %other.node, former = %other.journal, present = %origin.journal,
                "this name has another journal: what nobody had of the former one is missed"
            );
            self.tell_forgotten(shared, other);
        }
        !others.is_empty()
    }

    /// A former journal of a name is met by what others hold of it, while a node is there under
    /// another: that one is not missed for it. Of this one, what does not come.
    pub(in crate::intake) fn meet_former(&mut self, shared: &Shared, origin: &Origin) {
        if *origin != self.origin && !self.knows(shared, origin) {
            self.frontier.advance(origin, Sequence::ZERO);
        }
    }

    /// What nobody had of a former journal is missed, unless that was told, or all of it is here.
    pub(in crate::intake) fn end_former(&mut self, shared: &Shared, origin: &Origin) {
        if !self.is_open(shared, origin) || shared.planted.is(Planted::OtherJournalUntold) {
            return;
        }
        tracing::warn!(
            member = %origin.node, former = %origin.journal,
            "another journal is there under this name: what nobody had of this one is missed"
        );
        self.tell_forgotten(shared, origin);
        shared.roster.close(origin);
    }

    /// A member is linked under this journal. If it was under another one last, that may be lost
    /// with what nobody had, be this one new or an older one that came back. `there`: under which
    /// journals nodes of this name are there now. None of those is lost yet: it is told once its
    /// node is not there any more. `linked`: by a link that waited for what may come of the former
    /// ones; else that is waited for.
    pub(in crate::intake) fn present(
        &mut self,
        shared: &Shared,
        origin: &Origin,
        there: &[JournalId],
        linked: bool,
    ) {
        if linked && shared.roster.present_of(&origin.node).is_empty() {
            self.close_older(shared, origin);
        }
        let others = self.formers(shared, origin, there);
        let (beside, mut gone): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|other| there.contains(&other.journal));
        let awaited = |of: &Origin| match linked {
            true => self.awaited.contains(of),
            false => shared.roster.has_ended(of),
        };
        gone.retain(|other| !awaited(other));
        if shared.planted.is(Planted::OtherJournalUntold) {
            gone.clear();
        }
        for other in &gone {
            tracing::warn!(
                member = %other.node, former = %other.journal, present = %origin.journal,
                "this name is back under another journal: what nobody had of the former is missed"
            );
            self.tell_forgotten(shared, other);
        }
        let beside = beside.into_iter().map(|other| other.journal);
        let present: Vec<_> = std::iter::once(origin.journal).chain(beside).collect();
        self.close_ended(shared, &origin.node, &present);
        shared.roster.present(&origin.node, present);
    }

    /// The journals of a name that a link under this one makes former ones, and of which something
    /// may be missed that was not told; and those under which nodes are `there`.
    pub(in crate::intake) fn formers(
        &self,
        shared: &Shared,
        origin: &Origin,
        there: &[JournalId],
    ) -> Vec<Origin> {
        let before = shared.roster.present_of(&origin.node);
        let mut others = self.untold(shared, &origin.node);
        others.retain(|other| other != origin);
        if before.contains(&origin.journal) {
            // What was linked before those was told when they were, or is told by itself.
            let beside = |of: &JournalId| before.contains(of) || there.contains(of);
            others.retain(|other| beside(&other.journal));
        }
        self.leave_out_older(shared, &origin.node, &mut others);
        others
    }

    /// Of a name that was never linked here, a journal of which others hold events, and under which
    /// nobody said that it was there, ended before this node knew anybody: nobody here missed it.
    fn leave_out_older(&self, shared: &Shared, node: &NodeName, journals: &mut Vec<Origin>) {
        if shared.roster.present_of(node).is_empty() {
            let heard = shared.roster.heard_of(node);
            journals.retain(|of| heard.contains(of));
        }
    }

    /// A name is linked for the first time: those are settled.
    fn close_older(&self, shared: &Shared, origin: &Origin) {
        let heard = shared.roster.heard_of(&origin.node);
        let mut older = self.known_of(&shared.starts(), &origin.node);
        older.retain(|of| of != origin && !heard.contains(of));
        older.iter().for_each(|of| shared.roster.close(of));
    }

    /// All journals of other names that were linked here, or are linked by others or pull from this
    /// node, under which their members are not linked now, and of which something may be missed
    /// that was not told.
    pub(in crate::intake) fn open_formers(&self, shared: &Shared) -> Vec<Origin> {
        let former = |of: &Origin| of.node != self.origin.node && shared.roster.is_former(of);
        let starts = shared.starts();
        let held = self.frontier.iter().map(|(held, _)| held);
        let known = starts.origins().chain(held).filter(|of| former(of));
        let mut known: Vec<_> = known.cloned().collect();
        drop(starts);
        let own = |of: &Origin| of.node == self.origin.node;
        known.extend(shared.roster.all_heard().into_iter().filter(|of| own(of) || former(of)));
        known.sort_unstable();
        known.dedup();
        known.retain(|of| self.is_open(shared, of));
        known
    }

    /// Something of this journal may be missed that was not told.
    fn is_open(&self, shared: &Shared, origin: &Origin) -> bool {
        let seen = shared.starts().durable_head(origin);
        !shared.roster.is_closed(origin, self.frontier.get(origin), seen)
    }

    /// A node is there under these journals. Of the former ones of its name that ended in order,
    /// all of which is here, nothing is to be told either, however many last words come after
    /// theirs.
    fn close_ended(&self, shared: &Shared, node: &NodeName, present: &[JournalId]) {
        let starts = shared.starts();
        let mut former = self.known_of(&starts, node);
        former.retain(|origin| !present.contains(&origin.journal));
        for origin in former {
            let seen = starts.durable_head(&origin);
            if shared.roster.is_closed(&origin, self.frontier.get(&origin), seen) {
                shared.roster.close(&origin);
            }
        }
    }

    /// What nobody has of a member that left is told. True if there may be something.
    pub(in crate::intake) fn depart(&mut self, shared: &Shared, node: &NodeName) -> bool {
        let nothing_known = self.is_unmet(shared, node)
            && shared.roster.ended_of(node).is_empty()
            && shared.roster.heard_of(node).is_empty();
        let others = self.untold_of_departed(shared, node);
        for other in &others {
            tracing::warn!(
                member = %other.node, journal = %other.journal,
                "its node left, or was forgotten: what nobody had of it is missed"
            );
            self.tell_forgotten(shared, other);
        }
        if nothing_known {
            tracing::warn!(
                member = %node,
                "it left, or was forgotten, and was never met: what nobody had of it is missed"
            );
            self.tell_everything(shared, v1::MissedCause::Forgotten);
            return true;
        }
        !others.is_empty()
    }

    /// The journals of a member that left of which something may be missed that was not told. Of
    /// who was never met, those that others met, or whose last word they heard.
    pub(in crate::intake) fn untold_of_departed(
        &self,
        shared: &Shared,
        node: &NodeName,
    ) -> Vec<Origin> {
        if !self.is_unmet(shared, node) {
            return self.untold(shared, node);
        }
        let mut known = shared.roster.ended_of(node);
        known.extend(shared.roster.heard_of(node));
        known.retain(|of| !shared.roster.is_closed(of, Sequence::ZERO, Sequence::ZERO));
        known.sort_unstable();
        known.dedup();
        known
    }

    /// No journal of this name is known.
    fn is_unmet(&self, shared: &Shared, node: &NodeName) -> bool {
        let held = self.frontier.iter().any(|(held, _)| held.node == *node);
        !held && shared.starts().origins_of(node).next().is_none()
    }

    /// The journals of a name of which something may be missed that was not told.
    pub(in crate::intake) fn untold(&self, shared: &Shared, node: &NodeName) -> Vec<Origin> {
        let starts = shared.starts();
        let mut origins = self.known_of(&starts, node);
        origins.extend(shared.roster.heard_of(node));
        let closed = |of: &Origin| {
            shared.roster.is_closed(of, self.frontier.get(of), starts.durable_head(of))
        };
        origins.retain(|of| !closed(of));
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// The journals of a name that are known, one or two times each.
    fn known_of(&self, starts: &Starts, node: &NodeName) -> Vec<Origin> {
        let held = self.frontier.iter().map(|(held, _)| held).filter(|held| held.node == *node);
        starts.origins_of(node).chain(held).cloned().collect()
    }

    /// Whatever was known of a name that left long ago is known no more. False while something of
    /// it is held.
    pub(crate) fn forget(&mut self, shared: &Shared, node: &NodeName) -> bool {
        let of = self.frontier.iter().filter(|(origin, _)| origin.node == *node);
        let of: Vec<_> = of.map(|(origin, at)| (origin.clone(), at)).collect();
        let cut = shared.cuts().frontier();
        let gone = |origin: &Origin| cut.get(origin).max(self.bases.get(origin));
        if of.iter().any(|(origin, at)| gone(origin) < *at) {
            return false;
        }
        let mut starts = shared.starts();
        let seen: Vec<_> = starts.origins_of(node).cloned().collect();
        seen.iter().for_each(|origin| starts.forget(origin));
        drop(starts);
        let mut cuts = shared.cuts_mut();
        for (origin, _) in of {
            self.frontier.remove(&origin);
            self.durable_frontier.remove(&origin);
            self.bases.remove(&origin);
            cuts.forget(&origin);
            shared.replaced().remove(&origin);
        }
        true
    }

    fn tell_forgotten(&mut self, shared: &Shared, origin: &Origin) {
        self.tell(shared, origin.clone(), v1::MissedCause::Forgotten);
        if origin.node != self.origin.node {
            shared.roster.close(origin);
        }
    }

    pub(in crate::intake) fn knows(&self, shared: &Shared, origin: &Origin) -> bool {
        self.frontier.contains(origin) || shared.starts().knows(origin)
    }
}
