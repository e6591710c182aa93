//! What the systems before lose: the first event after a restart, and what was not acknowledged.

use evermesh_client::Client;
use evermesh_event::{ResumeToken, Run};
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::mesh::{Mesh, status};
use crate::node::until;

/// A subscription without any of a client's own help.
struct Stream {
    say: mpsc::Sender<v1::SubscribeRequest>,
    heard: tonic::Streaming<v1::SubscribeResponse>,
    opened: v1::SubscribeOpened,
}

impl Stream {
    async fn open(client: &Client, from: Option<From>) -> Self {
        let open = v1::SubscribeOpen { sites: vec!["shop".into()], from, ..Default::default() };
        let (say, said) = mpsc::channel(16);
        say.send(v1::SubscribeRequest { message: Some(Say::Open(open)) }).await.unwrap();
        let heard = client.events().subscribe(ReceiverStream::new(said)).await.unwrap();
        let mut heard = heard.into_inner();
        let first = heard.message().await.unwrap().unwrap().message;
        let Some(Heard::Opened(opened)) = first else { panic!("{first:?}") };
        Self { say, heard, opened }
    }

    /// The next events: offset, key, attempt.
    async fn events(&mut self, count: usize) -> Vec<(u64, String, u32)> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.heard.message().await.unwrap().unwrap().message {
                Some(Heard::Delivery(delivery)) => {
                    for (n, entry) in delivery.entries().enumerate() {
                        let offset = delivery.offsets.get(n).copied();
                        let offset = offset.unwrap_or(delivery.first_offset + n as u64);
                        let key = entry.unwrap().event.unwrap().key;
                        events.push((offset, key, delivery.attempt));
                    }
                }
                Some(Heard::CaughtUp(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        events
    }

    /// The next thing it hears is that everything of a name may be missed.
    async fn own_name_is_missed(&mut self, name: &str) {
        let said = self.heard.message().await.unwrap().unwrap().message;
        let Some(Heard::Missed(v1::MissedNotice { missed: Some(missed), .. })) = said else {
            panic!("{said:?}")
        };
        assert_eq!(missed.origin.as_ref().unwrap().node, name);
        assert_eq!(missed.cause(), v1::MissedCause::Forgotten);
    }

    async fn acknowledge(&self, through_offset: u64) {
        let message = Some(Say::Acknowledge(v1::Acknowledge { through_offset }));
        self.say.send(v1::SubscribeRequest { message }).await.unwrap();
    }

    fn token(&self, offset: u64) -> Option<From> {
        let run = Run::from_slice(&self.opened.run).unwrap();
        let offset = evermesh_event::Offset::from_u64(offset);
        Some(From::ResumeToken(ResumeToken { run, offset }.to_proto()))
    }
}

async fn publish(client: &Client, keys: &[&str]) {
    let event = |key: &&str| v1::Event {
        site: "shop".into(),
        r#type: "t".into(),
        key: (*key).to_owned(),
        ..Default::default()
    };
    let events = keys.iter().map(event).collect();
    let request = v1::PublishRequest { events, ..Default::default() };
    let done = client.events().publish(request).await.unwrap().into_inner();
    assert_eq!(done.assured(), v1::Assurance::Stored, "{done:?}");
}

const BEGINNING: Option<From> = Some(From::Beginning(v1::Beginning {}));

#[tokio::test]
async fn the_very_next_publish_reaches_a_front_end_that_restarts() {
    let mut mesh = Mesh::started(2);
    let editor = mesh.client(0);
    publish(&editor, &["before"]).await;
    // It is down, its connections are broken and the first node does not know it yet.
    mesh.nodes[1].end(Signal::KILL);
    publish(&editor, &["the very next"]).await;
    mesh.nodes[1].start();
    let mut stream = Stream::open(&mesh.client(1), BEGINNING).await;
    let keys: Vec<_> = stream.events(2).await.into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["before", "the very next"]);
}

#[tokio::test]
async fn p3_what_was_not_acknowledged_comes_once_more_on_a_new_stream() {
    let mesh = Mesh::started(2);
    publish(&mesh.client(0), &["a", "b", "c", "d", "e"]).await;
    let client = mesh.client(1);

    let mut first = Stream::open(&client, BEGINNING).await;
    let delivered = first.events(5).await;
    assert!(delivered.iter().all(|(_, _, attempt)| *attempt == 1));
    // Delivered and not acknowledged: all of it comes again.
    let nothing = first.token(first.opened.offset);
    drop(first);
    let mut second = Stream::open(&client, nothing).await;
    assert_eq!(second.events(5).await, delivered, "same places, attempt 1 on a new stream");
    // Acknowledged in the middle of a batch: exactly the rest comes again.
    let middle = delivered[1].0;
    second.acknowledge(middle).await;
    let rest = second.token(middle);
    drop(second);
    let mut third = Stream::open(&client, rest).await;
    assert_eq!(third.events(3).await, delivered[2..]);
    let end = third.token(delivered[4].0);
    drop(third);
    publish(&mesh.client(0), &["f"]).await;
    let mut last = Stream::open(&client, end).await;
    assert_eq!(last.events(1).await[0].1, "f", "nothing that was acknowledged comes again");
}

#[tokio::test]
async fn a_resume_token_survives_the_kill_of_its_node() {
    let mut mesh = Mesh::started(2);
    publish(&mesh.client(0), &["a", "b", "c"]).await;
    let mut stream = Stream::open(&mesh.client(1), BEGINNING).await;
    let delivered = stream.events(3).await;
    until("the events are on the second node's disk", || {
        let journal = &status(&mesh.nodes[1])["journal"];
        journal["durable"] == journal["head"]
    });
    mesh.nodes[1].end(Signal::KILL);
    publish(&mesh.client(0), &["d"]).await;
    mesh.nodes[1].start();
    let mut again = Stream::open(&mesh.client(1), stream.token(delivered[0].0)).await;
    let keys: Vec<_> = again.events(3).await.into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["b", "c", "d"]);
}

