//! Push: a subscription that the configuration makes, for what speaks HTTP and cannot subscribe:
//! Varnish, PHP, scripts. Each event is one request to a local URL.
//!
//! Always: one request at a time, in order; what was answered 2xx is acknowledged, anything else is
//! rejected, so that retries, their bound and dead letters are those of every subscription. A
//! missed is a request of its own, which is tried until it is answered 2xx. The place is kept under
//! a durable name. A target that is away or slow holds up itself alone (P8).

use std::time::Duration;

use bytes::Bytes;
use evermesh_event::limits::MESSAGE_BYTES_MAX;
use evermesh_identity::Identity;
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::door::{Events, called_by};
use crate::template::{Into, Template};

/// Delivered and not yet answered: requests go one by one, so a few are enough to be never idle.
const UNACKNOWLEDGED_MAX: u32 = 64;
/// What may be said to the node and not yet taken.
const SAID_MAX: usize = 4;
/// Between tries to subscribe, and of a request that says missed.
const PAUSE: Duration = Duration::from_millis(500);
/// What of an answer's reason goes into a reject.
const REASON_CHARS_MAX: usize = 200;

/// One request to be made.
#[derive(Clone, Debug)]
pub struct Target {
    /// `127.0.0.1:6081`.
    pub authority: String,
    /// `PURGE`.
    pub method: Method,
    /// Path and query.
    pub path: Template,
    /// Headers besides `Host`, which is the authority unless it is named here.
    pub headers: Vec<(HeaderName, Template)>,
    /// The body.
    pub body: Template,
}

/// A subscription by configuration.
#[derive(Clone, Debug)]
pub struct Push {
    /// The durable name.
    pub name: String,
    /// The sites to hear; empty: every site.
    pub sites: Vec<String>,
    /// The types to hear; empty: all.
    pub types: Vec<String>,
    /// For each event.
    pub event: Target,
    /// Where events may be lost.
    pub missed: Target,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Push {
    /// Pushes for ever, as this identity. Whoever drops the future ends it, and loses nothing.
    pub async fn run(self, events: Events, identity: Identity) {
        let mut troubled = false;
        loop {
            let why = match self.once(events.clone(), identity.clone()).await {
                Ok(()) => "another stream took its durable name".to_owned(),
                Err(status) => status.message().to_owned(),
            };
            if !std::mem::replace(&mut troubled, true) {
                tracing::warn!(push = self.name, "does not push: {why}; tries again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One stream, to its end.
    async fn once(&self, events: Events, identity: Identity) -> Result<(), tonic::Status> {
        let mut events = EventReplicationClient::new(events)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let open = v1::SubscribeOpen {
            sites: self.sites.clone(),
            types: self.types.clone(),
            from: Some(From::DurableName(self.name.clone())),
            exclude_sources: Vec::new(),
            max_unacknowledged: UNACKNOWLEDGED_MAX,
        };
        let (say, said) = mpsc::channel(SAID_MAX);
        // There is room for the first.
        let _ = say.try_send(v1::SubscribeRequest { message: Some(Say::Open(open)) });
        let said = called_by(Some(identity), ReceiverStream::new(said));
        let heard = events.subscribe(said).await?.into_inner();
        Pushing { push: self, say, rejected: None }.run(heard).await
    }

    async fn send(&self, target: &Target, entry: &v1::Entry) -> Result<(), String> {
        let sending = async {
            let answer = target.send(entry).await?;
            if answer.is_success() {
                return Ok(());
            }
            let reason = answer.canonical_reason().unwrap_or_default();
            Err(format!("{} {reason}", answer.as_u16()))
        };
        let timeout = self.timeout;
        tokio::time::timeout(timeout, sending)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
    }
}

impl Target {
    /// Makes the request on a connection of its own; the body of the answer is read and left.
    async fn send(&self, entry: &v1::Entry) -> Result<http::StatusCode, String> {
        let text = |error: &dyn std::fmt::Display| format!("{}: {error}", self.authority);
        let request = self.request(entry).map_err(|error| text(&error))?;
        let tcp = TcpStream::connect(&self.authority).await.map_err(|error| text(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(|e| text(&e))?;
        // The connection ends once the sender is gone, or the server closed it after its answer.
        let asking = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            Ok::<_, hyper::Error>(status)
        };
        let (answer, _) = tokio::join!(asking, connection);
        answer.map_err(|error| text(&error))
    }

    fn request(&self, entry: &v1::Entry) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = self.path.render(entry, Into::Url);
        let body = Full::new(Bytes::from(self.body.render(entry, Into::Body)));
        let mut request = Request::builder().method(self.method.clone()).uri(path).body(body)?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&self.authority)?);
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(&value.render(entry, Into::Header))?;
            headers.insert(name.clone(), value);
        }
        Ok(request)
    }
}

/// One stream that is pushed.
struct Pushing<'a> {
    push: &'a Push,
    /// The node has the other end.
    say: mpsc::Sender<v1::SubscribeRequest>,
    /// This was rejected, and did not come again yet.
    rejected: Option<u64>,
}

impl Pushing<'_> {
    async fn run(
        mut self,
        mut heard: Streaming<v1::SubscribeResponse>,
    ) -> Result<(), tonic::Status> {
        while let Some(message) = heard.message().await? {
            match message.message {
                Some(Heard::Delivery(delivery)) if self.is_due(delivery.first_offset) => {
                    self.events(&delivery).await;
                }
                Some(Heard::Missed(notice)) if self.is_due(notice.offset) => {
                    self.missed().await;
                    self.acknowledge(notice.offset).await;
                }
                Some(Heard::CaughtUp(caught_up)) if self.is_due(caught_up.offset) => {
                    self.acknowledge(caught_up.offset).await;
                }
                Some(Heard::TakenOver(_)) => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    /// False for what was on its way when something before it was rejected: that comes again.
    fn is_due(&mut self, offset: u64) -> bool {
        self.rejected.take_if(|rejected| offset <= *rejected);
        self.rejected.is_none()
    }

    async fn events(&mut self, delivery: &v1::Delivery) {
        let mut applied = None;
        for (place, entry) in delivery.entries().enumerate() {
            let follows = delivery.first_offset + place as u64;
            let offset = delivery.offsets.get(place).copied().unwrap_or(follows);
            let entry = entry.unwrap_or_default();
            if let Err(reason) = self.push.send(&self.push.event, &entry).await {
                if let Some(applied) = applied {
                    self.acknowledge(applied).await;
                }
                tracing::debug!(
                    push = self.push.name,
                    attempt = delivery.attempt,
                    reason,
                    "rejected"
                );
                let reason = reason.chars().take(REASON_CHARS_MAX).collect();
                self.rejected = Some(offset);
                self.say(Say::Reject(v1::Reject { offset, reason })).await;
                return;
            }
            applied = Some(offset);
        }
        if let Some(applied) = applied {
            self.acknowledge(applied).await;
        }
    }

    /// Says it until somebody took it: what may be stale is worse than what is late.
    async fn missed(&self) {
        let mut told = false;
        while let Err(reason) = self.push.send(&self.push.missed, &v1::Entry::default()).await {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(push = self.push.name, reason, "missed is not taken; tries again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn acknowledge(&self, through_offset: u64) {
        self.say(Say::Acknowledge(v1::Acknowledge { through_offset })).await;
    }

    async fn say(&self, message: Say) {
        // A node that takes nothing ends the stream.
        let _ = self.say.send(v1::SubscribeRequest { message: Some(message) }).await;
    }
}
