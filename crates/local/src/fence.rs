//! Fence: has every member applied everything up to a token? Beside the way of events: it reads
//! cursors, and costs nothing per event.
//!
//! Of a token of this node every member is asked, by what links carried back anyway. Of a token of
//! another node this one can only say whether it applied it itself: the read fence.

use std::collections::BTreeMap;

use evermesh_event::FenceToken;
use evermesh_identity::{Act, Identity};
use evermesh_proto::v1;
use evermesh_proto::v1::MemberStanding;
use evermesh_telemetry::Refusal;
use tokio::time::Instant;
use tonic::Code;

use crate::assure::{Changes, Goal, Took};
use crate::errors::{denied, draining, invalid};
use crate::publish::wait_for;
use crate::service::Local;

/// Answers once it is done, or when the caller waits no longer.
pub(crate) async fn fence(
    local: &Local,
    who: &Identity,
    request: v1::FenceRequest,
) -> Result<v1::FenceResponse, Refusal> {
    if local.drain.is_cancelled() {
        return Err(draining());
    }
    let deadline = Instant::now() + wait_for(request.wait_for.as_ref())?;
    let token = request.fence_token.unwrap_or_default();
    let token = FenceToken::from_proto(&token)
        .map_err(|error| invalid("fence_token", "TOKEN_INVALID", &error.to_string()))?;
    let rules = &local.parts.rules;
    let permitted = rules
        .permits(who, Act::Subscribe, Some(&token.site))
        .or_else(|_| rules.permits(who, Act::Publish, Some(&token.site)));
    permitted.map_err(|error| denied(&error))?;
    if request.this_node_only {
        return here(local, &token, deadline).await;
    }
    let journal = &local.parts.journal;
    if token.origin.node == journal.origin().node && token.origin != *journal.origin() {
        let message = "was given for an event of a former journal of this node, whose disk was \
                       replaced or restored since, or keeps nothing: who applied that event is not \
                       known any more";
        return Err(invalid("fence_token", "FENCE_AHEAD", message));
    }
    if token.origin != *journal.origin() {
        let message = format!(
            "the event was published at {}; ask that node, or ask this one with this_node_only \
             whether it applied the event itself",
            token.origin.node
        );
        return Err(Refusal::new(Code::FailedPrecondition, "FENCE_ELSEWHERE", message));
    }
    if token.sequence > journal.own_head() {
        let (sequence, head) = (token.sequence, journal.own_head());
        let message = format!("is {sequence}, but the newest event of this node is {head}");
        return Err(invalid("fence_token", "FENCE_AHEAD", &message));
    }
    let goal = Goal {
        until: v1::Assurance::Applied,
        through: token.sequence,
        sites: BTreeMap::from([(token.site, token.sequence)]),
        replicas: 0,
    };
    let (assured, members) = goal.reach(local, deadline).await?;
    Ok(v1::FenceResponse { done: assured == v1::Assurance::Applied, members })
}

/// Has this node received it, and has every subscription of the site here acknowledged it?
async fn here(
    local: &Local,
    token: &FenceToken,
    deadline: Instant,
) -> Result<v1::FenceResponse, Refusal> {
    let journal = &local.parts.journal;
    let begin = Instant::now();
    let mut changes = Changes::new(local);
    let mut arrivals = journal.arrivals();
    let mut took = Took::default();
    loop {
        changes.seen();
        arrivals.mark_unchanged();
        let concerns = |site: &str| site.is_empty() || site == token.site;
        let lagging = journal.applied().lagging(&token.origin, token.sequence);
        let applied = journal.frontier().get(&token.origin) >= token.sequence
            && !lagging.iter().any(|(site, _)| concerns(site));
        let standing = if applied { MemberStanding::Applied } else { MemberStanding::Pending };
        let members = vec![(local.parts.node.to_string(), standing)];
        took.note(&members, begin);
        if applied || Instant::now() >= deadline {
            return Ok(v1::FenceResponse { done: applied, members: took.states(members) });
        }
        let changed = async {
            tokio::select! {
                () = changes.next(local, v1::Assurance::Applied) => Ok(()),
                // It shows here before it is durable; applying it does not wait for the disk.
                _ = arrivals.changed() => Ok(()),
                () = local.drain.cancelled() => Err(draining()),
            }
        };
        // A deadline that passed is seen by the next look.
        if let Ok(ended) = tokio::time::timeout_at(deadline, changed).await {
            ended?;
        }
    }
}
