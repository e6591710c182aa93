//! The handle of everything between nodes, and the task that keeps the links.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evermesh_event::NodeName;
use evermesh_event::limits::MESH_MESSAGE_BYTES_MAX;
use evermesh_event::world::{Clock, Random};
use evermesh_identity::Rules;
use evermesh_journal::Journal;
use evermesh_proto::v1::mesh_service_server::MeshServiceServer;
use evermesh_telemetry::{Refusals, Spans};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dial::Dialer;
use crate::holes::{Holes, Repairs};
use crate::link;
use crate::members::{Members, PeerStatus};
use crate::service::Mesh;

/// How long feeds may take to say goodbye.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// What this is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where blocks go and come from.
    pub journal: Journal,
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// For leases and spans.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub random: Arc<dyn Random>,
    /// Where sampled events leave their spans.
    pub spans: Spans,
    /// This node's name.
    pub node: NodeName,
    /// The configured peers: `https://HOST:PORT`.
    pub addresses: Vec<String>,
    /// The network.
    pub dialer: Arc<dyn Dialer>,
    /// How long a ping makes a member count.
    pub lease: Duration,
    /// How many bytes of blocks may be on their way to this node on one link.
    pub credit_bytes: u64,
}

/// What links, feeds and pings share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) members: Members,
    pub(crate) repair: Repairs,
    pub(crate) refusals: Refusals,
    /// Feeds, so that goodbyes can be waited for.
    pub(crate) feeds: TaskTracker,
    /// Cancelled when this node is about to end.
    pub(crate) goodbye: CancellationToken,
    pub(crate) dialled: AtomicU64,
}

/// Everything between nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers(pub(crate) Arc<Shared>);

/// The task that keeps the links.
#[derive(Debug)]
pub struct Run(Arc<Shared>);

impl Peers {
    /// Knows the configured peers; dials nobody before [`Run::run`].
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Run) {
        let members = Members::new(parts.journal.clone(), parts.lease, &parts.addresses);
        let shared = Arc::new(Shared {
            parts,
            members,
            repair: Repairs::default(),
            refusals: Refusals::default(),
            feeds: TaskTracker::new(),
            goodbye: CancellationToken::new(),
            dialled: AtomicU64::new(0),
        });
        (Self(Arc::clone(&shared)), Run(shared))
    }

    /// As tonic serves it, with the limits of messages.
    #[must_use]
    pub fn service(&self) -> MeshServiceServer<Mesh> {
        MeshServiceServer::new(Mesh(Arc::clone(&self.0)))
            .max_decoding_message_size(MESH_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESH_MESSAGE_BYTES_MAX)
    }

    /// How each member is.
    #[must_use]
    pub fn status(&self) -> Vec<PeerStatus> {
        self.0.members.status(self.0.parts.clock.boot())
    }

    /// How many connections were dialled in this start.
    #[must_use]
    pub fn dialled_connections(&self) -> u64 {
        self.0.dialled.load(Ordering::Relaxed)
    }

    /// Every feed sends what there is, says goodbye and ends. Returns once they have, or after 2 s.
    pub async fn goodbye(&self) {
        self.0.goodbye.cancel();
        self.0.feeds.close();
        if tokio::time::timeout(GOODBYE_DEADLINE, self.0.feeds.wait()).await.is_err() {
            tracing::warn!("{} feeds did not take a goodbye within 2 s", self.0.feeds.len());
        }
    }
}

impl Run {
    /// Keeps a link to every configured peer, and suspends who is silent, until it is told to end.
    pub async fn run(self, drain: CancellationToken) {
        let mut links = JoinSet::new();
        for address in &self.0.parts.addresses {
            links.spawn(link::keep(Arc::clone(&self.0), address.clone(), drain.clone()));
        }
        // One timer for all members.
        let mut tick = tokio::time::interval(self.0.parts.lease / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut holes = Holes::default();
        loop {
            tokio::select! {
                () = drain.cancelled() => break,
                _ = tick.tick() => {
                    self.0.members.suspend_silent(self.0.parts.clock.boot());
                    holes.look(&self.0).await;
                }
            }
        }
        while links.join_next().await.is_some() {}
    }
}
