//! Step 5 of the way of one event: this node dials a peer, names its frontier, and appends what is
//! new of what comes. Where another origin is out of reach, it asks this peer for that too.
//!
//! Always holds: a link begins where this node is, so nothing depends on what the peer believes;
//! whatever ends a link, the next one asks again. One connection for each link, with two streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use evermesh_event::limits::MESH_MESSAGE_BYTES_MAX;
use evermesh_event::{Block, JournalId, NodeName, Origin, Sequence};
use evermesh_journal::{Lacking, Missed, Taken, margin};
use evermesh_proto::v1;
use evermesh_proto::v1::mesh_service_client::MeshServiceClient;
use evermesh_proto::v1::pull_request::Message;
use evermesh_proto::v1::pull_response::Message as Heard;
use evermesh_telemetry::{Span, Station};
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::backoff::Backoff;
use crate::dial::{Dialled, Io};
use crate::feed::VERSION;
use crate::peers::Shared;
use crate::{lists, ping, starts};

/// How long a peer may take to welcome.
const WELCOME_DEADLINE: Duration = Duration::from_secs(10);
/// Messages that wait for the connection. Watermarks and credit gather while it is busy.
const REQUESTS_MAX: usize = 2;
/// What the connection takes before it is read: several batches, so that a link is never idle.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// HTTP/2's own pings, for a peer whose kernel still confirms while its process does not.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEP_ALIVE_DEADLINE: Duration = Duration::from_secs(10);

