//! Subscribing: nothing lost and nothing acknowledged delivered again, though the node is killed.

use evermesh_client::{Begin, Error, Item, Options, Subscriber};
use evermesh_event::{Offset, ResumeToken, Run};
use evermesh_proto::v1;
use tonic::{Code, Status};
use v1::subscribe_open::From;

use crate::scripted::{Node, Place, Subscribed};

fn at(run: u8, offset: u64) -> ResumeToken {
    ResumeToken { run: Run::from_slice(&[run; 32]).unwrap(), offset: Offset::from_u64(offset) }
}

fn options(from: Begin) -> Options {
    Options { sites: vec!["shop".into()], from, ..Default::default() }
}

/// Opens a subscription, and plays the node's part of it.
async fn open(place: &Place, node: &mut Node, from: Begin) -> (Subscriber, Subscribed) {
    let subscriber = Subscriber::open(place.client.clone(), options(from));
    let (subscriber, mut stream) = tokio::join!(subscriber, async {
        let stream = node.subscribed().await;
        stream.opened(1, 5).await;
        stream
    });
    let open = stream.heard_open().await;
    assert_eq!(open.sites, ["shop"]);
    let mut subscriber = subscriber.unwrap();
    let opened = subscriber.next().await.unwrap();
    assert_eq!(opened, Item::Opened { node: "web-1".into(), begins: at(1, 5) });
    (subscriber, stream)
}

/// The keys of a delivery, and its place.
async fn delivered(subscriber: &mut Subscriber) -> (Vec<String>, ResumeToken) {
    match subscriber.next().await.unwrap() {
        Item::Delivery { delivery, through } => {
            let entries = delivery.entries().map(|entry| entry.unwrap().event.unwrap().key);
            (entries.collect(), through)
        }
        other => panic!("not a delivery: {other:?}"),
    }
}

#[tokio::test]
async fn p2_p3_a_killed_node_is_resumed_after_the_last_acknowledged() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut subscriber, mut stream) = open(&place, &mut node, Begin::Live).await;
    stream.deliver(&[6, 8]).await;
    let (keys, through) = delivered(&mut subscriber).await;
    assert_eq!((keys, through), (vec!["6".to_owned(), "8".to_owned()], at(1, 8)));
    subscriber.acknowledge(through);
    assert_eq!(stream.heard_acknowledge().await, 8);
    stream.deliver(&[9]).await;
    delivered(&mut subscriber).await;
    node.kill();
    drop(stream);

    let interrupted = subscriber.next().await.unwrap();
    assert!(matches!(interrupted, Item::Interrupted(_)), "{interrupted:?}");
    // The node is away for a while: the subscriber goes on trying.
    let player = async {
        let mut node = Node::start(&place.socket);
        let mut stream = node.subscribed().await;
        let open = stream.heard_open().await;
        assert_eq!(open.from, Some(From::ResumeToken(at(1, 8).to_proto())));
        stream.opened(2, 8).await;
        stream.deliver(&[9, 10]).await;
        (node, stream)
    };
    let (opened, (_node, mut stream)) = tokio::join!(subscriber.next(), player);
    assert_eq!(opened.unwrap(), Item::Opened { node: "web-1".into(), begins: at(2, 8) });
    let (keys, through) = delivered(&mut subscriber).await;
    assert_eq!(keys, ["9", "10"]);
    subscriber.acknowledge(through);
    assert_eq!(stream.heard_acknowledge().await, 10);
    assert_eq!(subscriber.resume_token(), Some(at(2, 10)));
}

#[tokio::test]
async fn closing_waits_until_the_node_has_the_last_acknowledgement() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut subscriber, mut stream) = open(&place, &mut node, Begin::Beginning).await;
    stream.deliver(&[6]).await;
    let (_, through) = delivered(&mut subscriber).await;
    subscriber.acknowledge(through);
    let player = async move {
        assert_eq!(stream.heard_acknowledge().await, 6);
        assert_eq!(stream.heard().await, None, "half-closed");
    };
    let (closed, ()) = tokio::join!(subscriber.close(), player);
    assert!(closed);
}

#[tokio::test]
async fn only_the_newest_acknowledgement_is_said_and_rejects_follow_it() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut subscriber, mut stream) = open(&place, &mut node, Begin::After(at(1, 5))).await;
    stream.deliver(&[6, 7, 8]).await;
    stream.deliver(&[9]).await;
    delivered(&mut subscriber).await;
    // Nothing is polled in between, so nothing can be sent in between.
    subscriber.acknowledge(at(1, 6));
    subscriber.acknowledge(at(1, 7));
    subscriber.reject(at(1, 8), "the cache does not answer");
    assert_eq!(stream.heard_acknowledge().await, 7);
    let reject = v1::Reject { offset: 8, reason: "the cache does not answer".into() };
    assert_eq!(stream.heard().await, Some(v1::subscribe_request::Message::Reject(reject)));
    // What was on its way is not returned: it comes again, after the one that was rejected.
    stream.deliver(&[8, 9]).await;
    let (keys, through) = delivered(&mut subscriber).await;
    assert_eq!((keys.len(), through), (2, at(1, 9)));
    subscriber.acknowledge(through);
    assert_eq!(stream.heard_acknowledge().await, 9);
}

