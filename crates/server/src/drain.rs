//! The drain: from running to having ended.
//!
//! In this order, so that nothing that was promised is lost on the way: load balancers hear that
//! the node is not serving; the ports stop accepting; nothing more is numbered, so that the last
//! word is the last; applications and members are told goodbye; calls under way end by themselves,
//! or at the deadline; then the journal makes everything durable and closes. A second signal is
//! impatience: what is left is dropped at once, and the journal still closes. When the journal
//! fails there is nothing to wait for: all ends at once (P11).

use std::io;
use std::time::Duration;

use evermesh_gate::DrainHandle;
use evermesh_journal::{Journal, WriterThread};
use evermesh_local::Local;
use evermesh_peer::Peers;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::OnStop;
use crate::error::Error;
use crate::services::Health;
use crate::sockets::LocalSocket;

/// How long tasks may take to see that they were stopped. None of them waits for anything then.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// How long the journal may take to close: what is unwritten is bounded, and a disk that needs
/// longer for it has failed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// How long publishers in flight may take to hear that the outcome is unknown.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// SIGTERM and SIGINT, from the moment on when this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen. From here on neither ends the process by itself.
    pub(crate) fn new() -> Result<Self, Error> {
        let cannot = |source: io::Error| Error::System { what: "wait for signals", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(cannot)?,
            interrupt: signal(SignalKind::interrupt()).map_err(cannot)?,
        })
    }

    /// The next of either, by its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The links to other members, as one task.
#[derive(Debug)]
pub(crate) struct Links {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Links {
    /// Starts them.
    pub(crate) fn start(run: evermesh_peer::Run) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(run.run(stop.clone())), stop }
    }
}

/// A node that runs: what the drain needs of each part.
pub(crate) struct Running {
    pub(crate) health: Health,
    pub(crate) drain: DrainHandle,
    /// For calls under way, once the node is told to end.
    pub(crate) deadline: Duration,
    /// What a signal means to the others.
    pub(crate) on_stop: OnStop,
    /// Cancelled when an operator lets this node leave the mesh: what it published is held.
    pub(crate) leaves: CancellationToken,
    pub(crate) local: Local,
    pub(crate) peers: Option<Peers>,
    pub(crate) links: Option<Links>,
    /// One task for each port; it ends when all its connections are gone.
    pub(crate) ports: JoinSet<()>,
    pub(crate) journal: Journal,
    pub(crate) writer: WriterThread,
    /// Goes last, so that the path stays taken while the node ends.
    pub(crate) socket: LocalSocket,
}

