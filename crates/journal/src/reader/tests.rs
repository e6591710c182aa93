//! A reader that is overtaken by a cut between two steps of one look.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evermesh_event::assurance::Presence;
use evermesh_event::world::{Clock, Random};
use evermesh_event::{Fill, NodeName, validate};
use evermesh_proto::v1;

use super::*;
use crate::simulated::MemoryDisk;
use crate::storage::Storage as _;
use crate::{Content, Intake, Journal, Limits, Options, Writer};

#[derive(Debug)]
struct Standing;

impl Clock for Standing {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn boot(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes()[0] + 1);
    }
}

/// Publishes until something is so.
fn publish_until(journal: &Journal, writer: &mut Writer, so: impl Fn(&Journal) -> bool) {
    while !so(journal) {
        let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..v1::Event::default() };
        let event = v1::Event { data: vec![b'x'; 4000].into(), ..event };
        let fill =
            Fill { id: uuid::Uuid::from_u128(journal.head().as_u64().into()), now: UNIX_EPOCH };
        let intake = Intake { event: validate(event, fill).unwrap(), sampled: false };
        let identity = "me".into();
        let mut appending = pin!(journal.append(&identity, vec![intake]));
        let appended = appending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(appended, Poll::Ready(Ok(_))), "{appended:?}");
        writer.turn().unwrap();
    }
}

#[test]
fn p1_a_reader_that_is_overtaken_by_a_cut_hears_what_it_missed() {
    let segment_bytes = 40 * 1024;
    let (journal, mut writer) = Journal::open(Options {
        node: NodeName::new("web-1").unwrap(),
        storage: Arc::new(MemoryDisk::new()),
        clock: Arc::new(Standing),
        random: Arc::new(Counting::default()),
        limits: Limits {
            segment_bytes,
            max_bytes: 16 * segment_bytes,
            reserve_bytes: 2 * segment_bytes,
            tail_bytes: 4 * 1024,
            ..Limits::default()
        },
    })
    .unwrap();
    journal.cursors().presence("web-2", Presence::Expected);
    publish_until(&journal, &mut writer, |journal| journal.status().disk_bytes > 3 * segment_bytes);
    let plan = journal.reader(Offset::ZERO).plan(journal.head(), READ_BYTES_MIN);
    // It saw that nothing was cut, and then the writer cuts.
    let cut = plan.shared.cuts().end;
    publish_until(&journal, &mut writer, |journal| journal.oldest() > cut);
    assert!(plan.open_place(cut).unwrap().is_none(), "it looks again");
    let (Look::Records(records, _), _) = plan.read().unwrap() else { panic!("records") };
    assert!(matches!(&records[0].content, Content::Missed(_)), "{records:?}");
}

#[test]
fn p1_what_was_read_while_damage_changed_is_read_again_with_what_is_missed() {
    let disk = Arc::new(MemoryDisk::new());
    let open = || {
        Journal::open(Options {
            node: NodeName::new("web-1").unwrap(),
            storage: Arc::clone(&disk) as Arc<dyn crate::Storage>,
            clock: Arc::new(Standing),
            random: Arc::new(Counting::default()),
            limits: Limits::default(),
        })
        .unwrap()
    };
    let (journal, mut writer) = open();
    publish_until(&journal, &mut writer, |journal| journal.head().counter() == 20);
    drop((journal, writer));
    let first = disk.segments().unwrap()[0];
    let mut bytes = disk.segment_bytes(first).unwrap();
    bytes[4096 + 5 * 4100] ^= 1;
    disk.set_segment_bytes(first, &bytes);
    let (journal, _writer) = open();
    journal.await_mending();
    for lacking in journal.lacking() {
        journal.give_up(&lacking, lacking.through);
    }
    let mut plan = journal.reader(Offset::ZERO).plan(journal.head(), READ_BYTES_MAX);
    let mut place = plan.open_place(Offset::ZERO).unwrap().unwrap();
    let (read, _) = plan.read_segment(&mut place).unwrap();
    let told = |records: &[Arc<Record>]| {
        records.iter().filter(|record| matches!(record.content, Content::Missed(_))).count()
    };
    assert_eq!(told(&read), 1);
    // Something else is given up in that moment, so what was read does not count.
    let (Look::Records(again, _), _) = plan.read().unwrap() else { panic!("records") };
    assert_eq!(again, read);
}
