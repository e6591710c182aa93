//! Step 6 of the way of one event: one loop for each subscription, from its offset on, filtered,
//! and bounded by what the application has not acknowledged.
//!
//! Always holds: within one stream an entry is sent once, in the order of the journal (P2, P3); a
//! missed before anything later. A subscriber that does not read or acknowledge holds its window
//! and two messages, and nobody else (P8).

use evermesh_event::assurance::Presence;
use evermesh_event::{Filter, Offset, Unacknowledged};
use evermesh_identity::Identity;
use evermesh_journal::{Content, Reader, Record};
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_request::Message as Said;
use evermesh_proto::v1::subscribe_response::Message;
use evermesh_telemetry::Refusal;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use crate::batch::{Batches, Outgoing};
use crate::errors::{draining, invalid, not_yet};
use crate::service::Local;
use crate::subscribe::Begin;
use crate::subscriptions::Place;
use crate::traced::Deliveries;

/// What is read at once: the largest delivery.
const READ_BYTES_MAX: usize = 256 * 1024;

type Answers = mpsc::Sender<Result<v1::SubscribeResponse, Status>>;

/// One subscription.
pub(crate) struct Deliver<'a> {
    local: &'a Local,
    who: &'a Identity,
    filter: Filter,
    window: Unacknowledged,
    reader: Reader,
    batches: Batches,
    /// Everything through here was in the journal when the stream opened; `None`: said.
    caught_up_at: Option<Offset>,
    begin: Begin,
    place: Place,
    traced: Deliveries,
}

impl<'a> Deliver<'a> {
    pub(crate) fn new(
        local: &'a Local,
        who: &'a Identity,
        filter: Filter,
        max_unacknowledged: u32,
        begin: Begin,
        place: Place,
    ) -> Self {
        let journal = &local.parts.journal;
        Self {
            local,
            who,
            filter,
            window: Unacknowledged::new(max_unacknowledged, begin.after),
            reader: journal.reader(begin.after),
            batches: Batches::new(begin.after),
            caught_up_at: Some(journal.head()),
            begin,
            place,
            traced: Deliveries::new(local.parts.spans.clone()),
        }
    }

