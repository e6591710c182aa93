//! `POST /v1/events`: one event or many, as JSON or as CloudEvents.

use std::time::Duration;

use bytes::Bytes;
use evermesh_event::FenceToken;
use evermesh_event::limits::MESSAGE_BYTES_MAX;
use evermesh_identity::Identity;
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use evermesh_proto::v1::publish_result::Outcome;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Map, Value, json};
use tonic::body::Body;

use crate::answer::{self, Trouble};
use crate::cloudevent;
use crate::door::{Events, called_by};
use crate::object::Object;
use crate::query::{Query, wrong};

/// How long a body may take, on a slow line too: 1 MiB within it is 35 KiB a second.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// Before the name of an attribute of a CloudEvent whose data is the body.
const CLOUD_HEADER: &str = "ce-";

/// Hands in events; answers when they are as sure as asked for.
pub(crate) async fn publish(
    mut events: EventReplicationClient<Events>,
    identity: Option<Identity>,
    request: Request<Body>,
) -> Result<Response<Body>, Trouble> {
    let known = ["site", "type", "until", "wait_for", "replicas", "all_or_nothing"];
    let query = Query::parse(request.uri().query(), &known)?;
    let publish = v1::PublishRequest {
        events: Vec::new(),
        until: until(&query)?.into(),
        wait_for: query.duration("wait_for")?,
        replicas: query.number("replicas")?.unwrap_or_default(),
        all_or_nothing: query.flag("all_or_nothing")?,
    };
    let (head, body) = request.into_parts();
    let body = whole(body).await?;
    let defaults = v1::Event {
        site: query.one("site").unwrap_or_default().to_owned(),
        r#type: query.one("type").unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let handed_in = read(&head.headers, &body, &defaults)?;
    let publish = v1::PublishRequest { events: handed_in, ..publish };
    let done = events.publish(called_by(identity, publish)).await?.into_inner();
    Ok(answer::json(&json!({
        "assured": assurance(done.assured()),
        "results": done.results.into_iter().map(result).collect::<Vec<_>>(),
        "members": done.members.iter().map(member).collect::<Vec<_>>(),
    })))
}

/// All of a body, within its limits of size and time.
async fn whole(body: Body) -> Result<Bytes, Trouble> {
    let reading =
        tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MESSAGE_BYTES_MAX).collect());
    let read = reading.await.map_err(|_| {
        let message = format!("the body did not come within {BODY_DEADLINE:?}");
        Trouble::new(StatusCode::REQUEST_TIMEOUT, "BODY_TOO_SLOW", message)
    })?;
    let whole = read.map_err(|error| {
        let message = format!("the body cannot be read: {error}; the limit is 1 MiB");
        Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
    })?;
    Ok(whole.to_bytes())
}

fn until(query: &Query) -> Result<v1::Assurance, Trouble> {
    Ok(match query.one("until") {
        None | Some("stored") => v1::Assurance::Stored,
        Some("accepted") => v1::Assurance::Accepted,
        Some("replicated") => v1::Assurance::Replicated,
        Some("applied") => v1::Assurance::Applied,
        Some(text) => {
            return Err(wrong("until", text, "accepted, stored, replicated or applied"));
        }
    })
}

