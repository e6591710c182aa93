//! Step 4 of the way of one event: one loop for each member that pulls, blocks of this node's
//! origins, and of others that it asks for, from the member's position on, as they are.
//!
//! Always holds: blocks of one origin go in order, none below the position that the receiver
//! named; over what is lacking here nothing goes before the receiver has said from where. What is
//! sent may not be durable here yet; the receiver may hold what this node loses in a crash, and the
//! next start's epoch lies above it. A feed whose receiver stands still holds one batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evermesh_event::{JournalId, NodeName, Origin, Remote, Sequence, StartId};
use evermesh_journal::{Content, Reader, Record};
use evermesh_proto::v1;
use evermesh_proto::v1::pull_request::Message as Said;
use evermesh_proto::v1::pull_response::Message;
use evermesh_telemetry::Refusal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::members::Feeding;
use crate::peers::Shared;
use crate::{lists, starts};

mod positions;
mod ranges;

use self::positions::Positions;
use self::ranges::Ranges;

/// The version of the protocol that this node speaks.
pub(crate) const VERSION: u32 = 1;
/// How long the first message may take.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Messages between the loop and the connection: one is sent while the next is made.
const ANSWERS_MAX: usize = 2;
/// One batch of blocks: what is read at once. With one block more it still fits a message.
const BATCH_BYTES: usize = 512 * 1024;
/// Credit beyond this is not remembered: no receiver has that much memory for one link.
const CREDIT_BYTES_MAX: u64 = 1 << 30;

/// Sites that may lag at one member; a node serves about as many subscriptions.
const SITES_MAX: usize = 4096;

/// Origins that one receiver may ask for: as many as a mesh may remember.
const ORIGINS_MAX: usize = 4096;

type Answers = mpsc::Sender<Result<v1::PullResponse, Status>>;

/// Answers with a stream at once; a task of its own waits for hello and then sends.
pub(crate) fn feed(
    shared: &Arc<Shared>,
    name: NodeName,
    from: Remote,
    said: Streaming<v1::PullRequest>,
) -> ReceiverStream<Result<v1::PullResponse, Status>> {
    let (answers, stream) = mpsc::channel(ANSWERS_MAX);
    let task = Arc::clone(shared);
    shared.feeds.spawn(async move {
        if let Err(refusal) = run(&task, &name, from, said, &answers).await {
            let status = task.refusals.refuse(name.as_str(), refusal);
            // A receiver that does not read is not waited for.
            let _ = answers.send_timeout(Err(status), Duration::from_secs(1)).await;
        }
    });
    ReceiverStream::new(stream)
}

async fn run(
    shared: &Arc<Shared>,
    name: &NodeName,
    from: Remote,
    mut said: Streaming<v1::PullRequest>,
    answers: &Answers,
) -> Result<(), Refusal> {
    let first = tokio::time::timeout(HELLO_DEADLINE, said.message()).await;
    let hello = match first {
        Ok(Ok(Some(v1::PullRequest { message: Some(Said::Hello(hello)) }))) => hello,
        Ok(Ok(None) | Err(_)) => return Ok(()),
        Ok(Ok(Some(_))) | Err(_) => {
            let message = "the first message must be `hello`, within 10 s";
            return Err(Refusal::new(Code::InvalidArgument, "HELLO_EXPECTED", message));
        }
    };
    if hello.node != name.as_str() {
        let message = format!("hello says `{}`, the certificate says `{name}`", hello.node);
        return Err(Refusal::new(Code::PermissionDenied, "NAME_MISMATCH", message));
    }
    if hello.version < VERSION {
        let message = format!("this node speaks version {VERSION} and above");
        return Err(Refusal::new(Code::FailedPrecondition, "VERSION_UNKNOWN", message));
    }
    if let Some(why) = starts::disowned(&shared.parts.journal, &hello.frontier) {
        let why = format!("{name} knows of this node that {why}");
        shared.parts.journal.renew(why.clone());
        let message = "this node's journal was restored from a copy; it begins a new one";
        return Err(Refusal::new(Code::Unavailable, "JOURNAL_FAILED", message).because(why));
    }
    shared.members.told(name, &lists::read(&hello.members), shared.parts.clock.boot());
    if shared.members.has_left(name) {
        // The welcome says so: it comes back as another incarnation.
        let message = Some(Message::Welcome(welcome(shared, name)));
        let _ = answers.send(Ok(v1::PullResponse { message })).await;
        return Err(left(name));
    }
    shared.members.former(&hello.frontier);
    let feeding = begin(shared, name, from, &hello)?;
    tracing::info!(peer = feeding.label, "feeds");
    let feed = Feed::new(shared, name, &feeding, &hello);
    let journal = &shared.parts.journal;
    // Before its first watermarks: what is in memory is never taken for stored.
    journal.cursors().in_memory(&feeding.label, hello.in_memory);
    journal.cursors().at_most(&feeding.label, feed.positions.get(journal.origin()));
    let done = feed.run(said, answers, &feeding.stop).await;
    shared.members.end_feed(name, &feeding);
    tracing::info!(peer = %name, "feeds no more");
    done
}

