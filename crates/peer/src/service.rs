//! What members call: each call goes to the file of its name.

use std::sync::Arc;

use evermesh_event::{NodeName, Remote};
use evermesh_identity::{Act, Identity};
use evermesh_proto::v1;
use evermesh_proto::v1::mesh_service_server::MeshService;
use evermesh_telemetry::Refusal;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::peers::Shared;
use crate::{feed, ping};

/// The service for members.
#[derive(Clone, Debug)]
pub struct Mesh(pub(crate) Arc<Shared>);

impl Mesh {
    /// Which member calls. An application's certificate never is one.
    fn caller<T>(&self, request: &Request<T>) -> Result<NodeName, Status> {
        let refuse = |who: &str, refusal| self.0.refusals.refuse(who, refusal);
        let Some(identity) = request.extensions().get::<Identity>() else {
            let message = "no verified identity comes with this call";
            return Err(refuse(
                "nobody",
                Refusal::new(Code::Unauthenticated, "NO_IDENTITY", message),
            ));
        };
        let who = identity.text();
        let not_allowed = |reason, detail: &str| {
            let message = "only members of this mesh may replicate";
            refuse(who, Refusal::new(Code::PermissionDenied, reason, message).because(detail))
        };
        let Some(name) = identity.member() else {
            let detail = "the certificate names no node of this mesh";
            return Err(not_allowed("NOT_A_MEMBER", detail));
        };
        if let Err(denied) = self.0.parts.rules.permits(identity, Act::Replicate, None) {
            return Err(not_allowed("NOT_ALLOWED", &denied.to_string()));
        }
        if *name == self.0.parts.node {
            let message = format!("this is {name} itself: a node does not replicate to itself");
            return Err(refuse(who, Refusal::new(Code::InvalidArgument, "SAME_NODE", message)));
        }
        Ok(name.clone())
    }
}

#[tonic::async_trait]
impl MeshService for Mesh {
    type PullStream = ReceiverStream<Result<v1::PullResponse, Status>>;
    type PingStream = ReceiverStream<Result<v1::PingResponse, Status>>;

    async fn pull(
        &self,
        request: Request<Streaming<v1::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let name = self.caller(&request)?;
        let from = request.extensions().get::<Remote>().cloned();
        let from = from.unwrap_or_else(|| Remote::new("nobody knows where"));
        Ok(Response::new(feed::feed(&self.0, name, from, request.into_inner())))
    }

    async fn ping(
        &self,
        request: Request<Streaming<v1::PingRequest>>,
    ) -> Result<Response<Self::PingStream>, Status> {
        let name = self.caller(&request)?;
        Ok(Response::new(ping::answer(&self.0, name, request.into_inner())))
    }
}
