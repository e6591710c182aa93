//! A node whose streams the test holds: it hears what is said, and says what it likes.

use evermesh_door::{Door, Events};
use evermesh_event::{JournalId, NodeName, Origin};
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_server::{EventReplication, EventReplicationServer};
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Result, Status, Streaming};
use tower::ServiceExt as _;

/// The run of every stream: a journal and a start.
pub(crate) const RUN: [u8; 32] = [7; 32];

/// The node's side of one subscription.
pub(crate) struct Stream {
    said: Streaming<v1::SubscribeRequest>,
    say: mpsc::Sender<Result<v1::SubscribeResponse>>,
}

impl Stream {
    /// What the subscriber says next; `None`: it is gone.
    pub(crate) async fn said(&mut self) -> Option<Say> {
        self.said.message().await.ok().flatten().and_then(|request| request.message)
    }

    pub(crate) async fn say(&self, message: Heard) {
        self.say.send(Ok(v1::SubscribeResponse { message: Some(message) })).await.unwrap();
    }

    pub(crate) async fn open(&mut self) -> v1::SubscribeOpen {
        let Some(Say::Open(open)) = self.said().await else { panic!("not opened") };
        let (run, node) = (RUN.to_vec(), "web-1".to_owned());
        self.say(Heard::Opened(v1::SubscribeOpened { run, offset: 9, node })).await;
        open
    }

    /// Delivers events whose key is their offset.
    pub(crate) async fn deliver(&self, first_offset: u64, count: u64, attempt: u32) {
        let entry = |offset: u64| {
            let event = v1::Event { key: format!("/{offset}"), ..Default::default() };
            v1::Entry { sequence: offset, event: Some(event) }
        };
        let node = NodeName::new("web-1").unwrap();
        let origin = Origin { node, journal: JournalId::new([1; 16]) }.to_proto();
        let entries = (first_offset..first_offset + count).map(entry).collect::<Vec<_>>();
        let delivery = v1::Delivery::new(origin, first_offset, Vec::new(), &entries, attempt);
        self.say(Heard::Delivery(delivery)).await;
    }

    pub(crate) async fn caught_up(&self, offset: u64) {
        self.say(Heard::CaughtUp(v1::CaughtUp { offset, ..Default::default() })).await;
    }
}

/// A node that hands each of its streams to the test, and takes every publish.
pub(crate) struct Scripted(mpsc::Sender<Stream>, mpsc::Sender<v1::PublishRequest>);

/// The node, its streams, and what is published at it.
pub(crate) fn node() -> (Events, mpsc::Receiver<Stream>, mpsc::Receiver<v1::PublishRequest>) {
    let (streams, opened) = mpsc::channel(4);
    let (publish, published) = mpsc::channel(16);
    let service = EventReplicationServer::new(Scripted(streams, publish));
    let service = service.map_request(|request: Request<Body>| request);
    (Events::new(service), opened, published)
}

/// Asks a door.
pub(crate) async fn ask(events: &Events, request: Request<Body>) -> Response<Body> {
    Door::new(events.clone()).oneshot(request).await.unwrap()
}

/// Status, reason and all that was answered.
pub(crate) async fn read(answer: Response<Body>) -> (u16, String, String) {
    let reason = answer.headers().get("evermesh-reason").map(|r| r.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, reason.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
}

#[tonic::async_trait]
impl EventReplication for Scripted {
    type SubscribeStream = ReceiverStream<Result<v1::SubscribeResponse>>;
    type PublishStreamStream = ReceiverStream<Result<v1::PublishStreamResponse>>;

    async fn subscribe(
        &self,
        request: tonic::Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<tonic::Response<Self::SubscribeStream>> {
        let (say, heard) = mpsc::channel(16);
        let stream = Stream { said: request.into_inner(), say };
        self.0.send(stream).await.map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(tonic::Response::new(ReceiverStream::new(heard)))
    }

    async fn publish(
        &self,
        request: tonic::Request<v1::PublishRequest>,
    ) -> Result<tonic::Response<v1::PublishResponse>> {
        let _ = self.1.send(request.into_inner()).await;
        Ok(tonic::Response::new(v1::PublishResponse::default()))
    }

    async fn publish_stream(
        &self,
        _: tonic::Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<tonic::Response<Self::PublishStreamStream>> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn fence(
        &self,
        _: tonic::Request<v1::FenceRequest>,
    ) -> Result<tonic::Response<v1::FenceResponse>> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn get_limits(
        &self,
        _: tonic::Request<v1::GetLimitsRequest>,
    ) -> Result<tonic::Response<v1::GetLimitsResponse>> {
        Err(Status::unimplemented("not part of the script"))
    }
}
