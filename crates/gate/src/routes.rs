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
use http::{Request, Response, Version};
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
    services: Arc<HashMap<&'static str, Route>>,
}

/// A service, and who may call it.
#[derive(Clone)]
struct Route {
    service: Service,
    /// It speaks plain HTTP of any version; else it is gRPC, which needs HTTP/2.
    plain: bool,
}

/// Collects services before the port opens.
#[derive(Default)]
pub struct RoutesBuilder {
    services: HashMap<&'static str, Route>,
}

impl Routes {
    /// No routes yet.
    #[must_use]
    pub fn builder() -> RoutesBuilder {
        RoutesBuilder::default()
    }

    fn find(&self, name: &str) -> Option<Route> {
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
    pub fn service(self, full_name: &'static str, service: Service) -> Self {
        self.add(full_name, Route { service, plain: false })
    }

    /// Routes `/segment` and what is below it to a service that speaks plain HTTP, of any version.
    ///
    /// # Panics
    ///
    /// As [`RoutesBuilder::service`].
    #[must_use]
    pub fn plain(self, segment: &'static str, service: Service) -> Self {
        self.add(segment, Route { service, plain: true })
    }

    fn add(mut self, full_name: &'static str, route: Route) -> Self {
        let plain = !full_name.is_empty()
            && full_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        assert!(plain, "`{full_name}` is no service name");
        let former = self.services.insert(full_name, route);
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
        let http1 = request.version() < Version::HTTP_2;
        let refused = match path::service(path) {
            Ok(name) => match self.routes.find(name) {
                Some(Route { service, plain: true }) => {
                    return Either::Left(service.oneshot(request));
                }
                Some(_) if http1 => answer::needs_http2(path),
                // `/NAME` alone is no method of it; the service itself says so for `/NAME/`.
                Some(Route { service, .. }) if path.len() > name.len() + 1 => {
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
        let refused = if http1 { answer::as_http(refused) } else { refused };
        Either::Right(ready(Ok(refused)))
    }
}
