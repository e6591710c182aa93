//! One admitted connection: HTTP/2 or HTTP/1.1, its calls, its end.
//!
//! Comes after `preface`. Every call gets the connection's [`Identity`] and [`Remote`], and its
//! [`Arrival`], in its extensions, and loses whatever header could pretend to one. Ends by itself,
//! or on drain: told to go away first, dropped when stopping is ordered. Deliberately absent:
//! anything per message.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evermesh_event::{Arrival, Remote};
use evermesh_identity::Identity;
use http::{HeaderMap, HeaderName, Request};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::pin;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt as _};
use tracing::Instrument as _;

use crate::counters::{Counters, Open, count};
use crate::drain::Drain;
use crate::layers::Answer;
use crate::limits::Limits;
use crate::path;
use crate::preface::{Prefaced, Speaks};

/// Window of one stream: a full message (1 MiB) without waiting for the reader.
const STREAM_WINDOW: u32 = 1 << 20;

/// Window of one connection. h2 closes a connection that has many small unread frames; 16 MiB
/// allow 32 768 unread messages, sixteen subscriptions at their default credit twice over.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// All headers of one call; what gRPC libraries expect to be able to send.
const HEADER_LIST_MAX: u32 = 16 << 10;

/// Streams that were opened and reset before anyone looked at them (rapid reset).
const PENDING_ACCEPT_RESETS_MAX: usize = 20;

/// Streams reset by us because of invalid frames, before the connection is given up.
const LOCAL_ERROR_RESETS_MAX: usize = 256;

/// A ping this often finds a caller that vanished, and keeps balancers (60 s and up) content.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);

/// How long the answer to such a ping may take.
const KEEP_ALIVE_DEADLINE: Duration = Duration::from_secs(10);

/// How long an HTTP/1.1 connection may wait for its next request, headers included. Balancers and
/// language runtimes that keep connections for longer open another.
const IDLE_DEADLINE: Duration = Duration::from_secs(60);

/// The number of the next call that comes in.
static NEXT_ARRIVAL: AtomicU64 = AtomicU64::new(0);

/// Headers by which evermesh itself tells services who calls. Nobody else may send them.
const OWN_HEADERS: &str = "x-evermesh-";

/// The settings of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    /// With the tasks on which its calls run.
    http2: http2::Builder<Tracked>,
    http1: http1::Builder,
}

/// Runs each call as a task that the end of serving waits for.
#[derive(Clone, Debug)]
pub(crate) struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.spawn(call);
    }
}

/// The settings of every connection of a listener.
pub(crate) fn protocol(limits: &Limits, tasks: TaskTracker) -> Protocol {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // From the end of an answer to the end of the next headers, so an idle connection ends.
        .header_read_timeout(IDLE_DEADLINE)
        .max_buf_size(HEADER_LIST_MAX as usize)
        .auto_date_header(false);
    let mut http2 = http2::Builder::new(Tracked(tasks));
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_MAX)
        .max_concurrent_streams(limits.streams_max)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_DEADLINE)
        .auto_date_header(false);
    Protocol { http2, http1 }
}

/// Who is at the other end of a connection.
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    pub(crate) remote: Remote,
}

/// Serves the calls of one connection until it ends.
pub(crate) async fn converse<Io, S>(
    io: Prefaced<Io>,
    caller: Caller,
    service: S,
    protocol: Protocol,
    drain: Drain,
    counters: Arc<Counters>,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Answer, Error = BoxError, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    let _open = Open::new(Arc::clone(&counters));
    let remote = caller.remote.clone();
    let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
        count(&counters.calls);
        call(request, &caller, service.clone())
    });
    let ended = match io.speaks {
        Speaks::Http2 => {
            let connection = protocol.http2.serve_connection(TokioIo::new(io), answer);
            finish(connection, |connection| connection.graceful_shutdown(), &drain).await
        }
        Speaks::Http1 => {
            let connection = protocol.http1.serve_connection(TokioIo::new(io), answer);
            finish(connection, |connection| connection.graceful_shutdown(), &drain).await
        }
    };
    match ended {
        Some(Err(error)) => tracing::debug!(%remote, "a connection ended: {error}"),
        Some(Ok(())) => {}
        None => tracing::debug!(%remote, "dropped a connection that did not finish"),
    }
}

/// Lets a connection end by itself; on drain it is told to, and dropped once stopping is ordered.
async fn finish<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    tell: impl FnOnce(Pin<&mut C>),
    drain: &Drain,
) -> Option<hyper::Result<()>> {
    pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Some(ended),
        () = drain.finishing() => tell(connection.as_mut()),
    }
    tokio::select! {
        biased;
        () = drain.stopped() => None,
        ended = connection => Some(ended),
    }
}

/// One call: cleaned, marked with its caller, handed on inside its span. Called in the order in
/// which the calls of a connection came in.
fn call<S>(
    request: Request<Incoming>,
    caller: &Caller,
    service: S,
) -> impl Future<Output = Result<Answer, BoxError>> + Send + use<S>
where
    S: Service<Request<Body>, Response = Answer, Error = BoxError, Future: Send> + Send,
{
    let mut request = request.map(Body::new);
    clean(request.headers_mut());
    let span = tracing::debug_span!(
        "gate.request",
        path = %path::excerpt(request.uri().path()),
        identity = %caller.identity.text(),
    );
    let extensions = request.extensions_mut();
    extensions.insert(caller.identity.clone());
    extensions.insert(caller.remote.clone());
    extensions.insert(Arrival::new(NEXT_ARRIVAL.fetch_add(1, Ordering::Relaxed)));
    service.oneshot(request).instrument(span)
}

/// Deletes forged headers, and marks binary metadata, which may hold anything, as not for logs.
fn clean(headers: &mut HeaderMap) {
    let forged: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(OWN_HEADERS)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    for (name, value) in headers.iter_mut() {
        if name.as_str().ends_with("-bin") {
            value.set_sensitive(true);
        }
    }
}
