//! Subscribers of every kind: live, from the beginning, under a durable name; with and without
//! leases; slow, rejecting, roaming, forgetful.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use evermesh_event::{Origin, ResumeToken, Run};
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{AGAIN, CALL_DEADLINE, Node, OriginText as _, Stage, recorded};
use crate::checker::{Begin, Number, Scope, What};
use crate::node::LEASE;
use crate::standstill::Standstill;
use crate::world::{Seeded, SimClock, elapsed};

/// Messages that wait for the connection.
const SAYS_MAX: usize = 64;
/// Pings that wait for their echo; an older one grants nothing any more.
const PINGS_MAX: usize = 16;

/// Where a subscriber's first stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// With what comes.
    Live,
    /// With the first event.
    Beginning,
    /// Where its node keeps it.
    Name(String),
}

/// What a subscriber does.
#[derive(Debug)]
pub struct Subscriber {
    /// Where it subscribes first; it goes on elsewhere only if it roams.
    pub hosts: Vec<String>,
    /// What it hears; empty: everything.
    pub sites: Vec<&'static str>,
    /// Whose events it leaves out.
    pub exclude_sources: Vec<String>,
    /// Where it begins.
    pub place: Place,
    /// How much it lets come unacknowledged.
    pub window: u32,
    /// It pings, and trusts its cache for as long as it may.
    pub leased: bool,
    /// How long it takes for a delivery, in milliseconds, while there are faults.
    pub slow: u64,
    /// It rejects one event in so many, so many times; 0: none.
    pub rejects: (u64, u32),
    /// It ends its stream by itself after at most so many milliseconds; 0: never.
    pub restless: u64,
    /// It keeps no token: each stream is a new subscriber with an empty cache.
    pub forgetful: bool,
    /// Its clock.
    pub clock: SimClock,
    /// What it draws from.
    pub random: Seeded,
}

/// What it keeps over its streams.
#[derive(Debug, Default)]
struct Kept {
    subscription: u32,
    token: Option<ResumeToken>,
    next_ping: u64,
    /// Ping number, and when it was sent.
    pinged: Vec<(u64, Duration)>,
    /// In simulated time.
    until: BTreeMap<String, Duration>,
    /// How often each event was rejected.
    rejected: HashMap<String, u32>,
}

/// One stream.
struct Hearing<'a> {
    is: &'a Subscriber,
    stage: &'a Stage,
    kept: &'a mut Kept,
    stream: u32,
    say: mpsc::Sender<v1::SubscribeRequest>,
    run: Option<Run>,
    /// What was rejected, until it comes again.
    waits_for: Option<u64>,
}

