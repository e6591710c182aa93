//! P1, P7, P11: a disk that is full. Publishes are refused before anything breaks, everything else
//! goes on, and publishing comes back by itself.

use evermesh_event::Offset;
use evermesh_event::verdict::Verdict;
use rustix::process::Signal;
use serde_json::Value;

use crate::history::{Publisher, Subscriber};
use crate::mesh::{Mesh, status};
use crate::mount::Ext4;
use crate::needs::{self, Need};
use crate::node::{Node, run, until};
use crate::plain::{Plain, runtime};

const NEEDS: &[Need] = &[Need::Mounting, Need::Ext4];
/// Room for several segments of 4 MiB, which the smallest journal has, and its reserve of 8 MiB.
const DEVICE_BYTES: u64 = 96 * 1024 * 1024;
/// What the file system has left when the other file is there: the reserve, and a few segments.
const LEFT_BYTES: u64 = 24 * 1024 * 1024;
/// Of one event: a segment is soon full.
const DATA_BYTES: usize = 64 * 1024;
/// Events of a call, within what a message may have.
const EVENTS: usize = 8;
fn on(disk: &Ext4, node: &mut Node) {
    node.set("EVERMESH_NODE__DATA_DIR", &format!("{}/data", disk.path().display()));
    node.set("EVERMESH_JOURNAL__MAX_BYTES", "64MiB");
}

/// The place through which the only durable name of a node is acknowledged.
fn acknowledged(node: &Node) -> Offset {
    let status = status(node);
    let subscriptions = status["subscriptions"].as_array().unwrap();
    let places = subscriptions.iter().map(|one| &one["acknowledged"]);
    let place = places.filter_map(Value::as_str).map(|text| text.parse::<Offset>().unwrap());
    place.min().unwrap_or(Offset::ZERO)
}

#[test]
fn a_full_disk_refuses_publishes_and_nothing_else_until_there_is_space() {
    if !needs::are_there(NEEDS) {
        return;
    }
    let mut mesh = Mesh::new(2);
    let disk = Ext4::make(mesh.path("image"), mesh.path("disk"), DEVICE_BYTES);
    disk.fill(LEFT_BYTES);
    on(&disk, &mut mesh.nodes[0]);
    mesh.start();
    let heard = Subscriber::start(&mesh.nodes[0].at(), mesh.path("heard-1.jsonl"));
    let elsewhere = Subscriber::start(&mesh.nodes[1].at(), mesh.path("heard-2.jsonl"));
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut filler = Plain::at(&mesh.nodes[0], EVENTS, DATA_BYTES);
    let refused = runtime.block_on(filler.until_refused());
    assert_eq!(refused.reason, "JOURNAL_FULL", "{refused:?}");

    // What comes from elsewhere is taken, delivered and acknowledged all the same.
    let mut other = Publisher::start_as("o", &mesh.nodes[1].at(), mesh.path("published.jsonl"));
    let before = acknowledged(&mesh.nodes[0]);
    other.hand_in(500);
    other.finish();
    filler.published.extend(&other.published());
    for subscriber in [&heard, &elsewhere] {
        until("everything assured is heard", || {
            Verdict::of(&filler.published, &subscriber.history()).lost == 0
        });
    }
    until("it is acknowledged", || acknowledged(&mesh.nodes[0]) > before);
    let refused = runtime.block_on(filler.publish()).unwrap_err();
    assert_eq!(refused.reason, "JOURNAL_FULL", "still: {refused:?}");

    // Whoever tries again meanwhile is taken once there is space.
    let frees = async { disk.free() };
    runtime.block_on(async { tokio::join!(filler.insist(), frees) });
    for subscriber in [&heard, &elsewhere] {
        until("everything assured is heard", || {
            Verdict::of(&filler.published, &subscriber.history()).lost == 0
        });
        let verdict = Verdict::of(&filler.published, &subscriber.history());
        assert_eq!(verdict, Verdict::default());
    }
    drop((heard, elsewhere));
    mesh.nodes.iter_mut().for_each(|node| assert_eq!(node.end(Signal::TERM).code(), Some(0)));
}

/// How often the other file takes all of it, at least and at most.
const TRIES_MIN: usize = 5;
const TRIES_MAX: usize = 40;

/// What became of publishing when the other file had taken all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noticed {
    /// Before anything was numbered.
    Refused,
    /// By a write that failed.
    Ended,
}

/// The other file takes what the node had counted on, after so many calls.
fn taken_after(calls: usize) -> Noticed {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let disk = Ext4::make(path("image"), path("disk"), DEVICE_BYTES);
    let mut node = Node::new(directory.path(), "web-1", "");
    on(&disk, &mut node);
    node.start();
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut filler = Plain::at(&node, EVENTS, DATA_BYTES);
    (0..calls).for_each(|_| runtime.block_on(filler.publish()).unwrap());
    disk.fill(0);
    let refused = runtime.block_on(filler.until_refused());
    let noticed = match &*refused.reason {
        "JOURNAL_FULL" => Noticed::Refused,
        "OUTCOME_UNKNOWN" => Noticed::Ended,
        _ => panic!("{refused:?}"),
    };
    if noticed == Noticed::Ended {
        assert_eq!(node.ended().code(), Some(74), "{}", node.log());
        let ended = run(&mut node.serve());
        assert_eq!(ended.status.code(), Some(74), "on a full disk nothing is begun");
    }
    disk.free();
    if noticed == Noticed::Ended {
        node.start();
    }
    filler.connect(&node);
    runtime.block_on(filler.insist());
    let heard = Subscriber::start(&node.at(), path("heard.jsonl"));
    until("it has caught up", || heard.caught_up() > 0);
    let verdict = Verdict::of(&filler.published, &heard.history());
    assert_eq!(verdict, Verdict::default());
    drop(heard);
    assert_eq!(node.end(Signal::TERM).code(), Some(0));
    noticed
}

/// Either the node notices before it numbers anything, and refuses, or a write fails: then nothing
/// more is assured, and it ends. Which, depends on where its segment ends, and on when it last
/// asked how much there is: tried until both were met.
#[test]
fn another_file_that_takes_the_last_byte_costs_nothing_that_was_assured() {
    if !needs::are_there(NEEDS) {
        return;
    }
    let ways = [Noticed::Refused, Noticed::Ended];
    let mut noticed = Vec::new();
    for calls in (4..=8).cycle().take(TRIES_MAX) {
        noticed.push(taken_after(calls));
        if noticed.len() >= TRIES_MIN && ways.iter().all(|way| noticed.contains(way)) {
            break;
        }
    }
    eprintln!("{noticed:?}");
    for way in ways {
        assert!(noticed.contains(&way), "not tried: {way:?}");
    }
}