fn begin(
    shared: &Shared,
    name: &NodeName,
    from: Remote,
    hello: &v1::Hello,
) -> Result<Feeding, Refusal> {
    let journal = JournalId::from_slice(&hello.journal);
    let run = journal.and_then(|journal| Ok((journal, StartId::from_slice(&hello.start)?)));
    let run = run.map_err(|error| {
        let message = format!("hello: journal and start have 16 bytes each: {error}");
        Refusal::new(Code::InvalidArgument, "HELLO_INVALID", message)
    })?;
    shared.members.begin_feed(name, run, from, shared.parts.clock.boot()).ok_or_else(|| {
        let message = "this node knows as many members as it can, or two others bear this name";
        Refusal::new(Code::ResourceExhausted, "TOO_MANY_MEMBERS", message)
    })
}

/// One feed.
struct Feed<'a> {
    shared: &'a Arc<Shared>,
    name: &'a NodeName,
    /// Under what name the receiver is counted.
    label: &'a str,
    /// What is wanted, and where the receiver is, what is on its way included.
    positions: Positions,
    /// What the receiver had, and is damaged there.
    ranges: Ranges,
    reader: Reader,
    credit: u64,
    /// What was read and not yet sent: one batch.
    ready: VecDeque<Message>,
}

impl<'a> Feed<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        name: &'a NodeName,
        feeding: &'a Feeding,
        hello: &v1::Hello,
    ) -> Self {
        let label = feeding.label.as_str();
        let (journal, node) = (&shared.parts.journal, &shared.parts.node);
        let here = journal.frontier();
        let frontier = starts::frontier(&hello.frontier);
        journal.note_holds(label, &frontier);
        let positions = Positions::new(node, frontier);
        let origins = here.iter().map(|(origin, _)| origin).chain([journal.origin()]);
        let places = origins
            .filter(|origin| origin.node == *node)
            .map(|origin| journal.place_of(origin, positions.get(origin)));
        let after = places.min().unwrap_or_else(|| journal.head());
        let credit = hello.credit_bytes.min(CREDIT_BYTES_MAX);
        let (reader, ready) = (journal.reader(after), VecDeque::new());
        let ranges = Ranges::default();
        Self { shared, name, label, positions, ranges, reader, credit, ready }
    }

    async fn run(
        mut self,
        mut said: Streaming<v1::PullRequest>,
        answers: &Answers,
        taken_over: &CancellationToken,
    ) -> Result<(), Refusal> {
        let journal = &self.shared.parts.journal;
        let mut durable = journal.durable();
        self.ready.push_back(Message::Welcome(welcome(self.shared, self.name)));
        loop {
            let goodbye = self.shared.goodbye.is_cancelled();
            if let Some(end) = self.ranges.ended(journal) {
                self.ready.push_back(Message::RangeEnd(end));
            }
            let sent = self.ready.is_empty();
            if goodbye && sent {
                return self.goodbye(answers).await;
            }
            let wants = sent && self.credit > 0;
            tokio::select! {
                biased;
                () = taken_over.cancelled() => {
                    if self.shared.members.has_left(self.name) {
                        return Err(left(self.name));
                    }
                    let message = format!("a newer link of {} took over", self.name);
                    return Err(Refusal::new(Code::Aborted, "TAKEN_OVER", message));
                }
                failed = durable.wait_for(|durable| durable.failed) => {
                    let message = "this node's disk failed; it ends";
                    drop(failed);
                    return Err(Refusal::new(Code::Unavailable, "JOURNAL_FAILED", message));
                }
                message = said.message() => match message {
                    Ok(Some(message)) => self.hear(message),
                    Ok(None) | Err(_) => return Ok(()),
                },
                place = answers.reserve(), if !sent => {
                    let Ok(place) = place else { return Ok(()) };
                    place.send(Ok(v1::PullResponse { message: self.ready.pop_front() }));
                }
                () = self.shared.goodbye.cancelled(), if !goodbye => {}
                records = self.ranges.next(BATCH_BYTES), if wants && self.ranges.reads() => {
                    let mut blocks = self.ranges.take(records);
                    self.credit = blocks.iter().fold(self.credit, |credit, block| {
                        credit.saturating_sub(block.len() as u64)
                    });
                    self.send(&mut blocks);
                }
                records = self.reader.next(BATCH_BYTES), if wants => match records {
                    Ok(records) => self.serve(&records),
                    Err(error) => return Err(unreadable(&error)),
                },
            }
        }
    }

    /// The wanted blocks of these records that lie above the receiver's position, and what is
    /// lacking between them.
    fn serve(&mut self, records: &[Arc<Record>]) {
        let mut blocks = Vec::new();
        let mut bytes = 0;
        for record in records {
            if let Some(missed) = self.positions.hole(record) {
                self.send(&mut blocks);
                let missed = Some(missed.to_proto());
                self.ready.push_back(Message::Missed(v1::MissedRange { missed }));
            } else if let Content::Block { block, .. } = &record.content
                && self.positions.pass(block)
            {
                bytes += block.encoded().len() as u64;
                blocks.push(block.encoded().clone());
            }
        }
        self.send(&mut blocks);
        self.credit = self.credit.saturating_sub(bytes);
    }

    fn send(&mut self, blocks: &mut Vec<Bytes>) {
        if !blocks.is_empty() {
            let blocks = std::mem::take(blocks);
            self.ready.push_back(Message::Blocks(v1::Blocks { blocks }));
        }
    }

    /// Other origins are wanted, or some again: reads on from where the first of them is.
    fn want(&mut self, want: &v1::Want) {
        let journal = &self.shared.parts.journal;
        let wanted = want.origins.iter().filter_map(|of| {
            let origin = Origin::from_proto(of.origin.as_ref()?).ok()?;
            Some((origin, Sequence::from_u64(of.sequence)))
        });
        let begins = self.positions.want(wanted.take(ORIGINS_MAX).collect());
        let places = begins.iter().map(|(origin, at)| journal.place_of(origin, *at));
        if let Some(after) = places.min().filter(|after| *after < self.reader.position()) {
            self.reader = journal.reader(after);
        }
        for (origin, at) in begins {
            tracing::info!(peer = %self.name, %origin, after = %at, "serves what another numbered");
        }
        self.ranges.want(&want.ranges);
    }

    fn hear(&mut self, said: v1::PullRequest) {
        match said.message {
            Some(Said::Credit(credit)) => {
                self.credit = self.credit.saturating_add(credit.bytes).min(CREDIT_BYTES_MAX);
            }
            Some(Said::Watermarks(marks)) => {
                let journal = &self.shared.parts.journal;
                let head = journal.own_head();
                let own = |origin: &Option<v1::Origin>| {
                    let origin = origin.as_ref().and_then(|o| Origin::from_proto(o).ok());
                    origin.as_ref() == Some(journal.origin())
                };
                let lagging = marks.applied.into_iter().filter(|lag| own(&lag.origin));
                let lagging = lagging.map(|lag| (lag.site, Sequence::from_u64(lag.sequence)));
                let lagging = bounded(lagging.collect());
                let stored = marks.stored.iter().find(|mark| own(&mark.origin));
                let stored = stored.map(|mark| Sequence::from_u64(mark.sequence));
                // What this start never numbered cannot be stored by anybody.
                if let Some(stored) = stored.filter(|stored| *stored <= head) {
                    journal.cursors().applied(self.label, stored, lagging);
                }
            }
            Some(Said::Want(want)) => self.want(&want),
            // Nothing that this version knows.
            Some(Said::Hello(_)) | None => {}
        }
    }

    /// Sends what there is and the durable head, and ends.
    async fn goodbye(mut self, answers: &Answers) -> Result<(), Refusal> {
        let head = self.shared.parts.journal.head();
        while self.reader.position() < head {
            let Ok(records) = self.reader.next(BATCH_BYTES).await else { break };
            self.serve(&records);
            while let Some(message) = self.ready.pop_front() {
                let message = Some(message);
                if answers.send(Ok(v1::PullResponse { message })).await.is_err() {
                    return Ok(());
                }
            }
        }
        let (head, leaves) = (self.last_word().await, self.shared.parts.journal.is_left());
        let r#final = leaves || self.shared.parts.journal.is_memory();
        let goodbye = v1::Goodbye { head: head.as_u64(), r#final, leaves };
        let message = Some(Message::Goodbye(goodbye));
        // Whoever is gone needs no goodbye.
        let _ = answers.send(Ok(v1::PullResponse { message })).await;
        Ok(())
    }

    /// What this start numbered last, on the disk: whoever is there lacks nothing of it.
    async fn last_word(&self) -> Sequence {
        let journal = &self.shared.parts.journal;
        let mut durable = journal.durable();
        let head = journal.own_head();
        // If the disk failed, what is durable is all that anybody was assured of.
        let _ = durable.wait_for(|durable| durable.own >= head || durable.failed).await;
        durable.borrow().own
    }
}

