//! Tiny built-in services: each shows one thing that a handler may do.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use evermesh_gate::{Remote, Routes, Service};
use evermesh_identity::Identity;
use http::{Request, Response};
use http_body::Frame;
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;
use tonic::body::Body;

/// Two halves of a handler that stands still: it says that it was entered, and waits to be let go.
pub(crate) struct Held {
    pub(crate) entered: mpsc::UnboundedReceiver<()>,
    pub(crate) let_go: Arc<Semaphore>,
}

fn service<H, F>(handler: H) -> Service
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let handler = tower::service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    Service::new(handler)
}

fn ok() -> Response<Body> {
    Status::ok("").into_http()
}

/// All services but those with an outer half.
pub(crate) fn routes() -> Routes {
    Routes::builder()
        .service("test.v1.Who", who())
        .plain("plain", who())
        .service("test.v1.Panics", service(|_| async { panic!("on purpose") }))
        .service("test.v1.BreaksOff", service(|_| async { Response::new(Body::new(BreaksOff)) }))
        .service("test.v1.Endless", endless())
        .build()
}

/// Tells in headers what it learnt about its caller, and which own headers came through.
fn who() -> Service {
    service(|request| async move {
        let mut response = ok();
        let headers = response.headers_mut();
        let identity = request.extensions().get::<Identity>().unwrap();
        let remote = request.extensions().get::<Remote>().unwrap();
        headers.insert("identity", identity.text().parse().unwrap());
        headers.insert("remote", remote.as_str().parse().unwrap());
        headers.insert("path", request.uri().path().parse().unwrap());
        for (name, value) in request.headers() {
            let kept = if value.is_sensitive() { "sensitive" } else { "plain" };
            headers.append("seen", format!("{name} {kept}").parse().unwrap());
        }
        response
    })
}

/// Sends one message, then nothing, and never ends.
fn endless() -> Service {
    service(|_| async { Response::new(Body::new(Endless(Some(Bytes::from_static(b"begun"))))) })
}

/// A handler that stands still until it is let go.
pub(crate) fn held() -> (Service, Held) {
    let (enter, entered) = mpsc::unbounded_channel();
    let let_go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&let_go);
    let service = service(move |_| {
        let (enter, gate) = (enter.clone(), Arc::clone(&gate));
        async move {
            enter.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            ok()
        }
    });
    (service, Held { entered, let_go })
}

/// A handler that never answers, and whose end waits for a word.
pub(crate) fn reluctant() -> (Service, mpsc::UnboundedReceiver<()>, std::sync::mpsc::Sender<()>) {
    let (enter, entered) = mpsc::unbounded_channel();
    let (let_end, may_end) = std::sync::mpsc::channel();
    let may_end = Arc::new(Mutex::new(may_end));
    let service = service(move |_| {
        let (enter, end) = (enter.clone(), Reluctant(Arc::clone(&may_end)));
        async move {
            let _end = end;
            enter.send(()).unwrap();
            pending().await
        }
    });
    (service, entered, let_end)
}

struct Reluctant(Arc<Mutex<std::sync::mpsc::Receiver<()>>>);

impl Drop for Reluctant {
    fn drop(&mut self) {
        // An error means that the test is over.
        let _ = self.0.lock().unwrap().recv();
    }
}

struct Endless(Option<Bytes>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

struct BreaksOff;

impl http_body::Body for BreaksOff {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        panic!("on purpose, in a body")
    }
}