#[tokio::test]
async fn a_node_that_joins_late_begins_every_origin_at_its_beginning() {
    let mut mesh = Mesh::new(3);
    mesh.nodes[0].start();
    mesh.nodes[1].start();
    publish(&mesh.client(0), &["one"]).await;
    publish(&mesh.client(1), &["two"]).await;
    mesh.nodes[2].start();
    mesh.linked(2);
    let mut stream = Stream::open(&mesh.client(2), BEGINNING).await;
    let mut keys: Vec<_> = stream.events(2).await.into_iter().map(|(_, key, _)| key).collect();
    keys.sort();
    assert_eq!(keys, ["one", "two"]);
}

#[tokio::test]
async fn a_node_that_starts_first_finds_nobody_and_works() {
    let mut mesh = Mesh::new(3);
    mesh.nodes[0].start();
    let client = mesh.client(0);
    publish(&client, &["alone"]).await;
    let members = &status(&mesh.nodes[0])["members"];
    assert!(members[0]["trouble"].as_str().unwrap().contains("cannot connect"), "{members}");
    // Nobody was heard yet: REPLICATED is not claimed, and says who is pending.
    let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() };
    let request = v1::PublishRequest {
        events: vec![event],
        until: v1::Assurance::Replicated.into(),
        wait_for: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        ..Default::default()
    };
    let done = client.events().publish(request).await.unwrap().into_inner();
    assert_eq!(done.members.len(), 2, "{done:?}");
    let pending = |m: &v1::MemberState| m.standing() == v1::MemberStanding::Pending;
    assert!(done.assured() < v1::Assurance::Replicated && done.members.iter().all(pending));
    mesh.nodes[1].start();
    mesh.nodes[2].start();
    mesh.linked(0);
    let mut stream = Stream::open(&mesh.client(2), BEGINNING).await;
    assert_eq!(stream.events(2).await[0].1, "alone");
}

