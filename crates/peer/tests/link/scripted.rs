//! A node with everything between nodes, and a peer `web-2` that does what a script says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use evermesh_event::world::{Clock, Random};
use evermesh_event::{Block, Fill, NodeName, Origin, Sequence, validate};
use evermesh_identity::{Identity, Rules};
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Intake, Journal, Limits, Missed, Options, Storage};
use evermesh_peer::{Dial, DialError, Dialer, Dialled, Parts, PeerStatus, Peers};
use evermesh_proto::v1;
use evermesh_proto::v1::mesh_service_client::MeshServiceClient;
use evermesh_proto::v1::mesh_service_server::{MeshService, MeshServiceServer};
use evermesh_telemetry::Spans;
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::InterceptorLayer;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// Between the two ends of a connection.
const PIPE_BYTES: usize = 256 * 1024;
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// What the peer does.
pub(crate) struct Script {
    /// Who it says it is.
    pub(crate) welcome: String,
    /// Under which journal: each of its bytes.
    pub(crate) journal: u8,
    /// What it sends after the welcome, on each link.
    pub(crate) blocks: Vec<Bytes>,
    /// What it says then that it does not hold.
    pub(crate) lacks: Option<Missed>,
    /// It answers pings.
    pub(crate) echoes: bool,
    /// Whom it knows.
    pub(crate) members: Vec<v1::ListedMember>,
    /// Of which other origins it knows.
    pub(crate) knows: Vec<Origin>,
    /// It can be dialled.
    pub(crate) there: bool,
    /// It ends for good once it has sent each block by itself, without listening any more.
    pub(crate) ends: bool,
    /// It ends each link as soon as it has welcomed.
    pub(crate) hangs_up: bool,
}

impl Default for Script {
    fn default() -> Self {
        let (blocks, members, knows) = (Vec::new(), Vec::new(), Vec::new());
        let welcome = "web-2".into();
        let (echoes, there, ends, hangs_up) = (true, true, false, false);
        Self {
            welcome,
            journal: 7,
            blocks,
            lacks: None,
            echoes,
            members,
            knows,
            there,
            ends,
            hangs_up,
        }
    }
}

impl Script {
    fn known(&self) -> impl Iterator<Item = v1::OriginFrontier> {
        let blocks = self.blocks.iter().filter_map(|block| Block::decode(block.clone()).ok());
        let last: BTreeMap<_, _> = blocks.map(|it| (it.origin().clone(), it.last())).collect();
        self.knows.iter().map(move |origin| v1::OriginFrontier {
            origin: Some(origin.to_proto()),
            sequence: last.get(origin).map_or(0, |last| last.as_u64()),
            ..Default::default()
        })
    }

    fn welcome(&self) -> v1::Welcome {
        let journal = Bytes::from(vec![self.journal; 16]);
        let origin = v1::Origin { node: self.welcome.clone(), journal: journal.clone() };
        let start = Bytes::from(vec![1; 16]);
        let seen = v1::StartSeen { epoch: 1, start: start.clone(), durable_head: 0 };
        let own =
            v1::OriginFrontier { origin: Some(origin), starts: vec![seen], ..Default::default() };
        v1::Welcome {
            node: self.welcome.clone(),
            journal,
            start,
            version: 1,
            frontier: self.known().chain([own]).collect(),
            members: self.members.clone(),
        }
    }

