//! The acceptor: takes connections, and never waits for one of them.
//!
//! Each connection is admitted and served in a task of its own. What bounds are for: a place per
//! connection, a turn per handshake, a deadline per handshake. Whoever finds no place is closed at
//! once, so a flood costs one accept and one close per connection. An error of the listener is a
//! pause, never a spin and never the end; only the drain ends accepting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use evermesh_event::Remote;
use evermesh_identity::Identity;
use http::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{BoxError, Service};

use crate::admission::Admission;
use crate::connection::{self, Caller, Protocol};
use crate::counters::{Counters, count};
use crate::drain::Drain;
use crate::error::Refusal;
use crate::layers::{self, Answer};
use crate::limits::Limits;
use crate::listener::Listener;
use crate::preface::{self, Prefaced};
use crate::routes::Routes;
use crate::sparing::Sparing;

/// How long accepting rests after an error. Without file descriptors every try fails at once;
/// ten tries a second cost nothing, and the kernel's queue holds callers meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one port serves, and how much of it. A clone serves the same on another listener, with
/// limits of its own and shared counters.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Where calls go.
    pub routes: Routes,
    /// How much is taken.
    pub limits: Limits,
    /// What happened; the server holds the other end.
    pub counters: Arc<Counters>,
}

impl Gate {
    /// Serves `listener` until the drain. Returns when all its connections and calls are gone.
    pub async fn serve<L, A>(self, mut listener: L, admission: A, drain: Drain)
    where
        L: Listener,
        A: Admission<Raw = L::Io>,
    {
        let tasks = TaskTracker::new();
        let service = layers::around(self.routes, &self.limits, &self.counters);
        let door = Arc::new(Door {
            admission,
            service,
            protocol: connection::protocol(&self.limits, tasks.clone()),
            places: semaphore(self.limits.connections_max),
            turns: semaphore(self.limits.handshakes_max),
            deadline: self.limits.handshake_deadline,
            counters: self.counters,
            drain: drain.clone(),
            lines: Lines::new(),
        });
        loop {
            let taken = tokio::select! {
                biased;
                () = drain.finishing() => break,
                taken = listener.accept() => taken,
            };
            match taken {
                Ok((raw, remote)) => door.take(raw, remote, &tasks),
                Err(error) => {
                    door.cannot_accept(&error);
                    tokio::select! {
                        () = drain.finishing() => break,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
        // Closed before the wait, so that callers go elsewhere at once.
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

/// What all connections of one listener share.
struct Door<A, S> {
    admission: A,
    service: S,
    protocol: Protocol,
    /// One permit per connection, held from accept to its end.
    places: Arc<Semaphore>,
    /// One permit per handshake.
    turns: Arc<Semaphore>,
    deadline: Duration,
    counters: Arc<Counters>,
    drain: Drain,
    lines: Lines,
}

/// When a log line of each kind is due.
struct Lines {
    refused: Sparing,
    full: Sparing,
    errors: Sparing,
}

impl Lines {
    fn new() -> Self {
        Self { refused: Sparing::new(), full: Sparing::new(), errors: Sparing::new() }
    }
}

impl<A, S> Door<A, S>
where
    A: Admission,
    A::Raw: Send + 'static,
    S: Service<Request<Body>, Response = Answer, Error = BoxError, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    /// Gives a new connection a place, a turn and a task; closes it if there is none.
    fn take(self: &Arc<Self>, raw: A::Raw, remote: Remote, tasks: &TaskTracker) {
        count(&self.counters.accepted);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.full(&self.counters.over_connections, "connections_max", &remote);
        };
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            return self.full(&self.counters.over_handshakes, "handshakes_max", &remote);
        };
        let door = Arc::clone(self);
        tasks.spawn(async move {
            door.attend(raw, remote, turn).await;
            drop(place);
        });
    }

    /// Admits one connection and serves it to its end. A finishing drain lets handshakes end: a
    /// caller that was accepted hears GOAWAY, not a closed door.
    async fn attend(&self, raw: A::Raw, remote: Remote, turn: OwnedSemaphorePermit) {
        let admitted = tokio::select! {
            biased;
            () = self.drain.stopped() => return,
            admitted = timeout(self.deadline, self.admit(raw)) => admitted,
        };
        drop(turn);
        match admitted.unwrap_or(Err(Refusal::Deadline(self.deadline))) {
            Ok((io, identity)) => {
                connection::converse(
                    io,
                    Caller { identity, remote },
                    self.service.clone(),
                    self.protocol.clone(),
                    self.drain.clone(),
                    Arc::clone(&self.counters),
                )
                .await;
            }
            Err(refusal) => self.refused(&refusal, &remote),
        }
    }

    async fn admit(&self, raw: A::Raw) -> Result<(Prefaced<A::Io>, Identity), Refusal> {
        let (io, identity) = self.admission.admit(raw).await?;
        Ok((preface::expect(io).await?, identity))
    }
}

impl<A, S> Door<A, S> {
    fn full(&self, counter: &AtomicU64, limit: &str, remote: &Remote) {
        count(counter);
        if let Some(left_out) = self.lines.full.due() {
            tracing::warn!(%remote, left_out, "closed a new connection: {limit} is reached");
        }
    }

    fn refused(&self, refusal: &Refusal, remote: &Remote) {
        if matches!(refusal, Refusal::Gone) {
            count(&self.counters.abandoned);
            tracing::debug!(%remote, "a connection was {refusal}");
            return;
        }
        count(&self.counters.refused);
        if let Some(left_out) = self.lines.refused.due() {
            tracing::warn!(%remote, left_out, "refused a connection: {refusal}");
        }
    }

    fn cannot_accept(&self, error: &io::Error) {
        count(&self.counters.accept_errors);
        if let Some(left_out) = self.lines.errors.due() {
            tracing::error!(
                left_out,
                "cannot accept a connection: {error}; tried again every {ACCEPT_PAUSE:?}; \
                 if files are exhausted, raise LimitNOFILE or lower connections_max"
            );
        }
    }
}
