//! Publishers: one call for each batch, or a stream of them. Each tries until it is stored, under
//! the same ids or counters, and asks a fence now and then. Where nothing is stored it asks for
//! less, and once the mesh is healed for no more than to be accepted.

use std::collections::VecDeque;
use std::time::Duration;

use evermesh_event::FenceToken;
use evermesh_proto::v1;
use evermesh_proto::v1::publish_stream_request::Message as Say;
use evermesh_proto::v1::publish_stream_response::Message as Heard;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{AGAIN, CALL_DEADLINE, Node, OriginText as _, Stage, event, recorded, standings};
use crate::checker::{Number, Sure, Taken, What};
use crate::standstill::Standstill;
use crate::world::{Seeded, elapsed};

/// How long a call waits for its assurance.
const WAIT: Duration = Duration::from_millis(1800);
/// The most events of one batch.
const BATCH_MAX: u64 = 4;
/// Of so many keys only the newest event matters.
const KEYS: u64 = 3;
/// After so many batches they are others: what was lost of the former ones nothing newer replaces.
const KEYS_CHANGE: u64 = 8;
/// The data of large ones: a segment is full after a few batches.
const LARGE_BYTES: usize = 4096;
/// Batches of a stream that wait for their assurance.
const IN_FLIGHT_MAX: usize = 3;

/// What calls ask for.
const ON_DISK: [v1::Assurance; 5] = [
    v1::Assurance::Accepted,
    v1::Assurance::Stored,
    v1::Assurance::Stored,
    v1::Assurance::Replicated,
    v1::Assurance::Applied,
];
/// What streams ask for.
const STREAMED: [v1::Assurance; 3] =
    [v1::Assurance::Stored, v1::Assurance::Replicated, v1::Assurance::Applied];
/// What both ask for of a node that stores nothing: it refuses the others.
const IN_MEMORY: [v1::Assurance; 3] =
    [v1::Assurance::Accepted, v1::Assurance::Applied, v1::Assurance::Applied];

/// What a publisher does.
#[derive(Debug)]
pub struct Publisher {
    /// Names it and its events.
    pub name: String,
    /// Where it publishes.
    pub host: String,
    /// The sites that it publishes to.
    pub sites: Vec<&'static str>,
    /// A stream instead of calls.
    pub streams: bool,
    /// The longest pause between two batches, in milliseconds.
    pub pause: u64,
    /// It begins no batch after this.
    pub until: Duration,
    /// Large events, of which each replaces former ones; and half of them need not be stored.
    pub crowds: bool,
    /// Its node keeps no disk.
    pub in_memory: bool,
    /// What it draws from.
    pub random: Seeded,
}

/// A batch that was handed in.
struct Batch {
    events: Vec<v1::Event>,
    last_counter: u64,
}

impl Publisher {
    /// Publishes until its time is over and everything is stored.
    pub async fn run(self, stage: Stage, machine: Standstill) {
        let _busy = stage.count(|phases| &phases.busy);
        let mut node = Node::new(&self.host, &machine);
        if self.streams {
            self.stream(&stage, &mut node).await;
        } else {
            self.call(&stage, &mut node).await;
        }
    }

