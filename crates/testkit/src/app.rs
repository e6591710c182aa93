//! Applications of a simulation: publishers that try until they are assured, subscribers that
//! resume, and the last word on a healed mesh. All record what they see; none knows what is done to
//! the nodes.

pub mod last_word;
pub mod publisher;
pub mod subscriber;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::{FenceToken, Origin};
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use tonic::transport::Channel;

use crate::checker::{Line, Member, Number, What};
use crate::net::channel;
use crate::standstill::Standstill;
use crate::world;

/// The type of every simulated event.
const TYPE: &str = "t";
/// Between two tries.
pub(crate) const AGAIN: Duration = Duration::from_millis(100);
/// How long a call may take before it is tried anew: a cut swallows packets without a word.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// How often a phase of the run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where everybody records. Clones are the same book.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Line>>>);

impl Recorder {
    /// Records what happened now, on the present host.
    pub fn say(&self, what: What) {
        self.say_at(world::elapsed(), what);
    }

    /// Records what happened at a time.
    pub fn say_at(&self, at: Duration, what: What) {
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.lines().push(Line { at, what });
    }

    /// Everything so far.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Line> {
        self.lines().clone()
    }

    /// How many lines there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines().len()
    }

    /// What was recorded since so many lines.
    pub fn since<T>(&self, count: usize, look: impl FnMut(&Line) -> T) -> Vec<T> {
        self.lines().get(count..).unwrap_or_default().iter().map(look).collect()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a run is, and what everybody shares. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stage(Arc<Phases>);

#[derive(Debug, Default)]
struct Phases {
    recorder: Recorder,
    /// Publishers end, subscribers become attentive.
    healed: AtomicBool,
    /// The last events are published.
    closing: AtomicBool,
    /// Fences must be done in time.
    quiet: AtomicBool,
    /// Publishers that are not done.
    busy: AtomicU32,
    /// Last words that were not fenced.
    unfenced: AtomicU32,
    streams: AtomicU32,
    subscriptions: AtomicU32,
}

impl Stage {
    /// Where everybody records.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// All faults are over.
    pub fn heal(&self) {
        self.0.healed.store(true, Ordering::Relaxed);
    }

    /// Whether all faults are over.
    #[must_use]
    pub fn healed(&self) -> bool {
        self.0.healed.load(Ordering::Relaxed)
    }

    /// Every publisher is done.
    #[must_use]
    pub fn published(&self) -> bool {
        self.0.busy.load(Ordering::Relaxed) == 0
    }

    /// The last events are to be published.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }

    /// Everything was heard: fences must be done in time.
    pub fn quieten(&self) {
        self.0.quiet.store(true, Ordering::Relaxed);
    }

    /// All last words were fenced.
    #[must_use]
    pub fn fenced(&self) -> bool {
        self.0.unfenced.load(Ordering::Relaxed) == 0
    }

    /// A number for a new subscriber.
    #[must_use]
    pub fn subscription(&self) -> u32 {
        self.0.subscriptions.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn stream(&self) -> u32 {
        self.0.streams.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts somebody until it is done, or its machine is gone.
    fn count(&self, of: fn(&Phases) -> &AtomicU32) -> Counted {
        of(&self.0).fetch_add(1, Ordering::Relaxed);
        Counted { stage: self.clone(), of }
    }

    async fn until(&self, reached: impl Fn(&Phases) -> bool) {
        while !reached(&self.0) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Somebody who is waited for.
struct Counted {
    stage: Stage,
    of: fn(&Phases) -> &AtomicU32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.stage.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A node, seen by an application: one connection, which is made anew after trouble.
pub(crate) struct Node {
    pub(crate) host: String,
    machine: Standstill,
    channel: Option<Channel>,
}

impl Node {
    pub(crate) fn new(host: &str, machine: &Standstill) -> Self {
        Self { host: host.to_owned(), machine: machine.clone(), channel: None }
    }

    pub(crate) async fn client(&mut self) -> Option<EventReplicationClient<Channel>> {
        if self.channel.is_none() {
            self.channel = channel(&self.host, &self.machine).await.ok();
        }
        self.channel.clone().map(EventReplicationClient::new)
    }

    /// The next call uses a new connection.
    pub(crate) fn trouble(&mut self) {
        self.channel = None;
    }

    /// Asks a fence and records the answer; `due`: it must be done. `None` without an answer.
    pub(crate) async fn fence(
        &mut self,
        recorder: &Recorder,
        token: v1::FenceToken,
        wait_for: Duration,
        due: bool,
    ) -> Option<bool> {
        let fence = FenceToken::from_proto(&token).ok()?;
        let mut client = self.client().await?;
        let wait_for = wait_for.try_into().ok();
        let request =
            v1::FenceRequest { fence_token: Some(token), wait_for, this_node_only: false };
        let answer = tokio::time::timeout(CALL_DEADLINE, client.fence(request)).await;
        let Ok(Ok(answer)) = answer else {
            self.trouble();
            return None;
        };
        let v1::FenceResponse { done, members } = answer.into_inner();
        let number = Number { origin: fence.origin.text(), sequence: fence.sequence.as_u64() };
        let members = standings(members);
        recorder.say(What::Fenced { number, site: fence.site, done, members, due });
        Some(done)
    }
}

/// Names and standings.
pub(crate) fn standings(members: Vec<v1::MemberState>) -> Vec<Member> {
    let name = |member: v1::MemberState| {
        let standing = member.standing().as_str_name();
        let standing = standing.trim_start_matches("MEMBER_STANDING_").to_lowercase();
        Member { node: member.node, standing }
    };
    members.into_iter().map(name).collect()
}

/// How the checker names an origin.
pub trait OriginText {
    /// Node and journal.
    fn text(&self) -> String;
}

impl OriginText for Origin {
    fn text(&self) -> String {
        format!("{}/{}", self.node, self.journal)
    }
}

/// An event of a simulation.
pub(crate) fn event(id: String, site: &str, source: &str) -> v1::Event {
    let (site, source) = (site.to_owned(), source.to_owned());
    v1::Event { key: id.clone(), id, site, source, r#type: TYPE.into(), ..Default::default() }
}

/// The same for the checker.
pub(crate) fn recorded(event: &v1::Event) -> crate::checker::Event {
    crate::checker::Event {
        id: event.id.clone(),
        site: event.site.clone(),
        source: event.source.clone(),
        coalesce: event.coalesce.then(|| event.key.clone()),
    }
}
