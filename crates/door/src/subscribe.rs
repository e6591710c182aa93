//! `GET /v1/events`: what is heard, as server-sent events. Each one's id is its resume token, so a
//! browser or library that reconnects goes on by itself (`Last-Event-ID`).
//!
//! The node is told that something was applied once the connection has taken it: over this door an
//! application cannot say more. Whoever reconnects names its own place, and that one counts (P3).
//! Bounded: one message of the node is turned into text at a time, and read on when it was taken.

use std::time::Duration;

use bytes::Bytes;
use evermesh_event::{Offset, Origin, ResumeToken, Run};
use evermesh_identity::Identity;
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Status, Streaming};

use crate::answer::Trouble;
use crate::door::{Events, called_by};
use crate::object;
use crate::query::{Query, wrong};

/// Proxies and browsers give up on a connection that says nothing; most after a minute.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// What may be said to the node and not yet taken: an acknowledgement says it all.
const SAID_MAX: usize = 4;

/// Opens a subscription and answers with its stream.
pub(crate) async fn subscribe(
    mut events: EventReplicationClient<Events>,
    identity: Option<Identity>,
    head: Parts,
) -> Result<Response<Body>, Trouble> {
    let known = ["site", "type", "exclude_source", "from", "max_unacknowledged"];
    let query = Query::parse(head.uri.query(), &known)?;
    let last = head.headers.get("last-event-id").map(|value| value.to_str());
    let last = last.map(|id| id.map_err(|_| wrong("Last-Event-ID", "?", "a resume token")));
    let from = match last.transpose()?.filter(|id| !id.is_empty()).or_else(|| query.one("from")) {
        None | Some("live") => From::Live(v1::Live {}),
        Some("beginning") => From::Beginning(v1::Beginning {}),
        Some(token) => {
            let token = token.parse::<ResumeToken>();
            From::ResumeToken(
                token.map_err(|e| Trouble::invalid("TOKEN_INVALID", e.to_string()))?.to_proto(),
            )
        }
    };
    let open = v1::SubscribeOpen {
        sites: query.all("site"),
        types: query.all("type"),
        from: Some(from),
        exclude_sources: query.all("exclude_source"),
        max_unacknowledged: query.number("max_unacknowledged")?.unwrap_or_default(),
    };
    let (say, said) = mpsc::channel(SAID_MAX);
    // There is room for the first.
    let _ = say.try_send(v1::SubscribeRequest { message: Some(Say::Open(open)) });
    let said = called_by(identity, ReceiverStream::new(said));
    let mut heard = events.subscribe(said).await?.into_inner();
    let first = heard.message().await?.and_then(|first| first.message);
    let Some(Heard::Opened(opened)) = first else {
        return Err(Status::internal("the subscription did not open").into());
    };
    let run = Run::from_slice(&opened.run).map_err(|error| Status::internal(error.to_string()))?;
    let mut answer = Response::new(Body::new(StreamBody::new(stream::unfold(
        Telling { heard, say, run, taken: None },
        async |mut telling: Telling| Some((telling.next().await?, telling)),
    ))));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Without it nginx would keep back what is small.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(answer)
}

/// One stream, from the node to the connection.
struct Telling {
    heard: Streaming<v1::SubscribeResponse>,
    /// The node has the other end.
    say: mpsc::Sender<v1::SubscribeRequest>,
    run: Run,
    /// What was handed to the connection last.
    taken: Option<u64>,
}

impl Telling {
    /// The next text; `None` at the end. It is asked for once the connection took the last one.
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        if let Some(through_offset) = self.taken.take() {
            let message = Some(Say::Acknowledge(v1::Acknowledge { through_offset }));
            // A node that takes nothing ends the stream.
            let _ = self.say.send(v1::SubscribeRequest { message }).await;
        }
        loop {
            let message = match tokio::time::timeout(COMMENT_EVERY, self.heard.message()).await {
                Err(_) => return Some(Ok(Frame::data(Bytes::from_static(b": still here\n\n")))),
                Ok(Ok(Some(message))) => message.message,
                Ok(Ok(None)) => return None,
                // The text of a stream cannot carry a status: its end says to connect again.
                Ok(Err(_)) => return None,
            };
            if let Some(text) = message.and_then(|message| self.text(message)) {
                return Some(Ok(Frame::data(text)));
            }
        }
    }

    fn text(&mut self, message: Heard) -> Option<Bytes> {
        let run = self.run;
        let at = |offset| ResumeToken { run, offset: Offset::from_u64(offset) };
        let mut text = String::new();
        match message {
            Heard::Delivery(delivery) => {
                let origin = Origin::from_proto(delivery.origin.as_ref()?).ok()?;
                for (place, entry) in delivery.entries().enumerate() {
                    let follows = delivery.first_offset + place as u64;
                    let offset = delivery.offsets.get(place).copied().unwrap_or(follows);
                    let through = at(offset);
                    let object =
                        object::delivered(&entry.ok()?, &origin, delivery.attempt, through);
                    event(&mut text, "event", through, &object);
                    self.taken = Some(offset);
                }
            }
            Heard::Missed(notice) => {
                let missed = notice.missed.unwrap_or_default();
                let through = at(notice.offset);
                event(&mut text, "missed", through, &object::missed(&missed, through));
                self.taken = Some(notice.offset);
            }
            Heard::CaughtUp(caught_up) => {
                let through = at(caught_up.offset);
                event(&mut text, "caught_up", through, &object::caught_up(&caught_up, through));
                self.taken = Some(caught_up.offset);
            }
            Heard::Opened(_) | Heard::Freshness(_) | Heard::TakenOver(_) => {}
        }
        (!text.is_empty()).then(|| text.into())
    }
}

/// One server-sent event. JSON has no line breaks of its own.
fn event(text: &mut String, kind: &str, id: ResumeToken, data: &Value) {
    text.push_str(&format!("id: {id}\nevent: {kind}\ndata: {data}\n\n"));
}
