//! What one subscription hears, and that it holds up no other.

use std::time::Duration;

use evermesh_client::Client;
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::mesh::Mesh;

pub(crate) type Stream =
    (mpsc::Sender<v1::SubscribeRequest>, tonic::Streaming<v1::SubscribeResponse>);

pub(crate) async fn subscribe(client: &Client, open: v1::SubscribeOpen) -> Stream {
    let (say, said) = mpsc::channel(16);
    say.send(v1::SubscribeRequest { message: Some(Say::Open(open)) }).await.unwrap();
    let heard = client.events().subscribe(ReceiverStream::new(said)).await.unwrap();
    (say, heard.into_inner())
}

pub(crate) fn beginning() -> Option<v1::subscribe_open::From> {
    Some(v1::subscribe_open::From::Beginning(v1::Beginning {}))
}

pub(crate) async fn publish(client: &Client, site: &str, source: &str, keys: &[&str]) {
    let event = |key: &&str| v1::Event {
        site: site.into(),
        r#type: if key.starts_with('p') { "price".into() } else { "cache.invalidate".into() },
        key: (*key).to_owned(),
        source: source.into(),
        ..Default::default()
    };
    let events = keys.iter().map(event).collect();
    let request = v1::PublishRequest { events, ..Default::default() };
    client.events().publish(request).await.unwrap();
}

/// The keys of the next events, with their offsets, until there are so many.
pub(crate) async fn keys(stream: &mut Stream, count: usize) -> Vec<(u64, String)> {
    let mut keys = Vec::new();
    while keys.len() < count {
        let Some(Heard::Delivery(delivery)) = stream.1.message().await.unwrap().unwrap().message
        else {
            continue;
        };
        for (n, entry) in delivery.entries().enumerate() {
            let offset = delivery.offsets.get(n).copied();
            let offset = offset.unwrap_or(delivery.first_offset + n as u64);
            keys.push((offset, entry.unwrap().event.unwrap().key));
        }
    }
    keys
}

fn only(keys: Vec<(u64, String)>) -> Vec<String> {
    keys.into_iter().map(|(_, key)| key).collect()
}

#[tokio::test]
async fn sites_types_and_excluded_sources() {
    let mesh = Mesh::started(1);
    let client = mesh.client(0);
    // One call is one block; its kinds are mixed, so each entry is looked at.
    publish(&client, "shop", "me", &["a", "p1", "b"]).await;
    publish(&client, "intranet", "you", &["c", "p2"]).await;
    publish(&client, "shop", "you", &["d", "p3"]).await;
    let hears = async |open: v1::SubscribeOpen, count| {
        let mut stream = subscribe(&client, v1::SubscribeOpen { from: beginning(), ..open }).await;
        only(keys(&mut stream, count).await)
    };
    let open = v1::SubscribeOpen::default;
    let sites = v1::SubscribeOpen { sites: vec!["shop".into()], ..open() };
    assert_eq!(hears(sites, 5).await, ["a", "p1", "b", "d", "p3"]);
    let types = v1::SubscribeOpen { types: vec!["price".into()], ..open() };
    assert_eq!(hears(types, 3).await, ["p1", "p2", "p3"]);
    let others = v1::SubscribeOpen { exclude_sources: vec!["me".into()], ..open() };
    assert_eq!(hears(others, 4).await, ["c", "p2", "d", "p3"]);
    assert_eq!(hears(open(), 7).await, ["a", "p1", "b", "c", "p2", "d", "p3"]);
}

#[tokio::test]
async fn no_more_is_on_its_way_than_the_subscription_allows() {
    let mesh = Mesh::started(1);
    let client = mesh.client(0);
    let all: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    publish(&client, "shop", "", &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let open = v1::SubscribeOpen { from: beginning(), max_unacknowledged: 3, ..Default::default() };
    let mut stream = subscribe(&client, open).await;
    let mut heard = Vec::new();
    while heard.len() < all.len() {
        let next = keys(&mut stream, 1).await;
        assert!(next.len() <= 3, "{next:?}");
        // Nothing comes before something is acknowledged: an echo overtakes what is not sent.
        let ping = v1::SubscribePing { number: heard.len() as u64 };
        stream.0.send(v1::SubscribeRequest { message: Some(Say::Ping(ping)) }).await.unwrap();
        let window = heard.len() + 3;
        heard.extend(next);
        loop {
            match stream.1.message().await.unwrap().unwrap().message {
                Some(Heard::Freshness(_)) => break,
                Some(Heard::CaughtUp(_)) => {}
                other => panic!("before an acknowledgement of {window}: {other:?}"),
            }
        }
        let through_offset = heard.last().unwrap().0;
        let message = Some(Say::Acknowledge(v1::Acknowledge { through_offset }));
        stream.0.send(v1::SubscribeRequest { message }).await.unwrap();
    }
    assert_eq!(only(heard), all);
}

#[tokio::test]
async fn p8_a_subscriber_that_does_not_read_holds_up_nobody() {
    let mesh = Mesh::started(2);
    let client = mesh.client(1);
    let open = || v1::SubscribeOpen {
        from: beginning(),
        max_unacknowledged: 65_536,
        ..Default::default()
    };
    // It has all the credit there is, and never reads.
    let _stuck = subscribe(&mesh.client(1), open()).await;
    let mut reading = subscribe(&client, open()).await;
    let editor = mesh.client(0);
    let data = bytes::Bytes::from(vec![7; 100 * 1024]);
    for n in 0..100 {
        let events = (0..5).map(|m| v1::Event {
            site: "shop".into(),
            r#type: "t".into(),
            key: format!("{n}-{m}"),
            data: data.clone(),
            ..Default::default()
        });
        let request = v1::PublishRequest { events: events.collect(), ..Default::default() };
        editor.events().publish(request).await.unwrap();
    }
    // 50 MB, far beyond what its connection takes: the other one hears all of it meanwhile.
    let all = tokio::time::timeout(Duration::from_secs(60), keys(&mut reading, 500)).await.unwrap();
    assert_eq!(all.last().unwrap().1, "99-4");
}
