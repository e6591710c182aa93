//! P7: a member that is away while far more is published than the journal may take.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use rustix::process::Signal;

use crate::mesh::{Mesh, status};
use crate::node::{evermesh, until};

/// Far more than `max_bytes` has room for; by hand: `EVERMESH_BACKLOG=10000000`, with
/// `EVERMESH_BACKLOG_KEYS=10000`.
const EVENTS: u64 = 300_000;
const KEYS: u64 = 500;
const MAX_BYTES: u64 = 64 << 20;
const SEGMENT_BYTES: u64 = 4 << 20;

/// Publishes so many events over few keys, each of which replaces the one before.
fn publish(mesh: &Mesh, events: u64, keys: u64) {
    let mut command = evermesh();
    command.args(["publish", "--at", &mesh.nodes[0].at(), "--site", "shop", "--type", "t"]);
    command.args(["--input", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    for first in (0..events).step_by(1000) {
        let mut lines = String::new();
        for n in first..(first + 1000).min(events) {
            let (key, data) = (n % keys, "x".repeat(200));
            writeln!(lines, r#"{{"key":"k{key}","coalesce":true,"data":"{n} {data}"}}"#).unwrap();
        }
        stdin.write_all(lines.as_bytes()).unwrap();
    }
    drop(stdin);
    assert!(process.wait().unwrap().success());
}

/// What the segments take, as `du` counts.
fn taken(mesh: &Mesh) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let segments = std::fs::read_dir(mesh.path("web-1.data").join("segments")).unwrap();
    segments.map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn p7_a_member_that_returns_hears_the_newest_of_each_key_and_the_disk_stays_bounded() {
    let number = |name, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (events, keys) =
        (number("EVERMESH_BACKLOG", EVENTS), number("EVERMESH_BACKLOG_KEYS", KEYS));
    let mut mesh = Mesh::new(2);
    for node in &mut mesh.nodes {
        node.set("EVERMESH_JOURNAL__MAX_BYTES", "64MiB");
        node.start();
    }
    (0..2).for_each(|node| mesh.linked(node));
    mesh.nodes[1].end(Signal::TERM);
    publish(&mesh, events, keys);
    assert!(taken(&mesh) <= MAX_BYTES + SEGMENT_BYTES, "{} bytes", taken(&mesh));
    let returns = std::time::Instant::now();
    mesh.nodes[1].start();
    let head = status(&mesh.nodes[0])["journal"]["own_head"].clone();
    until("it is as far as the origin", || status(&mesh.nodes[0])["members"][0]["stored"] == head);
    let returned = returns.elapsed();
    let received = status(&mesh.nodes[1])["journal"]["events_received"].as_u64().unwrap();
    assert!(received >= keys && received < events / 2, "{received} of {events} were left");
    eprintln!(
        "{events} events over {keys} keys: {} MiB, {received} of them fetched in {returned:?}",
        taken(&mesh) >> 20
    );
    let log = mesh.nodes[1].log();
    assert!(!log.contains("no member that is reachable holds these events"), "{log}");
    // What ended in order is found as it was, also behind the end of a segment.
    mesh.nodes[0].end(Signal::TERM);
    mesh.nodes[0].start();
    let log = mesh.nodes[0].log();
    assert!(!log.contains("is not what was written"), "{log}");
}
