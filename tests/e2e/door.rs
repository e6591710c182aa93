//! The HTTP door with real tools: curl over the unix socket and over mutual TLS.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::node::until;
use crate::pages::lacks;

/// How a door is reached.
#[derive(Clone)]
struct Door {
    arguments: Vec<String>,
    url: String,
}

impl Door {
    fn local(mesh: &Mesh, node: usize) -> Option<Self> {
        let socket = mesh.nodes[node].socket();
        let arguments = vec!["--unix-socket".to_owned(), socket.to_str().unwrap().to_owned()];
        is_there().then(|| Self { arguments, url: "http://localhost".to_owned() })
    }

    fn shared(mesh: &Mesh, node: usize) -> Self {
        let path = |name: &str| mesh.path(name).to_str().unwrap().to_owned();
        let arguments = [("--cacert", "ca.pem"), ("--cert", "shop.pem"), ("--key", "shop.key")];
        let arguments = arguments.iter().flat_map(|(flag, name)| [(*flag).to_owned(), path(name)]);
        Self { arguments: arguments.collect(), url: mesh.shared(node) }
    }

    fn curl(&self, path: &str, more: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--no-buffer", "--header", "expect:"])
            .args(&self.arguments)
            .args(more);
        command.arg(format!("{}{path}", self.url)).stdin(Stdio::null());
        command
    }

    /// Status, headers in small letters, and what was said.
    fn ask(&self, path: &str, more: &[&str]) -> (u16, String, Value) {
        let output = self.curl(path, &[&["--include"], more].concat()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let (head, body) = text.rsplit_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}{errors}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn post(&self, query: &str, kind: &str, body: &str) -> (u16, String, Value) {
        let kind = format!("content-type: {kind}");
        self.ask(&format!("/v1/events{query}"), &["--data-binary", body, "--header", &kind])
    }
}

fn is_there() -> bool {
    let there = Command::new("curl").arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        lacks("curl");
    }
    there
}

