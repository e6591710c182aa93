//! The Rust client's producer against a node that is killed: every event once, in order.

use std::time::Duration;

use evermesh_client::{Begin, Item, Options, Producer, Subscriber, entries};
use evermesh_proto::v1;
use evermesh_proto::v1::Assurance;
use rustix::process::Signal;

use crate::mesh::Mesh;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events of one part; the node is killed after each.
const PART: u64 = 1000;
/// This one is refused.
const BAD: u64 = 7;

fn event(number: u64) -> v1::Event {
    let site = if number == BAD { "" } else { "shop" };
    let key = number.to_string();
    v1::Event { site: site.into(), r#type: "t".into(), key, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_producer_hands_in_each_event_once_though_its_node_is_killed() {
    let mut mesh = Mesh::started(1);
    let mut producer = Producer::open(mesh.client(0), "import", Assurance::Stored).await.unwrap();
    assert_eq!(producer.highest_counter(), 0);
    for part in 0..3 {
        for number in part * PART + 1..=(part + 1) * PART {
            assert_eq!(producer.hand_in(event(number)).await.unwrap(), number);
        }
        mesh.nodes[0].end(Signal::KILL);
        mesh.nodes[0].start();
    }
    let closed = producer.close(PATIENCE).await;
    assert!(closed.error.is_none() && closed.unassured.is_empty(), "{closed:?}");
    assert_eq!(closed.flushed.through_counter, 3 * PART);
    let [(counter, refused)] = closed.flushed.refused.as_slice() else { panic!("{closed:?}") };
    assert_eq!((*counter, refused.reason.as_str()), (BAD, "SITE_MISSING"));

    // The next process of this name goes on, and hands in again what it is not sure of.
    let mut next = Producer::open(mesh.client(0), "import", Assurance::Stored).await.unwrap();
    assert_eq!(next.highest_counter(), 3 * PART);
    for number in 3 * PART - 100..=3 * PART + 100 {
        next.hand_in_at(number, event(number)).await.unwrap();
    }
    let flushed = next.flush(PATIENCE).await.unwrap();
    assert_eq!((flushed.through_counter, flushed.unassured.len()), (3 * PART + 100, 0));
    assert!(flushed.fence_token.is_some());

    let options = Options { from: Begin::Beginning, ..Options::default() };
    let mut subscriber = Subscriber::open(mesh.client(0), options).await.unwrap();
    let mut keys = Vec::new();
    loop {
        match subscriber.next().await.unwrap() {
            Item::Delivery { delivery, through } => {
                keys.extend(entries(&delivery, through).map(|(_, entry)| entry.event.unwrap().key));
                subscriber.acknowledge(through);
            }
            Item::CaughtUp { .. } => break,
            _ => {}
        }
    }
    let all = (1..=3 * PART + 100).filter(|number| *number != BAD);
    assert_eq!(keys, all.map(|number| number.to_string()).collect::<Vec<_>>());
}
