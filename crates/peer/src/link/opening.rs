//! How a link begins: HTTP/2 over a connection, hello and welcome, and the meeting.
//!
//! Always holds: a link that is open was welcomed by the node that its certificate names, in this
//! version, and its journal was met: what may be missed by that is stored before anything is
//! pulled. The other end is a feed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evermesh_event::{JournalId, NodeName, Origin};
use evermesh_proto::v1;
use evermesh_proto::v1::mesh_service_client::MeshServiceClient;
use evermesh_proto::v1::pull_request::Message;
use evermesh_proto::v1::pull_response::Message as Heard;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::Link;
use crate::dial::Io;
use crate::feed::VERSION;
use crate::peers::Shared;
use crate::{lists, starts};

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

/// HTTP/2 over one connection; there is no second one behind it.
pub(super) async fn connect(io: Box<dyn Io>) -> Result<Channel, tonic::transport::Error> {
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

impl<'a> Link<'a> {
    /// Says hello and waits for the welcome; then its journal is met.
    pub(super) async fn open(
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
    let (own, name) = (&shared.parts.journal, &origin.node);
    if let Some(why) = starts::disowned(own, frontier) {
        own.renew(format!("{name} knows of this node that {why}"));
        return Err(format!("{name} knows that this node's journal was restored from a copy"));
    }
    shared.members.former(frontier);
    // Two that run under one name at the same time are both there: none of them is a former one.
    let now = shared.parts.clock.boot();
    let there = shared.members.there(name, now);
    // But when a journal is met first, that is told of all others of the name, be their nodes there
    // or what is left of their connections.
    let beside = if own.knows(origin) { there.as_slice() } else { &[] };
    if shared.formers.awaits(shared, origin, beside, now) {
        return Err(format!(
            "{name} runs under another journal than before: it is pulled from once others have \
             sent what they hold of the former one"
        ));
    }
    let later = |error| format!("{name} is not pulled from for now: {error}");
    shared.formers.linking(shared, origin);
    shared.formers.held_by_itself(shared, origin, &starts::holdings(own, frontier));
    for met in starts::met(own, origin, frontier) {
        own.meet(&met).await.map_err(later)?;
    }
    own.linked(origin, &there).await.map_err(later)?;
    // After that nobody takes it for one that was beside another and is gone.
    own.journal_lives(origin);
    for journal in there {
        own.journal_pulls(&Origin { node: name.clone(), journal });
    }
    starts::note(own, origin, frontier);
    Ok(())
}
