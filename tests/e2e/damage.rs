//! P1, P11: bits that flip on one node's disk come back from the others before anybody passes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::mesh::{Mesh, status, succeed};
use crate::node::{Node, evermesh, until};

const EVENTS: usize = 400;

/// Publishes at a node; one event in a block, so that there are many records.
fn publish(mesh: &Mesh, node: usize, from: usize) {
    for chunk in 0..EVENTS / 20 {
        let line =
            |n: usize| format!("{{\"id\":\"{}\",\"data\":\"{}\"}}\n", from + n, "x".repeat(300));
        let lines: String = (chunk * 20..chunk * 20 + 20).map(line).collect();
        let input = mesh.path("input");
        fs::write(&input, lines).unwrap();
        let kind = ["--site", "shop", "--type", "t", "--input", input.to_str().unwrap()];
        succeed(&[&["publish", "--at", &mesh.nodes[node].at()][..], &kind].concat());
    }
}

/// A durable name at `web-3` that heard ten events and is away; then `web-3` is stopped, and
/// bits of what it wrote flip.
fn damaged() -> Mesh {
    let mut mesh = Mesh::started(3);
    let at = mesh.nodes[2].at();
    let name = ["--at", &at, "--name", "cdn", "--site", "shop"];
    let mut opened = evermesh();
    opened.arg("subscribe").args(name).args(["--count", "10"]).stdout(Stdio::null());
    let opened = opened.spawn();
    until("the name is open", || {
        let said = succeed(&["names", "list", "--at", &at, "--json"]).stdout;
        String::from_utf8(said).unwrap().contains("cdn")
    });
    (0..3).for_each(|node| publish(&mesh, node, node * EVENTS));
    assert!(opened.unwrap().wait().unwrap().success());
    until("web-3 holds everything, and the others what it published", || {
        let of = |node: usize| {
            let status = status(&mesh.nodes[node]);
            status["journal"]["events_received"].as_u64().unwrap() as usize
        };
        (0..3).all(|node| of(node) == 2 * EVENTS)
    });
    mesh.nodes[2].end(Signal::TERM);
    let segments = fs::read_dir(mesh.path("web-3.data").join("segments")).unwrap();
    let path = segments.map(|entry| entry.unwrap().path()).next().unwrap();
    let bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() - 4096;
    let file = File::options().write(true).open(path).unwrap();
    for part in 3..8 {
        let at = 4096 + used * part / 8;
        file.write_all_at(&[bytes[at] ^ 4], at as u64).unwrap();
    }
    mesh
}

/// What the name hears until it has caught up: ids, and how often it is told missed.
fn hear(mesh: &Mesh) -> (Vec<String>, usize) {
    let heard = mesh.path("heard");
    let mut command = evermesh();
    command.args(["subscribe", "--at", &mesh.nodes[2].at(), "--name", "cdn", "--site", "shop"]);
    let mut child =
        command.stdout(File::create(&heard).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let text = || fs::read_to_string(&heard).unwrap();
    until("it has caught up", || text().contains("{\"caught_up\""));
    let _ = child.kill();
    let _ = child.wait();
    let (mut ids, mut missed) = (Vec::new(), 0);
    for line in text().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        match line.get("event") {
            Some(event) => ids.push(event["id"].as_str().unwrap().to_owned()),
            None => missed += usize::from(line.get("missed").is_some()),
        }
    }
    (ids, missed)
}

fn logged(node: &Node, what: &str) -> usize {
    node.log().lines().filter(|line| line.contains(what)).count()
}

#[test]
fn p11_flipped_bits_come_back_from_other_members_and_nothing_is_missed() {
    let mut mesh = damaged();
    mesh.nodes[2].start();
    assert!(logged(&mesh.nodes[2], "is not what was written") > 1, "{}", mesh.nodes[2].log());
    let (ids, missed) = hear(&mesh);
    assert_eq!(missed, 0, "{}", mesh.nodes[2].log());
    let all: BTreeSet<_> = ids.iter().collect();
    assert_eq!(all.len(), ids.len(), "nothing twice");
    assert!(ids.len() >= 3 * EVENTS - 10, "{} of {}", ids.len(), 3 * EVENTS);
    for node in 0..3 {
        let of = ids.iter().map(|id| id.parse::<usize>().unwrap());
        let of: Vec<_> = of.filter(|id| id / EVENTS == node).collect();
        assert!(of.is_sorted(), "web-{} is out of order", node + 1);
        assert_eq!(of.last(), Some(&((node + 1) * EVENTS - 1)));
    }
    // It is whole again: the next start finds nothing.
    mesh.nodes[2].end(Signal::KILL);
    let found = logged(&mesh.nodes[2], "is not what was written");
    mesh.nodes[2].start();
    assert_eq!(logged(&mesh.nodes[2], "is not what was written"), found);
}

#[test]
fn p1_what_nobody_who_is_reachable_holds_is_missed_and_the_node_starts_alone() {
    let mut mesh = damaged();
    for node in &mut mesh.nodes[..2] {
        node.end(Signal::KILL);
    }
    mesh.nodes[2].start();
    let (ids, missed) = hear(&mesh);
    assert!(missed > 0, "{ids:?} {}", mesh.nodes[2].log());
    assert!(ids.len() > EVENTS && ids.len() < 3 * EVENTS - 10, "{}", ids.len());
}
