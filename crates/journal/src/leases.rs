//! When each member was last heard, by echoes of this node's own pings, and how far it was then.
//! Pings hold one end; subscriptions that pass leases on, or wait to have caught up, the other.
//!
//! A lease runs from the sending of the ping that was echoed, never from hearing the echo: that may
//! have waited in a buffer while this process was paused. In memory: no lease outlives a start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::{Offset, Origin, Sequence};
use tokio::sync::watch;

/// Members that are kept: as many as a mesh may have.
const MEMBERS_MAX: usize = 4096;

/// The leases. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    heard: Mutex<BTreeMap<String, Heard>>,
    /// How many hellos were said to each member.
    hellos: Mutex<BTreeMap<String, u64>>,
    /// Counts echoes.
    version: watch::Sender<u64>,
    /// Counts requests for a ping before the next is due.
    asked: watch::Sender<u64>,
}

impl Default for Inner {
    fn default() -> Self {
        let (version, _) = watch::channel(0);
        let (asked, _) = watch::channel(0);
        Self { heard: Mutex::default(), hellos: Mutex::default(), version, asked }
    }
}

/// An echo of a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Whose events the member numbers.
    pub origin: Origin,
    /// When this node sent the ping, by its own clock.
    pub pinged: Duration,
    /// The newest of those events.
    pub head: Sequence,
    /// The newest that is on the member's disk.
    pub durable_head: Sequence,
}

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The newest echo.
    pub echo: Echo,
    /// The lease ends then.
    pub until: Duration,
    /// The head when the lease began, without a gap since: nobody may be granted it who has not
    /// acknowledged this.
    pub since: Sequence,
    /// How far this node's own journal was when the member was heard under its present one first:
    /// nobody may be granted anything who has not acknowledged what was here of the former one, and
    /// what was told of it.
    pub here: Offset,
    /// It ended in order, with this as its last word, and was not dialled since: it numbers nothing
    /// until somebody could know.
    pub goodbye: Option<Sequence>,
}

impl Heard {
    /// What an echo makes of what was known of the member. `here`: how far this node's own journal
    /// is.
    #[must_use]
    pub fn after(
        before: Option<&Self>,
        echo: Echo,
        here: Offset,
        lease: Duration,
        now: Duration,
    ) -> Self {
        let until = echo.pinged + lease;
        let held = before.filter(|held| {
            // Judged when the echo is processed: a lease that lapsed meanwhile begins anew. So does
            // one whose head was lost in a crash of the member.
            held.until > now && held.echo.origin == echo.origin && held.since <= echo.head
        });
        let since = held.map_or(echo.head, |held| held.since);
        let until = held.map_or(until, |held| until.max(held.until));
        // Nothing but a hello takes back a goodbye: this echo was on its way.
        let same = before.filter(|held| held.echo.origin == echo.origin);
        let goodbye = same.and_then(|held| held.goodbye);
        let here = same.map_or(here, |held| held.here);
        Self { echo, until, since, here, goodbye }
    }

    /// What a goodbye makes of what was known of the member. `head`: its last word. `here`: how far
    /// this node's own journal is.
    #[must_use]
    pub fn after_goodbye(
        before: Option<&Self>,
        origin: Origin,
        head: Sequence,
        here: Offset,
    ) -> Self {
        let same = before.filter(|held| held.echo.origin == origin).cloned();
        let mut held = same.unwrap_or_else(|| {
            let echo = Echo { origin, pinged: Duration::ZERO, head, durable_head: head };
            Self { echo, until: Duration::ZERO, since: head, here, goodbye: None }
        });
        held.goodbye = Some(head);
        held
    }

    /// This node is about to say hello to the member: it may run again. From here a lease runs, as
    /// from a ping: until now it numbered nothing that could be fenced without this node.
    #[must_use]
    pub fn after_hello(mut self, lease: Duration, now: Duration) -> Self {
        if let Some(head) = self.goodbye.take() {
            self.until = self.until.max(now + lease);
            self.since = self.since.max(head);
        }
        self
    }

    /// What may be passed on while the member is away in order: everything, to who acknowledged its
    /// last word. `stored`: through where its events are on this node's disk.
    #[must_use]
    pub fn spares(&self, acknowledged: Acknowledged, stored: Sequence) -> bool {
        self.goodbye.is_some_and(|head| self.may_trust(acknowledged, head) && stored >= head)
    }

