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
    let mut given_up = 0;
    while given_up < 30 {
        let client = mesh.client(0);
        let from = Begin::Name("cache".to_owned());
        let options = || Options { from: from.clone(), ..Options::default() };
        // The connection is there.
        drop(Subscriber::open(client.clone(), options()).await.unwrap());
        node.signal(Signal::STOP);
        // The signal may come a moment after it was sent, when all is open already.
        let first = timeout(ON_ITS_WAY, Subscriber::open(client.clone(), options())).await;
        given_up += usize::from(first.is_err());
        let opening = tokio::spawn(Subscriber::open(client.clone(), options()));
        let pause = timeout(ON_ITS_WAY, std::future::pending::<()>()).await;
        assert!(pause.is_err(), "both are on their way");
        node.signal(Signal::CONT);
        let mut subscriber = timeout(SOON, opening).await.unwrap().unwrap().unwrap();
        caught_up(&mut subscriber).await;
        // And none comes after it.
        let more = timeout(ON_ITS_WAY, subscriber.next()).await;
        assert!(!matches!(more, Ok(Ok(Item::TakenOver(_)) | Err(_))), "{more:?}");
    }
}
