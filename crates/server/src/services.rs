//! The services of a node, and which of them each port carries.
//!
//! Both ports carry what applications and operators ask, health and reflection; the shared one
//! carries what members ask too. The gate takes them as boxed values and knows none by name.

use evermesh_door::Door;
use evermesh_gate::{Routes, RoutesBuilder, Service};
use evermesh_local::Local;
use evermesh_peer::Peers;
use evermesh_proto::DESCRIPTOR_SET;
use evermesh_proto::v1::admin_service_server::AdminServiceServer;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::admin::Admin;
use crate::error::Error;

/// Under which the HTTP door stands: `/v1/…`.
const DOOR: &str = "v1";
const EVENTS: &str = "evermesh.v1.EventReplication";
const MESH: &str = "evermesh.v1.MeshService";
const ADMIN: &str = "evermesh.v1.AdminService";
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
/// What many tools still ask, Python's among them.
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// What both ports carry, and what only members ask.
pub(crate) struct Services {
    events: Service,
    admin: Service,
    reflection: Service,
    reflection_alpha: Service,
    health: HealthReporter,
}

impl Services {
    /// Not serving yet, says health.
    pub(crate) async fn new(local: &Local, admin: Admin) -> Result<Self, Error> {
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let fault = |_| Error::Fault("reflection");
        let reflection = described().build_v1().map_err(fault)?;
        let reflection_alpha = described().build_v1alpha().map_err(fault)?;
        let services = Self {
            events: Service::new(local.service()),
            admin: Service::new(AdminServiceServer::new(admin)),
            reflection: Service::new(reflection),
            reflection_alpha: Service::new(reflection_alpha),
            health: HealthReporter::new(),
        };
        services.health().serving(false).await;
        Ok(services)
    }

    /// What applications ask, for those that the configuration makes.
    pub(crate) fn events(&self) -> Service {
        self.events.clone()
    }

    /// What decides what health says.
    pub(crate) fn health(&self) -> Health {
        Health(self.health.clone())
    }

    /// For the local socket.
    pub(crate) fn local_routes(&self) -> Routes {
        self.both().build()
    }

    /// For the shared port.
    pub(crate) fn shared_routes(&self, peers: &Peers) -> Routes {
        self.both().service(MESH, Service::new(peers.service())).build()
    }

    fn both(&self) -> RoutesBuilder {
        let health = HealthService::from_health_reporter(self.health.clone());
        Routes::builder()
            .service(EVENTS, self.events.clone())
            .plain(DOOR, Service::new(Door::new(self.events.clone())))
            .service(ADMIN, self.admin.clone())
            .service(HEALTH, Service::new(HealthServer::new(health)))
            .service(REFLECTION, self.reflection.clone())
            .service(REFLECTION_ALPHA, self.reflection_alpha.clone())
    }
}

/// What load balancers and probes are told.
#[derive(Clone, Debug)]
pub(crate) struct Health(HealthReporter);

impl Health {
    /// For a node without services.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self(HealthReporter::new())
    }

    /// Says it of the node as a whole and of each service.
    pub(crate) async fn serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", EVENTS, MESH, ADMIN] {
            self.0.set_service_status(service, status).await;
        }
    }
}
