//! Step 1 of the way of one event, pipelined: events come in without waiting for each answer, and
//! are assured cumulatively.
//!
//! What makes it safe to begin again is the producer's counter, which the journal keeps beside the
//! events (P5). What is not assured yet is bounded: beyond that nothing more is read, and HTTP/2
//! holds the publisher back. Whatever the journal does not take ends the stream, so that no later
//! event can pass the one that was refused for now.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use evermesh_event::FenceToken;
use evermesh_identity::Identity;
use evermesh_journal::Counted;
use evermesh_proto::v1;
use evermesh_proto::v1::publish_stream_request::Message as Said;
use evermesh_proto::v1::publish_stream_response::Message;
use evermesh_telemetry::Refusal;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::assure::{Changes, Goal};
use crate::errors::{check_word, draining, invalid, not_appended};
use crate::opening;
use crate::publish::{Checked, check, trace, until};
use crate::service::Local;
use crate::traced::Traced;

/// Requests of one stream that wait for their assurance. Each is at most 1 MiB on the wire; what is
/// kept of it is a few words.
const PENDING_MAX: usize = 1024;

type Answers = opening::Answers<v1::PublishStreamResponse>;

/// Answers with a stream at once, and takes events once `open` came.
pub(crate) fn publish_stream(
    local: &Local,
    who: &Identity,
    said: Streaming<v1::PublishStreamRequest>,
) -> Result<ReceiverStream<Result<v1::PublishStreamResponse, Status>>, Refusal> {
    opening::aside(local, who, |local, who, answers| async move {
        run(&local, &who, said, &answers).await
    })
}

async fn run(
    local: &Local,
    who: &Identity,
    mut said: Streaming<v1::PublishStreamRequest>,
    answers: &Answers,
) -> Result<(), Refusal> {
    let open = opening::first(&mut said, |said| match said.message {
        Some(Said::Open(open)) => Some(open),
        _ => None,
    });
    let Some(open) = open.await? else { return Ok(()) };
    check_word("producer", "PRODUCER_INVALID", &open.producer)?;
    let until = until(local, open.until())?;
    let highest_counter = local.parts.journal.highest(who.text(), &open.producer).counter;
    let opened = v1::PublishStreamOpened { highest_counter };
    if !send(answers, Message::Opened(opened)).await {
        return Ok(());
    }
    let producer = open.producer.into();
    Intaking { local, who, producer, until, answers, pending: VecDeque::new() }.run(said).await
}

/// False if the publisher is gone.
async fn send(answers: &Answers, message: Message) -> bool {
    answers.send(Ok(v1::PublishStreamResponse { message: Some(message) })).await.is_ok()
}

/// One request that was handed to the journal and is not assured yet.
struct Pending {
    through_counter: u64,
    goal: Goal,
    /// The newest of its events; `None`: all of them were refused, or taken before.
    newest: Option<FenceToken>,
    begin: SystemTime,
    traced: Vec<Traced>,
    taken: Vec<evermesh_journal::Numbered>,
}

/// One stream.
struct Intaking<'a> {
    local: &'a Local,
    who: &'a Identity,
    producer: Arc<str>,
    until: v1::Assurance,
    answers: &'a Answers,
    pending: VecDeque<Pending>,
}

impl Intaking<'_> {
    /// Takes events until the publisher ends it, and until all of them are assured.
    async fn run(mut self, mut said: Streaming<v1::PublishStreamRequest>) -> Result<(), Refusal> {
        let mut changes = Changes::new(self.local);
        let mut open = true;
        loop {
            changes.seen();
            if let Some(assured) = self.assured()?
                && !send(self.answers, Message::Assured(assured)).await
            {
                return Ok(());
            }
            if !open && self.pending.is_empty() {
                return Ok(());
            }
            tokio::select! {
                () = self.local.drain.cancelled() => return Err(draining()),
                () = self.answers.closed() => return Ok(()),
                () = changes.next(self.local, self.until), if !self.pending.is_empty() => {}
                message = said.message(), if open && self.pending.len() < PENDING_MAX => {
                    match message {
                        Ok(Some(message)) => self.hear(message).await?,
                        // It half-closed, and waits for the rest.
                        Ok(None) => open = false,
                        Err(_) => return Ok(()),
                    }
                }
            }
        }
    }

    async fn hear(&mut self, said: v1::PublishStreamRequest) -> Result<(), Refusal> {
        let Some(Said::Events(said)) = said.message else {
            let message = "after `open` every message must be `events`";
            return Err(invalid("message", "EVENTS_EXPECTED", message));
        };
        let first = said.first_counter;
        let count = u64::try_from(said.events.len()).unwrap_or(u64::MAX);
        let last = first.checked_add(count.saturating_sub(1)).filter(|_| first > 0);
        let last = last.ok_or_else(|| {
            let message = format!("is {first}; the first counter of a producer is 1 or more");
            invalid("events.first_counter", "COUNTER_INVALID", &message)
        })?;
        let begin = self.local.parts.clock.wall();
        let mut checked = check(self.local, self.who, said.events)?;
        let mut counters = Vec::with_capacity(checked.events.len());
        let mut refused = Vec::new();
        for (counter, result) in (first..=last).zip(std::mem::take(&mut checked.results)) {
            match result {
                None => counters.push(counter),
                Some(reason) => refused.push((counter, reason)),
            }
        }
        let pending = self.take(checked, counters, last, begin).await?;
        for (counter, refused) in refused {
            let refused = v1::PublishStreamRefused { counter, refused: Some(refused) };
            if !send(self.answers, Message::Refused(refused)).await {
                return Ok(());
            }
        }
        self.pending.push_back(pending);
        Ok(())
    }

    /// Hands the events of one request to the journal.
    async fn take(
        &self,
        checked: Checked,
        counters: Vec<u64>,
        through_counter: u64,
        begin: SystemTime,
    ) -> Result<Pending, Refusal> {
        let journal = &self.local.parts.journal;
        let counted = Counted { producer: Arc::clone(&self.producer), counters };
        let appended =
            journal.append_counted(self.who.text(), &checked.events, Some(&counted)).await;
        let appended = appended.map_err(not_appended)?;
        let mut newest = checked.events.iter().zip(&appended.taken);
        let newest = newest.rfind(|(_, numbered)| !numbered.duplicate);
        let newest = newest.map(|(intake, numbered)| FenceToken {
            origin: journal.origin().clone(),
            sequence: numbered.sequence,
            site: intake.event.event().site.clone(),
        });
        let sites = checked.sites(&appended);
        let goal = Goal { until: self.until, through: appended.own_through, sites, replicas: 0 };
        let (traced, taken) = (checked.traced, appended.taken);
        Ok(Pending { through_counter, goal, newest, begin, traced, taken })
    }

    /// Everything from the front that is as sure as asked for, in one answer.
    fn assured(&mut self) -> Result<Option<v1::PublishStreamAssured>, Refusal> {
        let mut assured: Option<v1::PublishStreamAssured> = None;
        while let Some(front) = self.pending.front() {
            if front.goal.look(self.local)?.assured < self.until {
                break;
            }
            let Some(front) = self.pending.pop_front() else { break };
            trace(self.local, self.who, front.begin, &front.traced, &front.taken);
            let assured = assured.get_or_insert_default();
            assured.through_counter = front.through_counter;
            if let Some(newest) = front.newest {
                assured.fence_token = Some(newest.to_proto());
            }
        }
        Ok(assured)
    }
}
