//! A whole node as one future: what the server assembles, on a simulated network, disk and clock;
//! and the strings by which a simulation holds it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::world::{Clock, Random};
use evermesh_event::{NodeName, Planted};
use evermesh_gate::{Counters, Drain, DrainHandle, Gate, Limits, Routes, Service};
use evermesh_identity::Rules;
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Journal, Memory, Options, Storage};
use evermesh_local::Local;
use evermesh_peer::Peers;
use evermesh_telemetry::Spans;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{OriginText as _, Recorder};
use crate::checker::{Number, What};
use crate::net::{Believing, Hosts, PORT, SimDialer, SimListener};
use crate::standstill::Standstill;
use crate::world::SimClock;

/// How long a ping makes a member count. Half of what is usual: so more happens in a run.
pub const LEASE: Duration = Duration::from_secs(1);

/// No run takes so long that somebody is forgotten by itself.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a node that ends waits for its connections to end.
const DRAINED_WITHIN: Duration = Duration::from_millis(300);

/// How long a node that leaves waits until others hold what it published.
const HELD_WITHIN: Duration = Duration::from_secs(2);

/// A journal that may take less than this forces ids out before their time.
const SMALL_BYTES: u64 = 1024 * 1024;

/// What a simulated node needs.
#[derive(Clone, Debug)]
pub struct SimNode {
    /// Its host.
    pub host: String,
    /// The hosts of the others that it is configured with.
    pub peers: Vec<String>,
    /// Under which name the node of each host runs.
    pub hosts: Hosts,
    /// Its disk, which survives it; `None`: it keeps everything in memory.
    pub disk: Option<MemoryDisk>,
    /// Its clocks.
    pub clock: SimClock,
    /// Where its ids come from.
    pub random: Arc<dyn Random>,
    /// How much its journal keeps in memory.
    pub limits: evermesh_journal::Limits,
    /// What is wrong with it.
    pub planted: Planted,
    /// What it is held by.
    pub strings: Strings,
    /// Where its starts are recorded.
    pub recorder: Recorder,
}

/// How a simulation holds a node. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Strings(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    machine: Standstill,
    /// How long the disk takes for each group, in milliseconds.
    slow: AtomicU64,
    /// The present start; a node that is down has none.
    start: Mutex<Option<Start>>,
    /// Cancelled when its process is to end without a word.
    kill: Mutex<CancellationToken>,
    over: AtomicBool,
    ended: AtomicBool,
    /// It ended to take a new journal id, and wants to begin anew at once.
    renewed: AtomicBool,
    left: AtomicBool,
    failed: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Start {
    journal: Journal,
    stop: CancellationToken,
    /// Told to leave the mesh; true: whoever lacks something of it.
    leave: watch::Sender<Option<bool>>,
    peers: Option<Peers>,
}

impl Strings {
    /// Lets it stand still, or go on.
    #[must_use]
    pub fn machine(&self) -> &Standstill {
        &self.0.machine
    }

    /// From now on its disk takes so long for each group.
    pub fn slow_disk(&self, millis: u64) {
        self.0.slow.store(millis, Ordering::Relaxed);
    }

    /// Its journal, while it runs.
    #[must_use]
    pub fn journal(&self) -> Option<Journal> {
        self.start().as_ref().map(|start| start.journal.clone())
    }

    /// Tells it to end in order; [`Strings::ended`] says when it has.
    pub fn stop(&self) {
        if let Some(start) = &*self.start() {
            start.stop.cancel();
        }
    }

    /// Tells it to leave the mesh for good: once all hold what it published, or by force.
    /// [`Strings::left`] says when it has.
    pub fn leave(&self, force: bool) {
        if let Some(start) = &*self.start() {
            start.leave.send_replace(Some(force));
        }
    }

    /// It left, and ended in order.
    #[must_use]
    pub fn left(&self) -> bool {
        self.0.left.load(Ordering::Relaxed)
    }

    /// What it has with others, while it runs.
    #[must_use]
    pub fn peers(&self) -> Option<Peers> {
        self.start().as_ref().and_then(|start| start.peers.clone())
    }