    fn batch(&self, round: u64) -> Vec<v1::Event> {
        let site = self.random.one_of(&self.sites).unwrap_or_default();
        let count = 1 + self.random.below(BATCH_MAX);
        let source = if self.random.once_in(3) { self.name.as_str() } else { "" };
        let replaces = self.random.once_in(3) || self.crowds;
        let keys = round / KEYS_CHANGE * KEYS;
        let made = (0..count).map(|n| {
            let mut event = event(format!("{}-{round}-{n}", self.name), site, source);
            if self.crowds {
                event.data = vec![b'.'; LARGE_BYTES].into();
            }
            if replaces {
                event.coalesce = true;
                event.key = format!("key-{}", keys + self.random.below(KEYS));
            }
            event
        });
        made.collect()
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(5 + self.random.below(self.pause))).await;
    }

    fn hand_in(&self, stage: &Stage, events: &[v1::Event], must: bool) {
        let (node, events) = (self.host.clone(), events.iter().map(recorded).collect());
        stage.recorder().say(What::Publishing { node, events, must });
    }

    async fn call(&self, stage: &Stage, node: &mut Node) {
        let levels: &[_] = if self.in_memory { &IN_MEMORY } else { &ON_DISK };
        let mut round = 0;
        while elapsed() < self.until {
            round += 1;
            let events = self.batch(round);
            let hasty = self.crowds && self.random.once_in(2);
            let drawn = if hasty { None } else { self.random.one_of(levels) };
            let until = drawn.unwrap_or(v1::Assurance::Accepted);
            let must = until >= v1::Assurance::Stored;
            self.hand_in(stage, &events, must && !self.in_memory);
            let mut token = None;
            while !self.try_call(stage, node, &events, until, &mut token).await && must {
                if self.in_memory && stage.healed() {
                    // Nobody says how soon streams that were cut are noticed.
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
            if let Some(token) = token.filter(|_| self.random.once_in(3)) {
                node.fence(stage.recorder(), token, WAIT, false).await;
            }
            self.pause().await;
        }
    }

    /// True once everything is stored.
    async fn try_call(
        &self,
        stage: &Stage,
        node: &mut Node,
        events: &[v1::Event],
        until: v1::Assurance,
        token: &mut Option<v1::FenceToken>,
    ) -> bool {
        let Some(mut client) = node.client().await else { return false };
        let wait_for = WAIT.try_into().ok();
        let (events, until) = (events.to_vec(), until.into());
        let request = v1::PublishRequest { events, until, wait_for, ..Default::default() };
        let answer = tokio::time::timeout(CALL_DEADLINE, client.publish(request)).await;
        let Ok(Ok(answer)) = answer else {
            node.trouble();
            return false;
        };
        let answer = answer.into_inner();
        let Some(assured) = sure(answer.assured()) else { return false };
        let results = answer.results.iter().filter_map(|result| match &result.outcome {
            Some(v1::publish_result::Outcome::Taken(taken)) => Some(taken),
            _ => None,
        });
        *token = answer.results.last().and_then(|result| match &result.outcome {
            Some(v1::publish_result::Outcome::Taken(taken)) => taken.fence_token.clone(),
            _ => None,
        });
        let taken: Vec<_> = results
            .map(|taken| Taken {
                id: taken.id.clone(),
                number: taken.fence_token.as_ref().and_then(number),
            })
            .collect();
        let all = taken.len() == answer.results.len();
        let members = standings(answer.members);
        let node = self.host.clone();
        stage.recorder().say(What::Published { node, assured, taken, newest: None, members });
        all && assured >= Sure::Stored
    }

    async fn stream(&self, stage: &Stage, node: &mut Node) {
        let least = if self.in_memory { v1::Assurance::Accepted } else { v1::Assurance::Stored };
        let levels: &[_] = if self.in_memory { &IN_MEMORY } else { &STREAMED };
        let mut pending = VecDeque::<Batch>::new();
        let (mut counter, mut round) = (0, 0);
        while elapsed() < self.until || !pending.is_empty() {
            let until = self.random.one_of(levels).unwrap_or(least);
            // Nobody waits for ever for a mesh that is not whole.
            let until = if stage.healed() { least } else { until };
            let stay = Duration::from_millis(500 + self.random.below(3000));
            let place = (&mut counter, &mut round);
            let open = self.one_stream(stage, node, until, &mut pending, place);
            let _ = tokio::time::timeout(stay, open).await;
            node.trouble();
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One stream, until it ends: everything that waits is handed in again, then more.
    async fn one_stream(
        &self,
        stage: &Stage,
        node: &mut Node,
        until: v1::Assurance,
        pending: &mut VecDeque<Batch>,
        (counter, round): (&mut u64, &mut u64),
    ) -> Option<()> {
        let (say, said) = mpsc::channel(IN_FLIGHT_MAX + 1);
        let (producer, level) = (self.name.clone(), until.into());
        let open = Say::Open(v1::PublishStreamOpen { producer, until: level });
        say.send(v1::PublishStreamRequest { message: Some(open) }).await.ok()?;
        let mut client = node.client().await?;
        let mut heard = client.publish_stream(ReceiverStream::new(said)).await.ok()?.into_inner();
        heard.message().await.ok()??;
        for batch in pending.iter() {
            say.send(batch.request()).await.ok()?;
        }
        loop {
            if pending.len() < IN_FLIGHT_MAX && elapsed() < self.until {
                *round += 1;
                let events = self.batch(*round);
                self.hand_in(stage, &events, !self.in_memory);
                *counter += u64::try_from(events.len()).unwrap_or_default();
                pending.push_back(Batch { events, last_counter: *counter });
                say.send(pending.back()?.request()).await.ok()?;
                self.pause().await;
            }
            if pending.is_empty() {
                return None;
            }
            if pending.len() < IN_FLIGHT_MAX && elapsed() < self.until {
                continue;
            }
            match heard.message().await.ok()??.message? {
                Heard::Assured(assured) => self.assured(stage, until, pending, &assured),
                // Every event is valid here: what is refused is refused for now.
                Heard::Refused(_) | Heard::Opened(_) => return None,
            }
        }
    }

    fn assured(
        &self,
        stage: &Stage,
        until: v1::Assurance,
        pending: &mut VecDeque<Batch>,
        heard: &v1::PublishStreamAssured,
    ) {
        let mut taken = Vec::new();
        while let Some(batch) =
            pending.pop_front_if(|batch| batch.last_counter <= heard.through_counter)
        {
            let ids = batch.events.into_iter().map(|event| event.id);
            taken.extend(ids.map(|id| Taken { id, number: None }));
        }
        if let (Some(assured), false) = (sure(until), taken.is_empty()) {
            let (node, members) = (self.host.clone(), Vec::new());
            let newest = heard.fence_token.as_ref().and_then(number);
            stage.recorder().say(What::Published { node, assured, taken, newest, members });
        }
    }
}

impl Batch {
    fn request(&self) -> v1::PublishStreamRequest {
        let events = self.events.clone();
        let count = u64::try_from(events.len()).unwrap_or_default();
        let first_counter = self.last_counter + 1 - count;
        let events = v1::PublishStreamEvents { first_counter, events };
        v1::PublishStreamRequest { message: Some(Say::Events(events)) }
    }
}

/// An assurance; `None` if there is none.
pub(crate) const fn sure(assured: v1::Assurance) -> Option<Sure> {
    match assured {
        v1::Assurance::Unspecified => None,
        v1::Assurance::Accepted => Some(Sure::Accepted),
        v1::Assurance::Stored => Some(Sure::Stored),
        v1::Assurance::Replicated => Some(Sure::Replicated),
        v1::Assurance::Applied => Some(Sure::Applied),
    }
}

/// The number that a fence token names.
pub(crate) fn number(token: &v1::FenceToken) -> Option<Number> {
    let token = FenceToken::from_proto(token).ok()?;
    Some(Number { origin: token.origin.text(), sequence: token.sequence.as_u64() })
}