    /// What may be passed on to a subscription that acknowledged so much. Whoever did not
    /// acknowledge what the lease began with could miss what came before it.
    #[must_use]
    pub fn remains(&self, acknowledged: Acknowledged, now: Duration) -> Duration {
        let may = self.may_trust(acknowledged, self.since);
        if may { self.until.saturating_sub(now) } else { Duration::ZERO }
    }

    fn may_trust(&self, acknowledged: Acknowledged, needed: Sequence) -> bool {
        acknowledged.of_member >= needed && acknowledged.here >= self.here
    }
}

/// What a subscription acknowledged without a gap.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// Of the events of the member's present journal.
    pub of_member: Sequence,
    /// Of everything that its node has.
    pub here: Offset,
}

/// How much longer than its lease somebody counts: its clock may run slower than this one.
#[must_use]
pub fn margin(lease: Duration) -> Duration {
    lease / 2
}

/// A member whose last ping was seen then knows by now, by its own clock, that this node cannot be
/// trusted to have told it everything.
#[must_use]
pub fn is_silent(last_ping: Duration, lease: Duration, now: Duration) -> bool {
    now.saturating_sub(last_ping) > lease + margin(lease)
}

impl Leases {
    /// A member echoed a ping. `here`: how far this node's own journal is.
    pub fn echoed(&self, member: &str, echo: Echo, here: Offset, lease: Duration, now: Duration) {
        let mut heard = self.heard();
        if heard.len() >= MEMBERS_MAX && !heard.contains_key(member) {
            return;
        }
        let after = Heard::after(heard.get(member), echo, here, lease, now);
        heard.insert(member.to_owned(), after);
        drop(heard);
        self.0.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// A member ended in order. `hello`: which one began the link that says so. Of an older link
    /// it is of an older start, for all that is known here, and says nothing.
    pub fn goodbye(&self, member: &str, hello: u64, origin: Origin, head: Sequence, here: Offset) {
        // Held until the end, so that no hello comes between.
        let hellos = self.hellos();
        let mut heard = self.heard();
        let full = heard.len() >= MEMBERS_MAX && !heard.contains_key(member);
        if full || hellos.get(member) != Some(&hello) {
            return;
        }
        let after = Heard::after_goodbye(heard.get(member), origin, head, here);
        heard.insert(member.to_owned(), after);
    }

    /// This node says hello to a member now. Returns which hello to it this is, for its goodbye;
    /// 0 if there are too many members to know.
    pub fn hello(&self, member: &str, lease: Duration, now: Duration) -> u64 {
        let mut hellos = self.hellos();
        if let Some(held) = self.heard().get_mut(member) {
            *held = held.clone().after_hello(lease, now);
        }
        if hellos.len() >= MEMBERS_MAX && !hellos.contains_key(member) {
            return 0;
        }
        let count = hellos.entry(member.to_owned()).or_default();
        *count = count.wrapping_add(1);
        *count
    }

    /// Every member that was heard in this start, by name.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Heard> {
        self.heard().clone()
    }

    /// The newest echo of the member that numbers the events of an origin.
    #[must_use]
    pub fn echo_of(&self, origin: &Origin) -> Option<Echo> {
        let heard = self.heard();
        let echo = heard.get(origin.node.as_str()).map(|heard| &heard.echo);
        echo.filter(|echo| echo.origin == *origin).cloned()
    }

    /// Counts up with each echo.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Somebody needs an echo of a ping that is sent from now on.
    pub fn ask(&self) {
        self.0.asked.send_modify(|asked| *asked = asked.wrapping_add(1));
    }

    /// Counts up with each [`Leases::ask`]: who pings holds it.
    #[must_use]
    pub fn asked(&self) -> watch::Receiver<u64> {
        self.0.asked.subscribe()
    }