    /// Ends its process without a word; [`Strings::over`] says when its connections have ended.
    pub fn kill(&self) {
        self.0.kill.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// Its process has ended, in whatever way: its host can be crashed.
    #[must_use]
    pub fn over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }

    /// It ended in order.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// It ended because its journal was restored from a copy, and goes on under a new id.
    #[must_use]
    pub fn renewed(&self) -> bool {
        self.0.renewed.load(Ordering::Relaxed)
    }

    /// Why it ended by itself: it could not start, or its disk refused.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its host was crashed.
    pub fn down(&self) {
        drop(self.start().take());
        self.0.over.store(false, Ordering::Relaxed);
        self.0.ended.store(false, Ordering::Relaxed);
        self.0.renewed.store(false, Ordering::Relaxed);
        self.0.left.store(false, Ordering::Relaxed);
        *self.0.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.machine.renew();
    }

    fn begin_life(&self) -> CancellationToken {
        let kill = CancellationToken::new();
        *self.0.kill.lock().unwrap_or_else(PoisonError::into_inner) = kill.clone();
        kill
    }

    fn fail(&self, why: String) {
        *self.0.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn start(&self) -> MutexGuard<'_, Option<Start>> {
        self.0.start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn disk(&self) {
        let millis = self.0.slow.load(Ordering::Relaxed);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

/// What ends a simulated node.
pub type Ended = Box<dyn std::error::Error>;

impl SimNode {
    /// Runs until it ends, by itself or as it is told; then its connections end, and the simulation
    /// crashes its host.
    ///
    /// # Errors
    /// If something cannot be that a simulation gives it.
    pub async fn run(self) -> Result<(), Ended> {
        let strings = self.strings.clone();
        let kill = strings.begin_life();
        tokio::select! {
            biased;
            () = kill.cancelled_owned() => {}
            ended = self.live() => ended?,
        }
        strings.machine().sever();
        strings.0.over.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn live(self) -> Result<(), Ended> {
        let name = self.hosts.name_of(&self.host);
        let node = NodeName::new(&name)?;
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let options = Options {
            node: node.clone(),
            storage: self.storage(),
            clock: Arc::clone(&clock),
            random: Arc::clone(&self.random),
            limits: self.limits.clone(),
        };
        let (journal, writer) = match Journal::open_planted(options, self.planted) {
            Ok(opened) => opened,
            Err(error) => {
                self.strings.fail(error.to_string());
                return Ok(());
            }
        };
        self.begin(&journal, &name);
        let strings = self.strings.clone();
        let pace = move || {
            let strings = strings.clone();
            async move { strings.disk().await }
        };
        tokio::spawn(writer.run_paced(pace));
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
        let machine = self.strings.machine().clone();
        let (peers, run) = Peers::new(evermesh_peer::Parts {
            journal: journal.clone(),
            rules,
            clock,
            random: Arc::clone(&self.random),
            spans: Spans::off(),
            node: node.clone(),
            addresses: self.addresses(),
            dialer: Arc::new(SimDialer {
                name: node,
                hosts: self.hosts.clone(),
                machine: machine.clone(),
            }),
            lease: LEASE,
            address: Some(format!("https://{}:{PORT}", self.host)),
            forget_after: FORGET_AFTER,
            credit_bytes: 4 * 1024 * 1024,
        });
        let routes = Routes::builder()
            .service("evermesh.v1.EventReplication", Service::new(local.service()))
            .service("evermesh.v1.MeshService", Service::new(peers.service()))
            .build();
        let gate = Gate { routes, limits: Limits::default(), counters: Arc::<Counters>::default() };
        let (drain, handle) = Drain::new();
        let links = CancellationToken::new();
        tokio::spawn(run.run(links.clone()));
        let gate = tokio::spawn(gate.serve(SimListener::bind(machine).await?, Believing, drain));
        if let Some(start) = &mut *self.strings.start() {
            start.peers = Some(peers.clone());
        }
        self.until_ended(&journal, &peers).await;
        self.end(&journal, &local, &peers, (gate, &handle), &links).await;
        Ok(())
    }

    fn storage(&self) -> Arc<dyn Storage> {
        match &self.disk {
            Some(disk) => Arc::new(disk.clone()),
            None => Arc::new(Memory::new()),
        }
    }

    /// Where the others are, of those that its operator still knows of.
    fn addresses(&self) -> Vec<String> {
        let peers = self.peers.iter().filter(|peer| !self.hosts.is_gone(peer));
        peers.map(|peer| format!("https://{peer}:{PORT}")).collect()
    }

    /// Ends as the server's drain does it; a disk that refused has nothing to wait for.
    async fn end(
        &self,
        journal: &Journal,
        local: &Local,
        peers: &Peers,
        (gate, handle): (JoinHandle<()>, &DrainHandle),
        links: &CancellationToken,
    ) {
        if journal.is_renewed() {
            self.strings.0.renewed.store(true, Ordering::Relaxed);
            return;
        }
        if !journal.durable().borrow().failed {
            if !journal.is_left() {
                handle.finish();
            }
            local.begin_drain();
            journal.seal();
            if journal.is_left() {
                self.last_held(journal, peers).await;
                handle.finish();
            }
            peers.goodbye().await;
            // What was said last is on its way; who does not take it is not waited for.
            let _ = tokio::time::timeout(DRAINED_WITHIN, gate).await;
            handle.stop();
            links.cancel();
            if journal.close().await.is_ok() {
                self.strings.0.left.store(journal.is_left(), Ordering::Relaxed);
                self.strings.0.ended.store(true, Ordering::Relaxed);
                return;
            }
        }
        self.strings.fail("its disk refused".into());
    }

    fn begin(&self, journal: &Journal, name: &str) {
        let stop = CancellationToken::new();
        let (leave, journal_is) = (watch::Sender::new(None), journal.clone());
        *self.strings.start() = Some(Start { journal: journal_is, stop, leave, peers: None });
        self.recorder.say(What::Started {
            node: self.host.clone(),
            called: Some(name.to_owned()).filter(|name| *name != self.host),
            journal: journal.origin().journal.to_string(),
            start: journal.start().id.to_string(),
            epoch: journal.start().epoch.get(),
            lease: u64::try_from(LEASE.as_millis()).unwrap_or_default(),
            forgets_ids: self.limits.max_bytes < SMALL_BYTES,
            in_memory: self.disk.is_none(),
        });
    }

    async fn until_ended(&self, journal: &Journal, peers: &Peers) {
        let strings = || {
            let start = self.strings.start();
            start.as_ref().map(|start| (start.stop.clone(), start.leave.subscribe()))
        };
        let Some((stop, mut leave)) = strings() else { return };
        let mut durable = journal.durable();
        loop {
            tokio::select! {
                biased;
                failed = durable.wait_for(|durable| durable.failed) => return drop(failed),
                () = stop.cancelled() => return,
                told = leave.changed() => {
                    let force = *leave.borrow_and_update();
                    if told.is_err() || self.leave(journal, peers, force.unwrap_or(false)).await {
                        return;
                    }
                }
            }
        }
    }

    /// As an operator asks for it; false: it is refused, and the node stays.
    async fn leave(&self, journal: &Journal, peers: &Peers, force: bool) -> bool {
        let held = tokio::time::timeout(HELD_WITHIN, peers.held_by_all()).await;
        let held = held.unwrap_or_else(|_| peers.held());
        let leaves = (held.is_enough() || force) && journal.leave().await.is_ok();
        if leaves {
            self.recorder.say(What::Leaves { origin: journal.origin().text() });
        }
        leaves
    }

    /// Whatever was published until the doors closed is held by others, too.
    async fn last_held(&self, journal: &Journal, peers: &Peers) {
        let held = tokio::time::timeout(HELD_WITHIN, peers.held_by_all()).await;
        let held = held.unwrap_or_else(|_| peers.held());
        if journal.is_memory() {
            // It is its last word only if it comes to that; who holds it then knows.
            return;
        }
        self.recorder.say(What::Leaving {
            node: self.host.clone(),
            number: Number {
                origin: journal.origin().text(),
                sequence: journal.own_head().as_u64(),
            },
            lack: [held.pending, held.lacks].concat(),
        });
    }
}