#[tokio::test]
async fn p4_a_suspended_member_is_named_and_not_waited_for() {
    let mut mesh = Mesh::started(3);
    mesh.nodes[2].end(Signal::KILL);
    let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() };
    let request = v1::PublishRequest {
        events: vec![event],
        until: v1::Assurance::Replicated.into(),
        wait_for: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..Default::default()
    };
    let done = mesh.client(0).events().publish(request).await.unwrap().into_inner();
    assert_eq!(done.assured(), v1::Assurance::Replicated, "{done:?}");
    let mut standings: Vec<_> =
        done.members.iter().map(|member| (member.node.as_str(), member.standing())).collect();
    standings.sort_by_key(|(node, _)| *node);
    let (stored, suspended) = (v1::MemberStanding::Stored, v1::MemberStanding::Suspended);
    assert_eq!(standings, [("web-2", stored), ("web-3", suspended)]);
}

#[tokio::test]
async fn a_member_that_is_away_is_known_by_name_after_a_restart() {
    let mut mesh = Mesh::started(2);
    publish(&mesh.client(0), &["a"]).await;
    let stored = |mesh: &Mesh| status(&mesh.nodes[0])["members"][0]["stored"].clone();
    until("the other node holds it", || stored(&mesh) == "1:1");
    mesh.nodes[1].end(Signal::KILL);
    assert_eq!(mesh.nodes[0].end(Signal::TERM).code(), Some(0));
    mesh.nodes[0].start();
    let member = status(&mesh.nodes[0])["members"][0].clone();
    assert_eq!((&member["node"], &member["stored"]), (&"web-2".into(), &"1:1".into()), "{member}");
    assert_eq!((&member["pulling"], &member["feeding"]), (&false.into(), &false.into()));
}

#[tokio::test]
async fn p4_a_member_that_lost_its_disk_holds_nothing() {
    let mut mesh = Mesh::started(2);
    publish(&mesh.client(0), &["a", "b"]).await;
    let stored = |mesh: &Mesh| status(&mesh.nodes[0])["members"][0]["stored"].clone();
    until("the other node holds both", || stored(&mesh) == "1:2");
    mesh.nodes[1].end(Signal::KILL);
    std::fs::remove_dir_all(mesh.path("web-2.data")).unwrap();
    mesh.nodes[1].start();
    mesh.linked(0);
    // It begins every origin at its beginning, and holds both again.
    let mut stream = Stream::open(&mesh.client(1), BEGINNING).await;
    // What it had published itself under the journal id that others know is lost with the disk.
    stream.own_name_is_missed("web-2").await;
    let keys: Vec<_> = stream.events(2).await.into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["a", "b"]);
    until("it says so", || stored(&mesh) == "1:2");
}

#[tokio::test]
async fn ten_thousand_publishes_open_no_connection() {
    let mesh = Mesh::started(3);
    let client = mesh.client(0);
    publish(&client, &["the connection is open"]).await;
    let counters = |node: usize| status(&mesh.nodes[node])["connections"].clone();
    let count = |now: &serde_json::Value, name: &str| now[name].as_u64().unwrap();
    let (opened, before) = (client.connections_opened(), [counters(0), counters(1), counters(2)]);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..10_000 {
        let client = client.clone();
        calls.spawn(async move { publish(&client, &[&format!("k{n}")]).await });
        if calls.len() >= 64 {
            calls.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert_eq!(client.connections_opened(), opened);
    for (node, before) in before.iter().enumerate() {
        let after = counters(node);
        for name in ["shared_accepted", "dialled"] {
            assert_eq!(count(&after, name), count(before, name), "{name} of web-{}", node + 1);
        }
        // Asking for the counters is a connection of its own.
        assert_eq!(count(&after, "local_accepted"), count(before, "local_accepted") + 1);
    }
}