    /// Delivers until the application or the node ends it.
    pub(crate) async fn run(
        mut self,
        mut said: Streaming<v1::SubscribeRequest>,
        answers: &Answers,
    ) -> Result<(), Refusal> {
        for message in self.opening() {
            if answers.send(Ok(v1::SubscribeResponse { message: Some(message) })).await.is_err() {
                return Ok(());
            }
        }
        // What waits for a place in the channel.
        let mut ready: Option<Message> = None;
        loop {
            if ready.is_none() {
                ready = self.next_message();
            }
            let wants = ready.is_none() && self.batches.is_empty() && self.window.room() > 0;
            tokio::select! {
                biased;
                () = self.local.drain.cancelled() => return Err(draining()),
                message = said.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(answer) = self.hear(message)?
                            && answers.send(Ok(answer)).await.is_err()
                        {
                            return Ok(());
                        }
                    }
                    // It half-closed, or its connection ended: it has heard enough.
                    Ok(None) | Err(_) => return Ok(()),
                },
                place = answers.reserve(), if ready.is_some() => {
                    let Ok(place) = place else { return Ok(()) };
                    place.send(Ok(v1::SubscribeResponse { message: ready.take() }));
                }
                () = answers.closed(), if ready.is_none() => return Ok(()),
                records = self.reader.next(READ_BYTES_MAX), if wants => {
                    let records = records.map_err(|error| unreadable(&error))?;
                    self.note_sampled(&records);
                    self.batches.extend(records);
                }
            }
        }
    }

    fn opening(&self) -> Vec<Message> {
        let journal = &self.local.parts.journal;
        let after = self.begin.after.as_u64();
        let mut messages = vec![Message::Opened(v1::SubscribeOpened {
            run: journal.run().to_bytes(),
            offset: after,
            node: self.local.parts.node.as_str().to_owned(),
        })];
        if let Some(missed) = &self.begin.missed {
            let missed = Some(missed.to_proto());
            messages.push(Message::Missed(v1::MissedNotice { missed, offset: after }));
        }
        messages
    }

    /// What to say next: entries, a missed, or that everything from before the opening was said.
    fn next_message(&mut self) -> Option<Message> {
        while self.window.room() > 0 && !self.batches.is_empty() {
            let outgoing = self.batches.next(&self.filter, self.window.room());
            let message = outgoing.map(|outgoing| self.account(outgoing));
            if self.batches.is_empty() {
                self.window.pass(self.batches.at());
            }
            self.place.show(&self.window);
            if message.is_some() {
                return message;
            }
        }
        let at = self.caught_up_at?;
        if self.batches.at() < at {
            return None;
        }
        self.caught_up_at = None;
        Some(Message::CaughtUp(self.caught_up()))
    }

    fn account(&mut self, outgoing: Outgoing) -> Message {
        match outgoing {
            Outgoing::Delivery { delivery, runs } => {
                runs.iter().for_each(|(first, count)| self.window.deliver(*first, *count));
                Message::Delivery(delivery)
            }
            Outgoing::Missed { missed, offset } => {
                self.window.deliver(offset, 1);
                let missed = Some(missed.to_proto());
                Message::Missed(v1::MissedNotice { missed, offset: offset.as_u64() })
            }
        }
    }

    /// Everything that this node held when the stream opened was delivered. Members that it hears
    /// are named apart from those that it does not: what those published last may be lacking.
    fn caught_up(&self) -> v1::CaughtUp {
        let members = self.local.parts.journal.cursors().snapshot();
        let (here, absent): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| member.presence == Presence::Expected);
        let labels = |members: Vec<evermesh_event::assurance::Replica>| {
            members.into_iter().map(|member| member.label).collect()
        };
        v1::CaughtUp {
            offset: self.window.delivered().as_u64(),
            members: labels(here),
            absent_members: labels(absent),
        }
    }

    /// What the application says.
    fn hear(
        &mut self,
        said: v1::SubscribeRequest,
    ) -> Result<Option<v1::SubscribeResponse>, Refusal> {
        match said.message {
            Some(Said::Acknowledge(applied)) => {
                let through = Offset::from_u64(applied.through_offset);
                if self.window.acknowledge(through).is_none() {
                    let delivered = self.window.delivered();
                    let message = format!("is {through}, but only {delivered} was delivered");
                    let field = "acknowledge.through_offset";
                    return Err(invalid(field, "ACKNOWLEDGE_AHEAD", &message));
                }
                let now = self.local.parts.clock.wall();
                self.traced.acknowledged(through, self.who, now);
                self.place.show(&self.window);
                Ok(None)
            }
            Some(Said::Ping(ping)) => {
                // No lease is passed on yet: an empty list promises nothing of anybody.
                let freshness = v1::Freshness { ping_number: ping.number, leases: Vec::new() };
                let message = Some(Message::Freshness(freshness));
                Ok(Some(v1::SubscribeResponse { message }))
            }
            Some(Said::Reject(_)) => {
                let instead = "end the stream, and open it again with the last resume token";
                Err(not_yet("reject", instead))
            }
            Some(Said::Open(_)) => {
                Err(invalid("open", "OPENED_ALREADY", "this stream is open; use another one"))
            }
            None => {
                Err(invalid("message", "MESSAGE_UNKNOWN", "nothing that this node knows is set"))
            }
        }
    }

    /// Blocks with sampled events are looked into, for the span of each delivery.
    fn note_sampled(&mut self, records: &[std::sync::Arc<Record>]) {
        if !self.traced.enabled() {
            return;
        }
        let now = self.local.parts.clock.wall();
        for record in records {
            let Content::Block { block, .. } = &record.content else { continue };
            if !block.sampled() {
                continue;
            }
            let heard = record.taken_entries().filter(|(_, e)| self.filter.hears(&e.glance()));
            for (offset, entry) in heard.collect::<Vec<_>>() {
                self.traced.sent(offset, block.origin().node.as_str(), entry, now);
            }
        }
    }
}

fn unreadable(error: &evermesh_journal::ReadError) -> Refusal {
    match error {
        evermesh_journal::ReadError::Closed => draining(),
        _ => {
            let message = "this node cannot read its journal; its operator's log names the place";
            Refusal::new(Code::DataLoss, "JOURNAL_DAMAGED", message).because(error)
        }
    }
}
