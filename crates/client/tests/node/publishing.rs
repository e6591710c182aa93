//! Publishing: one event whatever happens in between (P5), and errors in words.

use std::time::Duration;

use evermesh_client::{Error, Fault, Outcome, Publisher};
use evermesh_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::scripted::{Node, Place};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn events(count: usize) -> Vec<v1::Event> {
    vec![v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() }; count]
}

fn refused(code: Code, reason: &str, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "evermesh", []);
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, "not now", details)
}

#[tokio::test]
async fn p5_the_same_ids_are_sent_again_whatever_ended_the_tries_before() {
    let place = Place::new();
    let publisher = Publisher::new(place.client.clone());
    let call =
        tokio::spawn(
            async move { publisher.publish(events(3), v1::Assurance::Stored, PATIENCE).await },
        );
    // Nobody listened at first; then a node is killed with the call under way.
    let mut node = Node::start(&place.socket);
    let first = node.published().await;
    let ids: Vec<_> = first.request.events.iter().map(|event| event.id.clone()).collect();
    node.kill();
    let mut node = Node::start(&place.socket);
    let unknown = refused(Code::Unavailable, "OUTCOME_UNKNOWN", None);
    node.published().await.answer.send(Err(unknown)).unwrap();
    let full = refused(Code::ResourceExhausted, "JOURNAL_FULL", Some(Duration::from_millis(1)));
    node.published().await.answer.send(Err(full)).unwrap();
    assert_eq!(node.published().await.take(true), ids);

    let published = call.await.unwrap().unwrap();
    assert_eq!(published.assured, v1::Assurance::Stored);
    let taken: Vec<_> = published
        .outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Taken(taken) if taken.duplicate => taken.id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(taken, ids);
    let versions = ids.iter().map(|id| id.parse::<uuid::Uuid>().unwrap().get_version_num());
    assert!(versions.into_iter().all(|version| version == 7), "{ids:?}");
}

#[tokio::test]
async fn a_given_id_is_kept() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let publisher = Publisher::new(place.client.clone());
    let mut given = events(2);
    given[1].id = "mine".into();
    let call = publisher.publish(given, v1::Assurance::Stored, PATIENCE);
    let (published, ids) = tokio::join!(call, async { node.published().await.take(false) });
    assert_eq!(ids[1], "mine");
    assert_eq!(ids[0].len(), 36);
    assert_eq!(published.unwrap().outcomes.len(), 2);
}

#[tokio::test]
async fn what_retrying_does_not_help_is_tried_once() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let publisher = Publisher::new(place.client.clone());
    let call = publisher.publish(events(1), v1::Assurance::Stored, PATIENCE);
    let denied = refused(Code::PermissionDenied, "NO_RULE", None);
    let (published, ()) =
        tokio::join!(call, async { node.published().await.answer.send(Err(denied)).unwrap() });
    let error = published.unwrap_err();
    assert_eq!((error.reason(), error.fault()), (Some("NO_RULE"), Fault::Operator));
    assert!(!node.has_published());

    let many = publisher.publish(events(4097), v1::Assurance::Stored, PATIENCE).await;
    assert!(matches!(many, Err(Error::TooMuch { events: 4097, .. })), "{many:?}");
    let mut large = events(5);
    large.iter_mut().for_each(|event| event.data = vec![0; 250_000].into());
    let large = publisher.publish(large, v1::Assurance::Stored, PATIENCE).await;
    assert!(matches!(large, Err(Error::TooMuch { events: 5, .. })), "{large:?}");
    assert!(!node.has_published());
}

#[tokio::test]
async fn a_node_that_is_not_there_is_said_in_words() {
    let place = Place::new();
    let publisher = Publisher::new(place.client.clone());
    let error = publisher.publish(events(1), v1::Assurance::Stored, Duration::ZERO).await;
    let text = error.as_ref().unwrap_err().to_string();
    assert!(text.contains("no node answers at unix:/"), "{text}");
    assert!(text.contains("is the node running, with this path as [listen] local?"), "{text}");
    assert!(error.unwrap_err().is_retryable());

    Node::start(&place.socket).kill();
    let error = publisher.publish(events(1), v1::Assurance::Stored, Duration::ZERO).await;
    // Killed, it may still be about to close what it listened on.
    assert!(matches!(error, Err(Error::Unreachable { .. } | Error::Broken { .. })), "{error:?}");
}

#[tokio::test]
async fn a_thousand_publishes_are_one_connection() {
    let place = Place::new();
    let mut node = Node::start(&place.socket);
    let publisher = Publisher::new(place.client.clone());
    for _ in 0..1000 {
        let call = publisher.publish(events(1), v1::Assurance::Stored, PATIENCE);
        let (published, _) = tokio::join!(call, async { node.published().await.take(false) });
        published.unwrap();
    }
    assert_eq!(place.client.connections_opened(), 1);
}
