//! Nodes that end while applications publish: what was answered, and what the last word covers.

use std::collections::HashSet;

use evermesh_client::Client;
use evermesh_proto::v1;
use evermesh_proto::v1::Assurance;
use evermesh_proto::v1::publish_result::Outcome;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::mesh::Mesh;
use crate::refusals::reason;
use crate::subscriptions::{Stream, subscribe};

/// How often the node ends, each time at another moment.
const ENDS: usize = 12;
/// Each has one call under way, until it is refused: of three, one is about to be numbered in about
/// every sixth moment.
const PUBLISHERS: usize = 3;
/// As many as one call takes: to check them takes long, and the node may end meanwhile.
const EVENTS: usize = 4096;

fn request(prefix: &str, count: usize) -> v1::PublishRequest {
    let event = |n| v1::Event {
        id: format!("{prefix}-{n}"),
        site: "shop".into(),
        r#type: "t".into(),
        ..Default::default()
    };
    let events = (0..count).map(event).collect();
    v1::PublishRequest { events, until: Assurance::Accepted.into(), ..Default::default() }
}

/// Publishes until it is refused; each call that was accepted is told. Why it was refused.
async fn publish(client: Client, who: String, accepted: mpsc::Sender<String>) -> String {
    for call in 0.. {
        let prefix = format!("{who}-{call}");
        match client.events().publish(request(&prefix, EVENTS)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let taken =
                    |result: &v1::PublishResult| matches!(&result.outcome, Some(Outcome::Taken(_)));
                assert!(answer.results.len() == EVENTS && answer.results.iter().all(taken));
                accepted.send(prefix).await.unwrap();
            }
            Err(refused) => return reason(&refused).to_owned(),
        }
    }
    unreachable!("calls are not counted that far")
}

/// Acknowledges whatever comes through an event: what was heard, and how often something was
/// missed.
async fn hear(stream: &mut Stream, through: &str) -> (HashSet<String>, usize) {
    let (mut heard, mut missed) = (HashSet::new(), 0);
    while !heard.contains(through) {
        let message = stream.1.message().await.unwrap().expect("the stream goes on").message;
        let through_offset = match message.unwrap() {
            Heard::Delivery(delivery) => {
                let offset = delivery.offsets.last().copied();
                let count = delivery.entries().count() as u64;
                heard.extend(delivery.entries().map(|entry| entry.unwrap().event.unwrap().id));
                offset.unwrap_or(delivery.first_offset + count - 1)
            }
            Heard::Missed(notice) => {
                missed += 1;
                notice.offset
            }
            _ => continue,
        };
        let message = Some(Say::Acknowledge(v1::Acknowledge { through_offset }));
        stream.0.send(v1::SubscribeRequest { message }).await.unwrap();
    }
    (heard, missed)
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_what_was_accepted_while_a_node_without_a_disk_ended_is_heard_or_told() {
    let mut mesh = Mesh::new(2);
    mesh.nodes[0].in_memory();
    mesh.start();
    let open = v1::SubscribeOpen { sites: vec!["shop".into()], ..Default::default() };
    let mut stream = subscribe(&mesh.client(1), open).await;
    for end in 0..ENDS {
        let (accepted, mut answers) = mpsc::channel(64);
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let who = format!("{end}-{publisher}");
            publishers.spawn(publish(mesh.client(0), who, accepted.clone()));
        }
        drop(accepted);
        let mut calls = Vec::new();
        while calls.len() <= PUBLISHERS + end {
            calls.push(answers.recv().await.unwrap());
        }
        mesh.nodes[0].signal(Signal::TERM);
        while let Some(call) = answers.recv().await {
            calls.push(call);
        }
        while let Some(refused) = publishers.join_next().await {
            let refused = refused.unwrap();
            assert!(refused == "DRAINING" || refused.is_empty(), "{refused}");
        }
        assert_eq!(mesh.nodes[0].ended().code(), Some(0));
        // Its next start is another origin: before anything of that, all of the former one is
        // heard, or told.
        mesh.nodes[0].start();
        let mark = mesh.client(0).events().publish(request(&format!("mark-{end}"), 1)).await;
        mark.unwrap();
        let (heard, missed) = hear(&mut stream, &format!("mark-{end}-0")).await;
        let all = calls.iter().flat_map(|call| (0..EVENTS).map(move |n| format!("{call}-{n}")));
        let lost = all.filter(|id| !heard.contains(id)).count();
        eprintln!("end {end}: {} calls accepted, {lost} events lost, {missed} told", calls.len());
        assert!(lost == 0 || missed > 0, "{lost} events were lost, and nobody was told");
        // On a machine that is busy enough the last word may come too late.
        let late = mesh.nodes[0].log().contains("did not take a goodbye");
        assert!(missed == 0 || late, "its last word was heard, and all before it");
    }
}