#[tokio::test]
async fn p9_it_pings_by_itself_and_is_fresh_while_every_lease_runs() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut subscriber, mut stream) = open(&place, &mut node, Begin::Live).await;
    let fresh = subscriber.freshness().clone();
    assert!(!fresh.is_fresh());
    let ping_number = stream.heard_ping().await;
    let lease = |seconds| v1::MemberLease {
        node: "web-1".into(),
        remains: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let echo = |ping_number, seconds| {
        let leases = vec![lease(seconds)];
        v1::subscribe_response::Message::Freshness(v1::Freshness { ping_number, leases })
    };
    stream.say(echo(ping_number, 3600)).await;
    stream.deliver(&[6]).await;
    delivered(&mut subscriber).await;
    assert!(fresh.is_fresh());
    let later = stream.heard_ping().await;
    assert!(later > ping_number);
}

#[tokio::test]
async fn a_durable_name_is_asked_for_again_and_its_missed_is_acknowledged_anew() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let name = Begin::Name("varnish".into());
    let (mut subscriber, stream) = open(&place, &mut node, name).await;
    let told = || {
        let missed = Some(v1::Missed { sites: vec!["shop".into()], ..Default::default() });
        v1::subscribe_response::Message::Missed(v1::MissedNotice { missed, offset: 5 })
    };
    stream.say(told()).await;
    assert!(matches!(subscriber.next().await.unwrap(), Item::Missed { .. }));
    // It breaks before that was acknowledged; the other stream tells it again.
    stream.fail(Status::unavailable("gone")).await;
    assert!(matches!(subscriber.next().await.unwrap(), Item::Interrupted(_)));
    let player = async {
        let mut stream = node.subscribed().await;
        let open = stream.heard_open().await;
        let name = From::DurableName("varnish".into());
        assert_eq!(open.from, Some(name));
        stream.opened(1, 5).await;
        stream.say(told()).await;
        stream
    };
    let hears = async {
        assert!(matches!(subscriber.next().await.unwrap(), Item::Opened { .. }));
        assert!(matches!(subscriber.next().await.unwrap(), Item::Missed { .. }));
        subscriber.acknowledge(at(1, 5));
        subscriber
    };
    let (mut stream, _subscriber) = tokio::join!(player, hears);
    assert_eq!(stream.heard_acknowledge().await, 5);
}

#[tokio::test]
async fn a_missed_is_told_with_its_place_and_a_refusal_ends_it() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let (mut subscriber, mut stream) = open(&place, &mut node, Begin::After(at(9, 77))).await;
    let missed = v1::Missed { sites: vec!["shop".into()], ..Default::default() };
    let notice = v1::MissedNotice { missed: Some(missed.clone()), offset: 5 };
    stream.say(v1::subscribe_response::Message::Missed(notice)).await;
    assert_eq!(subscriber.resume_token(), Some(at(9, 77)));
    let through = at(1, 5);
    assert_eq!(subscriber.next().await.unwrap(), Item::Missed { missed, through });
    subscriber.acknowledge(through);
    assert_eq!(stream.heard_acknowledge().await, 5);
    assert_eq!(subscriber.resume_token(), Some(through));
    stream.fail(Status::new(Code::PermissionDenied, "no longer")).await;
    let error = subscriber.next().await.unwrap_err();
    assert!(matches!(&error, Error::Refused(no) if no.message == "no longer"), "{error:?}");
}

#[tokio::test]
async fn a_node_that_is_not_there_fails_the_opening() {
    let place = Place::new();
    let opened = Subscriber::open(place.client.clone(), options(Begin::Live)).await;
    assert!(matches!(opened, Err(Error::Unreachable { retry: true, .. })), "{opened:?}");
}

#[tokio::test]
async fn a_node_that_goes_away_during_the_opening_is_waited_for() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let opening = Subscriber::open(place.client.clone(), options(Begin::Name("varnish".into())));
    let player = async {
        let mut stream = node.subscribed().await;
        stream.heard_open().await;
        node.kill();
        let mut node = Node::start(&place.socket);
        let mut stream = node.subscribed().await;
        assert_eq!(stream.heard_open().await.from, Some(From::DurableName("varnish".into())));
        stream.opened(1, 5).await;
        (node, stream)
    };
    let (subscriber, _playing) = tokio::join!(opening, player);
    let opened = subscriber.unwrap().next().await.unwrap();
    assert!(matches!(opened, Item::Opened { .. }), "{opened:?}");
}