impl Subscriber {
    /// Hears until the run ends.
    pub async fn run(self, stage: Stage, machine: Standstill) {
        let mut kept = Kept { subscription: stage.subscription(), ..Kept::default() };
        let mut host = self.hosts.first().cloned().unwrap_or_default();
        loop {
            let mut node = Node::new(&host, &machine);
            let stay = match self.restless {
                0 => Duration::MAX,
                _ if stage.healed() => Duration::MAX,
                millis => Duration::from_millis(100 + self.random.below(millis)),
            };
            let _ = tokio::time::timeout(stay, self.stream(&stage, &mut node, &mut kept)).await;
            if self.forgetful {
                stage.recorder().say(What::Closed { subscription: kept.subscription });
                let next_ping = kept.next_ping;
                kept = Kept { subscription: stage.subscription(), next_ping, ..Kept::default() };
            }
            if let (false, Some(next)) = (stage.healed(), self.next_host()) {
                host = next;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn next_host(&self) -> Option<String> {
        self.hosts.get(self.random.place(self.hosts.len())).cloned()
    }

    fn from(&self, kept: &Kept) -> (From, Begin) {
        if let Place::Name(name) = &self.place {
            return (From::DurableName(name.clone()), Begin::Name(name.clone()));
        }
        if let Some(token) = &kept.token {
            let begin = Begin::Token {
                journal: token.run.journal.to_string(),
                start: token.run.start.to_string(),
                offset: token.offset.as_u64(),
            };
            return (From::ResumeToken(token.to_proto()), begin);
        }
        match self.place {
            Place::Beginning => (From::Beginning(v1::Beginning {}), Begin::Beginning),
            _ => (From::Live(v1::Live {}), Begin::Live),
        }
    }

    async fn stream(&self, stage: &Stage, node: &mut Node, kept: &mut Kept) -> Option<()> {
        let mut client = node.client().await?;
        let (from, begin) = self.from(kept);
        let stream = stage.stream();
        stage.recorder().say(What::Opening {
            subscription: kept.subscription,
            stream,
            node: node.host.clone(),
            sites: self.sites.iter().map(ToString::to_string).collect(),
            exclude_sources: self.exclude_sources.clone(),
            from: begin,
        });
        let open = v1::SubscribeOpen {
            sites: self.sites.iter().map(ToString::to_string).collect(),
            exclude_sources: self.exclude_sources.clone(),
            from: Some(from),
            max_unacknowledged: self.window,
            ..Default::default()
        };
        let (say, said) = mpsc::channel(SAYS_MAX);
        say.send(v1::SubscribeRequest { message: Some(Say::Open(open)) }).await.ok()?;
        let opening = client.subscribe(ReceiverStream::new(said));
        let heard = tokio::time::timeout(CALL_DEADLINE, opening).await.ok()?.ok()?.into_inner();
        let hearing = Hearing { is: self, stage, kept, stream, say, run: None, waits_for: None };
        let ended = hearing.run(heard).await;
        stage.recorder().say(What::Ended { stream });
        ended
    }
}

impl Hearing<'_> {
    async fn run(mut self, mut heard: Streaming<v1::SubscribeResponse>) -> Option<()> {
        let mut due = tokio::time::interval_at(Instant::now() + LEASE / 8, LEASE / 4);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased;
                _ = due.tick(), if self.is.leased => {
                    self.ping().await?;
                    continue;
                }
                message = heard.message() => message.ok()??.message?,
            };
            match message {
                Heard::Opened(opened) => self.opened(&opened)?,
                Heard::Delivery(delivery) => self.deliver(&delivery).await?,
                Heard::Missed(missed) => self.missed(missed).await?,
                Heard::CaughtUp(caught_up) => {
                    let (stream, absent) = (self.stream, caught_up.absent_members.clone());
                    self.stage.recorder().say(What::CaughtUp { stream, absent });
                    if self.waits_for.is_none() {
                        self.acknowledge(caught_up.offset).await?;
                    }
                }
                Heard::Freshness(fresh) => self.fresh(&fresh),
                Heard::TakenOver(_) => return None,
            }
        }
    }

    fn opened(&mut self, opened: &v1::SubscribeOpened) -> Option<()> {
        let run = Run::from_slice(&opened.run).ok()?;
        self.run = Some(run);
        self.stage.recorder().say(What::Opened {
            stream: self.stream,
            journal: run.journal.to_string(),
            start: run.start.to_string(),
            offset: opened.offset,
        });
        // A stream that applied nothing yet resumes where it opened.
        if !self.is.forgetful && self.is.place == Place::Live && self.kept.token.is_none() {
            let offset = evermesh_event::Offset::from_u64(opened.offset);
            self.kept.token = Some(ResumeToken { run, offset });
        }
        Some(())
    }

    async fn deliver(&mut self, delivery: &v1::Delivery) -> Option<()> {
        let origin = Origin::from_proto(delivery.origin.as_ref()?).ok()?.text();
        let mut newest = None;
        for (place, entry) in delivery.entries().enumerate() {
            let entry = entry.ok()?;
            let event = entry.event.unwrap_or_default();
            let offset = delivery.offsets.get(place).copied();
            let offset = offset.unwrap_or(delivery.first_offset + place as u64);
            if self.waits_for.is_some_and(|waits| offset != waits) {
                // It was on its way when something before it was rejected: it comes again.
                continue;
            }
            self.waits_for = None;
            let number = Number { origin: origin.clone(), sequence: entry.sequence };
            self.stage.recorder().say(What::Heard {
                stream: self.stream,
                number,
                offset,
                attempt: delivery.attempt,
                event: recorded(&event),
            });
            if self.reject(&event.id, offset).await? {
                break;
            }
            newest = Some(offset);
        }
        if self.is.slow > 0 && !self.stage.healed() {
            let pause = Duration::from_millis(self.is.random.below(self.is.slow));
            tokio::time::sleep(pause).await;
        }
        match newest {
            Some(newest) => self.acknowledge(newest).await,
            None => Some(()),
        }
    }

