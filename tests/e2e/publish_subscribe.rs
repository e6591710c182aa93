//! Publishing and subscribing as people type it: what comes out is what went in, in order, also
//! when the node is killed in between.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::node::{Node, evermesh, failure, free_port, run, until};

const SITE: [&str; 4] = ["--site", "shop", "--type", "cache.invalidate"];

fn publish(node: &Node) -> Command {
    let mut command = evermesh();
    command.args(["publish", "--at", &node.at()]);
    command
}

fn subscribe(node: &Node) -> Command {
    let mut command = evermesh();
    command.args(["subscribe", "--at", &node.at(), "--site", "shop"]);
    command
}

/// Runs a command with this as its standard input.
fn fed(command: &mut Command, input: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeding = std::thread::spawn(move || {
        // The command may stop before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    output
}

/// The lines of a command that must succeed.
fn said(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    lines(std::str::from_utf8(&output.stdout).unwrap())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Everything of the site from the beginning, so many events.
fn heard(node: &Node, count: usize) -> Vec<Value> {
    let output = run(subscribe(node).args(["--from", "beginning", "--count", &count.to_string()]));
    said(&output).into_iter().filter(|line| line.get("event").is_some()).collect()
}

fn keys(events: &[Value]) -> Vec<&str> {
    events.iter().map(|line| line["event"]["key"].as_str().unwrap()).collect()
}

fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("{n}\n")).collect()
}

/// `3:17` as numbers, which compare.
fn position(line: &Value) -> (u64, u64) {
    let (epoch, counter) = line["sequence"].as_str().unwrap().split_once(':').unwrap();
    (epoch.parse().unwrap(), counter.parse().unwrap())
}

fn one_node(directory: &Path) -> Node {
    let mut node = Node::new(directory, "web-1", "");
    node.start();
    node
}

#[test]
fn one_event_there_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let node = one_node(directory.path());
    let event = ["--key", "product:42", "--data", "{\"price\":1}", "--source", "editor"];
    let published = said(&run(publish(&node).args(SITE).args(event).arg("--json")));
    let [published] = published.as_slice() else { panic!("{published:?}") };
    let fields: Vec<_> = published.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "origin", "sequence", "fence_token", "assured"]);
    assert_eq!((&published["origin"], &published["assured"]), (&"web-1".into(), &"stored".into()));

    let heard = heard(&node, 1);
    let fields: Vec<_> = heard[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["event", "origin", "sequence", "attempt", "fence_token", "resume_token"]);
    for same in ["origin", "sequence", "fence_token"] {
        assert_eq!(heard[0][same], published[same], "{same}");
    }
    let event = &heard[0]["event"];
    assert_eq!(event["id"], published["id"]);
    assert_eq!(event["data"], "{\"price\":1}");
    assert_eq!((&event["type"], &event["source"]), (&"cache.invalidate".into(), &"editor".into()));
    assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");

    // P5: the same id is the same event.
    let again = ["--id", published["id"].as_str().unwrap(), "--key", "other", "--json"];
    let again = said(&run(publish(&node).args(SITE).args(again)));
    assert_eq!(again[0]["sequence"], published["sequence"]);
}

#[test]
fn p2_the_order_of_the_input_is_the_order_of_the_events() {
    let directory = tempfile::tempdir().unwrap();
    let node = one_node(directory.path());
    let mut input = numbered(0..2000);
    input.push_str("{\"key\":\"last\",\"type\":\"other\",\"data_base64\":\"/wA=\"}\n");
    let output = fed(publish(&node).args(SITE).args(["--input", "-"]), &input);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let summary = String::from_utf8_lossy(&output.stdout);
    assert_eq!(summary, "2001 events published at web-1, stored\n");

    let events = heard(&node, 2001);
    let expected: Vec<_> = input.lines().take(2000).chain(["last"]).collect();
    assert_eq!(keys(&events), expected);
    assert_eq!(events[2000]["event"]["data_base64"], "/wA=");
    assert!(events.is_sorted_by(|one, next| position(one) < position(next)));

    let only =
        run(subscribe(&node).args(["--type", "other", "--from", "beginning", "--count", "1"]));
    assert_eq!(keys(&said(&only)), ["last"]);
}

