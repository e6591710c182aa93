//! What the applications of this node acknowledged of each origin: what `APPLIED` and fences ask,
//! here and, carried by links, on every other member.
//!
//! A subscription holds a [`Mark`]; a durable name has one of its own, stream or not. One that ends
//! counts on for as long as it may still trust its cache. In memory; a name's place is stored with
//! the name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::world::Clock;
use evermesh_event::{Frontier, Origin, Sequence};
use tokio::sync::watch;

use crate::cuts::Reaches;

/// The place of all subscriptions of former starts; others are counted from 1.
const FORMER: u64 = 0;

/// What was acknowledged here. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Applied(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    /// Counts changes. Links and publishers that wait for `APPLIED` hold the other end.
    version: watch::Sender<u64>,
}

/// Bounded by the subscriptions and durable names of a node, and by those that ended within a
/// lease.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    held: BTreeMap<u64, Held>,
}

impl Table {
    /// Lets go of what ended and counts no more; true if there was any.
    fn expire(&mut self, now: Duration) -> bool {
        let before = self.held.len();
        self.held.retain(|_, held| !held.ended || held.leased_until > now);
        self.held.len() < before
    }
}

#[derive(Debug)]
struct Held {
    /// Empty: every site.
    sites: Vec<String>,
    through: Frontier,
    /// The longest lease that was passed on to it ends then.
    leased_until: Duration,
    ended: bool,
}

/// How far one subscription, or one durable name, is. Ends when it is dropped.
#[derive(Debug)]
pub struct Mark {
    applied: Applied,
    number: u64,
}