    /// Rejects an event, if this one does so.
    async fn reject(&mut self, id: &str, offset: u64) -> Option<bool> {
        let (one_in, times) = self.is.rejects;
        let drawn = id.bytes().fold(0_u64, |sum, byte| sum * 31 % 65_521 + u64::from(byte));
        if one_in == 0 || drawn % one_in != 0 || self.stage.healed() {
            return Some(false);
        }
        let rejected = self.kept.rejected.entry(id.to_owned()).or_default();
        if *rejected >= times {
            return Some(false);
        }
        *rejected += 1;
        self.stage.recorder().say(What::Rejecting { stream: self.stream, offset });
        let message = Say::Reject(v1::Reject { offset, reason: "not now".into() });
        self.waits_for = Some(offset);
        self.send(message).await?;
        Some(true)
    }

    async fn missed(&mut self, notice: v1::MissedNotice) -> Option<()> {
        let missed = notice.missed?;
        if self.waits_for.is_some_and(|waits| notice.offset != waits) {
            // As with an event: it was on its way.
            return Some(());
        }
        self.waits_for = None;
        let cause = missed.cause().as_str_name().trim_start_matches("MISSED_CAUSE_").to_lowercase();
        let origin = missed.origin.as_ref().and_then(|origin| Origin::from_proto(origin).ok());
        let scope = Scope {
            origin: origin.map(|origin| origin.text()),
            from: missed.from,
            through: missed.through,
            sites: missed.sites,
            cause,
        };
        let (stream, offset) = (self.stream, notice.offset);
        self.stage.recorder().say(What::Missed { stream, offset, scope });
        self.acknowledge(offset).await
    }

    async fn acknowledge(&mut self, through: u64) -> Option<()> {
        self.stage.recorder().say(What::Acknowledging { stream: self.stream, through });
        if let (Some(run), false) = (self.run, self.is.forgetful) {
            let offset = evermesh_event::Offset::from_u64(through);
            self.kept.token = Some(ResumeToken { run, offset });
        }
        self.send(Say::Acknowledge(v1::Acknowledge { through_offset: through })).await
    }

    async fn ping(&mut self) -> Option<()> {
        self.kept.next_ping += 1;
        let number = self.kept.next_ping;
        self.kept.pinged.push((number, elapsed()));
        let surplus = self.kept.pinged.len().saturating_sub(PINGS_MAX);
        self.kept.pinged.drain(..surplus);
        self.stage.recorder().say(What::Pinging { stream: self.stream, number });
        self.send(Say::Ping(v1::SubscribePing { number })).await
    }

    /// The rule of the Rust client: a lease runs from the sending of the ping, an echo counts once,
    /// and what was granted stays granted.
    fn fresh(&mut self, said: &v1::Freshness) {
        let sent = self.kept.pinged.iter().find(|(number, _)| *number == said.ping_number);
        let Some((_, pinged)) = sent.copied() else { return };
        self.kept.pinged.retain(|(number, _)| *number > said.ping_number);
        let before = std::mem::take(&mut self.kept.until);
        for lease in &said.leases {
            let remains = lease.remains.and_then(|remains| Duration::try_from(remains).ok());
            let remains = self.is.clock.real(remains.unwrap_or_default());
            let granted = before.get(&lease.node).copied().unwrap_or_default();
            let until = if remains.is_zero() { granted } else { granted.max(pinged + remains) };
            self.kept.until.insert(lease.node.clone(), until);
        }
        let millis = |until: &Duration| u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        let until = self.kept.until.iter().map(|(node, until)| (node.clone(), millis(until)));
        let (stream, number) = (self.stream, said.ping_number);
        let until = until.collect();
        self.stage.recorder().say(What::Fresh { stream, number, until });
    }

    async fn send(&self, message: Say) -> Option<()> {
        self.say.send(v1::SubscribeRequest { message: Some(message) }).await.ok()
    }
}
