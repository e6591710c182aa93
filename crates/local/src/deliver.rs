//! Step 6 of the way of one event: one loop for each subscription, from its offset on, filtered,
//! and bounded by what the application has not acknowledged.
//!
//! Always holds: within one stream an entry is sent once, in the order of the journal (P2, P3), but
//! from a rejected one on; a missed before anything later. What was rejected comes again before
//! anything behind it, or the stream ends: the application passes over the rest until then, so
//! going on without it would lose all of that (P1). A subscriber that does not read or
//! acknowledge holds its window and two messages, and nobody else (P8).

pub(crate) mod caught_up;
#[cfg(test)]
mod fixture;
mod freshness;
mod hear;
pub(crate) mod progress;
pub(crate) mod rejects;
mod replaced;

use std::time::Duration;

use evermesh_event::{Filter, Planted, Unacknowledged};
use evermesh_identity::Identity;
use evermesh_journal::{Content, Reader, Record};
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_response::Message;
use evermesh_telemetry::Refusal;
use tokio::time::Instant;
use tonic::{Code, Streaming};

use self::caught_up::CatchingUp;
use self::progress::Progress;
use self::rejects::Rejects;
use crate::batch::{Batches, Outgoing};
use crate::errors::draining;
use crate::opening;
use crate::planted::swap_two;
use crate::service::Local;
use crate::subscribe::Begin;
use crate::subscriptions::Place;
use crate::traced::Deliveries;

/// What is read at once: the largest delivery.
const READ_BYTES_MAX: usize = 256 * 1024;
/// How often is looked whether a member that is late has fallen silent.
const LATE_EVERY: Duration = Duration::from_millis(500);

pub(crate) type Answers = opening::Answers<v1::SubscribeResponse>;

