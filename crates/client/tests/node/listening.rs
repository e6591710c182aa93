//! Listening: a handler is called in order, acknowledged for, and may fail.

use evermesh_client::{Error, Freshness, Handler, Options, listen};
use evermesh_proto::v1;
use tokio::sync::{mpsc, oneshot};
use v1::subscribe_request::Message as Said;
use v1::subscribe_response::Message;

use crate::scripted::{Node, Place, Subscribed};

/// Tells what it was called with, and does what keys say.
struct Telling(mpsc::UnboundedSender<String>);

impl Telling {
    fn tell(&self, what: &str) {
        self.0.send(what.to_owned()).unwrap();
    }
}

impl Handler for Telling {
    async fn event(&mut self, entry: v1::Entry) -> Result<(), String> {
        let key = entry.event.unwrap().key;
        self.tell(&key);
        match key.as_str() {
            "8" => Err("é".repeat(300)),
            "9" => panic!("at {key}"),
            _ => Ok(()),
        }
    }

    async fn missed(&mut self, missed: v1::Missed) {
        self.tell("missed");
        assert!(missed.sites.is_empty(), "of one site only");
    }

    async fn caught_up(&mut self, _: v1::CaughtUp) {
        self.tell("caught up");
    }

    fn opened(&mut self, freshness: &Freshness) {
        assert!(!freshness.is_fresh());
        self.tell("opened");
    }
}

struct Listening {
    stream: Subscribed,
    told: mpsc::UnboundedReceiver<String>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), Error>>,
}

async fn listening(place: &Place, node: &mut Node) -> Listening {
    let (tell, told) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let client = place.client.clone();
    let ended = tokio::spawn(async move {
        let stopped = async { stopped.await.unwrap_or_default() };
        listen(client, Options::default(), &mut Telling(tell), stopped).await
    });
    let mut stream = node.subscribed().await;
    stream.opened(1, 5).await;
    stream.heard_open().await;
    Listening { stream, told, stop, ended }
}

fn missed(sites: &[&str]) -> Message {
    let sites = sites.iter().map(ToString::to_string).collect();
    let missed = Some(v1::Missed { sites, ..Default::default() });
    Message::Missed(v1::MissedNotice { missed, offset: 12 })
}

#[tokio::test]
async fn what_returned_is_acknowledged_and_what_failed_or_panicked_is_rejected() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let mut listening = listening(&place, &mut node).await;
    let stream = &mut listening.stream;
    stream.deliver(&[6, 7, 8, 9]).await;
    assert_eq!(stream.heard_acknowledge().await, 7);
    let Some(Said::Reject(reject)) = stream.heard().await else { panic!("no reject") };
    assert_eq!(reject.offset, 8);
    assert_eq!(reject.reason, "é".repeat(256), "what a node takes of it");
    // On its way when the event was rejected: it is true only once that has come again.
    stream.say(Message::CaughtUp(v1::CaughtUp { offset: 9, ..Default::default() })).await;
    // The event is set aside, and the next one panics.
    let dead = v1::MissedNotice { missed: Some(v1::Missed::default()), offset: 8 };
    stream.say(Message::Missed(dead)).await;
    assert_eq!(stream.heard_acknowledge().await, 8);
    stream.deliver(&[9]).await;
    let Some(Said::Reject(reject)) = stream.heard().await else { panic!("no reject") };
    assert_eq!(reject.offset, 9);
    assert!(reject.reason.ends_with(": at 9"), "{}", reject.reason);
    let dead = v1::MissedNotice { missed: Some(v1::Missed::default()), offset: 9 };
    stream.say(Message::Missed(dead)).await;
    assert_eq!(stream.heard_acknowledge().await, 9);
    stream.deliver(&[10]).await;
    assert_eq!(stream.heard_acknowledge().await, 10);
    listening.stop.send(()).unwrap();
    assert!(listening.stream.heard().await.is_none(), "it half-closes");
    drop(listening.stream);
    listening.ended.await.unwrap().unwrap();
    let mut told = Vec::new();
    while let Some(what) = listening.told.recv().await {
        told.push(what);
    }
    let expected = ["opened", "6", "7", "8", "missed", "9", "missed", "caught up", "10"];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_missed_that_could_not_be_handled_ends_it_unacknowledged() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let listening = listening(&place, &mut node).await;
    listening.stream.say(missed(&["shop"])).await;
    let error = listening.ended.await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Panicked { during: "missed", .. }), "{error}");
    assert!(error.to_string().contains("of one site only"), "{error}");
}

#[tokio::test]
async fn it_ends_when_a_newer_stream_took_the_name() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let listening = listening(&place, &mut node).await;
    listening.stream.say(Message::TakenOver(v1::TakenOver { by: "local:shop".into() })).await;
    let error = listening.ended.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TakenOver { .. }), "{error}");
}
