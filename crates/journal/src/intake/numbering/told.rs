//! What is missed without a range: said of everything of a name, or of everybody.

use evermesh_event::{Origin, Sequence};
use evermesh_proto::v1;

use super::Numbering;
use crate::record::format::Publishers;
use crate::record::{Content, Missed};
use crate::shared::Shared;

impl Numbering {
    /// Everything of a name may be lost, because its journal was restored or is gone.
    pub(super) fn tell(&mut self, shared: &Shared, origin: Origin, cause: v1::MissedCause) {
        let (from, through) = (Sequence::ZERO, Sequence::ZERO);
        let missed = Missed { origin: Some(origin), from, through, sites: Vec::new(), cause };
        self.show(shared, Content::Missed(missed), Publishers::new());
    }

    /// This journal was restored from a copy, or ran twice: under its former id events were
    /// numbered that nobody has.
    pub(crate) fn tell_restored(&mut self, shared: &Shared, former: Origin) {
        self.tell(shared, former, v1::MissedCause::RolledBack);
        self.uncharged = false;
    }

    /// What was told and durable is not there.
    pub(crate) fn tell_again(&mut self, shared: &Shared, missed: Missed) {
        tracing::warn!(?missed, "what was told is lacking at the end: it is told again");
        self.show(shared, Content::Missed(missed), Publishers::new());
        self.uncharged = false;
    }

    /// What was durable at the end of the journal is not there. Of this node's own events it is
    /// known through where: others may hold them. What else it was is pulled again, as far as it
    /// came from others; but it may have been a missed.
    pub(crate) fn tell_lost_end(&mut self, shared: &Shared, own_end: Sequence) {
        let (cause, sites) = (v1::MissedCause::Damaged, Vec::new());
        if own_end > self.own_head {
            let from = self.own_head.plus(1).unwrap_or(self.own_head);
            self.own_head = own_end;
            let origin = self.origin.clone();
            self.frontier.advance(&origin, own_end);
            // They were durable, and nothing moves that but own blocks: who waits for all that was
            // numbered, as a goodbye does, would wait for the next one.
            self.durable_frontier.advance(&origin, own_end);
            self.bases.advance(&origin, own_end);
            let missed = Missed { origin: Some(origin), from, through: own_end, sites, cause };
            self.show(shared, Content::Missed(missed), Publishers::new());
        }
        self.tell_everything(shared, cause);
        self.uncharged = false;
    }

    /// Whatever anybody published may be lost.
    pub(super) fn tell_everything(&mut self, shared: &Shared, cause: v1::MissedCause) {
        let (from, through) = (Sequence::ZERO, Sequence::ZERO);
        let missed = Missed { origin: None, from, through, sites: Vec::new(), cause };
        self.show(shared, Content::Missed(missed), Publishers::new());
    }
}
