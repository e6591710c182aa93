//! The assembly: from a configuration to a running node. The page to read first.
//!
//! ```text
//! Config ─▶ credentials, rules ─▶ journal ─▶ local, peers ─▶ routes ─▶ ports ─▶ run ─▶ drain
//! ```
//!
//! Everything that can be refused is refused before anything is spawned, in the order above. The
//! parts know nothing of each other; what they share is the journal, and here is where they get it.
//! Each port carries what may be asked there: members come only to the shared one.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::world::{Clock, Random};
use evermesh_gate::{Counters, Drain, Gate, Limits, PeerCredentials, Routes, Tcp, Tls, Unix};
use evermesh_journal::{Directory, Journal, Memory, Storage, Writer};
use evermesh_local::Local;
use evermesh_peer::{Dialer, Peers};
use evermesh_telemetry::{LogOptions, Refusals, Spans, Telemetry};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::config::{Config, Durability, Environment};
use crate::drain::{Links, Running, Signals};
use crate::error::Error;
use crate::own::{self, Accounts};
use crate::services::{Health, Services};
use crate::sockets::{self, LocalSocket};
use crate::world::{SystemClock, SystemRandom};

/// What one link may have on its way: what its stream's window takes.
const LINK_CREDIT_BYTES: u64 = 4 * 1024 * 1024;
/// How long the collector may take for the last spans. They are worth less than a fast restart.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Runs a node until it is told to end by SIGTERM or SIGINT. Logs, and nothing else, go to standard
/// error.
///
/// # Errors
/// If it cannot begin, or the journal failed; [`Error::exit_code`] says which for scripts.
pub async fn serve(config: Config, environment: &Environment) -> Result<(), Error> {
    let random: Arc<dyn Random> = Arc::new(
        SystemRandom::new()
            .map_err(|source| Error::System { what: "give random numbers", source })?,
    );
    let telemetry = evermesh_telemetry::init(&evermesh_telemetry::Options {
        node: config.node.name.as_str(),
        logs: Some(LogOptions { format: config.log.format, filter: &config.log.filter }),
        random: Arc::clone(&random),
        environment: &|name| environment.get(name).map(str::to_owned),
    })?;
    let ended = loop {
        let node = Node::prepare(config.clone(), Arc::clone(&random), telemetry.spans()).await;
        let ended = match node {
            Ok(node) => node.run().await,
            Err(error) => Err(error),
        };
        if !matches!(ended, Err(Error::Renewed)) {
            break ended;
        }
        tracing::warn!("starts anew, with a new journal id");
    };
    finish(telemetry).await;
    ended
}

/// Lets go of the last spans.
async fn finish(telemetry: Telemetry) {
    let done = tokio::task::spawn_blocking(|| telemetry.shutdown(LAST_SPANS)).await;
    if let Ok(Err(error)) = done {
        tracing::warn!("{error}");
    }
}

/// A node that is put together. Everything is open and bound; nothing of it runs.
struct Node {
    config: Config,
    journal: Journal,
    writer: Writer,
    local: Local,
    /// The other members, and what keeps the links to them. Not there without TLS.
    peers: Option<(Peers, evermesh_peer::Run)>,
    health: Health,
    /// What the configuration subscribes to, and where.
    events: evermesh_gate::Service,
    /// For the applications beside this node.
    local_port: (UnixListener, LocalSocket, Gate),
    /// For everyone else. Not there without TLS.
    shared_port: Option<(TcpListener, Tls, Gate)>,
    signals: Signals,
    /// Cancelled when an operator lets this node leave the mesh.
    leaves: CancellationToken,
}

impl Node {
    async fn prepare(config: Config, random: Arc<dyn Random>, spans: Spans) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let started = clock.wall();
        let credentials = own::credentials(&config, started)?;
        let rules = Arc::new(own::rules(&config)?);
        let (journal, writer) = open_journal(&config, &clock, &random).await?;

        let parts = evermesh_local::Parts {
            journal: journal.clone(),
            rules: Arc::clone(&rules),
            clock,
            random,
            spans,
            node: config.node.name.clone(),
            lease: config.mesh.lease,
        };
        let dialer = credentials.as_ref().map(|credentials| Arc::new(own::dialer(credentials)));
        let peers = dialer.map(|dialer| others(&config, &parts, dialer as Arc<dyn Dialer>));
        let local = Local::new(parts);

        let leaves = CancellationToken::new();
        let (local_counters, shared_counters) = (Arc::default(), Arc::default());
        let admin = Admin {
            node: config.node.name.clone(),
            started,
            rules,
            journal: journal.clone(),
            local: local.clone(),
            peers: peers.as_ref().map(|(peers, _)| peers.clone()),
            local_counters: Arc::clone(&local_counters),
            shared_counters: Arc::clone(&shared_counters),
            leaves: leaves.clone(),
            certificate_ends: credentials.as_ref().map(|credentials| credentials.not_after),
            refusals: Refusals::default(),
        };
        let services = Services::new(&local, admin).await?;
        let (health, events) = (services.health(), services.events());

