//! Version 1 of the format, as it was written once: a directory that every later version must read.
//!
//! `tests/fixtures/v1/` was made by `EVERMESH_WRITE_FIXTURE=1 cargo test -p evermesh-journal
//! fixture` and is never made again. The segment is stored without its zeros at the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evermesh_event::{Offset, Sequence};
use evermesh_journal::{Content, Directory, Journal, Limits, Missed};
use evermesh_proto::v1::MissedCause;

use crate::world::{World, append, block, entries, now, other};

const SEGMENT: &str = "segments/0000010000000001.seg";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn world() -> World {
    let mut world = World::new(2026);
    world.limits = Limits { segment_bytes: 64 * 1024, ..world.limits };
    world
}

/// What the fixture holds.
fn fill(journal: &Journal) {
    append(journal, &["one", "two"]);
    now(journal.take(block(&other("web-2"), 0, &[1, 2, 3]))).unwrap();
    now(journal.take(block(&other("web-2"), 2, &[3, 4]))).unwrap();
    let missed = Missed {
        origin: Some(other("web-3")),
        from: Sequence::from_u64(1),
        through: Sequence::from_u64((1 << 40) | 9),
        sites: vec!["intranet".into(), "shop".into()],
        cause: MissedCause::Retention,
    };
    now(journal.miss(missed)).unwrap();
}

#[test]
fn version_1_is_read() {
    if std::env::var_os("EVERMESH_WRITE_FIXTURE").is_some() {
        write();
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("segments")).unwrap();
    for name in ["state.redb", SEGMENT] {
        std::fs::copy(fixture().join(name), place.path().join(name)).unwrap();
    }
    let segment = std::fs::OpenOptions::new().write(true).open(place.path().join(SEGMENT));
    segment.unwrap().set_len(64 * 1024).unwrap();
    let storage = Arc::new(Directory::open(place.path()).unwrap());
    let (journal, mut writer) = Journal::open(world().options_on(storage)).unwrap();
    let mut reader = journal.reader(Offset::ZERO);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let records = runtime.block_on(reader.next(usize::MAX)).unwrap();
    let found: Vec<_> = entries(&records)
        .into_iter()
        .map(|(offset, entry)| match entry {
            Some((origin, sequence, _)) => format!("{offset} {origin}/{sequence}"),
            None => format!("{offset} missed"),
        })
        .collect();
    let expected = [
        "1:1 web-1/1:1",
        "1:2 web-1/1:2",
        "1:3 web-2/1:1",
        "1:4 web-2/1:2",
        "1:5 web-2/1:3",
        "1:6 web-2/1:4",
        "1:7 missed",
    ];
    assert_eq!(found, expected);
    let Content::Missed(missed) = &records[3].content else { panic!("a missed") };
    assert_eq!((missed.cause, missed.sites.len()), (MissedCause::Retention, 2));
    assert_eq!(journal.start().epoch.get(), 2);
    assert_eq!(journal.frontier().get(&other("web-3")).to_string(), "1:9");
    assert!(append(&journal, &["two"]).taken[0].duplicate, "the publisher is stored");
    append(&journal, &["three"]);
    writer.turn().unwrap();
}

fn write() {
    let place = fixture();
    std::fs::create_dir_all(&place).unwrap();
    let storage = Arc::new(Directory::open(&place).unwrap());
    let (journal, mut writer) = Journal::open(world().options_on(storage)).unwrap();
    fill(&journal);
    writer.turn().unwrap();
    let mut closing = Box::pin(journal.close());
    assert!(crate::world::look(&mut closing).is_pending());
    assert!(writer.turn().unwrap().ended);
    assert!(now(closing).is_ok());
    std::fs::remove_file(place.join("lock")).unwrap();
    let bytes = std::fs::read(place.join(SEGMENT)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    std::fs::write(place.join(SEGMENT), &bytes[..end.next_multiple_of(16)]).unwrap();
}