/// A stream of server-sent events, by curl.
struct Listening {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Listening {
    fn start(door: &Door, query: &str, more: &[&str]) -> Self {
        let mut command = door.curl(&format!("/v1/events{query}"), more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next event: its id, its kind and what it says. `None`: the stream ended.
    fn next(&mut self) -> Option<(String, String, Value)> {
        let (mut id, mut kind) = (String::new(), String::new());
        loop {
            let line = self.lines.next()?.ok()?;
            match line.split_once(": ") {
                Some(("id", text)) => text.clone_into(&mut id),
                Some(("event", text)) => text.clone_into(&mut kind),
                Some(("data", text)) => {
                    return Some((id, kind, serde_json::from_str(text).unwrap()));
                }
                _ => {}
            }
        }
    }

    /// The keys of the next events, and the id of the last.
    fn keys(&mut self, count: usize) -> (Vec<String>, String) {
        let (mut keys, mut last) = (Vec::new(), String::new());
        while keys.len() < count {
            let (id, kind, said) = self.next().expect("the stream ended");
            if kind == "event" {
                assert_eq!(said["resume_token"], *id);
                keys.push(said["event"]["key"].as_str().unwrap().to_owned());
                last = id;
            }
        }
        (keys, last)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_form_of_an_event_is_taken_and_what_is_none_is_named() {
    let mesh = Mesh::started(2);
    let Some(local) = Door::local(&mesh, 0) else { return };
    let mut heard = Listening::start(&local, "?site=shop", &[]);
    let (_, kind, _) = heard.next().unwrap();
    assert_eq!(kind, "caught_up");
    let cloud = |key: &str, id: &str| {
        json!({ "specversion": "1.0", "id": id, "type": "t", "source": "/cms", "site": "shop",
                "partitionkey": key, "datacontenttype": "text/plain", "data": "x" })
    };
    let one = r#"{"site":"shop","type":"t","key":"one","data":"x"}"#;
    let (status, _, said) = local.post("", "application/json", one);
    assert_eq!((status, &said["assured"]), (200, &json!("stored")), "{said}");
    let two = r#"[{"key":"two"},{"key":"three","data_base64":"/w=="}]"#;
    let (status, _, said) = local.post("?site=shop&type=t&until=applied", "application/json", two);
    assert_eq!((status, &said["assured"]), (200, &json!("applied")), "{said}");
    let token = said["results"][1]["fence_token"].as_str().unwrap().to_owned();
    let four = cloud("four", "c4").to_string();
    assert_eq!(local.post("", "application/cloudevents+json", &four).0, 200);
    let batch = json!([cloud("five", "c5"), cloud("six", "c6")]).to_string();
    assert_eq!(local.post("", "application/cloudevents-batch+json", &batch).0, 200);
    let headers = ["specversion: 1.0", "id: c7", "type: t", "source: /cms", "site: shop"];
    let headers = headers.map(|header| format!("ce-{header}"));
    let mut more = vec!["--data-binary", "raw", "--header", "ce-partitionkey: seven"];
    headers.iter().for_each(|header| more.extend(["--header", header]));
    assert_eq!(local.ask("/v1/events", &more).0, 200);
    let all = ["one", "two", "three", "four", "five", "six", "seven"];
    assert_eq!(heard.keys(all.len()).0, all);

    // The same id is one event, also over this door.
    let (_, _, again) = local.post("", "application/cloudevents+json", &four);
    assert_eq!(again["results"][0]["duplicate"], true);
    let (status, _, done) = local.ask(&format!("/v1/applied/{token}?wait=5s"), &[]);
    assert_eq!((status, &done["done"]), (200, &json!(true)), "{done}");
    let there = Door::local(&mesh, 1).unwrap();
    let (_, _, done) = there.ask(&format!("/v1/applied/{token}?wait=5s&node=this"), &[]);
    assert_eq!(done["members"][0]["node"], "web-2", "{done}");

    let json_type = "application/json";
    for (query, kind, body, status, reason) in [
        ("", json_type, "{", 400, "json_invalid"),
        ("", json_type, r#"{"kay":1}"#, 400, "json_invalid"),
        ("", json_type, r#"{"data":"a","data_base64":"YQ=="}"#, 400, "event_unreadable"),
        ("", json_type, "[]", 400, "events_missing"),
        ("", "text/plain", "x", 415, "content_type_unknown"),
        ("?untill=stored", json_type, one, 400, "query_unknown"),
        ("?until=soon", json_type, one, 400, "query_invalid"),
        ("?wait_for=99s", json_type, one, 400, "wait_invalid"),
        ("", "application/cloudevents+json", "{}", 400, "event_unreadable"),
    ] {
        let (got, head, said) = local.post(query, kind, body);
        assert_eq!(got, status, "{query} {body}: {said}");
        assert!(head.contains(&format!("evermesh-reason: {reason}")), "{head}");
        assert_eq!(said["error"]["reason"].as_str().unwrap().to_lowercase(), reason);
    }
    let unsaid = ["--data-binary", one, "--header", "content-type:"];
    assert_eq!(local.ask("/v1/events", &unsaid).0, 415, "a body must say what it is");
    let (status, _, said) = local.post("", json_type, r#"{"site":"shop","type":""}"#);
    assert_eq!((status, &said["results"][0]["refused"]["field"]), (200, &json!("events[0].type")));
    let large = mesh.path("large.json");
    fs::write(&large, format!("{{\"data\":\"{}\"}}", "x".repeat(2 << 20))).unwrap();
    let (status, _, _) = local.post("", json_type, &format!("@{}", large.display()));
    assert_eq!(status, 413);
    let (status, head, _) = local.ask("/v1/events", &["--request", "DELETE"]);
    assert!(status == 405 && head.contains("allow: get, post"), "{head}");
    assert_eq!(local.ask("/v1/nothing", &[]).0, 404);
    assert_eq!(local.ask("/v1/applied/er1.x", &[]).0, 400);
}

#[test]
fn p3_a_stream_goes_on_after_the_last_event_id_when_its_node_was_killed() {
    let mut mesh = Mesh::started(2);
    let Some(editor) = Door::local(&mesh, 0) else { return };
    let shared = Door::shared(&mesh, 1);
    let publish = |keys: &[&str]| {
        let events: Vec<_> = keys.iter().map(|key| json!({ "key": key })).collect();
        let body = Value::from(events).to_string();
        assert_eq!(editor.post("?site=shop&type=t", "application/json", &body).0, 200);
    };
    let mut heard = Listening::start(&shared, "?site=shop&from=beginning", &[]);
    publish(&["a", "b", "c"]);
    let (keys, last) = heard.keys(3);
    assert_eq!(keys, ["a", "b", "c"]);
    // What is not would be heard again.
    mesh.settled(1);
    mesh.nodes[1].end(Signal::KILL);
    while heard.next().is_some() {}
    publish(&["d", "e"]);
    mesh.nodes[1].start();
    let header = format!("last-event-id: {last}");
    let mut again = Listening::start(&shared, "?site=shop", &["--header", &header]);
    assert_eq!(again.keys(2).0, ["d", "e"]);
    // A node that ends in order ends the stream.
    mesh.nodes[1].signal(Signal::TERM);
    while again.next().is_some() {}
    mesh.nodes[1].ended();
}

#[test]
fn p10_the_door_knows_its_callers_by_their_certificates() {
    let mesh = Mesh::started(1);
    if !is_there() {
        return;
    }
    let shared = Door::shared(&mesh, 0);
    let (status, _, said) = shared.post("?site=shop&type=t", "application/json", "{}");
    assert_eq!(status, 200, "{said}");
    let nobody = Door { arguments: vec!["--insecure".to_owned()], ..shared.clone() };
    let refused = nobody.curl("/v1/events", &[]).output().unwrap();
    assert!(!refused.status.success(), "without a certificate there is no TLS");
    // A member's certificate is no application's.
    let path = |name: &str| mesh.path(name).to_str().unwrap().to_owned();
    let member = [("--cacert", "ca.pem"), ("--cert", "web-1.pem"), ("--key", "web-1.key")];
    let member = member.iter().flat_map(|(flag, name)| [(*flag).to_owned(), path(name)]);
    let member = Door { arguments: member.collect(), ..shared };
    let (status, head, _) = member.post("?site=shop&type=t", "application/json", "{}");
    assert!(status == 403 && head.contains("evermesh-reason: not_allowed"), "{head}");
    until("the refusal is logged", || mesh.nodes[0].log().contains("NOT_ALLOWED"));
}
