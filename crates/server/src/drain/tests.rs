//! Tests of the end: a failing disk, a part that ends by itself, and the ordinary way. Signals to a
//! whole process are tested with the binary.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use evermesh_event::world::{Clock, Random};
use evermesh_event::{NodeName, Sequence};
use evermesh_gate::Drain;
use evermesh_identity::Rules;
use evermesh_journal::simulated::{MemoryDisk, Refusal};
use evermesh_journal::{Limits, Missed, Options};
use evermesh_proto::v1::MissedCause;
use evermesh_telemetry::Spans;

use super::*;
use crate::world::{SystemClock, SystemRandom};

/// A node without ports, on a disk in memory.
async fn running(directory: &tempfile::TempDir) -> (Running, MemoryDisk, Drain) {
    let disk = MemoryDisk::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom::new().unwrap());
    let node = NodeName::new("web-1").unwrap();
    let (journal, writer) = Journal::open(Options {
        node: node.clone(),
        storage: Arc::new(disk.clone()),
        clock: Arc::clone(&clock),
        random: Arc::clone(&random),
        limits: Limits::default(),
    })
    .unwrap();
    let local = Local::new(evermesh_local::Parts {
        journal: journal.clone(),
        rules: Arc::new(Rules::new(Vec::new(), Vec::new(), 0).unwrap()),
        clock,
        random,
        spans: Spans::off(),
        node,
        lease: Duration::from_secs(2),
    });
    let (drain, handle) = Drain::new();
    let (_, socket) = LocalSocket::bind(&directory.path().join("node.sock")).await.unwrap();
    let mut ports = JoinSet::new();
    let port = drain.clone();
    ports.spawn(async move { port.stopped().await });
    let running = Running {
        health: Health::new(),
        drain: handle,
        deadline: Duration::from_secs(60),
        on_stop: OnStop::Stay,
        leaves: CancellationToken::new(),
        local,
        peers: None,
        links: None,
        ports,
        journal,
        writer: writer.spawn().unwrap(),
        socket,
    };
    (running, disk, drain)
}

/// Something that must be written.
async fn write(journal: &Journal) {
    let missed = Missed {
        origin: None,
        from: Sequence::ZERO,
        through: Sequence::ZERO,
        sites: vec!["shop".to_owned()],
        cause: MissedCause::Unspecified,
    };
    journal.miss(missed).await.unwrap();
}

#[tokio::test]
async fn p11_a_failed_fsync_ends_everything_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (running, disk, drain) = running(&directory).await;
    write(&running.journal).await;
    running
        .journal
        .durable()
        .wait_for(|durable| durable.offset > Default::default())
        .await
        .unwrap();
    disk.refuse_syncs(Some(Refusal::Failed));
    write(&running.journal).await;
    let ended = running.until_ended(Signals::new().unwrap()).await.unwrap_err();
    assert!(matches!(ended, Error::JournalFailed(_)), "{ended}");
    assert_eq!(ended.exit_code(), 74);
    drain.stopped().await;
    assert!(!directory.path().join("node.sock").exists());
}

#[tokio::test]
async fn a_port_that_ends_by_itself_ends_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let (mut running, _, _) = running(&directory).await;
    running.ports.spawn(async {});
    let ended = running.until_ended(Signals::new().unwrap()).await.unwrap_err();
    assert_eq!(ended.to_string().split_once(" by").unwrap().0, "a port ended");
    assert_eq!(ended.exit_code(), 70);
}

#[tokio::test]
async fn links_that_end_by_themselves_end_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let (mut running, _, _) = running(&directory).await;
    running.links = Some(Links { task: tokio::spawn(async {}), stop: CancellationToken::new() });
    let ended = running.until_ended(Signals::new().unwrap()).await.unwrap_err();
    assert!(ended.to_string().starts_with("the links ended"), "{ended}");
}

#[tokio::test]
async fn what_was_appended_is_durable_when_it_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (running, _, _) = running(&directory).await;
    let journal = running.journal.clone();
    write(&journal).await;
    running.stop().await.unwrap();
    assert_eq!(journal.durable().borrow().offset, journal.head());
}
