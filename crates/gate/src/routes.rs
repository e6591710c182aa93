//! The routes: which built-in service answers at which path.
//!
//! Comes after the layers; the last stop before a service. Matching is exact on the service name,
//! which is the first segment of a gRPC path. Immutable once built, so a lookup takes no lock.
//! Deliberately absent: registered endpoints, which will be asked only where no built-in answers,
//! so that none can shadow one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::body::Body;
use tower::ServiceExt as _;
use tower::util::{BoxCloneSyncService, Oneshot};

use crate::counters::{Counters, count};
use crate::{answer, path};

/// A built-in service as the server hands it over; the gate never names one.
pub type Service = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// All routes of a port. Immutable; a clone shares them.
#[derive(Clone)]
pub struct Routes {
    services: Arc<HashMap<&'static str, Service>>,
}

/// Collects services before the port opens.
#[derive(Default)]
pub struct RoutesBuilder {
    services: HashMap<&'static str, Service>,
}

impl Routes {
    /// No routes yet.
    #[must_use]
    pub fn builder() -> RoutesBuilder {
        RoutesBuilder::default()
    }

    fn find(&self, name: &str) -> Option<Service> {
        self.services.get(name).cloned()
    }
}

impl RoutesBuilder {
    /// Routes `/full_name/…` to `service`, for instance `evermesh.v1.EventReplication`.
    ///
    /// # Panics
    ///
    /// If the name is taken, empty or no single path segment: the caller is wrongly assembled.
    #[must_use]
    pub fn service(mut self, full_name: &'static str, service: Service) -> Self {
        let plain = !full_name.is_empty()
            && full_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        assert!(plain, "`{full_name}` is no service name");
        let former = self.services.insert(full_name, service);
        assert!(former.is_none(), "`{full_name}` is routed twice");
        self
    }

    /// The routes, from now on unchangeable.
    #[must_use]
    pub fn build(self) -> Routes {
        Routes { services: Arc::new(self.services) }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl fmt::Debug for RoutesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

/// The routes of one listener, which count what they cannot route.
#[derive(Clone)]
pub(crate) struct Router {
    pub(crate) routes: Routes,
    pub(crate) counters: Arc<Counters>,
}

impl tower::Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<Oneshot<Service, Request<Body>>, Ready<Result<Response<Body>, Infallible>>>;

    /// Always ready: `call` waits for the service that it finds.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let refused = match path::service(path) {
            Ok(name) => match self.routes.find(name) {
                // `/NAME` alone is no method of it; the service itself says so for `/NAME/`.
                Some(service) if path.len() > name.len() + 1 => {
                    return Either::Left(service.oneshot(request));
                }
                _ => {
                    count(&self.counters.no_route);
                    answer::no_route(path)
                }
            },
            Err(trick) => {
                count(&self.counters.bad_path);
                answer::bad_path(path, trick)
            }
        };
        Either::Right(ready(Ok(refused)))
    }
}
