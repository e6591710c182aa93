//! P1: an event is rejected that a newer one has replaced, or that the full journal has cut, by
//! the time it would come again. Whoever rejected it passes over what is behind it, and hears all
//! of it.

use std::time::Duration;

use evermesh_client::{Begin, Client, Item, Options, Subscriber, entries};
use evermesh_event::ResumeToken;
use evermesh_proto::v1;
use evermesh_proto::v1::MissedCause;
use evermesh_proto::v1::publish_result::Outcome;
use evermesh_proto::v1::subscribe_response::Message as Heard;

use crate::mesh::Mesh;
use crate::subscriptions::{beginning, subscribe};

/// How long anything may take that is waited for, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// What one call publishes for the journal to make room: below the largest message.
const FILLING: usize = 6;
const FILLING_BYTES: usize = 128 * 1024;
/// Far more calls than fill a journal of 64 MiB, the smallest that can be configured.
const FILLINGS_MAX: usize = 400;

fn event(site: &str, key: &str, data: Vec<u8>, coalesce: bool) -> v1::Event {
    v1::Event {
        site: site.into(),
        r#type: "t".into(),
        key: key.into(),
        data: data.into(),
        coalesce,
        ..Default::default()
    }
}

async fn publish(client: &Client, events: Vec<v1::Event>) {
    let request = v1::PublishRequest { events, ..Default::default() };
    let answer = client.events().publish(request).await.unwrap().into_inner();
    let taken = |result: &v1::PublishResult| matches!(result.outcome, Some(Outcome::Taken(_)));
    assert!(answer.results.iter().all(taken), "{answer:?}");
}

async fn one_node() -> (Mesh, Client) {
    let mut mesh = Mesh::new(1);
    mesh.nodes[0].set("EVERMESH_JOURNAL__MAX_BYTES", "64MiB");
    mesh.start();
    let client = mesh.client(0);
    (mesh, client)
}

/// Fills the journal with events of another site until the first of `shop` is not `data`.
async fn fill(client: &Client, coalesce: bool, data: &[u8]) {
    for _ in 0..FILLINGS_MAX {
        let filling = |n| event("filling", &format!("{n}"), vec![7; FILLING_BYTES], coalesce);
        publish(client, (0..FILLING).map(filling).collect()).await;
        let open = v1::SubscribeOpen {
            sites: vec!["shop".into()],
            from: beginning(),
            ..Default::default()
        };
        let mut stream = subscribe(client, open).await;
        let first = loop {
            match stream.1.message().await.unwrap().unwrap().message.unwrap() {
                Heard::Delivery(delivery) => {
                    break delivery.entries().next().unwrap().unwrap().event;
                }
                Heard::Missed(_) => break None,
                _ => {}
            }
        };
        if first.is_none_or(|first| first.data != data) {
            return;
        }
    }
    panic!("the journal is never full");
}

async fn next(subscriber: &mut Subscriber) -> Item {
    tokio::time::timeout(DEADLINE, subscriber.next()).await.expect("nothing comes").unwrap()
}

/// The place and the data of the next event.
async fn delivered(subscriber: &mut Subscriber) -> (ResumeToken, Vec<u8>) {
    loop {
        if let Item::Delivery { delivery, through } = next(subscriber).await {
            let (place, entry) = entries(&delivery, through).next().unwrap();
            return (place, entry.event.unwrap().data.to_vec());
        }
    }
}

#[tokio::test]
async fn p1_what_was_rejected_and_replaced_is_followed_by_what_replaced_it() {
    let (_mesh, client) = one_node().await;
    let options = Options { sites: vec!["shop".into()], ..Options::default() };
    let mut subscriber = Subscriber::open(client.clone(), options).await.unwrap();
    publish(&client, vec![event("shop", "k", b"older".to_vec(), true)]).await;
    let (place, data) = delivered(&mut subscriber).await;
    assert_eq!(data, b"older");
    publish(&client, vec![event("shop", "k", b"newer".to_vec(), true)]).await;
    fill(&client, true, b"older").await;

    subscriber.reject(place, "503 backend");
    let (place, data) = delivered(&mut subscriber).await;
    assert_eq!(data, b"newer");
    subscriber.acknowledge(place);
    publish(&client, vec![event("shop", "j", b"after".to_vec(), true)]).await;
    assert_eq!(delivered(&mut subscriber).await.1, b"after");
}

#[tokio::test]
async fn p1_what_was_rejected_and_cut_is_missed() {
    let (_mesh, client) = one_node().await;
    let from = Begin::Name("varnish".into());
    let options = Options { sites: vec!["shop".into()], from, ..Options::default() };
    let mut subscriber = Subscriber::open(client.clone(), options).await.unwrap();
    publish(&client, vec![event("shop", "k", b"cut".to_vec(), false)]).await;
    let (place, data) = loop {
        match next(&mut subscriber).await {
            Item::Missed { missed, through } => {
                assert_eq!(missed.cause(), MissedCause::UnknownName);
                subscriber.acknowledge(through);
            }
            Item::Delivery { delivery, through } => {
                let (place, entry) = entries(&delivery, through).next().unwrap();
                break (place, entry.event.unwrap().data);
            }
            _ => {}
        }
    };
    assert_eq!(data, &b"cut"[..]);
    fill(&client, false, b"cut").await;

    subscriber.reject(place, "503 backend");
    let missed = loop {
        match next(&mut subscriber).await {
            Item::Missed { missed, through } => {
                subscriber.acknowledge(through);
                break missed;
            }
            Item::Delivery { delivery, .. } => panic!("before its missed: {delivery:?}"),
            _ => {}
        }
    };
    assert_eq!(missed.cause(), MissedCause::Retention);
    assert!(missed.sites.contains(&"shop".to_owned()), "{missed:?}");
    publish(&client, vec![event("shop", "k", b"after".to_vec(), false)]).await;
    assert_eq!(delivered(&mut subscriber).await.1, b"after");
}
