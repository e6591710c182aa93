//! `GET /v1/applied/FENCE_TOKEN`: has every member, or this node, applied an event?

use evermesh_event::FenceToken;
use evermesh_identity::Identity;
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use http::Response;
use serde_json::json;
use tonic::body::Body;

use crate::answer::{self, Trouble};
use crate::door::{Events, called_by};
use crate::publish::member;
use crate::query::{Query, wrong};

/// Asks; waits as long as the query says, and else not at all.
pub(crate) async fn applied(
    mut events: EventReplicationClient<Events>,
    identity: Option<Identity>,
    token: &str,
    query: Option<&str>,
) -> Result<Response<Body>, Trouble> {
    let query = Query::parse(query, &["wait", "node"])?;
    let this_node_only = match query.one("node") {
        None => false,
        Some("this") => true,
        Some(text) => return Err(wrong("node", text, "`this`, which is all that is known")),
    };
    let token: FenceToken =
        token.parse().map_err(|error| Trouble::invalid("TOKEN_INVALID", format!("{error}")))?;
    let request = v1::FenceRequest {
        fence_token: Some(token.to_proto()),
        wait_for: Some(query.duration("wait")?.unwrap_or_default()),
        this_node_only,
    };
    let done = events.fence(called_by(identity, request)).await?.into_inner();
    let members: Vec<_> = done.members.iter().map(member).collect();
    Ok(answer::json(&json!({ "done": done.done, "members": members })))
}
