//! A port whose connections are pipes in memory, and callers that speak bare HTTP/2 on them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evermesh_event::NodeName;
use evermesh_gate::{
    Admission, Counters, Drain, DrainHandle, Gate, Limits, Listener, Refusal, Remote, Routes,
};
use evermesh_identity::Identity;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Status;

/// Bytes that a pipe holds; small enough that nothing passes by being buffered whole.
const PIPE: usize = 4 << 10;

type Dialled = io::Result<(DuplexStream, Remote)>;

struct Pipes(mpsc::UnboundedReceiver<Dialled>);

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> Dialled {
        match self.0.recv().await {
            Some(dialled) => dialled,
            None => std::future::pending().await,
        }
    }
}

/// Believes that every caller is the member `web-2`.
struct Believing;

impl Admission for Believing {
    type Raw = DuplexStream;
    type Io = DuplexStream;

    async fn admit(&self, raw: DuplexStream) -> Result<(DuplexStream, Identity), Refusal> {
        Ok((raw, Identity::member_named(NodeName::new("web-2").unwrap())))
    }
}

/// A gate that serves, seen from outside.
pub(crate) struct Port {
    dial: mpsc::UnboundedSender<Dialled>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) handle: DrainHandle,
    pub(crate) serving: JoinHandle<()>,
}

impl Port {
    pub(crate) fn open(routes: Routes, limits: Limits) -> Self {
        let (dial, dialled) = mpsc::unbounded_channel();
        let (drain, handle) = Drain::new();
        let counters = Arc::new(Counters::default());
        let gate = Gate { routes, limits, counters: Arc::clone(&counters) };
        let serving = tokio::spawn(gate.serve(Pipes(dialled), Believing, drain));
        Self { dial, counters, handle, serving }
    }

    /// Makes the next accept fail.
    pub(crate) fn fail(&self, error: io::Error) {
        self.dial.send(Err(error)).unwrap();
    }

    /// Whether the listener is still there.
    pub(crate) fn listens(&self) -> bool {
        !self.dial.is_closed()
    }

    /// A connection on which nothing has been said.
    pub(crate) fn dial(&self) -> DuplexStream {
        let (caller, here) = duplex(PIPE);
        self.dial.send(Ok((here, Remote::new("pipe")))).unwrap();
        caller
    }

    pub(crate) async fn caller(&self) -> Caller {
        Caller::speak(self.dial()).await.unwrap()
    }
}

/// One HTTP/2 connection of a client.
pub(crate) struct Caller {
    pub(crate) send: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// What came back, or its trailers-only end.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
}

impl Caller {
    pub(crate) async fn speak<Io>(io: Io) -> Result<Self, h2::Error>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = h2::client::handshake(io).await?;
        Ok(Self { send, connection: tokio::spawn(connection) })
    }

    pub(crate) async fn begin(&self, request: Request<()>) -> Result<ResponseFuture, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        Ok(send.send_request(request, true)?.0)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Response<h2::RecvStream>, h2::Error> {
        self.begin(request(path)).await?.await
    }

    pub(crate) async fn call(&self, path: &str) -> Answer {
        Answer { headers: self.get(path).await.unwrap().into_parts().0.headers }
    }
}

pub(crate) fn request(path: &str) -> Request<()> {
    let uri = format!("http://localhost{path}");
    Request::post(uri).body(()).unwrap()
}

impl Answer {
    pub(crate) fn status(&self) -> Status {
        Status::from_header_map(&self.headers).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn seen(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Lets other tasks run until `holds`, at most for a bounded number of turns.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("did not come about");
}

/// Waits for the end of serving; an hour, which passes at once where time stands still.
pub(crate) async fn ended(serving: JoinHandle<()>) {
    timeout(Duration::from_secs(3_600), serving).await.expect("serving does not end").unwrap();
}
