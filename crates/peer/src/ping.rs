//! Pings and echoes, on a stream of their own. The receiver of blocks pings; whoever serves them
//! answers, and knows from it that the receiver is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evermesh_event::{NodeName, Origin, Planted, Sequence, StartId};
use evermesh_journal::Echo;
use evermesh_proto::v1;
use evermesh_proto::v1::mesh_service_client::MeshServiceClient;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::lists::{self, Told};
use crate::peers::Shared;
use crate::starts;

/// Echoes between the loop and the connection.
const ECHOES_MAX: usize = 2;
/// Pings that wait for the connection: the next is due long after.
const PINGS_MAX: usize = 2;

/// When the pings were sent that wait for an echo: more than a lease has.
const SENT_MAX: usize = 64;

/// Answers every ping of a member, until it ends.
pub(crate) fn answer(
    shared: &Arc<Shared>,
    name: NodeName,
    mut said: Streaming<v1::PingRequest>,
) -> ReceiverStream<Result<v1::PingResponse, Status>> {
    let (echoes, stream) = mpsc::channel(ECHOES_MAX);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut told = BTreeMap::new();
        let mut list = Told::nothing(&shared.parts.journal);
        while let Ok(Some(ping)) = said.message().await {
            let (parts, journal) = (&shared.parts, &shared.parts.journal);
            let now = parts.clock.boot();
            // Whom it knows counts before its ping does: a fence waits for them too.
            shared.members.told(&name, &lists::read(&ping.members), now);
            if shared.members.has_left(&name) {
                return;
            }
            shared.members.pinged(&name, StartId::from_slice(&ping.start).ok(), now);
            let echo = v1::PingResponse {
                number: ping.number,
                start: Bytes::copy_from_slice(journal.start().id.as_bytes()),
                head: journal.own_head().as_u64(),
                durable_head: journal.durable().borrow().own.as_u64(),
                held: starts::changes(&mut told, journal.holdings()),
                members: list.news(journal),
            };
            if echoes.send(Ok(echo)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

/// Why a peer is pinged no more.
#[derive(Debug)]
pub(crate) enum Unpinged {
    /// It does not answer, or may not: nothing more comes from it.
    Silent(String),
    /// It ended the stream.
    Ended(String),
}

/// Pings a peer four times a lease, until it is not there any more.
pub(crate) async fn ping(
    shared: &Shared,
    origin: &Origin,
    mut client: MeshServiceClient<Channel>,
    echoed: &Notify,
) -> Unpinged {
    let lease = shared.parts.lease;
    let (pings, stream) = mpsc::channel(PINGS_MAX);
    let start = Bytes::copy_from_slice(shared.parts.journal.start().id.as_bytes());
    let mut list = Told::nothing(&shared.parts.journal);
    let message = |number, members| v1::PingRequest { number, start: start.clone(), members };
    let mut sent = Sent::default();
    // The first is in the stream before the call: some servers answer only then.
    let first = message(sent.next(shared.parts.clock.boot()), list.news(&shared.parts.journal));
    if pings.try_send(first).is_err() {
        return Unpinged::Silent("the first ping found no place".into());
    }
    let echoes = tokio::time::timeout(lease, client.ping(ReceiverStream::new(stream))).await;
    let mut echoes = match echoes {
        Ok(Ok(echoes)) => echoes.into_inner(),
        Ok(Err(status)) => return ended("refused to be pinged", &status),
        Err(_) => return silent(lease),
    };
    let mut due = tokio::time::interval(lease / 4);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = shared.parts.journal.leases().asked();
    let mut heard = Instant::now();
    loop {
        let now = tokio::select! {
            echo = echoes.message() => {
                match echo {
                    Ok(Some(echo)) => {
                        heard = Instant::now();
                        let (name, now) = (&origin.node, shared.parts.clock.boot());
                        shared.members.told(name, &lists::read(&echo.members), now);
                        if shared.members.has_left(name) {
                            return Unpinged::Silent("has left".into());
                        }
                        note_head(shared, origin, &echo);
                        let held = starts::held(&shared.parts.journal, &echo.held);
                        let here = held.iter().map(|(of, held)| (of.clone(), held.through));
                        let journal = &shared.parts.journal;
                        journal.note_holds(origin.node.as_str(), &here.collect());
                        shared.repair.holds(&origin.node, held);
                        // Whoever waits for this echo finds everything that it said.
                        sent.echoed(shared, origin, &echo);
                        echoed.notify_one();
                    }
                    Ok(None) => return Unpinged::Ended("ended".into()),
                    Err(status) => return ended("ended", &status),
                }
                continue;
            }
            now = due.tick() => now,
            // A subscription that opened wants to know where this member is by now.
            Ok(()) = asked.changed() => Instant::now(),
        };
        if now.duration_since(heard) > lease {
            return silent(lease);
        }
        let number = sent.next(shared.parts.clock.boot());
        let ping = message(number, list.news(&shared.parts.journal));
        if pings.try_send(ping).is_err() {
            // The connection takes nothing: the lease decides. What is news stays it.
            list.untold();
        }
    }
}

/// When each ping was sent, until it is echoed.
#[derive(Debug, Default)]
struct Sent {
    /// The number of the oldest that is kept.
    first: u64,
    at: VecDeque<Duration>,
}

impl Sent {
    fn next(&mut self, now: Duration) -> u64 {
        self.at.push_back(now);
        if self.at.len() > SENT_MAX {
            self.at.pop_front();
            self.first += 1;
        }
        self.first + self.at.len() as u64 - 1
    }

    /// The lease runs from the sending of the ping. An echo of a ping that is too old grants none.
    fn echoed(&mut self, shared: &Shared, origin: &Origin, echo: &v1::PingResponse) {
        let Some(place) = echo.number.checked_sub(self.first) else { return };
        let Ok(place) = usize::try_from(place) else { return };
        let Some(pinged) = self.at.get(place).copied() else { return };
        self.at.drain(..place);
        self.first = echo.number;
        let parts = &shared.parts;
        let hearing = parts.journal.planted().is(Planted::LeaseFromHearing);
        let echo = Echo {
            origin: origin.clone(),
            pinged: if hearing { parts.clock.boot() } else { pinged },
            head: Sequence::from_u64(echo.head),
            durable_head: Sequence::from_u64(echo.durable_head),
        };
        let now = parts.clock.boot();
        let here = parts.journal.head();
        parts.journal.leases().echoed(origin.node.as_str(), echo, here, parts.lease, now);
    }
}

fn ended(what: &str, status: &Status) -> Unpinged {
    Unpinged::Ended(format!("{what}: {}", status.message()))
}

fn silent(lease: Duration) -> Unpinged {
    Unpinged::Silent(format!("did not answer pings for {lease:?}"))
}

/// How far a peer says that its own events are on its disk, kept for the day it was restored from
/// a copy.
fn note_head(shared: &Shared, origin: &Origin, echo: &v1::PingResponse) {
    let head = Sequence::from_u64(echo.durable_head);
    let journal = &shared.parts.journal;
    // An own head of a former start is told again until this start numbers something.
    if let Ok(start) = StartId::from_slice(&echo.start) {
        let seen = journal.seen_starts();
        let starts = seen.get(origin).map(Vec::as_slice).unwrap_or_default();
        if starts.iter().any(|seen| seen.start == start && seen.epoch == head.epoch()) {
            journal.note_head(origin, head);
        }
    }
}
