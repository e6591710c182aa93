//! Administration: what operators ask a node. Beside the way of events, never on it.
//!
//! Everything is read from what the parts count anyway; asking changes nothing. It needs the act
//! `observe` for the node as a whole.

mod letters;
mod members;
mod names;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use evermesh_event::{NodeName, Origin, Sequence};
use evermesh_gate::Counters;
use evermesh_identity::{Act, Identity, Rules};
use evermesh_journal::Journal;
use evermesh_local::{Local, SubscriptionView};
use evermesh_peer::{PeerStatus, Peers};
use evermesh_proto::v1;
use evermesh_proto::v1::admin_service_server::AdminService;
use evermesh_telemetry::{Refusal, Refusals};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// What answers operators. All of it is shared with the parts that do the work.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) node: NodeName,
    /// When this start began.
    pub(crate) started: SystemTime,
    pub(crate) rules: Arc<Rules>,
    pub(crate) journal: Journal,
    pub(crate) local: Local,
    /// Not there without TLS.
    pub(crate) peers: Option<Peers>,
    /// What the local socket counts.
    pub(crate) local_counters: Arc<Counters>,
    /// What the shared port counts.
    pub(crate) shared_counters: Arc<Counters>,
    pub(crate) certificate_ends: Option<SystemTime>,
    /// Cancelled once this node leaves the mesh.
    pub(crate) leaves: CancellationToken,
    /// Counts and logs who was turned away.
    pub(crate) refusals: Refusals,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        self.permit(request.extensions().get(), Act::Observe)?;
        Ok(Response::new(v1::GetStatusResponse {
            node: self.node.as_str().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            started: Some(self.started.into()),
            journal: Some(self.journal()),
            members: self.members(),
            subscriptions: self.subscriptions(),
            connections: Some(self.connections()),
            certificate_ends: self.certificate_ends.map(Into::into),
        }))
    }

    async fn list_letters(
        &self,
        request: Request<v1::ListLettersRequest>,
    ) -> Result<Response<v1::ListLettersResponse>, Status> {
        self.permit(request.extensions().get(), Act::Observe)?;
        self.letters(&request.into_inner()).map(Response::new)
    }

    async fn replay_letters(
        &self,
        request: Request<v1::ReplayLettersRequest>,
    ) -> Result<Response<v1::ReplayLettersResponse>, Status> {
        let who = self.permit(request.extensions().get(), Act::Operate)?.clone();
        self.replay(&who, &request.into_inner().numbers).await.map(Response::new)
    }

    async fn drop_letters(
        &self,
        request: Request<v1::DropLettersRequest>,
    ) -> Result<Response<v1::DropLettersResponse>, Status> {
        self.permit(request.extensions().get(), Act::Operate)?;
        self.drop_letters(&request.into_inner().numbers).map(Response::new)
    }

    async fn list_names(
        &self,
        request: Request<v1::ListNamesRequest>,
    ) -> Result<Response<v1::ListNamesResponse>, Status> {
        self.permit(request.extensions().get(), Act::Observe)?;
        Ok(Response::new(v1::ListNamesResponse { names: self.names() }))
    }

    async fn forget_name(
        &self,
        request: Request<v1::ForgetNameRequest>,
    ) -> Result<Response<v1::ForgetNameResponse>, Status> {
        self.permit(request.extensions().get(), Act::Operate)?;
        self.forget(&request.into_inner().name)?;
        Ok(Response::new(v1::ForgetNameResponse {}))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        self.permit(request.extensions().get(), Act::Operate)?;
        Self::leave(self, request.into_inner()).await.map(Response::new)
    }

    async fn forget_member(
        &self,
        request: Request<v1::ForgetMemberRequest>,
    ) -> Result<Response<v1::ForgetMemberResponse>, Status> {
        self.permit(request.extensions().get(), Act::Operate)?;
        Self::forget_member(self, &request.into_inner().node)?;
        Ok(Response::new(v1::ForgetMemberResponse {}))
    }
}

impl Admin {
    fn permit<'a>(&self, identity: Option<&'a Identity>, act: Act) -> Result<&'a Identity, Status> {
        let Some(identity) = identity else {
            let message = "the caller has no identity; connect by the node's own ports";
            let refusal = Refusal::new(Code::Unauthenticated, "NO_IDENTITY", message);
            return Err(self.refusals.refuse("unknown", refusal));
        };
        let permitted = self.rules.permits(identity, act, None).map_err(|denied| {
            let refusal = Refusal::new(Code::PermissionDenied, "NOT_ALLOWED", denied.told());
            self.refusals.refuse(identity.text(), refusal.because(denied))
        });
        permitted.map(|()| identity)
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        self.refusals.refuse("an operator", refusal)
    }

    fn journal(&self) -> v1::JournalStatus {
        let status = self.journal.status();
        let position = |(origin, sequence): (&Origin, Sequence)| v1::OriginPosition {
            origin: Some(origin.to_proto()),
            sequence: sequence.as_u64(),
        };
        v1::JournalStatus {
            origin: Some(status.origin.to_proto()),
            epoch: status.epoch.get(),
            head: status.head.as_u64(),
            durable: status.durable.as_u64(),
            own_head: status.own_head.as_u64(),
            own_durable: status.own_durable.as_u64(),
            disk_bytes: status.disk_bytes,
            syncs: status.syncs,
            events_published: status.events_published,
            events_received: status.events_received,
            window_ids: status.window_ids,
            window_age_max: status.window_age_max.try_into().ok(),
            frontier: status.frontier.iter().map(position).collect(),
            in_memory: self.journal.is_memory(),
        }
    }

    fn members(&self) -> Vec<v1::MemberStatus> {
        let status = |member: PeerStatus| v1::MemberStatus {
            node: member.node.unwrap_or_else(|| member.address.clone()),
            address: member.address,
            pulling: member.pulling,
            feeding: member.feeding,
            suspended: member.suspended,
            left: member.left,
            last_ping: member.last_ping.and_then(|since| since.try_into().ok()),
            stored: member.stored.as_u64(),
            in_memory: member.in_memory,
            trouble: member.trouble.unwrap_or_default(),
        };
        self.peers.as_ref().map_or_else(Vec::new, Peers::status).into_iter().map(status).collect()
    }

    fn subscriptions(&self) -> Vec<v1::SubscriptionStatus> {
        let status = |subscription: SubscriptionView| v1::SubscriptionStatus {
            identity: subscription.identity.to_string(),
            sites: subscription.sites,
            delivered: subscription.delivered.as_u64(),
            acknowledged: subscription.acknowledged.as_u64(),
            unacknowledged: u32::try_from(subscription.unacknowledged).unwrap_or(u32::MAX),
            durable_name: subscription.durable_name,
        };
        self.local.subscriptions().into_iter().map(status).collect()
    }

    fn connections(&self) -> v1::ConnectionStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (local, shared) = (&*self.local_counters, &*self.shared_counters);
        // A caller that was turned away, and not one that went away.
        let refused = |counters: &Counters| {
            count(&counters.refused)
                + count(&counters.over_connections)
                + count(&counters.over_handshakes)
        };
        v1::ConnectionStatus {
            shared_accepted: count(&shared.accepted),
            local_accepted: count(&local.accepted),
            open: count(&shared.open) + count(&local.open),
            dialled: self.peers.as_ref().map_or(0, Peers::dialled_connections),
            refused: refused(local) + refused(shared),
        }
    }
}
