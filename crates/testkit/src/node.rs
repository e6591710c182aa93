//! A whole node as one future: what the server assembles, on a simulated network, disk and clock.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::NodeName;
use evermesh_event::world::{Clock, Random};
use evermesh_gate::{Counters, Drain, Gate, Limits, Routes, Service};
use evermesh_identity::Rules;
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Journal, Options};
use evermesh_local::Local;
use evermesh_peer::Peers;
use evermesh_telemetry::Spans;
use tokio_util::sync::CancellationToken;

use crate::net::{Believing, PORT, SimDialer, SimListener};
use crate::world::SimClock;

/// How long a ping makes a member count.
pub const LEASE: Duration = Duration::from_secs(2);

/// What a simulated node needs.
#[derive(Clone, Debug)]
pub struct SimNode {
    /// Its name, which is its host.
    pub name: String,
    /// The names of the others.
    pub peers: Vec<String>,
    /// Its disk, which survives it.
    pub disk: MemoryDisk,
    /// Where its ids come from.
    pub random: Arc<dyn Random>,
    /// How much its journal keeps in memory.
    pub limits: evermesh_journal::Limits,
}

/// What ends a simulated node.
pub type Ended = Box<dyn std::error::Error>;

impl SimNode {
    /// Runs until the simulation crashes its host.
    ///
    /// # Errors
    /// If it cannot start.
    pub async fn run(self) -> Result<(), Ended> {
        let node = NodeName::new(&self.name)?;
        let clock: Arc<dyn Clock> = Arc::new(SimClock);
        let (journal, writer) = Journal::open(Options {
            node: node.clone(),
            storage: Arc::new(self.disk),
            clock: Arc::clone(&clock),
            random: Arc::clone(&self.random),
            limits: self.limits,
        })?;
        tokio::spawn(writer.run());
        let rules = Arc::new(Rules::new(Vec::new(), Vec::new(), 0)?);
        let local = Local::new(evermesh_local::Parts {
            journal: journal.clone(),
            rules: Arc::clone(&rules),
            clock: Arc::clone(&clock),
            random: Arc::clone(&self.random),
            spans: Spans::off(),
            node: node.clone(),
            lease: LEASE,
        });
        let (peers, run) = Peers::new(evermesh_peer::Parts {
            journal,
            rules,
            clock,
            random: self.random,
            spans: Spans::off(),
            node: node.clone(),
            addresses: self.peers.iter().map(|peer| format!("https://{peer}:{PORT}")).collect(),
            dialer: Arc::new(SimDialer { name: node }),
            lease: LEASE,
            credit_bytes: 4 * 1024 * 1024,
        });
        let routes = Routes::builder()
            .service("evermesh.v1.EventReplication", Service::new(local.service()))
            .service("evermesh.v1.MeshService", Service::new(peers.service()))
            .build();
        let gate = Gate { routes, limits: Limits::default(), counters: Arc::<Counters>::default() };
        let (drain, _handle) = Drain::new();
        tokio::spawn(run.run(CancellationToken::new()));
        gate.serve(SimListener::bind().await?, Believing, drain).await;
        Ok(())
    }
}
