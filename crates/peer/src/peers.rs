//! The handle of everything between nodes, and the task that keeps the links.

use std::collections::BTreeMap;
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

use crate::departures;
use crate::dial::Dialer;
use crate::formers::Formers;
use crate::holes::{Holes, Repairs, give_up_damaged};
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
    /// Where others dial this node; `None`: they know by themselves, or need not.
    pub address: Option<String>,
    /// How long a member that nobody hears is waited for until it is forgotten.
    pub forget_after: Duration,
    /// How many bytes of blocks may be on their way to this node on one link.
    pub credit_bytes: u64,
}

/// What links, feeds and pings share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) members: Members,
    pub(crate) repair: Repairs,
    pub(crate) formers: Formers,
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
        let now = parts.clock.boot();
        let members = Members::new(parts.journal.clone(), parts.lease, &parts.addresses, now);
        if let Some(address) = &parts.address {
            parts.journal.note_address(&parts.node, address);
        }
        // The table of members is looked at with each tick: nobody waits for nobody.
        parts.journal.await_mending();
        let shared = Arc::new(Shared {
            parts,
            members,
            repair: Repairs::default(),
            formers: Formers::default(),
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
    /// Keeps a link to every member whose address is known, suspends who is silent, and lets go of
    /// who is gone, until it is told to end.
    pub async fn run(self, drain: CancellationToken) {
        let shared = &self.0;
        let mut links =
            Links { drain: drain.clone(), tasks: JoinSet::new(), stops: BTreeMap::new() };
        for address in &shared.parts.addresses {
            links.begin(shared, address);
        }
        // One timer for all members.
        let mut tick = tokio::time::interval(shared.parts.lease / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut holes = Holes::default();
        loop {
            tokio::select! {
                () = drain.cancelled() => break,
                _ = tick.tick() => {
                    shared.members.suspend_silent(shared.parts.clock.boot());
                    departures::look(shared).await;
                    shared.formers.look(shared).await;
                    holes.look(shared).await;
                    give_up_damaged(shared);
                    links.follow(shared);
                }
            }
        }
        while links.tasks.join_next().await.is_some() {}
    }
}

/// One task for each address that is dialled.
struct Links {
    drain: CancellationToken,
    tasks: JoinSet<()>,
    /// Ends each link to a member that was learnt from others.
    stops: BTreeMap<String, CancellationToken>,
}

impl Links {
    fn begin(&mut self, shared: &Arc<Shared>, address: &str) -> CancellationToken {
        let stop = self.drain.child_token();
        self.tasks.spawn(link::keep(Arc::clone(shared), address.to_owned(), stop.clone()));
        stop
    }

    /// Dials who was learnt since, and no more who left or moved.
    fn follow(&mut self, shared: &Arc<Shared>) {
        let learnt = shared.members.learnt();
        for (_, stop) in self.stops.extract_if(.., |address, _| !learnt.contains(address)) {
            stop.cancel();
        }
        for address in learnt {
            if !self.stops.contains_key(&address) {
                tracing::info!(address, "a member was learnt from another");
                let stop = self.begin(shared, &address);
                self.stops.insert(address, stop);
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}
