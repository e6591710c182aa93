//! Producing: what is not assured is handed in again, under the same counters and ids (P5).

use std::time::Duration;

use evermesh_client::{Error, Producer, UNASSURED_EVENTS_MAX};
use evermesh_proto::v1;
use futures_util::FutureExt as _;
use tonic::{Code, Status};

use crate::scripted::{Node, Place, Produced};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn event() -> v1::Event {
    v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() }
}

async fn open(place: &Place, node: &mut Node, highest: u64) -> (Producer, Produced) {
    let opening = Producer::open(place.client.clone(), "import", v1::Assurance::Stored);
    let (producer, stream) = tokio::join!(opening, async {
        let mut stream = node.produced().await;
        let open = stream.opened(highest).await;
        assert_eq!((open.producer.as_str(), open.until()), ("import", v1::Assurance::Stored));
        stream
    });
    (producer.unwrap(), stream)
}

#[tokio::test]
async fn p5_after_a_kill_what_is_not_assured_is_handed_in_again() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut producer, mut stream) = open(&place, &mut node, 40).await;
    assert_eq!(producer.highest_counter(), 40);
    for counter in 41..=50 {
        assert_eq!(producer.hand_in(event()).await.unwrap(), counter);
    }
    let first = stream.events(10).await;
    stream.assured(43).await;
    stream.refused(45).await;
    // Both are known here once the counters say so.
    let flushed = loop {
        let flushed = producer.flush(Duration::ZERO).await.unwrap();
        if !flushed.refused.is_empty() {
            break flushed;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((flushed.through_counter, flushed.refused[0].0), (43, 45));
    assert_eq!(flushed.unassured, [44, 46, 47, 48, 49, 50]);
    node.kill();
    drop(stream);

    let mut node = Node::start(&place.socket);
    let mut stream = node.produced().await;
    stream.opened(47).await;
    let again = stream.events(6).await;
    let expected = first.into_iter().filter(|(n, _)| ![41, 42, 43, 45].contains(n));
    assert_eq!(again, expected.collect::<Vec<_>>());
    stream.assured(50).await;
    let closed = producer.close(PATIENCE).await;
    assert_eq!((closed.flushed.through_counter, closed.unassured.len()), (50, 0));
    assert!(closed.error.is_none() && closed.flushed.refused.is_empty());
}

#[tokio::test]
async fn what_is_not_assured_in_time_is_given_back() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut producer, mut stream) = open(&place, &mut node, 0).await;
    producer.hand_in_at(7, event()).await.unwrap();
    producer.hand_in_at(12, event()).await.unwrap();
    let error = producer.hand_in_at(12, event()).await.unwrap_err();
    assert!(matches!(error, Error::Counter { counter: 12, last: 12 }), "{error}");
    assert_eq!(stream.events(1).await[0].0, 7);
    let (counter, id) = stream.events(1).await.remove(0);
    stream.assured(7).await;
    while producer.flush(Duration::ZERO).await.unwrap().unassured.len() > 1 {
        tokio::task::yield_now().await;
    }
    let closed = producer.close(Duration::from_millis(1)).await;
    assert_eq!(closed.flushed.through_counter, 7);
    let [(given, event)] = closed.unassured.as_slice() else { panic!("{closed:?}") };
    assert_eq!((*given, &event.id), (counter, &id), "as it was handed in");
}

#[tokio::test]
async fn p7_who_hands_in_more_than_is_assured_waits() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut producer, mut stream) = open(&place, &mut node, 0).await;
    for _ in 0..UNASSURED_EVENTS_MAX {
        producer.hand_in(event()).await.unwrap();
    }
    let all = stream.events(UNASSURED_EVENTS_MAX).await;
    let mut more = Box::pin(producer.hand_in(event()));
    assert!(more.as_mut().now_or_never().is_none());
    stream.assured(1).await;
    let counter = more.await.unwrap();
    assert_eq!(counter, all.len() as u64 + 1);
    assert_eq!(stream.events(1).await[0].0, counter);

    let large = v1::Event { data: vec![0; 1024 * 1024].into(), ..event() };
    let error = producer.hand_in(large).await.unwrap_err();
    assert!(matches!(error, Error::TooMuch { events: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_refusal_is_heard_once_and_the_next_call_tries_again() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut producer, mut stream) = open(&place, &mut node, 0).await;
    producer.hand_in(event()).await.unwrap();
    stream.events(1).await;
    stream.fail(Status::new(Code::PermissionDenied, "no longer")).await;
    let error = producer.flush(PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(no) if no.message == "no longer"), "{error}");
    let player = async {
        let mut stream = node.produced().await;
        stream.opened(1).await;
        assert_eq!(stream.events(1).await[0].0, 1);
        stream.assured(1).await;
        stream
    };
    let (flushed, stream) = tokio::join!(producer.flush(PATIENCE), player);
    assert_eq!(flushed.unwrap().through_counter, 1);

    // Somebody else hands in under the same name: one of them would lose events.
    stream.fail(Status::unavailable("gone")).await;
    producer.hand_in(event()).await.unwrap();
    node.produced().await.opened(900).await;
    let error = producer.flush(PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Shared { highest: 900, handed_in: 2, .. }), "{error}");
}
