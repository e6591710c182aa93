//! The service: each call goes to the file of its name.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::world::{Clock, Random};
use evermesh_event::{NodeName, Planted, limits};
use evermesh_identity::{Identity, Rules};
use evermesh_journal::{Journal, margin};
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_server::{EventReplication, EventReplicationServer};
use evermesh_telemetry::{Refusal, Refusals, Spans};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::subscriptions::{SubscriptionView, Subscriptions};

/// What the service is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where events go and come from.
    pub journal: Journal,
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// For ids and times of events that bring none.
    pub clock: Arc<dyn Clock>,
    /// For ids of events that bring none.
    pub random: Arc<dyn Random>,
    /// Where sampled events leave their spans.
    pub spans: Spans,
    /// This node's name.
    pub node: NodeName,
    /// How long an application may trust what this node said, counted from its own ping.
    pub lease: Duration,
}

/// The service for applications. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Local {
    pub(crate) parts: Arc<Parts>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) refusals: Refusals,
    /// Cancelled once the node is stopping.
    pub(crate) drain: CancellationToken,
}

impl Local {
    /// A service.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (journal, epoch) = (&parts.journal, parts.journal.start().epoch.get());
        // In memory mode nobody knows whether there was one before.
        if (epoch > 1 || journal.is_memory()) && !journal.planted().is(Planted::ForgetFormerStart) {
            let until = parts.clock.boot() + parts.lease + margin(parts.lease);
            journal.applied().former(until);
        }
        Self {
            parts: Arc::new(parts),
            subscriptions: Subscriptions::default(),
            refusals: Refusals::default(),
            drain: CancellationToken::new(),
        }
    }

    /// As tonic serves it, with the limits of messages.
    #[must_use]
    pub fn service(&self) -> EventReplicationServer<Self> {
        EventReplicationServer::new(self.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// The open subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionView> {
        self.subscriptions.views()
    }

    /// Publishes an event once more under a new id, for who operates this node; returns once it is
    /// stored.
    ///
    /// # Errors
    /// If it is no valid event, or is not stored within 10 s.
    pub async fn publish_anew(&self, who: &Identity, event: v1::Event) -> Result<(), Status> {
        let done = crate::publish::anew(self, who, event).await;
        done.map_err(|refusal| self.refuse(who, refusal))
    }

    /// New calls are refused, and open subscriptions end: the node is stopping.
    pub fn begin_drain(&self) {
        self.drain.cancel();
    }

    /// How much longer than its lease a subscription counts: its clock may run slower than ours.
    pub(crate) fn margin(&self) -> Duration {
        margin(self.parts.lease)
    }

    fn refuse(&self, who: &Identity, refusal: Refusal) -> Status {
        self.refusals.refuse(who.text(), refusal)
    }

    /// Who calls. Without a verified identity nothing is served.
    fn caller<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        let identity = request.extensions().get::<Identity>().cloned();
        identity.ok_or_else(|| {
            let message = "no verified identity comes with this call";
            let refusal = Refusal::new(Code::Unauthenticated, "NO_IDENTITY", message);
            self.refusals.refuse("nobody", refusal)
        })
    }
}

type Answers<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl EventReplication for Local {
    type PublishStreamStream = Answers<v1::PublishStreamResponse>;
    type SubscribeStream = Answers<v1::SubscribeResponse>;

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let who = self.caller(&request)?;
        let done = crate::publish::publish(self, &who, request.into_inner()).await;
        done.map(Response::new).map_err(|refusal| self.refuse(&who, refusal))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let who = self.caller(&request)?;
        let opened = crate::publish_stream::publish_stream(self, &who, request.into_inner());
        opened.map(Response::new).map_err(|refusal| self.refuse(&who, refusal))
    }

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let who = self.caller(&request)?;
        let arrival = request.extensions().get().copied();
        let opened = crate::subscribe::subscribe(self, &who, arrival, request.into_inner());
        opened.map(Response::new).map_err(|refusal| self.refuse(&who, refusal))
    }

    async fn fence(
        &self,
        request: Request<v1::FenceRequest>,
    ) -> Result<Response<v1::FenceResponse>, Status> {
        let who = self.caller(&request)?;
        let done = crate::fence::fence(self, &who, request.into_inner()).await;
        done.map(Response::new).map_err(|refusal| self.refuse(&who, refusal))
    }

    async fn get_limits(
        &self,
        request: Request<v1::GetLimitsRequest>,
    ) -> Result<Response<v1::GetLimitsResponse>, Status> {
        self.caller(&request)?;
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Ok(Response::new(v1::GetLimitsResponse {
            event_bytes_max: bytes(limits::EVENT_BYTES_MAX),
            key_bytes_max: bytes(limits::KEY_BYTES_MAX),
            attributes_max: bytes(limits::ATTRIBUTES_MAX),
            message_bytes_max: bytes(limits::MESSAGE_BYTES_MAX),
            publish_events_max: bytes(limits::PUBLISH_EVENTS_MAX),
            unacknowledged_max: limits::UNACKNOWLEDGED_MAX,
            in_memory: self.parts.journal.is_memory(),
        }))
    }
}