/// What ends a node.
enum Cause {
    Signal(&'static str),
    Leaves,
    JournalFailed,
    Fault(&'static str),
}

impl Running {
    /// Runs until a signal, a failure of the journal or a fault, and then to the end.
    pub(crate) async fn until_ended(mut self, mut signals: Signals) -> Result<(), Error> {
        let cause = tokio::select! {
            signal = signals.next() => Cause::Signal(signal),
            () = self.leaves.cancelled() => Cause::Leaves,
            () = failed(&self.journal) => Cause::JournalFailed,
            fault = fault(&mut self.ports, self.links.as_mut()) => Cause::Fault(fault),
        };
        self.health.serving(false).await;
        let fault = match cause {
            Cause::Signal(signal) => {
                self.leave().await;
                self.finish(signal, &mut signals).await;
                None
            }
            Cause::Leaves => {
                self.finish("it leaves the mesh", &mut signals).await;
                None
            }
            Cause::JournalFailed => {
                self.last_words().await;
                None
            }
            Cause::Fault(part) => Some(Error::Fault(part)),
        };
        if self.links.as_ref().is_some_and(|links| links.task.is_finished()) {
            // A task that ended must not be waited for again.
            self.links = None;
        }
        let closed = self.stop().await;
        fault.map_or(closed, Err)
    }

    /// A node that is told to stop, and was told that this is for good.
    async fn leave(&self) {
        if self.on_stop == OnStop::Leave
            && self.peers.is_some()
            && let Err(error) = self.journal.leave().await
        {
            tracing::warn!(%error, "cannot leave the mesh in order: the others wait for this node");
        }
    }

    /// Lets everything end by itself, as long as the deadline and the operator's patience allow.
    async fn finish(&mut self, signal: &str, signals: &mut Signals) {
        tracing::info!("{signal}: ends within {:?}", self.deadline);
        let leaves = self.journal.is_left();
        if !leaves {
            self.drain.finish();
        }
        self.local.begin_drain();
        self.journal.seal();
        let by_itself = async {
            if let Some(peers) = &self.peers {
                if leaves {
                    // Whatever was published is held by others, too. Who is not linked yet has to
                    // come for it, so that the ports are still open.
                    let held = timeout(self.deadline / 2, peers.held_by_all()).await;
                    let held = held.unwrap_or_else(|_| peers.held());
                    if !held.is_enough() {
                        tracing::warn!(
                            pending = ?held.pending, lacks = ?held.lacks,
                            "leaves although not everybody holds what this node published"
                        );
                    }
                    self.drain.finish();
                }
                peers.goodbye().await;
            }
            while self.ports.join_next().await.is_some() {}
        };
        tokio::select! {
            ended = timeout(self.deadline, by_itself) => {
                if ended.is_err() {
                    tracing::warn!("drops the calls that did not end within {:?}", self.deadline);
                }
            }
            signal = signals.next() => tracing::warn!("{signal} again: drops all calls at once"),
            () = failed(&self.journal) => {}
        }
    }

    /// A journal that failed takes nothing more. Whoever waits for it is told so, and not left with
    /// a connection that broke.
    async fn last_words(&mut self) {
        self.drain.finish();
        self.local.begin_drain();
        let by_itself = async { while self.ports.join_next().await.is_some() {} };
        // Whoever does not listen now finds the connection closed.
        let _ = timeout(LAST_WORDS, by_itself).await;
    }

    /// Ends what is left, the journal last.
    async fn stop(mut self) -> Result<(), Error> {
        self.drain.stop();
        let tasks = async {
            while self.ports.join_next().await.is_some() {}
            if let Some(links) = &mut self.links {
                links.stop.cancel();
                // Whether it ended well does not matter any more.
                let _ = (&mut links.task).await;
            }
        };
        if timeout(STOP_DEADLINE, tasks).await.is_err() {
            tracing::warn!("some tasks did not stop within {STOP_DEADLINE:?}");
        }
        let in_memory = self.journal.is_memory();
        let journal = async {
            let closed = self.journal.close().await;
            // The thread knows why, if it failed.
            let joined = tokio::task::spawn_blocking(|| self.writer.join()).await;
            let ended = joined.map_err(|_| Error::Fault("the thread `journal`"))?;
            ended.map_err(|failure| match failure {
                renewal if renewal.is_renewal() => Error::Renewed,
                failure => Error::JournalFailed(failure),
            })?;
            Ok(closed?)
        };
        let closed = timeout(CLOSE_DEADLINE, journal).await;
        let closed = closed.unwrap_or(Err(Error::JournalStuck(CLOSE_DEADLINE)));
        drop(self.socket);
        if closed.is_ok() {
            let kept = if in_memory { "nothing is kept" } else { "everything is stored" };
            tracing::info!("ended; {kept}");
        }
        closed
    }
}

/// Waits until a write or an fsync of the journal failed.
async fn failed(journal: &Journal) {
    let mut durable = journal.durable();
    if durable.wait_for(|durable| durable.failed).await.is_err() {
        // The journal is gone, which is no failure.
        std::future::pending::<()>().await;
    }
}

/// Waits until something ended that never ends by itself.
async fn fault(ports: &mut JoinSet<()>, links: Option<&mut Links>) -> &'static str {
    let links = async {
        match links {
            Some(links) => {
                // Its outcome does not matter: that it ended is the fault.
                let _ = (&mut links.task).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = ports.join_next() => "a port",
        () = links => "the links",
    }
}

#[cfg(test)]
mod tests;
