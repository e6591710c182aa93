//! What lies around the routes, for every call: secrets are marked, panics caught, load shed.
//!
//! Comes after `connection`, which knows the caller, and before `routes`. Each layer works once
//! per call, none per message; bodies are boxed once and pass as they are. Deliberately absent:
//! `tower_http`'s trace layer, which reads the clock twice per frame; the span of a call is opened
//! in `connection`.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{BoxError, Service, ServiceBuilder};
use tower_http::body::UnsyncBoxBody;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

use crate::answer;
use crate::counters::{Counters, count};
use crate::limits::Limits;
use crate::routes::{Router, Routes};

/// A response as it leaves the layers.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The routes with everything around them. Clones share the limit of calls in flight. The error
/// type is that of the limit, which is answered in here, so no error comes out.
pub(crate) fn around(
    routes: Routes,
    limits: &Limits,
    counters: &Arc<Counters>,
) -> impl Service<Request<Body>, Response = Answer, Error = BoxError, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    // A call counts until its response begins: streams that stay open are bounded per connection.
    let in_flight = Arc::new(Semaphore::new(limits.in_flight_max.min(Semaphore::MAX_PERMITS)));
    let shed = {
        let counters = Arc::clone(counters);
        move |result: Result<Response<Body>, BoxError>| {
            // Routes cannot fail, so what failed is the limit.
            Ok::<_, BoxError>(result.unwrap_or_else(|_| {
                count(&counters.overloaded);
                answer::overloaded()
            }))
        }
    };
    let caught = {
        let counters = Arc::clone(counters);
        move |panic: Box<dyn Any + Send>| {
            count(&counters.panics);
            tracing::error!("a handler panicked: {}; its caller gets INTERNAL", text(&*panic));
            answer::panicked()
        }
    };
    ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION]))
        .layer(CatchPanicLayer::custom(caught))
        .map_result(shed)
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(in_flight))
        .service(Router { routes, counters: Arc::clone(counters) })
}

/// What a panic said, if it said it in words.
fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}
