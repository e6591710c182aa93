//! A durable name is not taken over by an opening that its own subscriber had given up.

use std::time::Duration;

use evermesh_client::{Begin, Item, Options, Subscriber};
use rustix::process::Signal;
use tokio::time::timeout;

use crate::mesh::Mesh;

/// Long enough that a request is on its way to a node that does not read.
const ON_ITS_WAY: Duration = Duration::from_millis(50);
const SOON: Duration = Duration::from_secs(10);

async fn caught_up(subscriber: &mut Subscriber) {
    loop {
        match timeout(SOON, subscriber.next()).await.unwrap().unwrap() {
            Item::CaughtUp { .. } => return,
            Item::Missed { through, .. } => subscriber.acknowledge(through),
            Item::TakenOver(by) => panic!("taken over by its own opening before: {by:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_opening_that_was_given_up_takes_nothing_over() {
    let mesh = Mesh::started(1);
    let node = &mesh.nodes[0];
    for _ in 0..30 {
        let client = mesh.client(0);
        let from = Begin::Name("cache".to_owned());
        let options = || Options { from: from.clone(), ..Options::default() };
        // The connection is there.
        drop(Subscriber::open(client.clone(), options()).await.unwrap());
        node.signal(Signal::STOP);
        let given_up = Subscriber::open(client.clone(), options());
        assert!(timeout(ON_ITS_WAY, given_up).await.is_err());
        let mut opening = Box::pin(Subscriber::open(client.clone(), options()));
        assert!(timeout(ON_ITS_WAY, &mut opening).await.is_err());
        node.signal(Signal::CONT);
        let mut subscriber = timeout(SOON, opening).await.unwrap().unwrap();
        caught_up(&mut subscriber).await;
        // And nothing comes after it.
        let more = timeout(ON_ITS_WAY, subscriber.next()).await;
        assert!(!matches!(more, Ok(Ok(Item::TakenOver(_)) | Err(_))), "{more:?}");
    }
}
