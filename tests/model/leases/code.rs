//! What the code decides, asked of the code: `Heard`, `Applied`, `is_silent`, `margin` of the
//! journal, and the judgement over members of the events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use evermesh_event::assurance::{self, Presence, Replica};
use evermesh_event::world::Clock;
use evermesh_event::{Frontier, JournalId, NodeName, Offset, Origin, Sequence};
use evermesh_journal::{Acknowledged, Applied, Echo, Heard, is_silent, margin};

use super::state::{Lease, Said, Stream};

/// In ticks. The margin is half of it.
pub(crate) const LEASE: u8 = 2;
/// A moment far enough from the beginning of the clock.
const NOW: u8 = 100;
const SITE: &str = "shop";
/// How far the member's own journal is: here an origin has one journal, and none was before it.
const HERE: Offset = Offset::ZERO;

fn acknowledged(through: u8) -> Acknowledged {
    Acknowledged { of_member: at(through), here: HERE }
}

#[derive(Debug)]
struct StandingClock;

impl Clock for StandingClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn boot(&self) -> Duration {
        ticks(NOW)
    }
}

/// Calls the code with what the model has.
#[derive(Debug)]
pub(crate) struct Code {
    origin: Origin,
    clock: Arc<dyn Clock>,
    /// What was asked of `Applied` before, with its answers: the same few questions, for millions
    /// of states.
    answers: Mutex<HashMap<Counted, Option<u8>>>,
}

/// The subscriptions of a member: what it stored, its stream, each stream that ended with what it
/// had acknowledged and how long it counts, and how long the former start's count.
pub(crate) type Counted = (u8, Option<Stream>, [(u8, u8); 2], u8);

impl Default for Code {
    fn default() -> Self {
        let node = NodeName::new("origin").unwrap();
        let origin = Origin { node, journal: JournalId::new([1; 16]) };
        Self { origin, clock: Arc::new(StandingClock), answers: Mutex::default() }
    }
}

impl Code {
    /// The lease after an echo of a ping of that age.
    pub(crate) fn echoed(&self, before: Option<Lease>, age: u8, head: u8) -> Option<Lease> {
        let before = before.map(|lease| self.heard(lease));
        let echo = self.echo(NOW - age, head);
        let after = Heard::after(before.as_ref(), echo, HERE, ticks(LEASE), ticks(NOW));
        lease(&after).lasting()
    }

    /// The lease after a goodbye. Of one that is over some code may remember any head.
    pub(crate) fn goodbye(&self, before: Option<Lease>, head: u8) -> Lease {
        let over = Lease { left: 0, since: 0, goodbye: None };
        let before = self.heard(before.unwrap_or(over));
        lease(&Heard::after_goodbye(Some(&before), self.origin.clone(), at(head), HERE))
    }

    /// The lease when the member says hello.
    pub(crate) fn hello(&self, before: Lease) -> Lease {
        lease(&self.heard(before).after_hello(ticks(LEASE), ticks(NOW)))
    }

    /// Whether somebody who acknowledged this much is spared the origin's silence.
    pub(crate) fn spares(&self, lease: Lease, through: u8, stored: u8) -> bool {
        self.heard(lease).spares(acknowledged(through), at(stored))
    }

    /// What remains of a lease for who acknowledged this much.
    pub(crate) fn remains(&self, lease: Lease, through: u8) -> u8 {
        count(self.heard(lease).remains(acknowledged(through), ticks(NOW)))
    }

    /// Where the subscriptions of the member lag behind what it stored.
    pub(crate) fn lagging(&self, counted: Counted) -> Option<u8> {
        let known = self.answers.lock().unwrap().get(&counted).copied();
        known.unwrap_or_else(|| {
            let answer = self.ask(counted);
            self.answers.lock().unwrap().insert(counted, answer);
            answer
        })
    }

    fn ask(&self, (stored, stream, ended, former): Counted) -> Option<u8> {
        let applied = Applied::new(Arc::clone(&self.clock));
        let mark = |sites: &[String], through: u8, counts: u8| {
            let through = Frontier::from_iter([(self.origin.clone(), at(through))]);
            let mark = applied.mark(sites, through);
            mark.leased(ticks(NOW + counts));
            mark
        };
        let shop = [SITE.to_owned()];
        let open = stream.map(|stream| mark(&shop, stream.through, stream.counts));
        ended.iter().for_each(|(through, counts)| drop(mark(&shop, *through, *counts)));
        applied.former(ticks(NOW + former));
        let lagging = applied.lagging(&self.origin, at(stored));
        drop(open);
        lagging.iter().map(|(_, through)| u8::try_from(through.as_u64()).unwrap()).min()
    }

    /// Whether a fence is done: `silent` is how long the member has not pinged.
    pub(crate) fn is_done(
        &self,
        through: u8,
        known: Said,
        silent: Option<u8>,
        margin: bool,
    ) -> bool {
        let presence = match silent {
            Some(age) if self.is_silent(age, margin) => Presence::Suspended,
            _ => Presence::Expected,
        };
        let lagging = known.lag.map(|lag| (SITE.to_owned(), at(lag))).into_iter().collect();
        let label = "member".to_owned();
        let member =
            Replica { label, stored: at(known.stored), in_memory: false, lagging, presence };
        assurance::applied(&[(SITE, at(through))], &[member]).done
    }

    /// A rule that is taken back leaves the margin out.
    pub(crate) fn is_silent(&self, age: u8, with_margin: bool) -> bool {
        if with_margin {
            is_silent(ticks(NOW - age), ticks(LEASE), ticks(NOW))
        } else {
            age >= LEASE
        }
    }

    fn heard(&self, lease: Lease) -> Heard {
        let until = ticks(NOW + lease.left);
        let (echo, goodbye) = (self.echo(NOW, lease.since), lease.goodbye.map(at));
        Heard { echo, until, since: at(lease.since), here: HERE, goodbye }
    }

    fn echo(&self, pinged: u8, head: u8) -> Echo {
        let head = at(head);
        Echo { origin: self.origin.clone(), pinged: ticks(pinged), head, durable_head: head }
    }
}

fn lease(heard: &Heard) -> Lease {
    let left = count(heard.until.saturating_sub(ticks(NOW)));
    let number = |sequence: Sequence| u8::try_from(sequence.as_u64()).unwrap();
    Lease { left, since: number(heard.since), goodbye: heard.goodbye.map(number) }
}

impl Lease {
    /// One that is over is as good as none, because the next echo begins anew: but for a goodbye.
    pub(crate) fn lasting(self) -> Option<Self> {
        let since = if self.left > 0 { self.since } else { 0 };
        (self.left > 0 || self.goodbye.is_some()).then_some(Self { since, ..self })
    }
}

/// The margin, in ticks.
pub(crate) fn margin_ticks() -> u8 {
    count(margin(ticks(LEASE)))
}

fn ticks(count: u8) -> Duration {
    Duration::from_secs(count.into())
}

fn count(time: Duration) -> u8 {
    u8::try_from(time.as_secs()).unwrap()
}

fn at(sequence: u8) -> Sequence {
    Sequence::from_u64(sequence.into())
}