fn welcome(shared: &Shared, to: &NodeName) -> v1::Welcome {
    let parts = &shared.parts;
    v1::Welcome {
        node: parts.node.to_string(),
        journal: Bytes::copy_from_slice(parts.journal.origin().journal.as_bytes()),
        start: Bytes::copy_from_slice(parts.journal.start().id.as_bytes()),
        version: VERSION,
        frontier: starts::of_journal(&parts.journal, to),
        members: lists::of_journal(&parts.journal),
    }
}

/// Who left, as far as is known here, is served again once it comes back as another incarnation.
fn left(name: &NodeName) -> Refusal {
    let message = format!("{name} left this mesh, or was forgotten; it joins anew by itself");
    Refusal::new(Code::FailedPrecondition, "MEMBER_LEFT", message)
}

/// More sites than are kept become all of them: then more is waited for, never less.
fn bounded(lagging: Vec<(String, Sequence)>) -> Vec<(String, Sequence)> {
    if lagging.len() <= SITES_MAX {
        return lagging;
    }
    let lowest = lagging.iter().map(|(_, at)| *at).min().unwrap_or(Sequence::ZERO);
    vec![(String::new(), lowest)]
}

fn unreadable(error: &evermesh_journal::ReadError) -> Refusal {
    let message = "this node cannot read its journal on";
    Refusal::new(Code::Unavailable, "JOURNAL_UNREADABLE", message).because(error)
}