#[test]
fn a_line_that_cannot_be_published_ends_it_there() {
    let directory = tempfile::tempdir().unwrap();
    let node = one_node(directory.path());
    let input = format!("a\nb\n{}\nnever\n", "k".repeat(1025));
    let output = fed(publish(&node).args(SITE).args(["--input", "-"]), &input);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(65), 0), "{text}");
    let expected = "evermesh: line 3 of standard input: key: has 1025 bytes, the limit is 1024; 2 \
                    events published before it, nothing after it\n";
    assert_eq!(text, expected);

    let output = fed(publish(&node).args(SITE).args(["--input", "-"]), "c\n{\"kay\":1}\nnever\n");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(65), "{text}");
    assert!(text.starts_with("evermesh: line 2 of standard input: unknown field `kay`"), "{text}");
    assert!(text.ends_with("; 1 event published before it, nothing after it\n"), "{text}");
    fed(publish(&node).args(SITE).args(["--input", "-"]), "d\n");
    assert_eq!(keys(&heard(&node, 4)), ["a", "b", "c", "d"]);
}

#[test]
fn a_publisher_waits_for_a_node_that_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = one_node(directory.path());
    node.end(Signal::KILL);
    let mut waiting = publish(&node);
    waiting.args(SITE).args(["--key", "k", "--wait-for", "30s"]);
    let waiting = waiting.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    node.start();
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains(" is web-1/2:"));
    assert_eq!(keys(&heard(&node, 1)), ["k"]);
}

/// A subscriber with its output in a file. It ends by its own pid.
struct Listener {
    child: Child,
    file: std::path::PathBuf,
}

impl Listener {
    fn start(command: &mut Command, file: &Path) -> Self {
        let out = File::create(file).unwrap();
        let command = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), file: file.to_owned() }
    }

    /// The events of every whole line so far.
    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.file).unwrap();
        let whole = text.rfind('\n').map_or("", |end| text.split_at(end).0);
        lines(whole).into_iter().filter(|line| line.get("event").is_some()).collect()
    }

    fn wait_for(&mut self, count: usize) {
        until("the events arrive", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "the subscriber ended");
            std::thread::yield_now();
            let events = self.events();
            events.iter().map(|line| &line["event"]["id"]).collect::<HashSet<_>>().len() >= count
        });
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn p1_p2_p3_a_killed_node_costs_a_subscriber_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = one_node(directory.path());
    let file = directory.path().join("heard.jsonl");
    let mut command = subscribe(&node);
    command.args(["--from", "beginning", "--json"]);
    let mut listener = Listener::start(&mut command, &file);
    for round in 0..3 {
        let input = numbered(round * 300..(round + 1) * 300);
        let output = fed(publish(&node).args(SITE).args(["--input", "-"]), &input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        listener.wait_for((round + 1) * 300);
        node.end(Signal::KILL);
        node.start();
    }
    let events = listener.events();
    let mut seen = HashSet::new();
    let new: Vec<_> = events.iter().filter(|line| seen.insert(line["sequence"].clone())).collect();
    let once: Vec<_> = new.iter().map(|line| line["event"]["key"].as_str().unwrap()).collect();
    assert_eq!(once, numbered(0..900).lines().collect::<Vec<_>>());
    assert!(new.is_sorted_by(|one, next| position(one) < position(next)));

    // Ended by a signal, everything printed is acknowledged; the last token goes on after it.
    let token = events.last().unwrap()["resume_token"].as_str().unwrap().to_owned();
    assert_eq!(listener.end(Signal::TERM), Some(143));
    fed(publish(&node).args(SITE).args(["--input", "-"]), "after\n");
    let next = run(subscribe(&node).args(["--from", &token, "--count", "1"]));
    assert_eq!(keys(&said(&next)), ["after"]);
}

