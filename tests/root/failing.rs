//! P11, P8: a disk that fails or is slow. Assuring ends at once and for good, everyone is told, and
//! after a restart everything assured is there. A slow one slows nobody else.

use evermesh_event::verdict::Verdict;

use crate::history::{Publisher, Subscriber};
use crate::mesh::{Mesh, status};
use crate::needs::{self, Need};
use crate::node::until;
use crate::plain::{Plain, runtime};
use crate::strace::Strace;

const NEEDS: &[Need] = &[Need::Injection];

/// The disk of the first node fails at these calls, one after the other.
fn fails(call: &str, at: &[usize]) {
    if !needs::are_there(NEEDS) {
        return;
    }
    let mesh = &mut Mesh::started(2);
    let heard = Subscriber::start(&mesh.nodes[0].at(), mesh.path("heard-1.jsonl"));
    let elsewhere = Subscriber::start(&mesh.nodes[1].at(), mesh.path("heard-2.jsonl"));
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut plain = Plain::at(&mesh.nodes[0], 1, 20);
    for (failure, at) in at.iter().enumerate() {
        runtime.block_on(plain.publish()).unwrap();
        let inject = format!("{call}:error=EIO:when={at}");
        let strace = Strace::attach(mesh.nodes[0].pid(), &inject);
        let refused = runtime.block_on(plain.until_refused());
        // For good: what it still answers is a refusal.
        let after = runtime.block_on(plain.publish());
        assert!(after.is_err(), "{call} {at}: assured after the disk failed");
        assert_eq!(mesh.nodes[0].ended().code(), Some(74), "{}", mesh.nodes[0].log());
        drop(strace);
        let log = mesh.nodes[0].log();
        let failures: Vec<_> = log.lines().filter(|l| l.contains("the journal failed")).collect();
        assert_eq!(failures.len(), failure + 1, "{log}");
        // What failed behind a publish that was stored already leaves none without an outcome.
        let behind = failures[failure].contains("cannot store ");
        let unknown = refused.reason == "OUTCOME_UNKNOWN";
        assert!(unknown || behind, "{call} {at}: {refused:?}: {}", failures[failure]);
        until("its peer notices", || {
            let status = status(&mesh.nodes[1]);
            status["members"][0]["pulling"] == false && status["members"][0]["feeding"] == false
        });
        mesh.nodes[0].start();
        plain.connect(&mesh.nodes[0]);
        mesh.linked(1);
        runtime.block_on(plain.publish()).unwrap();
        for subscriber in [&heard, &elsewhere] {
            until("everything assured is heard", || {
                Verdict::of(&plain.published, &subscriber.history()).lost == 0
            });
            let verdict = Verdict::of(&plain.published, &subscriber.history());
            assert!(verdict.is_clean(), "{call} {at}: {verdict:?}");
        }
    }
    // Applications are told, and come back by themselves.
    let said = std::fs::read_to_string(mesh.path("heard-1.err")).unwrap();
    assert!(said.matches("waiting for the node to resume").count() >= at.len(), "{said}");
}

#[test]
fn a_failed_fsync_ends_assuring_for_good() {
    fails("fdatasync", &[1, 2, 3, 7, 20]);
}

#[test]
fn a_failed_write_ends_assuring_for_good() {
    fails("pwrite64", &[1, 2, 5, 20]);
}

#[test]
fn a_slow_disk_slows_nobody_else() {
    if !needs::are_there(NEEDS) {
        return;
    }
    let mut mesh = Mesh::started(3);
    let heard: Vec<_> = (0..3)
        .map(|n| Subscriber::start(&mesh.nodes[n].at(), mesh.path(&format!("heard-{n}.jsonl"))))
        .collect();
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut plain = Plain::at(&mesh.nodes[0], 1, 20);
    runtime.block_on(plain.publish()).unwrap();
    // Each takes longer than what the others do meanwhile.
    let slow = Strace::attach(mesh.nodes[0].pid(), "fdatasync:delay_enter=10s");
    let stuck = runtime.spawn(async move {
        let outcome = plain.publish().await;
        (plain, outcome)
    });
    let mut other = Publisher::start_as("o", &mesh.nodes[1].at(), mesh.path("published.jsonl"));
    other.hand_in(2_000);
    other.finish();
    // Its own subscriber hears them, too: what is heard does not wait for this disk.
    for subscriber in &heard {
        until("what others publish is heard everywhere", || {
            Verdict::of(&other.published(), &subscriber.history()).lost == 0
        });
    }
    assert!(!stuck.is_finished(), "the disk was not slow");
    drop(slow);
    let (plain, outcome) = runtime.block_on(stuck).unwrap();
    outcome.unwrap();
    let mut published = plain.published;
    published.extend(&other.published());
    for subscriber in &heard {
        until("everything assured is heard", || {
            Verdict::of(&published, &subscriber.history()).lost == 0
        });
        assert_eq!(Verdict::of(&published, &subscriber.history()), Verdict::default());
    }
    drop(heard);
    for node in &mut mesh.nodes {
        assert_eq!(node.end(rustix::process::Signal::TERM).code(), Some(0));
    }
}
