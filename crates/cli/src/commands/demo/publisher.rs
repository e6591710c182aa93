//! The demonstration's publisher: hands events to the first node in batches, several on their way
//! at once, and notes when each event was handed in.

use std::time::{Duration, SystemTime};

use evermesh_client::Client;
use evermesh_event::verdict::{Fate, Published};
use evermesh_proto::v1;
use tokio::task::JoinSet;

use crate::Failure;
use crate::mesh::SITE;

/// Events in one call: large enough that a call's cost does not matter, small enough to keep the
/// latency of a batch low.
const BATCH_EVENTS: usize = 256;
/// Calls on their way at once: with the batch, 4 096 events in flight.
const CALLS_MAX: usize = 16;
/// One payload: what an invalidation with a few tags takes.
const DATA_BYTES: usize = 200;
/// How long one call may take before the demonstration gives up.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// What was published, and when.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) published: Published,
    /// By the event's number: when it was handed in, in microseconds since the epoch.
    pub(super) times: Vec<i64>,
}

/// The id of an event by its number.
pub(super) fn id(number: usize) -> String {
    format!("demo-{number}")
}

/// The number of an event by its id.
pub(super) fn number(id: &str) -> Option<usize> {
    id.strip_prefix("demo-")?.parse().ok()
}

/// Publishes so many events more, and returns when all are STORED.
pub(super) async fn publish(client: &Client, log: &mut Log, count: usize) -> Result<(), Failure> {
    let (mut next, end) = (log.times.len(), log.times.len() + count);
    let mut calls = JoinSet::new();
    while next < end || !calls.is_empty() {
        while next < end && calls.len() < CALLS_MAX {
            let until = (next + BATCH_EVENTS).min(end);
            let events = (next..until).map(event).collect();
            log.times.resize(until, now());
            calls.spawn(call(client.clone(), events));
            next = until;
        }
        let Some(done) = calls.join_next().await else { break };
        let taken = done.map_err(|error| Failure::new(70, error.to_string()))??;
        for id in taken {
            log.published.note(&id, Fate::Assured);
        }
    }
    Ok(())
}

async fn call(client: Client, events: Vec<v1::Event>) -> Result<Vec<String>, Failure> {
    let wanted = events.len();
    let request = v1::PublishRequest { events, ..Default::default() };
    let mut node = client.events();
    let answer = tokio::time::timeout(CALL_DEADLINE, node.publish(request));
    let answer = answer.await.map_err(|_| Failure::new(69, "publishing took longer than 30 s"))?;
    let answer =
        answer.map_err(|status| Failure::new(69, format!("publishing failed: {status}")))?;
    let results = answer.into_inner().results.into_iter();
    let taken: Vec<_> = results
        .filter_map(|result| match result.outcome? {
            v1::publish_result::Outcome::Taken(taken) => Some(taken.id),
            v1::publish_result::Outcome::Refused(_) => None,
        })
        .collect();
    if taken.len() < wanted {
        return Err(Failure::new(70, "the node refused events of the demonstration"));
    }
    Ok(taken)
}

fn event(number: usize) -> v1::Event {
    v1::Event {
        id: id(number),
        site: SITE.into(),
        r#type: "cache.invalidate".into(),
        key: format!("product:{}", number % 10_000),
        source: "demo".into(),
        data: vec![b'x'; DATA_BYTES].into(),
        data_content_type: "text/plain".into(),
        ..Default::default()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