/// Keeps a link to an address until it is told to end.
pub(crate) async fn keep(shared: Arc<Shared>, address: String, drain: CancellationToken) {
    let mut backoff = Backoff::new();
    loop {
        let trouble = tokio::select! {
            () = drain.cancelled() => return,
            trouble = once(&shared, &address, &mut backoff) => trouble,
        };
        if shared.members.unlinked(&address, trouble.clone()) {
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
    backoff.reset();
    shared.members.linked(address, &name);
    tracing::info!(peer = %name, address, "linked");
    let (origin, echoed) = (link.origin.clone(), Notify::new());
    let why = tokio::select! {
        why = link.run(said, &echoed) => format!("{name} {why}"),
        why = ping::ping(shared, &origin, client, &echoed) => format!("{name} {why}"),
    };
    shared.repair.mend().unlinked(&name);
    shared.repair.change(|repair| repair.unlinked(&name));
    why
}

/// HTTP/2 over one connection; there is no second one behind it.
async fn connect(io: Box<dyn Io>) -> Result<Channel, tonic::transport::Error> {
    let mut io = Some(TokioIo::new(io));
    let connector = tower::service_fn(move |_: http::Uri| {
        let io = io.take().ok_or_else(|| std::io::Error::other("the connection has ended"));
        std::future::ready(io)
    });
    // The name is never looked up: the connection is there.
    Endpoint::from_static("http://peer.evermesh")
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_DEADLINE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// How far this node is in one origin: what is on its disk, or in its memory if it keeps none, and
/// the sites that lag behind that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    stored: Sequence,
    lagging: Vec<(String, Sequence)>,
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

impl<'a> Link<'a> {
    async fn open(
        shared: &'a Arc<Shared>,
        name: &NodeName,
        mut client: MeshServiceClient<Channel>,
    ) -> Result<(Self, Streaming<v1::PullResponse>), String> {
        let (requests, stream) = mpsc::channel(REQUESTS_MAX);
        let hello = v1::PullRequest { message: Some(Message::Hello(hello(shared, name))) };
        // Hello is in the stream before the call: some servers answer only then.
        requests.try_send(hello).map_err(|_| "hello found no place".to_owned())?;
        let now = shared.parts.clock.boot();
        let leases = shared.parts.journal.leases();
        let number = leases.hello(name.as_str(), shared.parts.lease, now);
        let opening = async {
            let mut said = client.pull(ReceiverStream::new(stream)).await?.into_inner();
            let first = said.message().await?;
            Ok::<_, tonic::Status>((said, first))
        };
        let opened = tokio::time::timeout(WELCOME_DEADLINE, opening).await;
        let (said, first) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(status)) => return Err(format!("{name} refuses: {}", status.message())),
            Err(_) => return Err(format!("{name} did not welcome within 10 s")),
        };
        let Some(v1::PullResponse { message: Some(Heard::Welcome(welcome)) }) = first else {
            return Err(format!("{name} did not begin with a welcome"));
        };
        if welcome.node != name.as_str() {
            let said = welcome.node;
            return Err(format!("the certificate says {name}, the welcome says `{said}`"));
        }
        if welcome.version != VERSION {
            let version = welcome.version;
            return Err(format!("{name} speaks version {version}, this node {VERSION}"));
        }
        let journal =
            JournalId::from_slice(&welcome.journal).map_err(|e| format!("{name}: {e}"))?;
        let origin = Origin { node: name.clone(), journal };
        let own = &shared.parts.journal;
        shared.members.told(name, &lists::read(&welcome.members), shared.parts.clock.boot());
        if shared.members.has_left(name) {
            return Err(format!("{name} has left, or was forgotten, and did not come back yet"));
        }
        meet(shared, &origin, &welcome.frontier).await?;
        let link = Self {
            shared,
            name: name.clone(),
            origin,
            requests,
            hello: number,
            said: BTreeMap::new(),
            credit_due: 0,
            wanted: BTreeSet::new(),
            asked: BTreeSet::new(),
            mending: BTreeSet::new(),
        };
        shared.repair.mend().linked(name);
        let held = starts::holdings(own, &welcome.frontier);
        shared.repair.change(|repair| repair.linked(link.origin.clone(), held));
        Ok((link, said))
    }

    /// Takes what comes until the link ends; returns why.
    async fn run(mut self, mut said: Streaming<v1::PullResponse>, echoed: &Notify) -> String {
        let journal = self.shared.parts.journal.clone();
        let (mut durable, mut applied) = (journal.durable(), journal.applied().watch());
        let (mut repair, mut wounds) = (self.shared.repair.watch(), journal.wounds());
        let requests = self.requests.clone();
        let mut due = self.wants().or_else(|| self.due());
        loop {
            tokio::select! {
                biased;
                place = requests.reserve(), if due.is_some() => {
                    let Ok(place) = place else { return "ended".into() };
                    place.send(v1::PullRequest { message: due.take() });
                    due = self.due();
                }
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

    /// What this peer is to be asked for, if that is something else than before.
    fn wants(&mut self) -> Option<Message> {
        let journal = &self.shared.parts.journal;
        let wants = self.shared.repair.wants(&self.name, journal.origin(), &journal.frontier());
        let foreign = wants.origins.keys().filter(|origin| **origin != self.origin);
        let foreign: BTreeSet<_> = foreign.cloned().collect();
        let damaged = self.damaged();
        if wants.again.is_empty() && foreign == self.wanted && damaged.is_none() {
            return None;
        }
        for origin in foreign.difference(&self.wanted) {
            tracing::info!(%origin, from = %self.name, "is out of reach: repairs what is lacking");
        }
        self.shared.repair.told(&self.name, &wants.again);
        self.asked.extend(foreign.iter().cloned());
        self.wanted = foreign;
        let origins = wants.origins.into_iter().map(|(origin, at)| v1::OriginSequence {
            origin: Some(origin.to_proto()),
            sequence: at.as_u64(),
        });
        let ranges = damaged.into_iter().map(|damaged| v1::OriginRange {
            origin: Some(damaged.origin.to_proto()),
            after: damaged.after.as_u64(),
            through: damaged.through.as_u64(),
        });
        Some(Message::Want(v1::Want { origins: origins.collect(), ranges: ranges.collect() }))
    }

    /// What was damaged here and this peer is to be asked for now.
    fn damaged(&mut self) -> Option<Lacking> {
        let lacking = self.shared.parts.journal.lacking();
        if lacking.is_empty() {
            return None;
        }
        let now = self.shared.parts.clock.boot();
        let damaged = self.shared.repair.mend().ask(&self.name, &lacking, now)?;
        tracing::info!(
            peer = %self.name, origin = %damaged.origin, after = %damaged.after,
            through = %damaged.through, "is asked for what is damaged here"
        );
        self.mending.insert(damaged.origin.clone());
        Some(damaged)
    }

    /// What should be said next: the newest watermarks, else credit once it is worth a message.
    fn due(&mut self) -> Option<Message> {
        let journal = &self.shared.parts.journal;
        let durable = journal.durable_frontier();
        let mut marks = v1::Watermarks::default();
        for (origin, stored) in durable.iter().filter(|(origin, _)| origin.node == self.name) {
            let now = Said { stored, lagging: journal.applied().lagging(origin, stored) };
            let said = self.said.entry(origin.clone()).or_default();
            if *said == now {
                continue;
            }
            let origin = Some(origin.to_proto());
            marks.applied.extend(now.lagging.iter().map(|(site, at)| v1::SiteSequence {
                origin: origin.clone(),
                site: site.clone(),
                sequence: at.as_u64(),
            }));
            marks.stored.push(v1::OriginSequence { origin, sequence: stored.as_u64() });
            *said = now;
        }
        if !marks.stored.is_empty() {
            return Some(Message::Watermarks(marks));
        }
        if self.credit_due > self.shared.parts.credit_bytes / 4 {
            let bytes = std::mem::take(&mut self.credit_due);
            return Some(Message::Credit(v1::Credit { bytes }));
        }
        None
    }

    async fn hear(&mut self, said: v1::PullResponse) -> Result<(), String> {
        match said.message {
            Some(Heard::Blocks(blocks)) => {
                let arrived = self.shared.parts.clock.wall();
                for block in blocks.blocks {
                    self.credit_due += block.len() as u64;
                    self.take(block, arrived).await?;
                }
                Ok(())
            }
            Some(Heard::Missed(range)) => self.lacks(&range),
            Some(Heard::RangeEnd(end)) => {
                let lacking = self.shared.parts.journal.lacking();
                let goes_on = Sequence::from_u64(end.goes_on);
                self.shared.repair.mend().answered(&self.name, goes_on, &lacking);
                // Another link may ask its peer, or this one for more.
                self.shared.repair.change(|_| {});
                Ok(())
            }
            Some(Heard::Goodbye(goodbye)) => Err(self.goodbye(&goodbye)),
            // Nothing that this version knows.
            Some(Heard::Welcome(_)) | None => Ok(()),
        }
    }

    /// The peer ends its run, its journal or its life in this mesh.
    fn goodbye(&self, goodbye: &v1::Goodbye) -> String {
        let journal = &self.shared.parts.journal;
        let head = Sequence::from_u64(goodbye.head);
        journal.leases().goodbye(self.name.as_str(), self.hello, self.origin.clone(), head);
        if goodbye.r#final {
            journal.journal_ended(&self.origin, head);
        }
        if goodbye.leaves {
            journal.forget_member(&self.name);
            self.shared.members.reconcile(self.shared.parts.clock.boot());
            return "left the mesh".into();
        }
        "said goodbye".into()
    }

    async fn take(&self, encoded: Bytes, arrived: SystemTime) -> Result<(), String> {
        let block = Block::decode(encoded)
            .map_err(|error| format!("sent what is no block: {error}; asks again"))?;
        if self.mending.contains(block.origin()) {
            if self.shared.parts.journal.mend(&block) {
                self.shared.repair.mend().came(&self.name, self.shared.parts.clock.boot());
            }
            if !self.may_send(block.origin()) {
                return Ok(());
            }
        }
        if !self.may_send(block.origin()) {
            return Err(format!("sent events of {}, which were not asked for", block.origin()));
        }
        let sampled = block.sampled() && self.shared.parts.spans.enabled();
        let traced = sampled.then(|| block.clone());
        let origin = block.origin().clone();
        match self.shared.parts.journal.take(block).await {
            Ok(Taken::Appended { skip, .. }) => {
                if let Some(block) = traced {
                    self.trace(&block, skip, arrived);
                }
                Ok(())
            }
            Ok(Taken::Duplicate) => Ok(()),
            Ok(Taken::Hole { at, needed }) => Err(format!(
                "left a hole in {origin}: this node is at {at}, what came goes on from {needed}; \
                 asks again"
            )),
            Err(error) => Err(format!("is not pulled from for now: {error}")),
        }
    }

    fn may_send(&self, origin: &Origin) -> bool {
        origin.node == self.name || self.asked.contains(origin)
    }

    /// The peer does not hold what comes next: others are asked before anything is missed.
    fn lacks(&self, range: &v1::MissedRange) -> Result<(), String> {
        let Some(Ok(missed)) = range.missed.as_ref().map(Missed::from_proto) else {
            return Err("sent a missed that cannot be read".into());
        };
        let Some(origin) = missed.origin.as_ref().filter(|origin| self.may_send(origin)) else {
            return Err("sent a missed of another node, which was not asked for".into());
        };
        tracing::info!(
            peer = %self.name, %origin, from = %missed.from, through = %missed.through,
            "does not hold what is lacking here"
        );
        self.shared.repair.change(|repair| repair.lacks(&self.name, missed));
        Ok(())
    }

    /// The span `evermesh.replicate` of each sampled event: from arrival until it was appended.
    fn trace(&self, block: &Block, skip: u32, begin: SystemTime) {
        let end = self.shared.parts.clock.wall();
        let origin = block.origin().node.as_str();
        for entry in block.entries().skip(skip as usize) {
            let glance = entry.glance();
            if !evermesh_telemetry::sampled(glance.traceparent) {
                continue;
            }
            self.shared.parts.spans.record(&Span {
                station: Station::Replicate,
                traceparent: glance.traceparent,
                begin,
                end,
                site: glance.site,
                event_type: glance.r#type,
                event_id: glance.id,
                origin,
                sequence: &format_args!("{origin}/{}", entry.sequence),
                peer: Some(self.name.as_str()),
                batch: None,
            });
        }
    }
}

fn hello(shared: &Shared, to: &NodeName) -> v1::Hello {
    let parts = &shared.parts;
    v1::Hello {
        node: parts.node.to_string(),
        journal: Bytes::copy_from_slice(parts.journal.origin().journal.as_bytes()),
        start: Bytes::copy_from_slice(parts.journal.start().id.as_bytes()),
        version: VERSION,
        frontier: starts::of_journal(&parts.journal, to),
        credit_bytes: parts.credit_bytes,
        members: lists::of_journal(&parts.journal),
        in_memory: parts.journal.is_memory(),
    }
}

/// Nothing is pulled before what may be missed by this member's being here is stored.
async fn meet(
    shared: &Shared,
    origin: &Origin,
    frontier: &[v1::OriginFrontier],
) -> Result<(), String> {
    let (own, name, lease) = (&shared.parts.journal, &origin.node, shared.parts.lease);
    if let Some(why) = starts::disowned(own, frontier) {
        own.renew(format!("{name} knows of this node that {why}"));
        return Err(format!("{name} knows that this node's journal was restored from a copy"));
    }
    let later = |error| format!("{name} is not pulled from for now: {error}");
    for met in starts::met(own, origin, frontier) {
        if met.node == own.origin().node && met != *own.origin() {
            // This node ran on another disk, or on none: nobody here knows who trusted it then.
            own.applied().former(shared.members.began() + lease + margin(lease));
        }
        own.meet(&met).await.map_err(later)?;
    }
    // Two that run under one name at the same time are both there: none of them is a former one.
    let there = shared.members.there(name, shared.parts.clock.boot());
    own.linked(origin, &there).await.map_err(later)?;
    // After that nobody takes it for one that was beside another and is gone.
    own.journal_lives(origin);
    starts::note(own, origin, frontier);
    Ok(())
}