    fn hellos(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.hellos.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<String, Heard>> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use evermesh_event::{JournalId, NodeName};

    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    fn echo(pinged: u64, head: u64) -> Echo {
        let node = NodeName::new("web-2").unwrap();
        Echo {
            origin: Origin { node, journal: JournalId::new([2; 16]) },
            pinged: Duration::from_secs(pinged),
            head: Sequence::from_u64(head),
            durable_head: Sequence::from_u64(head),
        }
    }

    fn through(of_member: u64) -> Acknowledged {
        Acknowledged { of_member: Sequence::from_u64(of_member), here: Offset::ZERO }
    }

    #[test]
    fn p9_a_lease_of_another_journal_needs_what_was_here_of_the_former_one_acknowledged() {
        let (leases, secs) = (Leases::default(), Duration::from_secs);
        let now = secs(2);
        let other = |head| {
            let echo = echo(1, head);
            let journal = JournalId::new([3; 16]);
            Echo { origin: Origin { journal, ..echo.origin.clone() }, ..echo }
        };
        let remains = |of_member: u64, here: u64| {
            let (of_member, here) = (Sequence::from_u64(of_member), Offset::from_u64(here));
            leases.snapshot()["web-2"].remains(Acknowledged { of_member, here }, now)
        };
        leases.echoed("web-2", echo(1, 5), Offset::from_u64(7), LEASE, secs(1));
        assert_eq!((remains(5, 7), remains(5, 6)), (secs(1), secs(0)));
        leases.echoed("web-2", echo(1, 8), Offset::from_u64(9), LEASE, secs(1));
        assert_eq!(remains(5, 7), secs(1), "no gap, and the same journal");
        // Its disk was lost; what others held of it, and that it was, came after that.
        leases.echoed("web-2", other(0), Offset::from_u64(12), LEASE, secs(1));
        assert_eq!((remains(0, 11), remains(0, 12)), (secs(0), secs(1)));
        leases.echoed("web-2", other(1), Offset::from_u64(15), LEASE, secs(1));
        assert_eq!(remains(0, 12), secs(1));
        // Nor does a goodbye of yet another spare anybody before.
        let hello = leases.hello("web-2", LEASE, now);
        let at = Sequence::from_u64;
        leases.goodbye("web-2", hello, echo(1, 5).origin, at(5), Offset::from_u64(20));
        let held = leases.snapshot()["web-2"].clone();
        let spares = |here: u64| {
            held.spares(Acknowledged { of_member: at(5), here: Offset::from_u64(here) }, at(5))
        };
        assert!(spares(20) && !spares(19));
    }

    #[test]
    fn p9_a_lease_runs_from_the_sending_of_the_ping_and_lapses_by_what_is_processed_late() {
        let leases = Leases::default();
        let secs = Duration::from_secs;
        leases.echoed("web-2", echo(1, 5), Offset::ZERO, LEASE, secs(1));
        leases.echoed("web-2", echo(2, 9), Offset::ZERO, LEASE, secs(2));
        let held = leases.snapshot()["web-2"].clone();
        assert_eq!((held.until, held.since), (secs(4), Sequence::from_u64(5)), "no gap");
        // This echo waited in a buffer until the lease had lapsed.
        leases.echoed("web-2", echo(3, 11), Offset::ZERO, LEASE, secs(4));
        let held = leases.snapshot()["web-2"].clone();
        assert_eq!((held.until, held.since), (secs(5), Sequence::from_u64(11)), "a new lease");
    }

    #[test]
    fn p9_a_member_that_said_goodbye_is_trusted_until_hello_by_who_acknowledged_its_last_word() {
        let leases = Leases::default();
        let (secs, at) = (Duration::from_secs, Sequence::from_u64);
        let first = leases.hello("web-2", LEASE, secs(0));
        leases.echoed("web-2", echo(1, 5), Offset::ZERO, LEASE, secs(1));
        leases.goodbye("web-2", first, echo(1, 5).origin, at(9), Offset::ZERO);
        let held = leases.snapshot()["web-2"].clone();
        assert!(held.spares(through(9), at(9)));
        assert!(!held.spares(through(8), at(9)), "its last word is not acknowledged");
        assert!(!held.spares(through(9), at(8)), "nor on the disk");
        leases.hello("web-2", LEASE, secs(60));
        let held = leases.snapshot()["web-2"].clone();
        assert!(!held.spares(through(9), at(9)), "it may run again");
        assert_eq!(
            (held.remains(through(9), secs(61)), held.remains(through(8), secs(61))),
            (secs(1), secs(0))
        );
        leases.goodbye("web-2", first, echo(1, 5).origin, at(9), Offset::ZERO);
        let held = leases.snapshot()["web-2"].clone();
        assert!(!held.spares(through(9), at(9)), "what an older link brings late is void");
        leases.hello("web-2", LEASE, secs(62));
        let held = leases.snapshot()["web-2"].clone();
        assert_eq!(
            held.remains(through(9), secs(62)),
            Duration::ZERO,
            "a second hello spares nothing"
        );
    }
}
