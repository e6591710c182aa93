//! Two nodes with certificates: they find each other, survive each other's restart, and let nobody
//! in who may not.

use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::node::{Node, evermesh, failure, free_port, run, until};

/// An authority, certificates for both nodes and the application `shop`, and both nodes.
fn mesh(directory: &Path) -> [Node; 2] {
    let ca = directory.join("ca");
    let (ca, out) = (ca.to_str().unwrap(), directory.to_str().unwrap());
    succeed(&["ca", "init", "--dir", ca, "--trust-domain", "mesh.internal"]);
    for name in ["web-1", "web-2"] {
        let at = ["--dns", "localhost", "--ip", "127.0.0.1", "--out", out];
        succeed(&[&["ca", "issue", "--dir", ca, "--node", name][..], &at].concat());
    }
    succeed(&["ca", "issue", "--dir", ca, "--app", "shop", "--out", out]);
    let ports = [free_port(), free_port()];
    [(1, 0), (2, 1)].map(|(number, own)| {
        let name = format!("web-{number}");
        let more = format!(
            "shared = \"127.0.0.1:{}\"\n[tls]\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\n\
             ca = \"ca.pem\"\n[mesh]\npeers = [\"https://127.0.0.1:{}\"]\nlease = \"1s\"\n\
             [[allow]]\nwho = \"spiffe://mesh.internal/app/shop\"\nacts = [\"observe\"]\n",
            ports[own],
            ports[1 - own]
        );
        // The second allows the application nothing.
        let more = if own == 0 { &more } else { more.split("[[allow]]").next().unwrap() };
        Node::new(directory, &name, more)
    })
}

fn succeed(arguments: &[&str]) -> Output {
    let output = run(evermesh().args(arguments));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "evermesh {}: {said}", arguments.join(" "));
    output
}

fn status(node: &Node) -> Value {
    let output = succeed(&["status", "--json", "--at", &node.at()]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until `node` pulls from the other and feeds it.
fn linked(node: &Node, other: &str) {
    until("the nodes are linked", || {
        let member = &status(node)["members"][0];
        member["node"] == other && member["pulling"] == true && member["feeding"] == true
    });
}

#[test]
fn they_are_linked_and_a_restart_heals() {
    let directory = tempfile::tempdir().unwrap();
    let [mut first, mut second] = mesh(directory.path());
    first.start();
    let alone = status(&first);
    assert_eq!(alone["members"].as_array().unwrap().len(), 1, "{alone}");
    second.start();
    linked(&first, "web-2");
    linked(&second, "web-1");
    assert!(status(&first)["certificate_ends"].is_string());

    let publish = |key| {
        let event = ["--site", "shop", "--type", "t", "--key", key, "--until", "replicated"];
        succeed(&[&["publish", "--at", &first.at()][..], &event].concat());
    };
    publish("one");
    assert_eq!(status(&second)["journal"]["events_received"], 1);

    assert_eq!(second.end(Signal::TERM).code(), Some(0), "{}", second.log());
    assert!(!second.log().contains("did not end within"), "{}", second.log());
    until("the silent one is suspended", || status(&first)["members"][0]["suspended"] == true);
    publish("two");
    second.start();
    linked(&first, "web-2");
    until("it has what it missed", || status(&second)["journal"]["events_received"] == 1);
    assert_eq!(status(&second)["journal"]["epoch"], 2);

    assert_eq!(second.end(Signal::KILL).code(), None);
    second.start();
    linked(&first, "web-2");
    for node in [&mut first, &mut second] {
        assert_eq!(node.end(Signal::TERM).code(), Some(0), "{}", node.log());
        assert!(!node.log().contains("did not end within"), "{}", node.log());
    }
}

#[test]
fn the_shared_port_lets_in_whom_the_rules_allow() {
    let directory = tempfile::tempdir().unwrap();
    let [mut first, mut second] = mesh(directory.path());
    first.start();
    second.start();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (file("shop.pem"), file("shop.key"), file("ca.pem"));
    let own = ["--cert", &cert, "--key-file", &key, "--ca", &ca];
    let shared = |node: &Node| {
        let text = std::fs::read_to_string(node.config()).unwrap();
        let (_, after) = text.split_once("shared = \"").unwrap();
        format!("https://{}", after.split('"').next().unwrap())
    };

    let at = shared(&first);
    let health = succeed(&[&["health", "--at", &at][..], &own].concat());
    assert_eq!(String::from_utf8(health.stdout).unwrap(), "serving\n");
    let seen = succeed(&[&["status", "--json", "--at", &at][..], &own].concat());
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(seen["node"], "web-1");

    let at = shared(&second);
    let (code, text) = failure(evermesh().args(["status", "--at", &at]).args(own));
    assert_eq!(code, 77, "{text}");
    assert!(text.contains("not allowed to observe"), "{text}");
    assert!(second.log().contains("spiffe://mesh.internal/app/shop"), "{}", second.log());

    // Without a certificate nobody hears anything.
    let (code, text) = failure(evermesh().args(["health", "--at", &at, "--ca", &ca]));
    assert_eq!(code, 69, "{text}");
    until("the refusal is counted", || status(&second)["connections"]["refused"] != 0);
}
