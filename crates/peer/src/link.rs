//! Step 5 of the way of one event: this node dials a peer, names its frontier, and appends what is
//! new of what comes. Where another origin is out of reach, it asks this peer for that too.
//!
//! Always holds: a link begins where this node is, so nothing depends on what the peer believes;
//! whatever ends a link, the next one asks again. One connection for each link, with two streams.

mod hears;
mod opening;
mod says;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evermesh_event::limits::MESH_MESSAGE_BYTES_MAX;
use evermesh_event::{NodeName, Origin};
use evermesh_proto::v1;
use evermesh_proto::v1::mesh_service_client::MeshServiceClient;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use self::opening::connect;
use self::says::Said;
use crate::backoff::Backoff;
use crate::dial::Dialled;
use crate::peers::Shared;
use crate::ping::{self, Unpinged};

/// How long may be read of what a peer said before it ended its pings: it says nothing new.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Keeps a link to an address until it is told to end.
pub(crate) async fn keep(shared: Arc<Shared>, address: String, drain: CancellationToken) {
    let mut backoff = Backoff::new();
    loop {
        let began = shared.parts.clock.boot();
        let trouble = tokio::select! {
            () = drain.cancelled() => return,
            trouble = once(&shared, &address, &mut backoff) => trouble,
        };
        if shared.members.unlinked(&address, trouble.clone(), began) {
            tracing::warn!(address, "no link: {trouble}; dials again");
        }
        let wait = backoff.next(shared.parts.random.as_ref());
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One link, from dialling to its end; returns why it ended.
async fn once(shared: &Arc<Shared>, address: &str, backoff: &mut Backoff) -> String {
    let Dialled { io, identity } = match shared.parts.dialer.dial(address).await {
        Ok(dialled) => dialled,
        Err(error) => return error.to_string(),
    };
    shared.dialled.fetch_add(1, Ordering::Relaxed);
    let Some(name) = identity.member().cloned() else {
        return format!("{} is at {address}, and no node of this mesh", identity.text());
    };
    if name == shared.parts.node {
        return format!("{address} is this node itself; remove it from [mesh] peers");
    }
    if let Err(trouble) = shared.members.hold(address, &name) {
        return trouble;
    }
    let client = match connect(io).await {
        Ok(channel) => MeshServiceClient::new(channel)
            .max_decoding_message_size(MESH_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESH_MESSAGE_BYTES_MAX),
        Err(error) => return format!("no HTTP/2 with {name}: {error}"),
    };
    let (link, said) = match Link::open(shared, &name, client.clone()).await {
        Ok(opened) => opened,
        Err(trouble) => return trouble,
    };
    shared.members.linked(address, &name);
    tracing::info!(peer = %name, address, "linked");
    let (origin, echoed) = (link.origin.clone(), Notify::new());
    let began = Instant::now();
    let run = pin!(link.run(said, &echoed));
    let why = both(run, ping::ping(shared, &origin, client, &echoed)).await;
    backoff.worked(began.elapsed());
    shared.repair.mend().unlinked(&name);
    shared.repair.change(|repair| repair.unlinked(&name));
    format!("{name} {why}")
}

/// Whichever of the two streams of a link ends first ends the other. But a peer that drains ends
/// its pings, too, and what it said before, to its last word, may still be unread.
async fn both(
    mut run: Pin<&mut impl Future<Output = String>>,
    pings: impl Future<Output = Unpinged>,
) -> String {
    let unpinged = tokio::select! {
        biased;
        why = &mut run => return why,
        unpinged = pings => unpinged,
    };
    match unpinged {
        Unpinged::Silent(why) => why,
        Unpinged::Ended(why) => tokio::time::timeout(LAST_WORDS, run).await.unwrap_or(why),
    }
}

/// A link that was welcomed.
struct Link<'a> {
    shared: &'a Arc<Shared>,
    name: NodeName,
    /// The peer's origin, as of its present journal.
    origin: Origin,
    requests: mpsc::Sender<v1::PullRequest>,
    /// Which hello to this peer began it.
    hello: u64,
    /// What was last said of each origin of the peer.
    said: BTreeMap<Origin, Said>,
    /// Bytes that were appended and not yet given back.
    credit_due: u64,
    /// What the peer was asked for beside its own origin.
    wanted: BTreeSet<Origin>,
    /// Whatever it was asked for on this link: blocks of it may still be on their way.
    asked: BTreeSet<Origin>,
    /// What was damaged here and was asked for on this link.
    mending: BTreeSet<Origin>,
}

impl Link<'_> {
    /// Takes what comes until the link ends; returns why.
    async fn run(mut self, mut said: Streaming<v1::PullResponse>, echoed: &Notify) -> String {
        let journal = self.shared.parts.journal.clone();
        let (mut durable, mut applied) = (journal.durable(), journal.applied().watch());
        let (mut repair, mut wounds) = (self.shared.repair.watch(), journal.wounds());
        let requests = self.requests.clone();
        let mut due = self.wants().or_else(|| self.due());
        let mut listens = true;
        loop {
            tokio::select! {
                biased;
                place = requests.reserve(), if due.is_some() && listens => match place {
                    Ok(place) => {
                        place.send(v1::PullRequest { message: due.take() });
                        due = self.due();
                    }
                    // It hears nothing more. What it said before is still to be read.
                    Err(_) => listens = false,
                },
                changed = durable.changed() => {
                    if changed.is_err() || durable.borrow_and_update().failed {
                        return "is no longer pulled from: this node's disk failed".into();
                    }
                    if due.is_none() {
                        due = self.due();
                    }
                }
                () = journal.applied().wait(&mut applied), if due.is_none() => due = self.due(),
                // Somebody holds something else, or is linked no more.
                _ = repair.changed(), if due.is_none() => due = self.wants(),
                // Something is damaged here, or there is room for more of what came back.
                _ = wounds.changed(), if due.is_none() => due = self.wants(),
                () = echoed.notified(), if due.is_none() => due = self.wants(),
                message = said.message() => {
                    let message = match message {
                        Ok(Some(message)) => message,
                        Ok(None) => return "ended the link".into(),
                        Err(status) => return format!("ended the link: {}", status.message()),
                    };
                    if let Err(why) = self.hear(message).await {
                        return why;
                    }
                    if due.is_none() {
                        due = self.due();
                    }
                }
            }
        }
    }
}