impl Applied {
    /// Of a node without subscriptions.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (version, _) = watch::channel(0);
        Self(Arc::new(Inner { clock, table: Mutex::default(), version }))
    }

    /// A subscription to these sites (empty: every one) that acknowledged this.
    #[must_use]
    pub fn mark(&self, sites: &[String], through: Frontier) -> Mark {
        let mut table = self.table();
        table.next += 1;
        let number = table.next;
        let (sites, leased_until) = (sites.to_vec(), Duration::ZERO);
        table.held.insert(number, Held { sites, through, leased_until, ended: false });
        drop(table);
        self.changed();
        Mark { applied: self.clone(), number }
    }

    /// Who was granted a lease by a former start of this node may trust its cache until then, and
    /// nobody knows what it acknowledged: until then it counts as nothing.
    pub fn former(&self, trusted_until: Duration) {
        let mut table = self.table();
        let (sites, through, leased_until) = (Vec::new(), Frontier::default(), Duration::ZERO);
        let former = Held { sites, through, leased_until, ended: true };
        let held = table.held.entry(FORMER).or_insert(former);
        held.leased_until = held.leased_until.max(trusted_until);
        drop(table);
        self.changed();
    }

    /// The sites of which something through here is not acknowledged, and through where it is. The
    /// empty site stands for every one.
    #[must_use]
    pub fn lagging(&self, origin: &Origin, through: Sequence) -> Vec<(String, Sequence)> {
        let mut lagging = BTreeMap::<String, Sequence>::new();
        let mut note = |site: &str, at: Sequence| {
            let lowest = lagging.entry(site.to_owned()).or_insert(at);
            *lowest = at.min(*lowest);
        };
        for held in self.current(self.0.clock.boot()).held.values() {
            let at = held.through.get(origin);
            if at < through {
                held.sites.iter().for_each(|site| note(site, at));
                if held.sites.is_empty() {
                    note("", at);
                }
            }
        }
        lagging.into_iter().collect()
    }

    /// Every subscription and durable name is past all of these records.
    pub(crate) fn past(&self, reaches: &Reaches) -> bool {
        let table = self.current(self.0.clock.boot());
        let live = table.held.values().filter(|held| !held.ended);
        let past = |held: &Held| {
            reaches.iter().all(|(origin, reach)| held.through.get(origin) >= reach.through)
        };
        live.into_iter().all(past)
    }

    /// Counts up with each change: ask [`Applied::lagging`] again.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Returns after a change that was not seen, or once a subscription that ended counts no more.
    pub async fn wait(&self, seen: &mut watch::Receiver<u64>) {
        let now = self.0.clock.boot();
        let ends = {
            let table = self.current(now);
            let ended = table.held.values().filter(|held| held.ended);
            ended.map(|held| held.leased_until.saturating_sub(now)).min()
        };
        match ends {
            None => drop(seen.changed().await),
            Some(left) => drop(tokio::time::timeout(left, seen.changed()).await),
        }
    }

    fn changed(&self) {
        self.0.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// What counts. Whoever finds that something counts no more tells everybody who waits: they
    /// said otherwise, and will not find it any more.
    fn current(&self, now: Duration) -> MutexGuard<'_, Table> {
        let mut table = self.table();
        if table.expire(now) {
            self.changed();
        }
        table
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    /// More was acknowledged.
    pub fn advance(&self, moves: impl IntoIterator<Item = (Origin, Sequence)>) {
        let mut table = self.applied.table();
        if let Some(held) = table.held.get_mut(&self.number) {
            moves.into_iter().for_each(|(origin, at)| held.through.advance(&origin, at));
        }
        drop(table);
        self.applied.changed();
    }

    /// Through where everything was acknowledged, of each origin.
    #[must_use]
    pub fn through(&self) -> Frontier {
        let table = self.applied.table();
        table.held.get(&self.number).map(|held| held.through.clone()).unwrap_or_default()
    }

    /// Until when it may trust its cache at most, by what was passed on to it so far.
    #[must_use]
    pub fn leased_until(&self) -> Duration {
        let table = self.applied.table();
        table.held.get(&self.number).map(|held| held.leased_until).unwrap_or_default()
    }

    /// It may trust its cache until then, by this node's clock: as long it counts, also when its
    /// stream ends before.
    pub fn leased(&self, until: Duration) {
        if let Some(held) = self.applied.table().held.get_mut(&self.number) {
            held.leased_until = held.leased_until.max(until);
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let now = self.applied.0.clock.boot();
        let mut table = self.applied.table();
        if let Some(held) = table.held.get_mut(&self.number) {
            held.ended = true;
            if held.leased_until <= now {
                table.held.remove(&self.number);
            }
        }
        drop(table);
        self.applied.changed();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::Future as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Waker};
    use std::time::SystemTime;

    use evermesh_event::{JournalId, NodeName};

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn boot(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    fn origin() -> Origin {
        Origin { node: NodeName::new("web-1").unwrap(), journal: JournalId::new([1; 16]) }
    }

    fn at(sequence: u64) -> Sequence {
        Sequence::from_u64(sequence)
    }

    #[test]
    fn p4_only_sites_with_a_subscription_that_is_behind_lag() {
        let applied = Applied::new(Arc::new(Hand::default()));
        assert!(applied.lagging(&origin(), at(9)).is_empty(), "nobody subscribed");
        let shop = applied.mark(&["shop".into()], Frontier::default());
        shop.advance([(origin(), at(5))]);
        let slower = applied.mark(&["shop".into(), "blog".into()], Frontier::default());
        slower.advance([(origin(), at(3))]);
        let all = [("blog".to_owned(), at(3)), ("shop".to_owned(), at(3))];
        assert_eq!(applied.lagging(&origin(), at(5)), all);
        drop(slower);
        assert!(applied.lagging(&origin(), at(5)).is_empty());
        assert_eq!(applied.lagging(&origin(), at(6)), [("shop".to_owned(), at(5))]);
        let every = applied.mark(&[], Frontier::default());
        assert_eq!(applied.lagging(&origin(), at(1)), [(String::new(), Sequence::ZERO)]);
        drop((shop, every));
    }

    #[test]
    fn p9_a_leased_subscription_that_ended_counts_until_its_lease_has() {
        let clock = Arc::new(Hand::default());
        let applied = Applied::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let mark = applied.mark(&["shop".into()], Frontier::default());
        mark.leased(Duration::from_secs(3));
        drop(mark);
        assert_eq!(applied.lagging(&origin(), at(1)).len(), 1);
        clock.0.store(3, Ordering::Relaxed);
        assert!(applied.lagging(&origin(), at(1)).is_empty());
    }

    #[test]
    fn whoever_waits_hears_of_what_somebody_else_found_to_count_no_more() {
        let clock = Arc::new(Hand::default());
        let applied = Applied::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let mark = applied.mark(&[], Frontier::default());
        mark.leased(Duration::from_secs(1));
        drop(mark);
        let mut seen = applied.watch();
        assert_eq!(applied.lagging(&origin(), at(1)).len(), 1, "as one link said it");
        clock.0.store(2, Ordering::Relaxed);
        assert!(applied.lagging(&origin(), at(1)).is_empty(), "as another one finds it");
        let wait = std::pin::pin!(applied.wait(&mut seen));
        assert!(wait.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn waiting_wakes_once_for_what_counts_no_more_and_then_for_changes_alone() {
        let clock = Arc::new(Hand::default());
        let applied = Applied::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let mark = applied.mark(&[], Frontier::default());
        mark.leased(Duration::from_secs(1));
        drop(mark);
        let mut seen = applied.watch();
        clock.0.store(2, Ordering::Relaxed);
        let wakes = |seen: &mut watch::Receiver<u64>| {
            let wait = std::pin::pin!(applied.wait(seen));
            wait.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        assert!(wakes(&mut seen), "nobody asked meanwhile what lags");
        assert!(!wakes(&mut seen), "and nothing changed since");
    }
}
