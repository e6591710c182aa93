//! What operators do with events that an application could not apply, and with durable names; and
//! what the commands say of it.

use std::process::{Command, Stdio};

use evermesh_client::{Begin, Item, Options, Subscriber, entries};
use evermesh_proto::v1;
use evermesh_proto::v1::MissedCause;
use serde_json::Value;

use crate::mesh::{Mesh, succeed};
use crate::node::{Node, evermesh, failure, run, until};

fn at(node: &Node, arguments: &[&str]) -> Command {
    let mut command = evermesh();
    command.args(arguments).args(["--at", &node.at()]);
    command
}

/// What a command printed that must succeed.
fn said(node: &Node, arguments: &[&str]) -> String {
    let output = succeed(&[arguments, &["--at", &node.at()]].concat());
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `varnish` hears, with everything but `bad-…` applied.
struct Varnish(Subscriber);

impl Varnish {
    async fn open(mesh: &Mesh) -> Self {
        let from = Begin::Name("varnish".into());
        let options = Options { sites: vec!["shop".into()], from, ..Options::default() };
        Self(Subscriber::open(mesh.client(0), options).await.unwrap())
    }

    /// Hears until a missed of this cause.
    async fn missed(&mut self, cause: MissedCause) {
        loop {
            match self.0.next().await.unwrap() {
                Item::Missed { missed, through } => {
                    self.0.acknowledge(through);
                    assert_eq!(missed.cause(), cause, "{missed:?}");
                    return;
                }
                Item::Delivery { delivery, through } => {
                    for (place, entry) in entries(&delivery, through) {
                        if entry.event.unwrap().key.starts_with("bad") {
                            self.0.reject(place, "503 backend");
                            break;
                        }
                        self.0.acknowledge(place);
                    }
                }
                Item::CaughtUp { through, .. } => self.0.acknowledge(through),
                _ => {}
            }
        }
    }

    /// The next event, applied.
    async fn event(&mut self) -> v1::Event {
        loop {
            if let Item::Delivery { delivery, through } = self.0.next().await.unwrap() {
                self.0.acknowledge(through);
                return entries(&delivery, through).next().unwrap().1.event.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_listed_replayed_and_dropped() {
    let mesh = Mesh::started(1);
    let node = &mesh.nodes[0];
    let listed = run(&mut at(node, &["letters", "list"]));
    assert_eq!((listed.status.code(), &*listed.stdout), (Some(0), &b""[..]));
    assert_eq!(String::from_utf8(listed.stderr).unwrap(), "no dead letters\n");
    let mut varnish = Varnish::open(&mesh).await;
    varnish.missed(MissedCause::UnknownName).await;
    for key in ["good", "bad-1", "bad-2"] {
        said(node, &["publish", "--site", "shop", "--type", "t", "--key", key]);
    }
    varnish.missed(MissedCause::DeadLetter).await;
    varnish.missed(MissedCause::DeadLetter).await;

    let table = said(node, &["letters", "list"]);
    let rows: Vec<_> = table.lines().collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].contains("  varnish  web-1/1:"), "{table}");
    assert!(rows[0].ends_with("  shop t bad-1  5 attempts: 503 backend"), "{table}");
    let objects = lines(&said(node, &["letters", "list", "--name", "varnish", "--json"]));
    let keys: Vec<_> = objects.iter().map(|letter| letter["event"]["key"].clone()).collect();
    assert_eq!(keys, ["bad-1", "bad-2"]);
    assert_eq!((&objects[0]["name"], &objects[0]["attempts"]), (&"varnish".into(), &5.into()));
    assert_eq!(said(node, &["letters", "list", "--name", "other", "--json"]), "");

    let number = objects[0]["number"].to_string();
    assert_eq!(said(node, &["letters", "replay", &number]), "replayed 1\n");
    let anew = varnish.event().await;
    assert_eq!(anew.key, "bad-1");
    assert_eq!(anew.attributes["evermesh.replay_of"], objects[0]["event_at"].as_str().unwrap());
    assert_ne!(anew.id, objects[0]["event"]["id"].as_str().unwrap());
    let gone = run(&mut at(node, &["letters", "drop", &number, "77"]));
    assert_eq!((gone.status.code(), &*gone.stdout), (Some(65), &b"dropped 0\n"[..]));
    let text = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(text, format!("evermesh: no letter has the number {number}, 77\n"));
    assert_eq!(said(node, &["letters", "drop", "--all"]), "dropped 1\n");
    assert_eq!(said(node, &["letters", "list", "--json"]), "");
    assert_eq!(said(node, &["letters", "drop", "--all"]), "dropped 0\n");

    let (code, text) = failure(&mut at(node, &["letters", "replay"]));
    assert_eq!(code, 64, "{text}");
    let (code, text) = failure(&mut at(node, &["letters", "replay", "1", "--all"]));
    assert_eq!(code, 64, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_listed_and_forgotten_when_nobody_uses_them() {
    let mesh = Mesh::started(1);
    let node = &mesh.nodes[0];
    let mut varnish = Varnish::open(&mesh).await;
    varnish.missed(MissedCause::UnknownName).await;
    let names = lines(&said(node, &["names", "list", "--json"]));
    assert_eq!(names.len(), 1);
    assert_eq!((&names[0]["name"], &names[0]["connected"]), (&"varnish".into(), &true.into()));
    let table = said(node, &["names", "list"]);
    assert!(table.starts_with("varnish  ") && table.contains("shop"), "{table}");
    let forget = || at(node, &["names", "forget", "varnish"]);
    let (code, text) = failure(&mut forget());
    assert_eq!(code, 65, "{text}");
    assert!(text.contains("refuses: ") && text.contains("varnish"), "{text}");
    assert!(varnish.0.close().await);
    until("the name is forgotten", || {
        let forgotten = run(&mut forget());
        forgotten.status.success() && forgotten.stdout == b"forgot varnish\n"
    });
    let (code, text) = failure(&mut forget());
    assert_eq!(code, 65, "{text}");
    let listed = run(&mut at(node, &["names", "list"]));
    assert_eq!(String::from_utf8(listed.stderr).unwrap(), "no durable names\n");
}

#[test]
fn p10_an_application_may_look_and_change_nothing() {
    let mesh = Mesh::started(1);
    let path = |name: &str| mesh.path(name).to_str().unwrap().to_owned();
    let (cert, key, ca, shared) =
        (path("shop.pem"), path("shop.key"), path("ca.pem"), mesh.shared(0));
    let by = ["--at", &shared, "--cert", &cert, "--key-file", &key, "--ca", &ca];
    succeed(&[&["letters", "list", "--json"][..], &by].concat());
    succeed(&[&["names", "list", "--json"][..], &by].concat());
    for act in [["letters", "drop", "1"], ["letters", "replay", "1"], ["names", "forget", "a"]] {
        let (code, text) = failure(evermesh().args(act).args(by));
        assert_eq!(code, 77, "{act:?}: {text}");
    }
    let nobody = ["--at", "unix:/nonexistent/web-1.sock"];
    for act in [&["letters", "list"][..], &["names", "list"], &["letters", "drop", "--all"]] {
        let (code, text) = failure(evermesh().args(act).args(nobody));
        assert_eq!(code, 69, "{act:?}: {text}");
        assert!(text.contains("no node answers"), "{text}");
    }
}

#[test]
fn a_subscription_under_a_name_says_who_took_it_and_ends() {
    let mesh = Mesh::started(1);
    let node = &mesh.nodes[0];
    let named = ["subscribe", "--site", "shop", "--name", "varnish"];
    let spawn = || {
        let mut command = at(node, &named);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let connected = || lines(&said(node, &["names", "list", "--json"]));
    let older = spawn();
    until("it subscribed", || connected().iter().any(|name| name["connected"] == true));
    let mut newer = spawn();
    let output = older.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "evermesh: a newer subscription took this durable name\n");
    let heard = lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(heard[0]["missed"]["cause"], "unknown_name");
    assert_eq!(heard[0]["missed"]["sites"][0], "shop");
    assert!(heard.last().unwrap()["taken_over"]["by"].as_str().unwrap().starts_with("local:"));
    // It ends by its own pid.
    newer.kill().unwrap();
    newer.wait().unwrap();
    // Its place was kept: nothing is missed.
    until("nobody has the name", || connected().iter().all(|name| name["connected"] == false));
    said(node, &["publish", "--site", "shop", "--type", "t", "--key", "while away"]);
    let heard = lines(&said(node, &[&named[..], &["--count", "1"]].concat()));
    let event = heard.iter().find(|line| line.get("event").is_some()).unwrap();
    assert_eq!(event["event"]["key"], "while away");
}

#[test]
fn a_fence_says_who_applied_and_who_has_not() {
    let mut mesh = Mesh::started(2);
    let node = &mesh.nodes[0];
    let publish = ["publish", "--site", "shop", "--type", "t", "--key", "k", "--json"];
    let published = said(node, &[&publish[..], &["--until", "applied"]].concat());
    let published = &lines(&published)[0];
    assert_eq!(published["assured"], "applied");
    let token = published["fence_token"].as_str().unwrap().to_owned();
    let fence = ["fence", &token, "--wait", "1s"];
    let table = said(node, &fence);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.lines().all(|line| line.starts_with("web-") && line.contains("  applied")));
    let object = &lines(&said(node, &[&fence[..], &["--json"]].concat()))[0];
    assert_eq!((&object["done"], object["members"].as_array().unwrap().len()), (&true.into(), 2));
    let other = &mesh.nodes[1];
    let own = &lines(&said(other, &[&fence[..], &["--this-node", "--json"]].concat()))[0];
    assert_eq!(own["members"][0]["node"], "web-2");
    let (code, text) = failure(&mut at(other, &fence));
    assert_eq!(code, 65, "{text}");
    assert!(text.contains("--this-node"), "{text}");
    let (code, text) = failure(&mut at(node, &["fence", "er1.x"]));
    assert_eq!(code, 64, "{text}");

    // Somebody hears it on web-2 and acknowledges nothing.
    let mut command = at(&mesh.nodes[1], &["subscribe", "--site", "shop", "--no-ack"]);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut quiet = quiet.spawn().unwrap();
    until("it subscribed", || {
        let status = crate::mesh::status(&mesh.nodes[1]);
        status["subscriptions"].as_array().is_some_and(|open| !open.is_empty())
    });
    let published = &lines(&said(node, &publish))[0];
    let token = published["fence_token"].as_str().unwrap().to_owned();
    let pending = run(&mut at(node, &["fence", &token, "--wait", "100ms"]));
    assert_eq!(pending.status.code(), Some(69));
    let text = String::from_utf8(pending.stderr).unwrap();
    assert_eq!(text, "evermesh: not applied yet by web-2\n");
    assert!(String::from_utf8(pending.stdout).unwrap().contains("web-2  pending\n"));
    quiet.kill().unwrap();
    quiet.wait().unwrap();
    said(node, &["fence", &token, "--wait", "30s"]);
    mesh.nodes[1].end(rustix::process::Signal::TERM);
}
