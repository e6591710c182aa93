//! What a link hears from its peer: blocks, what is missed, the end of a range, goodbye.
//!
//! Always holds: what comes is appended as it came, and only what is new of it. Nothing is taken
//! of an origin that was not asked for; over a hole nothing is taken at all: the link ends, and the
//! next one asks again from where this node is. The peer's feed says it.

use std::time::SystemTime;

use bytes::Bytes;
use evermesh_event::{Block, Origin, Sequence};
use evermesh_journal::{Missed, Taken};
use evermesh_proto::v1;
use evermesh_proto::v1::pull_response::Message as Heard;
use evermesh_telemetry::{Span, Station};

use super::Link;
use crate::formers;

impl Link<'_> {
    /// Takes what came, or says why the link ends.
    pub(super) async fn hear(&mut self, said: v1::PullResponse) -> Result<(), String> {
        match said.message {
            Some(Heard::Blocks(blocks)) => {
                let arrived = self.shared.parts.clock.wall();
                for block in blocks.blocks {
                    self.credit_due += block.len() as u64;
                    self.take(block, arrived).await?;
                }
                Ok(())
            }
            Some(Heard::Missed(range)) => self.lacks(&range),
            Some(Heard::RangeEnd(end)) => {
                let lacking = self.shared.parts.journal.lacking();
                let goes_on = Sequence::from_u64(end.goes_on);
                self.shared.repair.mend().answered(&self.name, goes_on, &lacking);
                // Another link may ask its peer, or this one for more.
                self.shared.repair.change(|_| {});
                Ok(())
            }
            Some(Heard::Goodbye(goodbye)) => Err(self.goodbye(&goodbye)),
            // Nothing that this version knows.
            Some(Heard::Welcome(_)) | None => Ok(()),
        }
    }

    /// The peer ends its run, its journal or its life in this mesh.
    fn goodbye(&self, goodbye: &v1::Goodbye) -> String {
        let journal = &self.shared.parts.journal;
        let head = Sequence::from_u64(goodbye.head);
        let (origin, here) = (self.origin.clone(), journal.head());
        journal.leases().goodbye(self.name.as_str(), self.hello, origin, head, here);
        if goodbye.r#final {
            journal.journal_ended(&self.origin, head);
        }
        if goodbye.leaves {
            journal.forget_member(&self.name);
            self.shared.members.reconcile(self.shared.parts.clock.boot());
            return "left the mesh".into();
        }
        "said goodbye".into()
    }

    async fn take(&self, encoded: Bytes, arrived: SystemTime) -> Result<(), String> {
        let block = Block::decode(encoded)
            .map_err(|error| format!("sent what is no block: {error}; asks again"))?;
        if self.mending.contains(block.origin()) {
            if self.shared.parts.journal.mend(&block) {
                self.shared.repair.mend().came(&self.name, self.shared.parts.clock.boot());
            }
            if !self.may_send(block.origin()) {
                return Ok(());
            }
        }
        if !self.may_send(block.origin()) {
            return Err(format!("sent events of {}, which were not asked for", block.origin()));
        }
        if *block.origin() != self.origin {
            formers::meet(self.shared, block.origin());
        }
        let sampled = block.sampled() && self.shared.parts.spans.enabled();
        let traced = sampled.then(|| block.clone());
        let origin = block.origin().clone();
        match self.shared.parts.journal.take(block).await {
            Ok(Taken::Appended { skip, .. }) => {
                if let Some(block) = traced {
                    self.trace(&block, skip, arrived);
                }
                Ok(())
            }
            Ok(Taken::Duplicate) => Ok(()),
            Ok(Taken::Hole { at, needed }) => Err(format!(
                "left a hole in {origin}: this node is at {at}, what came goes on from {needed}; \
                 asks again"
            )),
            Err(error) => Err(format!("is not pulled from for now: {error}")),
        }
    }

    fn may_send(&self, origin: &Origin) -> bool {
        origin.node == self.name || self.asked.contains(origin)
    }

    /// The peer does not hold what comes next: others are asked before anything is missed.
    fn lacks(&self, range: &v1::MissedRange) -> Result<(), String> {
        let Some(Ok(missed)) = range.missed.as_ref().map(Missed::from_proto) else {
            return Err("sent a missed that cannot be read".into());
        };
        let Some(origin) = missed.origin.as_ref().filter(|origin| self.may_send(origin)) else {
            return Err("sent a missed of another node, which was not asked for".into());
        };
        tracing::info!(
            peer = %self.name, %origin, from = %missed.from, through = %missed.through,
            "does not hold what is lacking here"
        );
        self.shared.repair.change(|repair| repair.lacks(&self.name, missed));
        Ok(())
    }

    /// The span `evermesh.replicate` of each sampled event: from arrival until it was appended.
    fn trace(&self, block: &Block, skip: u32, begin: SystemTime) {
        let end = self.shared.parts.clock.wall();
        let origin = block.origin().node.as_str();
        for entry in block.entries().skip(skip as usize) {
            let glance = entry.glance();
            if !evermesh_telemetry::sampled(glance.traceparent) {
                continue;
            }
            self.shared.parts.spans.record(&Span {
                station: Station::Replicate,
                traceparent: glance.traceparent,
                begin,
                end,
                site: glance.site,
                event_type: glance.r#type,
                event_id: glance.id,
                origin,
                sequence: &format_args!("{origin}/{}", entry.sequence),
                peer: Some(self.name.as_str()),
                batch: None,
            });
        }
    }
}
