//! Freshness: how long a cache may be trusted, by this application's own clock (P9).
//!
//! Always: a lease runs from the sending of the ping that the node echoed, never from hearing the
//! echo: that may have waited while this process was paused. Deliberately absent: what to do when
//! it is over, which is the cache's business: read past itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::world::Clock;
use evermesh_proto::v1;

/// Pings that wait for their echo; an older one grants nothing any more.
const PINGS_MAX: usize = 16;

/// Whether what a subscription keeps current can be trusted. Cheap to clone, and cheap to ask.
#[derive(Clone, Debug)]
pub struct Freshness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    leases: Mutex<Leases>,
}

#[derive(Debug, Default)]
struct Leases {
    /// Counts on over reconnects, so that no echo is taken for another's.
    next: u64,
    sent: VecDeque<(u64, Duration)>,
    /// Until when each member can be trusted. Empty: nothing was heard yet.
    until: BTreeMap<String, Duration>,
}

impl Freshness {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { clock, leases: Mutex::default() }))
    }

    /// Everything that any member published and saw applied is applied here, as of now.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_fresh_without(&[])
    }

    /// The same without some members: whoever knows that a node crashed for good, or does not care
    /// what it published, need not stop trusting its cache for it.
    #[must_use]
    pub fn is_fresh_without(&self, members: &[&str]) -> bool {
        let now = self.0.clock.boot();
        let leases = self.leases();
        let counts = |member: &String| !members.contains(&member.as_str());
        let mut counted = leases.until.iter().filter(|(member, _)| counts(member)).peekable();
        counted.peek().is_some() && counted.all(|(_, until)| *until > now)
    }

    /// Until when [`Freshness::is_fresh`] stays true if nothing more is heard, by the boot clock of
    /// the client's world; `None`: it is not fresh.
    #[must_use]
    pub fn fresh_until(&self) -> Option<Duration> {
        let first = self.leases().until.values().min().copied()?;
        Some(first).filter(|until| *until > self.0.clock.boot())
    }

    /// How long [`Freshness::is_fresh`] stays true if nothing more is heard; zero if it is not.
    #[must_use]
    pub fn remains(&self) -> Duration {
        let first = self.leases().until.values().min().copied().unwrap_or_default();
        first.saturating_sub(self.0.clock.boot())
    }

    /// Members whose lease is over, or was never granted.
    #[must_use]
    pub fn stale_members(&self) -> Vec<String> {
        let now = self.0.clock.boot();
        let leases = self.leases();
        let stale = leases.until.iter().filter(|(_, until)| **until <= now);
        stale.map(|(member, _)| member.clone()).collect()
    }

    /// A ping is about to be sent; its number.
    pub(crate) fn ping(&self) -> u64 {
        let now = self.0.clock.boot();
        let mut leases = self.leases();
        leases.next += 1;
        let number = leases.next;
        leases.sent.push_back((number, now));
        if leases.sent.len() > PINGS_MAX {
            leases.sent.pop_front();
        }
        number
    }

    /// The node echoed a ping.
    pub(crate) fn heard(&self, said: &v1::Freshness) {
        let mut leases = self.leases();
        let sent = leases.sent.iter().find(|(number, _)| *number == said.ping_number);
        let Some((_, pinged)) = sent.copied() else { return };
        leases.sent.retain(|(number, _)| *number > said.ping_number);
        let before = std::mem::take(&mut leases.until);
        for lease in &said.leases {
            let remains = lease.remains.and_then(|remains| Duration::try_from(remains).ok());
            let remains = remains.unwrap_or_default();
            // What was granted before stays granted: the node counts on it.
            let granted = before.get(&lease.node).copied().unwrap_or_default();
            let until = if remains.is_zero() { granted } else { granted.max(pinged + remains) };
            leases.until.insert(lease.node.clone(), until);
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn boot(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn said(ping_number: u64, leases: &[(&str, i64)]) -> v1::Freshness {
        let lease = |(node, seconds): &(&str, i64)| v1::MemberLease {
            node: (*node).to_owned(),
            remains: Some(prost_types::Duration { seconds: *seconds, nanos: 0 }),
        };
        v1::Freshness { ping_number, leases: leases.iter().map(lease).collect() }
    }

    #[test]
    fn p9_it_runs_from_the_sending_of_the_ping_by_the_own_clock() {
        let clock = Arc::new(Hand::default());
        let fresh = Freshness::new(Arc::clone(&clock) as Arc<dyn Clock>);
        assert!(!fresh.is_fresh(), "nothing was heard");
        let first = fresh.ping();
        clock.0.store(1_500, Ordering::Relaxed);
        fresh.heard(&said(first, &[("web-1", 2), ("web-2", 2)]));
        assert_eq!((fresh.is_fresh(), fresh.remains()), (true, Duration::from_millis(500)));
        assert_eq!(fresh.fresh_until(), Some(Duration::from_secs(2)));
        clock.0.store(2_000, Ordering::Relaxed);
        assert!(!fresh.is_fresh(), "two seconds after it was sent");
        assert_eq!(fresh.fresh_until(), None);
        fresh.heard(&said(first, &[("web-1", 9)]));
        assert!(!fresh.is_fresh(), "an echo counts once");
    }

    #[test]
    fn a_member_that_is_not_heard_can_be_left_out_by_name() {
        let fresh = Freshness::new(Arc::new(Hand::default()));
        let number = fresh.ping();
        fresh.heard(&said(number, &[("web-1", 2), ("web-2", 0)]));
        assert!(!fresh.is_fresh() && fresh.is_fresh_without(&["web-2"]));
        assert!(!fresh.is_fresh_without(&["web-1", "web-2"]), "nobody is left to trust");
        assert_eq!(fresh.stale_members(), ["web-2"]);
        // One that left is not asked any more.
        let number = fresh.ping();
        fresh.heard(&said(number, &[("web-1", 2)]));
        assert!(fresh.is_fresh());
    }
}