#[test]
fn p1_p5_a_node_killed_under_load_costs_neither_side_an_event() {
    const COUNT: usize = 12_000;
    let directory = tempfile::tempdir().unwrap();
    let mut node = one_node(directory.path());
    let file = directory.path().join("heard.jsonl");
    let mut listener = Listener::start(subscribe(&node).args(["--from", "beginning"]), &file);
    let input = directory.path().join("keys");
    fs::write(&input, numbered(0..COUNT)).unwrap();
    let mut publishing = publish(&node);
    publishing.args(SITE).args(["--wait-for", "30s", "--input"]).arg(&input);
    let publishing = publishing.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    for part in 1..=2 {
        listener.wait_for(COUNT * part / 4);
        node.end(Signal::KILL);
        node.start();
    }
    let output = publishing.wait_with_output().unwrap();
    assert!(output.status.success());
    listener.wait_for(COUNT);

    // Shown before it was on the disk, an event may come again under another number: its id tells.
    let events = listener.events();
    let mut seen = HashSet::new();
    let mut once: Vec<_> = keys(&events);
    once.retain(|key| seen.insert(*key));
    assert_eq!(once, numbered(0..COUNT).lines().collect::<Vec<_>>());
    let ids: HashSet<_> = events.iter().map(|line| line["event"]["id"].as_str()).collect();
    assert_eq!(ids.len(), COUNT, "one id for each key");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let node = one_node(directory.path());
    fed(publish(&node).args(SITE).args(["--input", "-"]), &numbered(0..100));
    let mut command = subscribe(&node);
    command.args(["--from", "beginning", "--max-unacknowledged", "1"]);
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(lines(&first)[0]["event"]["key"], "0");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_reader_that_does_not_read_keeps_no_signal_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let node = one_node(directory.path());
    // More than a pipe holds.
    let line = format!("{{\"key\":\"k\",\"data\":\"{}\"}}\n", "x".repeat(100_000));
    fed(publish(&node).args(SITE).args(["--input", "-"]), &line.repeat(5));
    let mut command = subscribe(&node);
    let command = command.args(["--from", "beginning"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut unread = child.stdout.take().unwrap();
    // Something came, so it listens to signals by now, and more is on its way.
    unread.read_exact(&mut [0; 1]).unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(unread);
}

#[test]
fn p10_over_the_shared_port_an_application_does_what_a_rule_allows() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (ca, out) = (path("ca"), path(""));
    let node_names = ["--node", "web-1", "--dns", "localhost"];
    for arguments in [
        &["init", "--trust-domain", "mesh.internal", "--dir", &ca][..],
        &[&["issue", "--dir", &ca, "--out", &out][..], &node_names].concat(),
        &["issue", "--dir", &ca, "--out", &out, "--app", "shop"],
    ] {
        let made = run(evermesh().arg("ca").args(arguments));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let port = free_port();
    let more = format!(
        "shared = \"127.0.0.1:{port}\"\n\
         [tls]\ncert = \"web-1.pem\"\nkey = \"web-1.key\"\nca = \"ca.pem\"\n\
         [[allow]]\nwho = \"spiffe://mesh.internal/app/shop\"\nsites = [\"shop\"]\n\
         acts = [\"publish\", \"subscribe\"]\n"
    );
    let mut node = Node::new(directory.path(), "web-1", &more);
    node.start();
    let at = format!("https://localhost:{port}");
    let (cert, key, ca) = (path("shop.pem"), path("shop.key"), path("ca.pem"));
    let own = ["--at", &at, "--cert", &cert, "--key-file", &key, "--ca", &ca];
    let command = |name| {
        let mut command = evermesh();
        command.arg(name).args(own);
        command
    };
    said(&run(command("publish").args(SITE).args(["--key", "k", "--json"])));
    let from = ["--site", "shop", "--from", "beginning", "--count", "1"];
    assert_eq!(keys(&said(&run(command("subscribe").args(from)))), ["k"]);

    let (code, text) = failure(command("publish").args(["--site", "intranet", "--type", "t"]));
    assert_eq!(code, 77, "{text}");
    assert!(text.contains("intranet"), "{text}");
    let (code, text) = failure(command("subscribe").args(["--site", "intranet"]));
    assert_eq!(code, 77, "{text}");
    let anonymous = ["--at", &at, "--ca", &ca, "--wait-for", "0s"];
    let (code, text) = failure(evermesh().arg("publish").args(anonymous).args(SITE));
    assert_eq!(code, 77, "{text}");
    assert!(text.contains("refuses this certificate (CertificateRequired)"), "{text}");
}

#[test]
fn what_cannot_be_is_said_in_one_message() {
    let nobody = ["--at", "unix:/nonexistent/web-1.sock"];
    let (code, text) =
        failure(evermesh().arg("publish").args(nobody).args(SITE).args(["--wait-for", "0s"]));
    let expected = "evermesh: no node answers at unix:/nonexistent/web-1.sock: there is no such \
                    socket; is the node running, with this path as [listen] local?\n";
    assert_eq!((code, text.as_str()), (69, expected));
    let (code, text) = failure(evermesh().arg("subscribe").args(nobody));
    assert_eq!((code, text.as_str()), (69, expected));
    let (code, text) = failure(evermesh().arg("subscribe").args(nobody).args(["--from", "ef1.x"]));
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("this is a fence token; a resume token is expected here"), "{text}");
    let (code, text) = failure(evermesh().arg("publish").args(["--at", "web-1"]).args(SITE));
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("not an address of a node"), "{text}");
}