    fn says(&self) -> Vec<v1::pull_response::Message> {
        use v1::pull_response::Message;
        let send = |blocks: &[Bytes]| Message::Blocks(v1::Blocks { blocks: blocks.to_vec() });
        let welcome = Message::Welcome(self.welcome());
        if self.hangs_up {
            return vec![welcome];
        }
        if !self.ends {
            let lacks = self
                .lacks
                .iter()
                .map(|lacks| Message::Missed(v1::MissedRange { missed: Some(lacks.to_proto()) }));
            return [welcome, send(&self.blocks)].into_iter().chain(lacks).collect();
        }
        let head = (1 << 40) + self.blocks.len() as u64;
        let goodbye = Message::Goodbye(v1::Goodbye { head, r#final: true, leaves: false });
        let blocks = self.blocks.chunks(1).map(send);
        [welcome].into_iter().chain(blocks).chain([goodbye]).collect()
    }
}

/// What the peer was told.
#[derive(Default)]
struct Told {
    hellos: Vec<v1::Hello>,
    stored: Vec<u64>,
}

#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    told: Arc<Mutex<Told>>,
    /// Links end when it is notified.
    ends: Arc<Notify>,
}

type Answers<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl MeshService for Scripted {
    type PullStream = Answers<v1::PullResponse>;
    type PingStream = Answers<v1::PingResponse>;

    async fn pull(
        &self,
        request: Request<Streaming<v1::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        use v1::pull_request::Message as Said;
        let (answers, stream) = mpsc::channel(4);
        let Self { script, told, ends } = self.clone();
        let mut said = request.into_inner();
        tokio::spawn(async move {
            let (says, last) = {
                let script = script.lock().unwrap();
                (script.says(), script.ends || script.hangs_up)
            };
            if last && let Ok(Some(first)) = said.message().await {
                let Some(Said::Hello(hello)) = first.message else { return };
                told.lock().unwrap().hellos.push(hello);
            }
            for message in says {
                let _ = answers.send(Ok(v1::PullResponse { message: Some(message) })).await;
            }
            if last {
                return;
            }
            loop {
                let request = tokio::select! {
                    () = ends.notified() => return,
                    request = said.message() => request,
                };
                let Ok(Some(request)) = request else { return };
                let mut told = told.lock().unwrap();
                match request.message {
                    Some(Said::Hello(hello)) => told.hellos.push(hello),
                    Some(Said::Watermarks(marks)) => told.stored.extend(
                        marks.stored.iter().map(|m| Sequence::from_u64(m.sequence).counter()),
                    ),
                    _ => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn ping(
        &self,
        request: Request<Streaming<v1::PingRequest>>,
    ) -> Result<Response<Self::PingStream>, Status> {
        let (answers, stream) = mpsc::channel(4);
        let script = self.script.lock().unwrap();
        let (mut said, echoes, ends) = (request.into_inner(), script.echoes, script.ends);
        drop(script);
        tokio::spawn(async move {
            if ends {
                return;
            }
            while let Ok(Some(ping)) = said.message().await {
                let echo = v1::PingResponse { number: ping.number, ..Default::default() };
                if echoes {
                    let _ = answers.send(Ok(echo)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Paused time.
#[derive(Debug)]
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.boot()
    }

    fn boot(&self) -> Duration {
        self.0.elapsed()
    }
}

#[derive(Debug)]
struct Counting(std::sync::atomic::AtomicU8);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(37, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Dials the scripted peer in memory.
#[derive(Clone)]
struct Pipes(Scripted);

impl std::fmt::Debug for Pipes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipes")
    }
}

impl Dialer for Pipes {
    fn dial(&self, _: &str) -> Dial {
        let scripted = self.0.clone();
        Box::pin(async move {
            if !scripted.script.lock().unwrap().there {
                let (address, source) = ("web-2".into(), io::ErrorKind::TimedOut.into());
                return Err(DialError::Connect { address, source });
            }
            let (near, far) = duplex(PIPE_BYTES);
            tokio::spawn(serve(MeshServiceServer::new(scripted), far));
            let identity = Identity::member_named(NodeName::new("web-2").unwrap());
            Ok::<_, DialError>(Dialled { io: Box::new(near), identity })
        })
    }
}

/// Serves one connection whose other end is known to be `web-2`.
async fn serve<M: MeshService>(service: MeshServiceServer<M>, io: DuplexStream) {
    let identity = Identity::member_named(NodeName::new("web-2").unwrap());
    let known = move |mut request: Request<()>| {
        request.extensions_mut().insert(identity.clone());
        Ok(request)
    };
    let incoming = tokio_stream::iter([Ok::<_, io::Error>(io)]);
    let mut server = Server::builder().layer(InterceptorLayer::new(known));
    let _ = server.add_service(service).serve_with_incoming(incoming).await;
}

/// The node under test, `web-1`.
pub(crate) struct Peer {
    pub(crate) journal: Journal,
    pub(crate) peers: Peers,
    script: Arc<Mutex<Script>>,
    told: Arc<Mutex<Told>>,
    ends: Arc<Notify>,
    _stop: tokio_util::sync::DropGuard,
}

impl Peer {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_on(&Arc::new(MemoryDisk::new()), script)
    }

    /// With a journal that takes little.
    pub(crate) fn start_within(limits: Limits) -> Self {
        Self::start_with(&Arc::new(MemoryDisk::new()), limits, Script::default())
    }

    /// On a disk that a former start may have left.
    pub(crate) fn start_on(disk: &Arc<MemoryDisk>, script: Script) -> Self {
        Self::start_with(disk, Limits::default(), script)
    }

    fn start_with(disk: &Arc<MemoryDisk>, limits: Limits, script: Script) -> Self {
        let node = NodeName::new("web-1").unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Paused(tokio::time::Instant::now()));
        let random: Arc<dyn Random> = Arc::new(Counting(Default::default()));
        let (journal, writer) = Journal::open(Options {
            node: node.clone(),
            storage: Arc::clone(disk) as Arc<dyn Storage>,
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
            limits,
        })
        .unwrap();
        tokio::spawn(writer.run());
        let told = Arc::default();
        let script = Arc::new(Mutex::new(script));
        let ends = Arc::<Notify>::default();
        let scripted = Scripted {
            script: Arc::clone(&script),
            told: Arc::clone(&told),
            ends: Arc::clone(&ends),
        };
        let (peers, run) = Peers::new(Parts {
            journal: journal.clone(),
            rules: Arc::new(Rules::new(vec![], vec![], 0).unwrap()),
            clock,
            random,
            spans: Spans::off(),
            node,
            addresses: vec!["https://web-2:7443".into()],
            dialer: Arc::new(Pipes(scripted)),
            lease: LEASE,
            address: None,
            forget_after: Duration::from_secs(86_400),
            credit_bytes: 4 * 1024 * 1024,
        });
        let stop = CancellationToken::new();
        tokio::spawn(run.run(stop.clone()));
        Self { journal, peers, script, told, ends, _stop: stop.drop_guard() }
    }

    /// The peer does something else from now on.
    pub(crate) fn rewrite(&self, write: impl FnOnce(&mut Script)) {
        write(&mut self.script.lock().unwrap());
    }

    /// The link ends; the node dials again.
    pub(crate) fn end_link(&self) {
        self.ends.notify_waiters();
    }

    pub(crate) fn hellos(&self) -> Vec<v1::Hello> {
        self.told.lock().unwrap().hellos.clone()
    }

    pub(crate) fn stored(&self) -> Vec<u64> {
        self.told.lock().unwrap().stored.clone()
    }

    pub(crate) fn status(&self) -> PeerStatus {
        self.peers.status().remove(0)
    }

    pub(crate) fn trouble(&self) -> String {
        self.status().trouble.unwrap_or_default()
    }

    /// Lets simulated time pass until something is so; a minute of it at most.
    pub(crate) async fn until(&self, so: impl Fn(&Self) -> bool) {
        for _ in 0..6_000 {
            if so(self) {
                return;
            }
            tokio::time::advance(Duration::from_millis(10)).await;
            tokio::task::yield_now().await;
        }
        panic!("not within a minute; {:?}", self.status());
    }

    pub(crate) async fn append(&self, id: &str) {
        self.append_event(v1::Event { id: id.into(), ..Default::default() }).await;
    }

    pub(crate) async fn append_event(&self, event: v1::Event) {
        let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..event };
        let fill = Fill { id: uuid::Uuid::nil(), now: SystemTime::UNIX_EPOCH };
        let event = validate(event, fill).unwrap();
        let appended = self
            .journal
            .append(&"me".into(), vec![Intake { event, sampled: false }])
            .await
            .unwrap();
        let mut durable = self.journal.durable();
        durable.wait_for(|durable| durable.own >= appended.own_through).await.unwrap();
    }

    /// A connection to the node under test, as the member `web-2`.
    async fn client(&self) -> MeshServiceClient<Channel> {
        let (near, far) = duplex(PIPE_BYTES);
        tokio::spawn(serve(self.peers.service(), far));
        let mut near = Some(TokioIo::new(near));
        let connector = tower::service_fn(move |_: http::Uri| {
            std::future::ready(near.take().ok_or_else(|| io::Error::other("one connection")))
        });
        let endpoint = Endpoint::from_static("http://node.evermesh");
        MeshServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    }

    /// Pulls as a member with an empty frontier.
    pub(crate) async fn pull(&self, name: &str) -> Result<Streaming<v1::PullResponse>, Status> {
        self.pull_as(name, 2).await
    }

    /// The same under this journal, and in a start that has the same bytes.
    pub(crate) async fn pull_as(
        &self,
        name: &str,
        journal: u8,
    ) -> Result<Streaming<v1::PullResponse>, Status> {
        let hello = v1::Hello {
            node: name.into(),
            journal: vec![journal; 16].into(),
            start: vec![journal; 16].into(),
            version: 1,
            credit_bytes: 1 << 20,
            frontier: self.script.lock().unwrap().known().collect(),
            ..Default::default()
        };
        let (say, said) = mpsc::channel(4);
        let message = Some(v1::pull_request::Message::Hello(hello));
        say.send(v1::PullRequest { message }).await.unwrap();
        // The request stream stays open as long as the test runs.
        std::mem::forget(say);
        Ok(self.client().await.pull(ReceiverStream::new(said)).await?.into_inner())
    }

    /// Pings once as `web-2`, and waits for the echo.
    pub(crate) async fn ping_once(&self) -> MeshServiceClient<Channel> {
        self.ping_as(2).await
    }

    /// The same in a start that has these bytes.
    pub(crate) async fn ping_as(&self, start: u8) -> MeshServiceClient<Channel> {
        let mut client = self.client().await;
        let start = vec![start; 16].into();
        let ping = v1::PingRequest { number: 1, start, ..Default::default() };
        let ping = tokio_stream::iter([ping]);
        let mut echoes = client.ping(ping).await.unwrap().into_inner();
        assert_eq!(echoes.message().await.unwrap().unwrap().number, 1);
        client
    }
}
