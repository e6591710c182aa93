//! The publishers of a drill: every event is kept until it is assured, under the same id. At every
//! other node by calls, at the rest by a stream that a next application goes on with.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evermesh_client::{Client, Outcome, Producer, Publisher};
use evermesh_event::verdict::Fate;
use evermesh_proto::v1;
use tokio::time::{Instant, sleep, timeout};

use super::book::{Book, Made};
use super::draw::Draw;
use super::pace::Pace;
use crate::Failure;
use crate::failure::UNAVAILABLE;

/// Events in one call at most, when publishers are behind.
const BATCH_EVENTS: usize = 256;
/// How often is asked what is due.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How long one call tries by itself.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// How long nothing may be assured before it is given up: faults take seconds.
const STALL_MAX: Duration = Duration::from_secs(120);
/// How long an application with a stream lives before the next takes its place.
const LIFE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Between tries to open a stream at a node that is away.
const OPEN_AGAIN: Duration = Duration::from_millis(50);

/// The publisher of one node.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) run: Arc<str>,
    pub(super) node: usize,
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) book: Arc<Book>,
    pub(super) pace: Arc<Pace>,
    pub(super) draw: Draw,
    /// How many events it publishes.
    pub(super) events: usize,
}

impl Publishing {
    /// Publishes everything; returns when all of it is assured.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        if self.node.is_multiple_of(2) { self.by_calls().await } else { self.by_stream().await }
    }

    fn event(&self, number: usize) -> v1::Event {
        let event = Made { run: &self.run, by: ('p', self.node), number }.event();
        self.book.note(&event.site, &event.id, Fate::Unknown);
        event
    }

    fn assured(&self, events: &[v1::Event]) {
        for event in events {
            self.book.note(&event.site, &event.id, Fate::Assured);
        }
        self.book.count(events.len());
    }

    /// The node took nothing for too long.
    fn stalled(&self, since: Instant, why: &str) -> Result<(), Failure> {
        if since.elapsed() < STALL_MAX {
            return Ok(());
        }
        let text = format!("nothing was assured at {} for 120 s: {why}", self.name);
        Err(Failure::new(UNAVAILABLE, text))
    }

    fn refused(&self, refused: &v1::Refused) -> Failure {
        Failure::new(70, format!("{} refused an event: {}", self.name, refused.message))
    }

    async fn by_calls(&self) -> Result<(), Failure> {
        let publisher = Publisher::new(self.client.clone());
        let mut next = 0;
        while next < self.events {
            let due = self.pace.due(self.events);
            if due <= next {
                sleep(ASK_EVERY).await;
                continue;
            }
            let until = due.min(next + BATCH_EVENTS);
            let events: Vec<_> = (next..until).map(|number| self.event(number)).collect();
            self.call(&publisher, &events).await?;
            self.assured(&events);
            next = until;
        }
        Ok(())
    }

    /// Hands in the same events until they are assured.
    async fn call(&self, publisher: &Publisher, events: &[v1::Event]) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let stored = v1::Assurance::Stored;
            let why = match publisher.publish(events.to_vec(), stored, CALL_WITHIN).await {
                Ok(answer) => {
                    for outcome in &answer.outcomes {
                        if let Outcome::Refused(refused) = outcome
                            && refused.retry_after.is_none()
                        {
                            return Err(self.refused(refused));
                        }
                    }
                    let taken = |outcome: &Outcome| matches!(outcome, Outcome::Taken(_));
                    if answer.assured >= stored && answer.outcomes.iter().all(taken) {
                        return Ok(());
                    }
                    "it stores nothing".to_owned()
                }
                Err(error) if error.is_retryable() || error.may_have_happened() => {
                    error.to_string()
                }
                Err(error) => return Err(error.into()),
            };
            self.stalled(since, &why)?;
            sleep(ASK_EVERY).await;
        }
    }

    async fn by_stream(&mut self) -> Result<(), Failure> {
        // The outbox: what is not assured yet, with its counters. It survives the application.
        let mut outbox: VecDeque<(u64, v1::Event)> = VecDeque::new();
        let (mut next, mut progress) = (0, Instant::now());
        while next < self.events || !outbox.is_empty() {
            let mut producer = self.producer(progress).await?;
            for (counter, event) in &outbox {
                self.hand_in(&mut producer, *counter, event.clone()).await?;
            }
            let ends = Instant::now() + self.draw.between(LIFE.0, LIFE.1);
            while Instant::now() < ends && (next < self.events || !outbox.is_empty()) {
                let until = self.pace.due(self.events).min(next + BATCH_EVENTS);
                for number in next..until {
                    let event = self.event(number);
                    // Counters begin with 1.
                    let counter = number as u64 + 1;
                    outbox.push_back((counter, event.clone()));
                    self.hand_in(&mut producer, counter, event).await?;
                }
                next = next.max(until);
                if self.flush(&mut producer, &mut outbox).await? {
                    progress = Instant::now();
                } else if !outbox.is_empty() {
                    self.stalled(progress, "its stream goes on without assuring anything")?;
                }
            }
            // It crashes here: what it handed in and did not hear of, the next one hands in again.
        }
        Ok(())
    }

    /// Waits where too much is unassured.
    async fn hand_in(
        &self,
        producer: &mut Producer,
        counter: u64,
        event: v1::Event,
    ) -> Result<(), Failure> {
        let since = Instant::now();
        match timeout(STALL_MAX, producer.hand_in_at(counter, event)).await {
            Ok(done) => Ok(done?),
            Err(_) => self.stalled(since, "its stream has no room"),
        }
    }

    /// Takes out of the outbox what is assured; says whether there was something.
    async fn flush(
        &self,
        producer: &mut Producer,
        outbox: &mut VecDeque<(u64, v1::Event)>,
    ) -> Result<bool, Failure> {
        let flushed = producer.flush(ASK_EVERY).await?;
        if let Some((_, refused)) = flushed.refused.first() {
            return Err(self.refused(refused));
        }
        let count = outbox.partition_point(|(counter, _)| *counter <= flushed.through_counter);
        let events: Vec<_> = outbox.drain(..count).map(|(_, event)| event).collect();
        self.assured(&events);
        Ok(count > 0)
    }

    async fn producer(&self, progress: Instant) -> Result<Producer, Failure> {
        let name = format!("{}-{}", self.run, self.node + 1);
        loop {
            match Producer::open(self.client.clone(), &name, v1::Assurance::Stored).await {
                Ok(producer) => return Ok(producer),
                Err(error) if error.is_retryable() => {
                    self.stalled(progress, &error.to_string())?;
                    sleep(OPEN_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