        let (listener, socket) = LocalSocket::bind(&config.listen.local).await?;
        let local_port = (listener, socket, gate(services.local_routes(), local_counters));
        let shared_port = match (config.listen.shared, credentials, &peers) {
            (Some(address), Some(credentials), Some((peers, _))) => {
                let gate = gate(services.shared_routes(peers), shared_counters);
                let admission = Tls::new(credentials.server, credentials.naming);
                Some((sockets::port(address).await?, admission, gate))
            }
            _ => None,
        };
        Ok(Self {
            config,
            journal,
            writer,
            local,
            peers,
            health,
            events,
            local_port,
            shared_port,
            signals: Signals::new()?,
            leaves,
        })
    }

    /// Starts everything, and ends with it.
    async fn run(self) -> Result<(), Error> {
        let name = self.config.node.name.clone();
        self.introduce();
        let writer = self
            .writer
            .spawn()
            .map_err(|source| Error::System { what: "start the thread `journal`", source })?;
        let (drain, handle) = Drain::new();
        let mut ports = JoinSet::new();
        let (listener, socket, gate) = self.local_port;
        let accounts = Accounts::default();
        let admission = PeerCredentials::new(move |uid| accounts.name(uid));
        ports.spawn(gate.serve(Unix::new(listener), admission, drain.clone()));
        if let Some((listener, admission, gate)) = self.shared_port {
            ports.spawn(gate.serve(Tcp::new(listener), admission, drain.clone()));
        }
        let (peers, links) = self.peers.unzip();
        let links = links.map(Links::start);
        let mut pushes = JoinSet::new();
        for push in self.config.push {
            pushes.spawn(push.run(self.events.clone(), own::identity()));
        }
        self.health.serving(true).await;
        tracing::info!("evermesh {name} is ready");
        Running {
            health: self.health,
            drain: handle,
            deadline: self.config.node.drain,
            on_stop: self.config.mesh.on_stop,
            leaves: self.leaves,
            local: self.local,
            peers,
            links,
            ports,
            journal: self.journal,
            writer,
            socket,
        }
        .until_ended(self.signals)
        .await
    }

    /// One line that tells which node this is and where.
    fn introduce(&self) {
        let Config { node, listen, .. } = &self.config;
        let shared =
            self.shared_port.as_ref().and_then(|(listener, ..)| listener.local_addr().ok());
        let shared = shared.map_or_else(|| "none".to_owned(), |address| address.to_string());
        let place = node.data_dir.as_ref().map(|path| path.display().to_string());
        tracing::info!(
            "evermesh {}: node {}, epoch {}, journal {} in {}, local socket {}, \
             shared port {shared}",
            env!("CARGO_PKG_VERSION"),
            node.name,
            self.journal.start().epoch.get(),
            self.journal.origin().journal,
            place.as_deref().unwrap_or("memory: nothing is stored"),
            listen.local.display(),
        );
    }
}

/// The other members. They share with the applications what both need.
fn others(
    config: &Config,
    local: &evermesh_local::Parts,
    dialer: Arc<dyn Dialer>,
) -> (Peers, evermesh_peer::Run) {
    Peers::new(evermesh_peer::Parts {
        journal: local.journal.clone(),
        rules: Arc::clone(&local.rules),
        clock: Arc::clone(&local.clock),
        random: Arc::clone(&local.random),
        spans: local.spans.clone(),
        node: local.node.clone(),
        addresses: config.mesh.peers.clone(),
        dialer,
        lease: local.lease,
        address: config.mesh.address.clone(),
        forget_after: config.mesh.forget_after,
        credit_bytes: LINK_CREDIT_BYTES,
    })
}

/// Opens the journal aside: recovery reads the disk, and may take a while.
async fn open_journal(
    config: &Config,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<(Journal, Writer), Error> {
    let (node, path) = (config.node.name.clone(), config.node.data_dir.clone());
    let limits = match config.journal.durability {
        Durability::Disk => evermesh_journal::Limits::with_max_bytes,
        Durability::Memory => evermesh_journal::Limits::in_memory,
    };
    let limits = evermesh_journal::Limits {
        keep_at_least: config.journal.keep_at_least,
        max_age: config.journal.max_age,
        ..limits(config.journal.max_bytes)
    };
    let (clock, random) = (Arc::clone(clock), Arc::clone(random));
    let opened = tokio::task::spawn_blocking(move || {
        let storage: Arc<dyn Storage> = match path {
            Some(path) => {
                Arc::new(Directory::open(&path).map_err(|source| Error::DataDir { path, source })?)
            }
            None => Arc::new(Memory::new()),
        };
        let options = evermesh_journal::Options { node, storage, clock, random, limits };
        Ok(Journal::open(options)?)
    });
    opened.await.map_err(|_| Error::Fault("opening the journal"))?
}

/// One port, with limits of its own.
fn gate(routes: Routes, counters: Arc<Counters>) -> Gate {
    Gate { routes, limits: Limits::default(), counters }
}
