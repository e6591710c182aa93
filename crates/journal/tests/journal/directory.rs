//! The real disk, with the thread.

use std::sync::Arc;

use evermesh_event::Offset;
use evermesh_journal::{Directory, Error, Journal, ReadError, Storage as _};

use crate::world::{World, entries, identity, intake, other};

const PUBLISHERS: usize = 8;
const CALLS: usize = 60;

fn directory(place: &tempfile::TempDir) -> Arc<Directory> {
    Arc::new(Directory::open(place.path().join("node")).unwrap())
}

#[test]
fn a_second_owner_is_refused_and_told_who_holds_it() {
    let place = tempfile::tempdir().unwrap();
    let world = World::new(1);
    let (journal, writer) = Journal::open(world.options_on(directory(&place))).unwrap();
    let refused = Journal::open(world.options_on(directory(&place))).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }));
    let text = refused.to_string();
    let process = format!("process {} (", std::process::id());
    assert!(text.contains(&process) && text.contains("data_dir"), "{text}");
    drop((journal, writer));
    drop(Journal::open(world.options_on(directory(&place))).unwrap());
}

#[test]
fn p10_a_directory_belongs_to_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    let world = World::new(2);
    let storage = directory(&place);
    drop(Journal::open(world.options_on(Arc::clone(&storage) as _)).unwrap());
    let mode = |name: &str| {
        let path = storage.path().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("segments")), (0o700, 0o700));
    assert_eq!((mode("lock"), mode("state.redb")), (0o600, 0o600));
}

#[test]
fn what_is_no_segment_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let storage = directory(&place);
    std::fs::write(storage.path().join("segments/notes.txt"), "mine").unwrap();
    std::fs::write(storage.path().join("segments/xyz.seg"), "mine").unwrap();
    assert!(storage.segments().unwrap().is_empty());
}

/// Publishers, takers and readers at once; a reader that keeps up and one that begins late see the
/// same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p2_many_at_once_with_the_thread() {
    let place = tempfile::tempdir().unwrap();
    let world = World::new(3);
    let (journal, writer) = Journal::open(world.options_on(directory(&place))).unwrap();
    let thread = writer.spawn().unwrap();
    let keeping_up = tokio::spawn(read_to_the_end(journal.clone()));
    let mut tasks = Vec::new();
    for publisher in 0..PUBLISHERS {
        let journal = journal.clone();
        tasks.push(tokio::spawn(async move {
            let mut durable = journal.durable();
            for call in 0..CALLS {
                let ids: Vec<_> =
                    (0..3).map(|n| intake(&format!("{publisher}-{call}-{n}"))).collect();
                let appended = journal.append(&identity(), ids).await.unwrap();
                let assured = durable.wait_for(|durable| durable.own >= appended.own_through);
                assert!(!assured.await.unwrap().failed);
            }
        }));
    }
    let taker = journal.clone();
    tasks.push(tokio::spawn(async move {
        for at in 0..CALLS as u64 {
            taker.take(crate::world::block(&other("web-2"), at, &[at + 1])).await.unwrap();
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
    let late = tokio::spawn(read_to_the_end(journal.clone()));
    journal.close().await.unwrap();
    thread.join().unwrap();
    let seen = keeping_up.await.unwrap();
    assert!(seen == late.await.unwrap(), "both see the same");
    assert_eq!(seen.len(), PUBLISHERS * CALLS * 3 + CALLS);
    let status = journal.status();
    assert_eq!(status.events_published, (PUBLISHERS * CALLS * 3) as u64);
    assert!(status.disk_bytes > world.limits.segment_bytes, "several segments");
    let (again, _writer) = Journal::open(world.options_on(directory(&place))).unwrap();
    let again = tokio::task::spawn_blocking(move || crate::world::read_on_disk(&again));
    assert!(seen == again.await.unwrap(), "and after a restart");
}

async fn read_to_the_end(journal: Journal) -> Vec<crate::world::Entry> {
    let mut reader = journal.reader(Offset::ZERO);
    let mut all = Vec::new();
    loop {
        match reader.next(8 * 1024).await {
            Ok(records) => all.extend(entries(&records)),
            Err(ReadError::Closed) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}