/// One subscription.
pub(crate) struct Deliver<'a> {
    local: &'a Local,
    who: &'a Identity,
    filter: Filter,
    window: Unacknowledged,
    reader: Reader,
    batches: Batches,
    begin: Begin,
    progress: Progress,
    rejects: Rejects,
    /// Nothing is delivered before that.
    delayed_until: Option<Instant>,
    /// `None`: said.
    catching_up: Option<CatchingUp>,
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
        let untold = begin.missed.as_ref().map(|_| begin.after);
        let world = (journal, &local.parts.clock);
        let progress = Progress::new(world, filter.sites(), begin.name.clone(), untold);
        let here = progress.opened_at().unwrap_or_else(|| journal.head());
        let name = begin.name.as_ref().map(|(key, _)| key.as_str());
        let aside = name.map(|name| journal.aside(name, begin.after)).unwrap_or_default();
        let mut deliver = Self {
            local,
            who,
            filter,
            window: Unacknowledged::new(max_unacknowledged, begin.after),
            reader: journal.reader(begin.after),
            batches: Batches::new(begin.after),
            begin,
            progress,
            rejects: Rejects::new(aside),
            delayed_until: None,
            catching_up: Some(CatchingUp::new(journal, local.parts.clock.boot(), here)),
            place,
            traced: Deliveries::new(local.parts.spans.clone()),
        };
        // A live subscription has applied what was here before it.
        deliver.progress.settle(&deliver.window, false);
        deliver
    }

    /// Delivers until the application, a newer stream of its name or the node ends it.
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
        let taken_over = self.place.taken_over();
        let mut echoes = self.local.parts.journal.leases().watch();
        // What waits for a place in the channel.
        let mut ready: Option<Message> = None;
        loop {
            if self.progress.awaits_echo() {
                self.progress.settle(&self.window, false);
            }
            if ready.is_none() {
                ready = self.next_message()?;
            }
            let delayed = self.delayed_until.is_some();
            let empty = ready.is_none() && self.batches.is_empty();
            let wants = empty && self.window.room() > 0 && !delayed;
            let late = self.late();
            let echoes_matter = self.catching_up.is_some() || self.progress.awaits_echo();
            let withheld = self.progress.withheld_for().map(|left| Instant::now() + left);
            tokio::select! {
                biased;
                () = self.local.drain.cancelled() => return Err(draining()),
                () = taken_over.cancelled() => return self.end_taken_over(answers).await,
                message = said.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(answer) = self.hear(message, &mut ready).await?
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
                () = until(self.delayed_until), if delayed => self.delayed_until = None,
                _ = echoes.changed(), if echoes_matter => {}
                () = until(withheld), if withheld.is_some() => {}
                () = until(late), if ready.is_none() && self.catching_up.is_some() => {}
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
        let skipped = journal.planted().is(Planted::SkipMissed);
        if let (Some(missed), false) = (&self.begin.missed, skipped) {
            let missed = Some(missed.to_proto());
            messages.push(Message::Missed(v1::MissedNotice { missed, offset: after }));
        }
        messages
    }

    /// Says who took the durable name, and ends.
    async fn end_taken_over(self, answers: &Answers) -> Result<(), Refusal> {
        // The name belongs to one identity, so it may know that it was itself.
        let by = self.who.text().to_string();
        let message = Some(Message::TakenOver(v1::TakenOver { by }));
        // A reader that does not read is not waited for: its connection ends by itself.
        let answer = Ok(v1::SubscribeResponse { message });
        let _ = answers.send_timeout(answer, Duration::from_secs(1)).await;
        Ok(())
    }

    /// What to say next: entries, a missed, or that everything from before the opening was said.
    fn next_message(&mut self) -> Result<Option<Message>, Refusal> {
        while self.window.room() > 0 && !self.batches.is_empty() && self.delayed_until.is_none() {
            let outgoing = self.batches.next(&self.filter, &self.rejects, self.window.room());
            let said = outgoing.as_ref().map(Outgoing::first);
            let goes_on = self.rejects.goes_on(said, self.batches.at());
            if !goes_on && !self.local.parts.journal.planted().is(Planted::PassRejected) {
                return Err(rejected_gone());
            }
            let message = outgoing.map(|outgoing| self.account(outgoing));
            for passed in self.batches.take_passed() {
                self.progress.pass(passed, &self.window);
            }
            if self.batches.is_empty() {
                self.window.pass(self.batches.at());
                self.progress.settle(&self.window, false);
            }
            self.place.show(&self.window);
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(self.caught_up())
    }

    /// That everything from before the opening was said, once it was.
    fn caught_up(&mut self) -> Option<Message> {
        let (journal, now) = (&self.local.parts.journal, self.local.parts.clock.boot());
        let caught_up = self.catching_up.as_mut()?.look(journal, now, self.batches.at())?;
        self.catching_up = None;
        let offset = self.window.delivered().as_u64();
        Some(Message::CaughtUp(v1::CaughtUp { offset, ..caught_up }))
    }

    /// When to look again for members that are late.
    fn late(&self) -> Option<Instant> {
        let deadline = self.catching_up.as_ref()?.deadline();
        let left = deadline.saturating_sub(self.local.parts.clock.boot());
        Some(Instant::now() + if left.is_zero() { LATE_EVERY } else { left })
    }

    fn account(&mut self, outgoing: Outgoing) -> Message {
        match outgoing {
            Outgoing::Delivery { delivery, runs } => {
                runs.iter().for_each(|(first, count)| self.window.deliver(*first, *count));
                if self.local.parts.journal.planted().is(Planted::SwapTwo) {
                    return Message::Delivery(swap_two(delivery));
                }
                Message::Delivery(delivery)
            }
            Outgoing::Missed { missed, offset } => {
                self.window.deliver(offset, 1);
                let missed = Some(missed.to_proto());
                Message::Missed(v1::MissedNotice { missed, offset: offset.as_u64() })
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

/// At a moment; never, if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The next stream begins after what was acknowledged, and is told what there is in its place.
fn rejected_gone() -> Refusal {
    let message = "the rejected event is not held any more, because a newer one replaced it or the \
                   journal is full; connect again";
    Refusal::new(Code::Unavailable, "REJECTED_GONE", message)
}

fn unreadable(error: &evermesh_journal::ReadError) -> Refusal {
    match error {
        evermesh_journal::ReadError::Closed => draining(),
        // Nothing of what can be read is wrong: the next start serves it.
        evermesh_journal::ReadError::Failed => {
            let message = "this node's disk failed; connect again once it has restarted";
            Refusal::new(Code::Unavailable, "JOURNAL_FAILED", message).because(error)
        }
        _ => {
            let message = "this node cannot read its journal; its operator's log names the place";
            Refusal::new(Code::DataLoss, "JOURNAL_DAMAGED", message).because(error)
        }
    }
}
