//! A clock that stands still unless moved, randomness from a seed, and events and blocks to fill a
//! journal with.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evermesh_event::world::{Clock, Random};
use evermesh_event::{
    Block, BlockBuilder, Fill, JournalId, NodeName, Offset, Origin, Sequence, StartId, ValidEvent,
    validate,
};
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{
    Content, Intake, Journal, Limits, Options, ReadError, Record, Storage, Writer,
};
use evermesh_proto::v1;

/// Milliseconds, the same for wall and boot.
#[derive(Debug, Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.boot()
    }

    fn boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Splitmix64.
#[derive(Debug)]
pub struct Seeded(Mutex<u64>);

impl Seeded {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(seed)))
    }

    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next() as u8;
        }
    }
}

/// Everything that a journal is opened with.
#[derive(Clone)]
pub struct World {
    pub disk: MemoryDisk,
    pub clock: Arc<TestClock>,
    pub random: Arc<Seeded>,
    pub limits: Limits,
    pub node: &'static str,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            disk: MemoryDisk::new(),
            clock: Arc::default(),
            random: Seeded::new(seed),
            limits: small(),
            node: "web-1",
        }
    }

    pub fn options(&self) -> Options {
        self.options_on(Arc::new(self.disk.clone()))
    }

    pub fn options_on(&self, storage: Arc<dyn Storage>) -> Options {
        Options {
            node: NodeName::new(self.node).unwrap(),
            storage,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random: Arc::clone(&self.random) as Arc<dyn Random>,
            limits: self.limits.clone(),
        }
    }

    pub fn open(&self) -> (Journal, Writer) {
        Journal::open(self.options()).unwrap()
    }
}

/// Segments so small that they end often, and a tail so short that readers meet the disk.
pub fn small() -> Limits {
    Limits {
        segment_bytes: 16 * 1024,
        tail_bytes: 4 * 1024,
        unwritten_bytes_max: 1024 * 1024,
        max_bytes: 64 * 1024 * 1024,
        reserve_bytes: 64 * 1024,
        ..Limits::default()
    }
}

pub fn event(id: &str, data: usize) -> ValidEvent {
    let event = v1::Event {
        id: id.into(),
        site: "shop".into(),
        r#type: "cache.invalidate".into(),
        key: format!("product:{id}"),
        data: vec![b'x'; data].into(),
        ..v1::Event::default()
    };
    validate(event, Fill { id: uuid::Uuid::nil(), now: UNIX_EPOCH }).unwrap()
}

pub fn intake(id: &str) -> Intake {
    Intake { event: event(id, 20), sampled: false }
}

pub fn identity() -> Arc<str> {
    "spiffe://mesh.internal/app/shop".into()
}

/// A member is linked under this journal.
pub fn link(journal: &Journal, origin: &Origin) {
    let listed = vec![(origin.node.clone(), evermesh_journal::Listed::default())];
    journal.merge_members(&origin.node, &listed);
    now(journal.meet(origin)).unwrap();
    now(journal.linked(origin, &[])).unwrap();
    journal.journal_lives(origin);
}

pub fn other(node: &str) -> Origin {
    Origin { node: NodeName::new(node).unwrap(), journal: JournalId::new([3; 16]) }
}

/// A block of another origin, with these counters in its first epoch.
pub fn block(origin: &Origin, previous: u64, counters: &[u64]) -> Block {
    let place = |counter| Sequence::from_u64(1 << 40 | counter);
    let previous = if previous == 0 { Sequence::ZERO } else { place(previous) };
    let mut builder = BlockBuilder::new(origin.clone(), StartId::new([8; 16]), previous);
    for counter in counters {
        builder.push(place(*counter), &event(&format!("{}-{counter}", origin.node), 30), false);
    }
    builder.finish().unwrap()
}

/// What a future that needs no waiting returns.
#[track_caller]
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// One look at a future.
pub fn look<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Appends under one identity.
#[track_caller]
pub fn append(journal: &Journal, ids: &[&str]) -> evermesh_journal::Appended {
    now(journal.append(&identity(), ids.iter().map(|id| intake(id)).collect::<Vec<_>>())).unwrap()
}

/// Everything after an offset, as a reader sees it.
pub fn read_after(journal: &Journal, after: Offset) -> Vec<Arc<Record>> {
    let mut reader = journal.reader(after);
    let mut all = Vec::new();
    loop {
        match reader.try_next(64 * 1024) {
            Ok(Some(records)) => all.extend(records),
            Ok(None) | Err(ReadError::Closed | ReadError::Failed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(reader.position(), all.last().map_or(after, |record| record.end()));
    all
}

/// Entries with their places, flat.
pub type Entry = (Offset, Option<(Origin, Sequence, Vec<u8>)>);

pub fn entries(records: &[Arc<Record>]) -> Vec<Entry> {
    let mut all = Vec::new();
    for record in records {
        match &record.content {
            Content::Block { block, .. } => {
                let before = all.len();
                for (offset, entry) in record.taken_entries() {
                    let event = entry.event.to_vec();
                    all.push((offset, Some((block.origin().clone(), entry.sequence, event))));
                }
                if all.len() == before {
                    all.push((record.offset, None));
                }
            }
            Content::Missed(_) => all.push((record.offset, None)),
        }
    }
    all
}

/// What a journal that was just opened must say is durable.
pub fn durable_of(journal: &Journal) -> evermesh_journal::Durable {
    let (offset, own) = (journal.head(), journal.own_head());
    evermesh_journal::Durable { offset, own, failed: false }
}

/// Everything, from a thread that may wait for the disk.
pub fn read_on_disk(journal: &Journal) -> Vec<Entry> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut reader = journal.reader(Offset::ZERO);
    let mut all = Vec::new();
    while reader.position() < journal.head() {
        all.extend(entries(&runtime.block_on(reader.next(64 * 1024)).unwrap()));
    }
    all
}
