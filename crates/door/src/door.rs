//! The service: each path goes to the file of its name.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use evermesh_event::limits::MESSAGE_BYTES_MAX;
use evermesh_identity::Identity;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use http::{Method, Request, Response};
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

use crate::answer::{Trouble, trouble};
use crate::{applied, publish, subscribe};

/// The node's own service, as the gate carries it.
pub type Events = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The HTTP door. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    events: Events,
}

impl Door {
    /// A door to this service.
    #[must_use]
    pub const fn new(events: Events) -> Self {
        Self { events }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Trouble> {
        let events = EventReplicationClient::new(self.events)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        // Without one the service refuses the call.
        let identity = request.extensions().get::<Identity>().cloned();
        let path = request.uri().path().to_owned();
        match (path.as_str(), request.method()) {
            ("/v1/events", &Method::POST) => publish::publish(events, identity, request).await,
            ("/v1/events", &Method::GET) => {
                subscribe::subscribe(events, identity, request.into_parts().0).await
            }
            ("/v1/events", _) => Err(Trouble::method("GET, POST")),
            (path, method) => match path.strip_prefix("/v1/applied/") {
                Some(token) if method == Method::GET => {
                    applied::applied(events, identity, token, request.uri().query()).await
                }
                Some(_) => Err(Trouble::method("GET")),
                None => Err(Trouble::nothing_here(path)),
            },
        }
    }
}

impl tower::Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async move { Ok(answer.await.unwrap_or_else(trouble)) })
    }
}

/// A call with its caller's identity, as the gate would have handed it on.
pub(crate) fn called_by<T>(identity: Option<Identity>, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    request
}
