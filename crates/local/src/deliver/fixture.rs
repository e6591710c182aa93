//! Fixtures for unit tests: a node on a disk in memory, whose time passes only when a test says so,
//! with a member web-2, and a stream at it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evermesh_event::assurance::Presence;
use evermesh_event::world::{Clock, Random};
use evermesh_event::{
    Fill, Filter, JournalId, NodeName, Offset, Origin, Sequence, ValidEvent, validate,
};
use evermesh_identity::{Identity, Rules};
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Journal, Limits, Options, Storage, Writer};
use evermesh_proto::v1;
use evermesh_telemetry::Spans;

use super::Deliver;
use crate::service::{Local, Parts};
use crate::subscribe::Begin;
use crate::subscriptions::SubscriptionView;

pub(super) const LEASE: Duration = Duration::from_secs(2);

/// Seconds that pass only when a test says so.
#[derive(Debug, Default)]
pub(super) struct Hand(AtomicU64);

impl Hand {
    pub(super) fn set(&self, second: u64) {
        self.0.store(second, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH
    }

    fn boot(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

impl Random for Hand {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// The member's origin.
pub(super) fn other() -> Origin {
    Origin { node: NodeName::new("web-2").unwrap(), journal: JournalId::new([2; 16]) }
}

pub(super) fn at(counter: u64) -> Sequence {
    if counter == 0 { Sequence::ZERO } else { Sequence::from_u64((1 << 40) + counter) }
}

pub(super) fn event(id: &str) -> ValidEvent {
    let event = v1::Event {
        id: id.into(),
        site: "shop".into(),
        r#type: "t".into(),
        ..v1::Event::default()
    };
    validate(event, Fill { id: uuid::Uuid::nil(), now: UNIX_EPOCH }).unwrap()
}

/// A node that waits for its member, and who its applications are.
pub(super) struct Node {
    pub(super) local: Local,
    pub(super) clock: Arc<Hand>,
    who: Identity,
    _writer: Writer,
}

impl Node {
    pub(super) fn new() -> Self {
        let node = NodeName::new("web-1").unwrap();
        let clock = Arc::new(Hand::default());
        let (journal, writer) = Journal::open(Options {
            node: node.clone(),
            storage: Arc::new(MemoryDisk::new()) as Arc<dyn Storage>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(Hand::default()),
            limits: Limits::default(),
        })
        .unwrap();
        journal.cursors().presence("web-2", Presence::Expected);
        let local = Local::new(Parts {
            journal,
            rules: Arc::new(Rules::new(vec![], vec![], 0).unwrap()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(Hand::default()),
            spans: Spans::off(),
            node,
            lease: LEASE,
        });
        Self { local, clock, who: Identity::local(0, 0, None, None), _writer: writer }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.local.parts.journal
    }

    /// A stream that goes on after what is here.
    pub(super) fn stream(&self, after: Offset) -> Deliver<'_> {
        let view = SubscriptionView {
            identity: self.who.text().clone(),
            sites: vec![],
            delivered: after,
            acknowledged: after,
            unacknowledged: 0,
            durable_name: String::new(),
        };
        let place = self.local.subscriptions.open(view, None).unwrap();
        let filter = Filter::new(None, vec![], vec![]).unwrap();
        let begin = Begin { after, missed: None, name: None };
        Deliver::new(&self.local, &self.who, filter, 16, begin, place)
    }
}
