//! The last word of each node on a healed mesh: one event for each site, which everybody must hear,
//! and then a fence, which must be done in time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use evermesh_proto::v1;

use super::publisher::{number, sure};
use super::{AGAIN, CALL_DEADLINE, Node, Stage, event, recorded};
use crate::checker::{Sure, Taken, What};
use crate::node::LEASE;
use crate::standstill::Standstill;
use crate::world::elapsed;

/// What the ids of last words begin with.
pub const LAST_WORD: &str = "last-word-";

/// How long a node may take to notice that nobody is at the other end of a stream: HTTP/2's pings
/// go every 20 s and are waited for 10 s.
const NOTICED_WITHIN: Duration = Duration::from_secs(35);

/// Publishes at one node once the run is to be closed, and fences once it is quiet. `least`: what
/// its node can assure.
pub async fn last_word(
    host: String,
    least: Sure,
    sites: Vec<&'static str>,
    stage: Stage,
    machine: Standstill,
) {
    let _unfenced = stage.count(|phases| &phases.unfenced);
    stage.until(|phases| phases.healed.load(Ordering::Relaxed)).await;
    let healed = elapsed();
    stage.until(|phases| phases.closing.load(Ordering::Relaxed)).await;
    let mut node = Node::new(&host, &machine);
    let id = |site: &&str| event(format!("{LAST_WORD}{host}-{site}"), site, "");
    let events: Vec<_> = sites.iter().map(id).collect();
    let record = events.iter().map(recorded).collect();
    let must = least >= Sure::Stored;
    stage.recorder().say(What::Publishing { node: host.clone(), events: record, must });
    let tokens = loop {
        if let Some(tokens) = publish(&mut node, &events, least, &stage).await {
            break tokens;
        }
        node.trouble();
        tokio::time::sleep(AGAIN).await;
    };
    stage.until(|phases| phases.quiet.load(Ordering::Relaxed)).await;
    for token in tokens {
        // A stream that was cut counts until its node notices: only then is the mesh quiet.
        loop {
            let due = elapsed() > healed + NOTICED_WITHIN;
            match node.fence(stage.recorder(), token.clone(), LEASE * 2, due).await {
                Some(done) if done || due => break,
                Some(_) => {}
                None => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

async fn publish(
    node: &mut Node,
    events: &[v1::Event],
    least: Sure,
    stage: &Stage,
) -> Option<Vec<v1::FenceToken>> {
    let mut client = node.client().await?;
    let until = if least >= Sure::Stored { v1::Assurance::Stored } else { v1::Assurance::Accepted };
    let (events, until) = (events.to_vec(), until.into());
    let request = v1::PublishRequest { events, until, ..Default::default() };
    let answer = tokio::time::timeout(CALL_DEADLINE, client.publish(request)).await;
    let answer = answer.ok()?.ok()?.into_inner();
    let assured = sure(answer.assured()).filter(|sure| *sure >= least)?;
    let of = |result: v1::PublishResult| match result.outcome {
        Some(v1::publish_result::Outcome::Taken(taken)) => Some((taken.id, taken.fence_token?)),
        _ => None,
    };
    let tokens: Vec<_> = answer.results.into_iter().map(of).collect::<Option<_>>()?;
    let taken = tokens.iter().map(|(id, token)| Taken { id: id.clone(), number: number(token) });
    let (node, taken) = (node.host.clone(), taken.collect());
    stage.recorder().say(What::Published {
        node,
        assured,
        taken,
        newest: None,
        members: Vec::new(),
    });
    Some(tokens.into_iter().map(|(_, token)| token).collect())
}
