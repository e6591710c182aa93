//! What was published in a drill, and how sure its publishers were told it is. Publishers and
//! probers write, the verdict reads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use evermesh_event::verdict::{Fate, Published};
use evermesh_proto::v1;

/// The sites of a drill's events: subscriptions hear both, or the first one only.
pub(super) const SITES: [&str; 2] = ["drill", "drill-aside"];
/// So few keys that each comes again and again.
const KEYS: usize = 500;
/// Every third event is one of the second site.
const ASIDE: usize = 3;

/// An event by who publishes it, and its number there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made<'a> {
    /// Differs from every other drill's, so that nothing of an earlier one is taken for this one's.
    pub(super) run: &'a str,
    /// `p` or `q`, for publishers and probers, and the node.
    pub(super) by: (char, usize),
    pub(super) number: usize,
}

impl Made<'_> {
    pub(super) fn event(self) -> v1::Event {
        let Self { run, by: (kind, node), number } = self;
        let id = format!("{run}-{kind}{}-{number}", node + 1);
        let [first, aside] = SITES;
        v1::Event {
            site: if number % ASIDE == 0 { aside } else { first }.to_owned(),
            r#type: "cache.invalidate".to_owned(),
            key: format!("product:{}", (number * 7 + node) % KEYS),
            source: format!("drill-{}", node + 1),
            // Whoever hears it can tell that it is the one that was published.
            data: id.clone().into_bytes().into(),
            data_content_type: "text/plain".to_owned(),
            id,
            ..Default::default()
        }
    }
}

/// Everything that was published.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    both: Published,
    /// Those of the first site.
    first: Published,
    /// Assured, of publishers only.
    assured: u64,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event is about to be handed in, or its publisher was assured.
    pub(super) fn note(&self, site: &str, id: &str, fate: Fate) {
        let mut pages = self.pages();
        pages.both.note(id, fate);
        if site == SITES[0] {
            pages.first.note(id, fate);
        }
    }

    /// So many more events of publishers are assured.
    pub(super) fn count(&self, assured: usize) {
        self.pages().assured += assured as u64;
    }

    /// How many events of publishers are assured.
    pub(super) fn assured(&self) -> u64 {
        self.pages().assured
    }

    /// Calls with what a subscription to these sites must hear.
    pub(super) fn read<T>(&self, both: bool, read: impl FnOnce(&Published) -> T) -> T {
        let pages = self.pages();
        read(if both { &pages.both } else { &pages.first })
    }
}
