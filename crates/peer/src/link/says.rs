//! What a link says to its peer: how far this node is, what it wants, and credit.
//!
//! Always holds: nothing waits to be said but what changed since it was said last, so whatever
//! gathers while the connection is busy is one message. Watermarks go before credit. The
//! peer's feed hears it.

use std::collections::BTreeSet;

use evermesh_event::{Origin, Sequence};
use evermesh_journal::Lacking;
use evermesh_proto::v1;
use evermesh_proto::v1::pull_request::Message;

use super::Link;
use crate::formers;

/// How far this node is in one origin: what is on its disk, or in its memory if it keeps none, and
/// the sites that lag behind that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    stored: Sequence,
    lagging: Vec<(String, Sequence)>,
}

impl Link<'_> {
    /// What this peer is to be asked for, if that is something else than before.
    pub(super) fn wants(&mut self) -> Option<Message> {
        let journal = &self.shared.parts.journal;
        let here = journal.frontier();
        let mut wants = self.shared.repair.wants(&self.name, journal.origin(), &here);
        let now = self.shared.parts.clock.boot();
        let comes = |origin: &Origin| {
            let met = here.contains(origin) || *origin == self.origin;
            let there = || formers::there(self.shared, &origin.node, now);
            !met && self.shared.formers.awaits(self.shared, origin, &there(), now)
        };
        wants.origins.retain(|origin, _| !comes(origin));
        wants.again.retain(|origin| !comes(origin));
        let foreign = wants.origins.keys().filter(|origin| **origin != self.origin);
        let foreign: BTreeSet<_> = foreign.cloned().collect();
        let damaged = self.damaged();
        if wants.again.is_empty() && foreign == self.wanted && damaged.is_none() {
            return None;
        }
        for origin in foreign.difference(&self.wanted) {
            tracing::info!(%origin, from = %self.name, "is out of reach: repairs what is lacking");
        }
        self.shared.repair.told(&self.name, &wants.again);
        self.asked.extend(foreign.iter().cloned());
        self.wanted = foreign;
        let origins = wants.origins.into_iter().map(|(origin, at)| v1::OriginSequence {
            origin: Some(origin.to_proto()),
            sequence: at.as_u64(),
        });
        let ranges = damaged.into_iter().map(|damaged| v1::OriginRange {
            origin: Some(damaged.origin.to_proto()),
            after: damaged.after.as_u64(),
            through: damaged.through.as_u64(),
        });
        Some(Message::Want(v1::Want { origins: origins.collect(), ranges: ranges.collect() }))
    }

    /// What was damaged here and this peer is to be asked for now.
    fn damaged(&mut self) -> Option<Lacking> {
        let lacking = self.shared.parts.journal.lacking();
        if lacking.is_empty() {
            return None;
        }
        let now = self.shared.parts.clock.boot();
        let damaged = self.shared.repair.mend().ask(&self.name, &lacking, now)?;
        tracing::info!(
            peer = %self.name, origin = %damaged.origin, after = %damaged.after,
            through = %damaged.through, "is asked for what is damaged here"
        );
        self.mending.insert(damaged.origin.clone());
        Some(damaged)
    }

    /// What should be said next: the newest watermarks, else credit once it is worth a message.
    pub(super) fn due(&mut self) -> Option<Message> {
        let journal = &self.shared.parts.journal;
        let durable = journal.durable_frontier();
        let mut marks = v1::Watermarks::default();
        for (origin, stored) in durable.iter().filter(|(origin, _)| origin.node == self.name) {
            let now = Said { stored, lagging: journal.applied().lagging(origin, stored) };
            let said = self.said.entry(origin.clone()).or_default();
            if *said == now {
                continue;
            }
            let origin = Some(origin.to_proto());
            marks.applied.extend(now.lagging.iter().map(|(site, at)| v1::SiteSequence {
                origin: origin.clone(),
                site: site.clone(),
                sequence: at.as_u64(),
            }));
            marks.stored.push(v1::OriginSequence { origin, sequence: stored.as_u64() });
            *said = now;
        }
        if !marks.stored.is_empty() {
            return Some(Message::Watermarks(marks));
        }
        if self.credit_due > self.shared.parts.credit_bytes / 4 {
            let bytes = std::mem::take(&mut self.credit_due);
            return Some(Message::Credit(v1::Credit { bytes }));
        }
        None
    }
}
