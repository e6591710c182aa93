//! What an application says on its stream: acknowledge, reject, ping.
//!
//! What crossed a reject on its way here, an acknowledgement or a reject of something behind it,
//! changes nothing: all of that is delivered again.

use std::time::UNIX_EPOCH;

use evermesh_event::Offset;
use evermesh_journal::{Content, Letter};
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_request::Message as Said;
use evermesh_proto::v1::subscribe_response::Message;
use evermesh_telemetry::Refusal;
use tokio::time::Instant;

use super::caught_up::CatchingUp;
use super::rejects::{ATTEMPTS_MAX, Fate};
use super::{Deliver, freshness, unreadable};
use crate::errors::invalid;

/// What a reject may say.
const REASON_BYTES_MAX: usize = 512;

impl Deliver<'_> {
    /// What the application says. `ready` is what it was about to hear.
    pub(super) async fn hear(
        &mut self,
        said: v1::SubscribeRequest,
        ready: &mut Option<Message>,
    ) -> Result<Option<v1::SubscribeResponse>, Refusal> {
        match said.message {
            Some(Said::Acknowledge(applied)) => {
                self.acknowledge(Offset::from_u64(applied.through_offset))?;
                Ok(None)
            }
            Some(Said::Ping(ping)) => {
                let freshness = {
                    let acknowledged = self.window.applied();
                    freshness::freshness(self.local, &self.progress, acknowledged, ping)
                };
                let message = Some(Message::Freshness(freshness));
                Ok(Some(v1::SubscribeResponse { message }))
            }
            Some(Said::Reject(reject)) => {
                if !self.reject(reject).await? {
                    return Ok(None);
                }
                if matches!(ready, Some(Message::CaughtUp(_))) {
                    let (journal, now) = (&self.local.parts.journal, self.local.parts.clock.boot());
                    self.catching_up = Some(CatchingUp::new(journal, now, journal.head()));
                }
                *ready = None;
                Ok(None)
            }
            Some(Said::Open(_)) => {
                Err(invalid("open", "OPENED_ALREADY", "this stream is open; use another one"))
            }
            None => {
                Err(invalid("message", "MESSAGE_UNKNOWN", "nothing that this node knows is set"))
            }
        }
    }

    fn acknowledge(&mut self, through: Offset) -> Result<(), Refusal> {
        if self.window.acknowledge(through).is_none() {
            if self.rejects.again().is_some_and(|again| through <= again.through) {
                // It was on its way when an entry before it was rejected: it will come again.
                return Ok(());
            }
            let delivered = self.window.delivered();
            let message = format!("is {through}, but only {delivered} was delivered");
            return Err(invalid("acknowledge.through_offset", "ACKNOWLEDGE_AHEAD", &message));
        }
        self.progress.acknowledged(through);
        self.progress.settle(&self.window, true);
        self.rejects.acknowledged(through);
        self.traced.acknowledged(through, self.who, self.local.parts.clock.wall());
        self.place.show(&self.window);
        Ok(())
    }

    /// Takes back what was delivered from a rejected entry on. False: nothing was.
    async fn reject(&mut self, reject: v1::Reject) -> Result<bool, Refusal> {
        let offset = Offset::from_u64(reject.offset);
        if reject.reason.len() > REASON_BYTES_MAX {
            let length = reject.reason.len();
            let message = format!("has {length} bytes, the limit is {REASON_BYTES_MAX}");
            return Err(invalid("reject.reason", "REASON_TOO_LONG", &message));
        }
        if self.rejects.again().is_some_and(|again| offset <= again.through)
            && offset > self.window.delivered()
        {
            // It was on its way when an entry before it was rejected: it will come again.
            return Ok(false);
        }
        if !self.window.holds(offset) {
            let message = format!("is {offset}, which does not wait for an acknowledgement");
            return Err(invalid("reject.offset", "REJECT_UNKNOWN", &message));
        }
        match self.rejects.reject(offset, self.window.delivered()) {
            Fate::Later(delay) => self.delayed_until = Some(Instant::now() + delay),
            Fate::Exhausted => self.set_aside(offset, reject.reason).await?,
        }
        let before = self.window.rewind(offset);
        self.reader = self.local.parts.journal.reader(before);
        self.batches.rewind(before);
        self.progress.rewind(before);
        self.traced.rewind(before);
        self.place.show(&self.window);
        Ok(true)
    }

    /// Keeps an entry as a dead letter. A missed is none: it is delivered until it is taken. Nor is
    /// what was replaced or cut meanwhile: the stream ends where it would come again.
    async fn set_aside(&mut self, offset: Offset, reason: String) -> Result<(), Refusal> {
        let before = Offset::from_u64(offset.as_u64().saturating_sub(1));
        let mut reader = self.local.parts.journal.reader(before);
        let records = reader.next(1).await.map_err(|error| unreadable(&error))?;
        let record = records.into_iter().find(|record| record.end() >= offset);
        let Some((record, Content::Block { block, .. })) =
            record.as_ref().map(|record| (record, &record.content))
        else {
            return Ok(());
        };
        let Some((_, entry)) = record.taken_entries().find(|(at, _)| *at == offset) else {
            return Ok(());
        };
        let now = self.local.parts.clock.wall();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = self.begin.name.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
        tracing::warn!(
            who = %self.who.text(), name, %offset, origin = %block.origin(), reason,
            "rejected {ATTEMPTS_MAX} times: the event is set aside, and told as missed"
        );
        self.local.parts.journal.set_aside(Letter {
            number: 0,
            identity: self.who.text().to_string(),
            name,
            offset,
            origin: block.origin().clone(),
            entry: entry.encode(),
            attempts: ATTEMPTS_MAX,
            reason,
            set_aside_ms: u64::try_from(since.as_millis()).unwrap_or_default(),
        });
        self.rejects.set_aside(offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
