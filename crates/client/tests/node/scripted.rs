//! A node that does nothing by itself: every call is handed to the test, which answers it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use evermesh_client::{Client, Credentials};
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_server::{EventReplication, EventReplicationServer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// A call of Publish, waiting for its answer.
pub(crate) struct Published {
    pub(crate) request: v1::PublishRequest,
    pub(crate) answer: oneshot::Sender<Result<v1::PublishResponse, Status>>,
}

impl Published {
    /// Takes every event, STORED.
    pub(crate) fn take(self, duplicate: bool) -> Vec<String> {
        let ids: Vec<_> = self.request.events.iter().map(|event| event.id.clone()).collect();
        let result = |id: &String| v1::PublishResult {
            outcome: Some(v1::publish_result::Outcome::Taken(v1::Taken {
                id: id.clone(),
                fence_token: Some(v1::FenceToken {
                    origin: Some(v1::Origin { node: "web-1".into(), journal: vec![7; 16].into() }),
                    sequence: 9,
                    site: "shop".into(),
                }),
                duplicate,
            })),
        };
        let results = ids.iter().map(result).collect();
        let assured = v1::Assurance::Stored.into();
        // The publisher may have gone away.
        let _ = self.answer.send(Ok(v1::PublishResponse { results, assured, members: vec![] }));
        ids
    }
}

/// A stream of Subscribe.
pub(crate) struct Subscribed {
    heard: Streaming<v1::SubscribeRequest>,
    say: mpsc::Sender<Result<v1::SubscribeResponse, Status>>,
}

impl Subscribed {
    /// What the subscriber says next beside pings; `None` at its end.
    pub(crate) async fn heard(&mut self) -> Option<v1::subscribe_request::Message> {
        loop {
            let said = self.heard.message().await.unwrap()?.message;
            if !matches!(said, Some(v1::subscribe_request::Message::Ping(_))) {
                return said;
            }
        }
    }

    /// The number of the next ping.
    pub(crate) async fn heard_ping(&mut self) -> u64 {
        loop {
            let said = self.heard.message().await.unwrap().unwrap().message;
            if let Some(v1::subscribe_request::Message::Ping(ping)) = said {
                return ping.number;
            }
        }
    }

    pub(crate) async fn heard_open(&mut self) -> v1::SubscribeOpen {
        match self.heard().await {
            Some(v1::subscribe_request::Message::Open(open)) => open,
            other => panic!("not an opening: {other:?}"),
        }
    }

    pub(crate) async fn heard_acknowledge(&mut self) -> u64 {
        match self.heard().await {
            Some(v1::subscribe_request::Message::Acknowledge(said)) => said.through_offset,
            other => panic!("not an acknowledgement: {other:?}"),
        }
    }

    pub(crate) async fn say(&self, message: v1::subscribe_response::Message) {
        self.say.send(Ok(v1::SubscribeResponse { message: Some(message) })).await.unwrap();
    }

    pub(crate) async fn fail(self, status: Status) {
        self.say.send(Err(status)).await.unwrap();
    }

    /// Opens it in this run, after this offset.
    pub(crate) async fn opened(&self, run: u8, offset: u64) {
        let opened =
            v1::SubscribeOpened { run: vec![run; 32].into(), offset, node: "web-1".into() };
        self.say(v1::subscribe_response::Message::Opened(opened)).await;
    }

    /// Delivers events whose keys are their offsets.
    pub(crate) async fn deliver(&self, offsets: &[u64]) {
        let mut delivery = v1::Delivery::default();
        delivery.origin = Some(v1::Origin { node: "web-1".into(), journal: vec![7; 16].into() });
        delivery.first_offset = offsets[0];
        delivery.offsets = offsets.to_vec();
        delivery.attempt = 1;
        for offset in offsets {
            let event = v1::Event { key: offset.to_string(), ..Default::default() };
            let entry = v1::Entry { sequence: *offset, event: Some(event) };
            let body = prost::Message::encode_length_delimited_to_vec(&entry);
            delivery.splice([vec![v1::Delivery::ENTRY_TAG], body].concat().into());
        }
        self.say(v1::subscribe_response::Message::Delivery(delivery)).await;
    }
}

/// A stream of PublishStream.
pub(crate) struct Produced {
    heard: Streaming<v1::PublishStreamRequest>,
    say: mpsc::Sender<Result<v1::PublishStreamResponse, Status>>,
}

impl Produced {
    /// The producer that opens it, which is told the highest counter.
    pub(crate) async fn opened(&mut self, highest_counter: u64) -> v1::PublishStreamOpen {
        let opened = v1::PublishStreamOpened { highest_counter };
        self.say(v1::publish_stream_response::Message::Opened(opened)).await;
        match self.heard.message().await.unwrap().unwrap().message {
            Some(v1::publish_stream_request::Message::Open(open)) => open,
            other => panic!("not an opening: {other:?}"),
        }
    }

    /// The next so many events: counters and ids.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<(u64, String)> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.heard.message().await.unwrap().unwrap().message {
                Some(v1::publish_stream_request::Message::Events(group)) => {
                    let ids = group.events.into_iter().map(|event| event.id);
                    events.extend((group.first_counter..).zip(ids));
                }
                other => panic!("not events: {other:?}"),
            }
        }
        events
    }

    pub(crate) async fn assured(&self, through_counter: u64) {
        let assured = v1::PublishStreamAssured { through_counter, fence_token: None };
        self.say(v1::publish_stream_response::Message::Assured(assured)).await;
    }

    pub(crate) async fn refused(&self, counter: u64) {
        let why = v1::Refused { reason: "SITE_MISSING".into(), ..Default::default() };
        let refused = v1::PublishStreamRefused { counter, refused: Some(why) };
        self.say(v1::publish_stream_response::Message::Refused(refused)).await;
    }

    pub(crate) async fn fail(self, status: Status) {
        self.say.send(Err(status)).await.unwrap();
    }

    async fn say(&self, message: v1::publish_stream_response::Message) {
        self.say.send(Ok(v1::PublishStreamResponse { message: Some(message) })).await.unwrap();
    }
}

