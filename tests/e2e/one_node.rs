//! One node without certificates: it serves its local socket, says how it is, and ends when told.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;

use evermesh_client::{Client, Credentials};
use rustix::process::Signal;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::node::{Node, evermesh, failure, run, until};

#[test]
fn it_serves_and_ends_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    node.start();

    let health = run(evermesh().args(["health", "--at", &node.at()]));
    assert_eq!(String::from_utf8(health.stdout).unwrap(), "serving\n");

    let status = run(evermesh().args(["status", "--json", "--at", &node.at()]));
    let error = String::from_utf8(status.stderr).unwrap();
    assert!(status.status.success(), "{error}");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["node"], "web-1");
    assert_eq!(status["process"], node.pid());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["journal"]["epoch"], 1);
    assert_eq!(status["journal"]["origin"]["node"], "web-1");
    assert_eq!(status["members"], serde_json::json!([]));
    assert_eq!(status["certificate_ends"], serde_json::Value::Null);
    assert!(status["connections"]["local_accepted"].as_u64().unwrap() >= 2, "{status}");

    let page = run(evermesh().args(["status", "--at", &node.at()]));
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.starts_with("web-1: evermesh "), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");

    assert!(fs::metadata(node.socket()).unwrap().file_type().is_socket());
    assert_eq!(node.end(Signal::TERM).code(), Some(0), "{}", node.log());
    let log = node.log();
    assert!(log.contains("evermesh web-1 is ready"), "{log}");
    assert!(!node.socket().exists(), "the socket is left behind");
    let (code, text) = failure(evermesh().args(["health", "--at", &node.at()]));
    assert_eq!(code, 69, "{text}");
}

#[test]
fn ctrl_c_is_an_order_too_and_each_start_has_its_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    for epoch in 1..=3 {
        node.start();
        let status = run(evermesh().args(["status", "--json", "--at", &node.at()]));
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["journal"]["epoch"], epoch);
        assert_eq!(node.end(Signal::INT).code(), Some(0), "{}", node.log());
    }
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    node.start();
    let (code, text) = failure(&mut node.serve());
    assert_eq!(code, 69, "{text}");
    let data = directory.path().join("web-1.data");
    assert!(text.contains(&data.display().to_string()), "{text}");
    assert!(text.contains(&node.pid().to_string()), "{text}");
    assert_eq!(node.end(Signal::TERM).code(), Some(0));
}

#[test]
fn a_second_node_on_the_same_socket_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    node.start();
    let mut serve = node.serve();
    let other = directory.path().join("other.data");
    let (code, text) = failure(serve.env("EVERMESH_NODE__DATA_DIR", other));
    assert_eq!(code, 69, "{text}");
    let expected = format!(
        "evermesh: the socket {} ([listen] local) is in use: somebody answers there; stop that \
         node, or choose another path\n",
        node.socket().display()
    );
    assert!(text.ends_with(&expected), "{text}");
    assert_eq!(node.end(Signal::TERM).code(), Some(0));
}

#[test]
fn an_abandoned_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    node.start();
    assert!(node.end(Signal::KILL).code().is_none());
    assert!(node.socket().exists(), "a killed node leaves its socket");
    node.start();
    assert_eq!(node.end(Signal::TERM).code(), Some(0), "{}", node.log());
}

#[test]
fn it_does_not_wait_for_callers_that_stay() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    node.start();
    // A connection that never says anything, as an application that hangs has one.
    let idle = std::os::unix::net::UnixStream::connect(node.socket()).unwrap();
    assert_eq!(node.end(Signal::TERM).code(), Some(0), "{}", node.log());
    drop(idle);
}

#[test]
fn json_logs_are_one_object_for_each_line() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "[log]\nformat = \"json\"\n");
    node.start();
    let ready = |log: &str| log.lines().any(|line| line.contains("evermesh web-1 is ready"));
    until("it says that it is ready", || ready(&node.log()));
    assert_eq!(node.end(Signal::TERM).code(), Some(0));
    for line in node.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
}

/// A stream that its caller never ends.
async fn endless(node: &Node) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
    let client = Client::connect(&node.at().parse().unwrap(), &Credentials::default()).unwrap();
    let mut health = HealthClient::new(client.channel());
    let mut said = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(said.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    said
}

#[tokio::test]
async fn load_balancers_hear_first_that_it_ends_and_the_deadline_ends_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    node.set("EVERMESH_NODE__DRAIN", "100ms");
    node.start();
    let mut said = endless(&node).await;
    node.signal(Signal::TERM);
    assert_eq!(said.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(node.ended().code(), Some(0));
    let log = node.log();
    assert!(log.contains("drops the calls that did not end within 100ms"), "{log}");
    assert!(log.contains("everything is stored"), "{log}");
}

#[tokio::test]
async fn a_second_signal_is_impatience() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(directory.path(), "web-1", "");
    node.set("EVERMESH_NODE__DRAIN", "5m");
    node.start();
    let mut said = endless(&node).await;
    node.signal(Signal::TERM);
    assert_eq!(said.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    until("it logs that it ends", || node.log().contains("SIGTERM: ends within"));
    assert_eq!(node.end(Signal::INT).code(), Some(0));
    assert!(node.log().contains("SIGINT again: drops all calls at once"), "{}", node.log());
}