/// The events of a body, by its content type.
fn read(headers: &HeaderMap, body: &[u8], defaults: &v1::Event) -> Result<Vec<v1::Event>, Trouble> {
    if headers.contains_key("ce-specversion") {
        return binary(headers, body, defaults).map(|event| vec![event]);
    }
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    // It must be said: a page of another site can make a browser that has a certificate send a
    // body, but not one that calls itself JSON.
    let kind = content_type.unwrap_or("nothing").split(';').next().unwrap_or_default();
    match kind.trim() {
        "application/json" => {
            let objects = match first(body) {
                Some(b'[') => parse::<Vec<Object>>(body)?,
                _ => vec![parse::<Object>(body)?],
            };
            each(objects, |object| {
                let mut event = defaults.clone();
                object.fill(&mut event).map(|()| event)
            })
        }
        "application/cloudevents+json" => {
            let cloud = parse::<Map<String, Value>>(body)?;
            each(vec![cloud], |cloud| cloudevent::read(cloud, &defaults.site))
        }
        "application/cloudevents-batch+json" => {
            let clouds = parse::<Vec<Map<String, Value>>>(body)?;
            each(clouds, |cloud| cloudevent::read(cloud, &defaults.site))
        }
        other => {
            let message = format!(
                "`{other:.60}` is not taken here; send application/json, \
                 application/cloudevents+json, application/cloudevents-batch+json, or a CloudEvent \
                 in ce- headers"
            );
            Err(Trouble::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE_UNKNOWN", message))
        }
    }
}

/// A CloudEvent whose attributes are headers and whose data is the body.
fn binary(headers: &HeaderMap, body: &[u8], defaults: &v1::Event) -> Result<v1::Event, Trouble> {
    let mut event = v1::Event { site: defaults.site.clone(), ..Default::default() };
    for (name, value) in headers {
        let own = match name.as_str() {
            "content-type" => "datacontenttype",
            name => match name.strip_prefix(CLOUD_HEADER) {
                None | Some("specversion") => continue,
                Some(name) => name,
            },
        };
        let said = value.to_str().map_err(|_| format!("the header {name} is not ASCII"));
        let set =
            said.and_then(|text| cloudevent::set(&mut event, own.to_owned(), text.to_owned()));
        set.map_err(|message| Trouble::invalid("EVENT_UNREADABLE", message))?;
    }
    event.data = Bytes::copy_from_slice(body);
    Ok(event)
}

fn first(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    serde_json::from_slice(body).map_err(|error| {
        Trouble::invalid("JSON_INVALID", format!("the body is not what is taken here: {error}"))
    })
}

fn each<T>(
    all: Vec<T>,
    mut read: impl FnMut(T) -> Result<v1::Event, String>,
) -> Result<Vec<v1::Event>, Trouble> {
    let named = |(place, object)| {
        read(object).map_err(|error| {
            Trouble::invalid("EVENT_UNREADABLE", format!("events[{place}]: {error}"))
        })
    };
    all.into_iter().enumerate().map(named).collect()
}

fn result(result: v1::PublishResult) -> Value {
    match result.outcome {
        Some(Outcome::Taken(taken)) => {
            let token = taken.fence_token.as_ref().map(FenceToken::from_proto);
            let token = token.and_then(Result::ok).map(|token| token.to_string());
            json!({ "id": taken.id, "fence_token": token, "duplicate": taken.duplicate })
        }
        Some(Outcome::Refused(refused)) => {
            let after = refused.retry_after.and_then(|after| Duration::try_from(after).ok());
            json!({ "refused": {
                "field": refused.field, "reason": refused.reason, "message": refused.message,
                "retry_after_seconds": after.map(|after| after.as_secs_f64()),
            }})
        }
        None => Value::Null,
    }
}

pub(crate) fn assurance(assured: v1::Assurance) -> String {
    let name = assured.as_str_name();
    name.strip_prefix("ASSURANCE_").unwrap_or(name).to_ascii_lowercase()
}

pub(crate) fn member(member: &v1::MemberState) -> Value {
    let name = member.standing().as_str_name();
    let standing = name.strip_prefix("MEMBER_STANDING_").unwrap_or(name).to_ascii_lowercase();
    let took = member.took.and_then(|took| Duration::try_from(took).ok());
    let took = took.map(|took| took.as_secs_f64() * 1000.0);
    json!({ "node": member.node, "standing": standing, "took_ms": took })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tonic::Status;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn p8_a_body_that_does_not_end_is_not_waited_for() {
        let never = stream::pending::<Result<Frame<Bytes>, Status>>();
        let begun = tokio::time::Instant::now();
        assert!(whole(Body::new(StreamBody::new(never))).await.is_err());
        assert_eq!(begun.elapsed(), BODY_DEADLINE);
    }

    #[tokio::test]
    async fn a_body_at_the_limit_is_taken_and_one_beyond_it_is_not() {
        for (length, taken) in [(MESSAGE_BYTES_MAX, true), (MESSAGE_BYTES_MAX + 1, false)] {
            let body = http_body_util::Full::new(Bytes::from(vec![b' '; length]));
            assert_eq!(whole(Body::new(body)).await.is_ok(), taken, "{length}");
        }
    }
}