#[derive(Clone)]
struct Calls {
    publish: mpsc::Sender<Published>,
    produce: mpsc::Sender<Produced>,
    subscribe: mpsc::Sender<Subscribed>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;
type Answers = Pin<Box<dyn Stream<Item = Result<v1::PublishStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EventReplication for Calls {
    type PublishStreamStream = Answers;
    type SubscribeStream = Responses;

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        let call = Published { request: request.into_inner(), answer };
        self.publish.send(call).await.map_err(|_| Status::internal("the test is over"))?;
        answered.await.unwrap_or_else(|_| Err(Status::internal("not answered"))).map(Response::new)
    }

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (say, said) = mpsc::channel(16);
        let call = Subscribed { heard: request.into_inner(), say };
        self.subscribe.send(call).await.map_err(|_| Status::internal("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (say, said) = mpsc::channel(16);
        let call = Produced { heard: request.into_inner(), say };
        self.produce.send(call).await.map_err(|_| Status::internal("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn fence(
        &self,
        _: Request<v1::FenceRequest>,
    ) -> Result<Response<v1::FenceResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_limits(
        &self,
        _: Request<v1::GetLimitsRequest>,
    ) -> Result<Response<v1::GetLimitsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A node with a runtime of its own, so that killing it drops every connection at once.
pub(crate) struct Node {
    runtime: Option<Runtime>,
    publish: mpsc::Receiver<Published>,
    produce: mpsc::Receiver<Produced>,
    subscribe: mpsc::Receiver<Subscribed>,
}

impl Node {
    /// On a unix socket; replaces what a killed one left there.
    pub(crate) fn start(socket: &Path) -> Self {
        let _ = std::fs::remove_file(socket);
        let socket = socket.to_owned();
        Self::run(move || UnixListenerStream::new(UnixListener::bind(socket).unwrap()))
    }

    /// On a free port of loopback, with TLS; also gives the port.
    pub(crate) fn start_tls(server: Arc<tokio_rustls::rustls::ServerConfig>) -> (Self, u16) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(server);
        let node = Self::run(move || {
            TcpListenerStream::new(TcpListener::from_std(listener).unwrap())
                .then(move |stream| secure(stream, acceptor.clone()))
                .filter(Result::is_ok)
        });
        (node, port)
    }

    fn run<S, I>(listen: impl FnOnce() -> S) -> Self
    where
        S: Stream<Item = io::Result<I>> + Send + 'static,
        I: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let (publish, published) = mpsc::channel(16);
        let (produce, produced) = mpsc::channel(16);
        let (subscribe, subscribed) = mpsc::channel(16);
        let listening = {
            let _inside = runtime.enter();
            listen()
        };
        let service = EventReplicationServer::new(Calls { publish, produce, subscribe });
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(listening));
        Self {
            runtime: Some(runtime),
            publish: published,
            produce: produced,
            subscribe: subscribed,
        }
    }

    pub(crate) async fn published(&mut self) -> Published {
        self.publish.recv().await.unwrap()
    }

    /// Whether a call of Publish waits.
    pub(crate) fn has_published(&mut self) -> bool {
        !self.publish.is_empty()
    }

    pub(crate) async fn produced(&mut self) -> Produced {
        self.produce.recv().await.unwrap()
    }

    pub(crate) async fn subscribed(&mut self) -> Subscribed {
        self.subscribe.recv().await.unwrap()
    }

    /// SIGKILL: everything ends where it is.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server's side of TLS, behind a pipe: tonic knows how to serve those.
async fn secure(stream: io::Result<TcpStream>, acceptor: TlsAcceptor) -> io::Result<DuplexStream> {
    let mut secured = acceptor.accept(stream?).await?;
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut secured, &mut near).await });
    Ok(far)
}

/// A directory with a place for a socket, and a client of whoever listens there.
pub(crate) struct Place {
    pub(crate) socket: PathBuf,
    pub(crate) client: Client,
    _directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("node.sock");
        let address = format!("unix:{}", socket.display()).parse().unwrap();
        let client = Client::connect(&address, &Credentials::default()).unwrap();
        Self { socket, client, _directory: directory }
    }
}
