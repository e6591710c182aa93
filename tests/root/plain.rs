//! A publisher that tries nothing again, so that it hears what the node says first, and keeps what
//! it was assured.

use std::time::Duration;

use evermesh_client::{Client, Credentials, Publisher};
use evermesh_event::verdict::{Fate, Published};
use evermesh_proto::v1;
use evermesh_proto::v1::Assurance;
use tokio::runtime::Runtime;

use crate::node::Node;

/// How long a node may wait for its own disk, and longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// More calls than any fault here is away.
const CALLS_MAX: usize = 10_000;

pub(crate) struct Plain {
    client: Client,
    /// Events of each call.
    events: usize,
    /// Bytes of each event.
    data: usize,
    pub(crate) published: Published,
    calls: usize,
}

/// Why a call failed: the node's documented reason, or what else was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Plain {
    pub(crate) fn at(node: &Node, events: usize, data: usize) -> Self {
        let client = connect(node);
        Self { client, events, data, published: Published::default(), calls: 0 }
    }

    /// The node was started again.
    pub(crate) fn connect(&mut self, node: &Node) {
        self.client = connect(node);
    }

    /// The events of the next call.
    fn next(&mut self) -> Vec<v1::Event> {
        self.calls += 1;
        let event = |n| v1::Event {
            id: format!("p{}-{n}", self.calls),
            site: "shop".into(),
            r#type: "t".into(),
            data: vec![b'x'; self.data].into(),
            ..v1::Event::default()
        };
        let events: Vec<_> = (0..self.events).map(event).collect();
        events.iter().for_each(|event| self.published.note(&event.id, Fate::Unknown));
        events
    }

    fn assured(&mut self, events: &[v1::Event]) {
        events.iter().for_each(|event| self.published.note(&event.id, Fate::Assured));
    }

    /// One call.
    pub(crate) async fn publish(&mut self) -> Result<(), Refused> {
        let events = self.next();
        let wait_for = prost_types::Duration::try_from(PATIENCE).ok();
        let until = Assurance::Stored.into();
        let more = v1::PublishRequest { until, wait_for, ..Default::default() };
        let request = v1::PublishRequest { events: events.clone(), ..more };
        let answer = self.client.events().publish(request).await.map_err(|status| {
            let reason = status.metadata().get("evermesh-reason");
            let reason = reason.map_or("", |reason| reason.to_str().unwrap()).to_owned();
            Refused { reason, message: status.message().to_owned() }
        })?;
        assert!(answer.into_inner().assured() >= Assurance::Stored);
        self.assured(&events);
        Ok(())
    }

    /// Calls until something goes wrong; what.
    pub(crate) async fn until_refused(&mut self) -> Refused {
        while self.calls < CALLS_MAX {
            if let Err(refused) = self.publish().await {
                return refused;
            }
        }
        panic!("nothing failed");
    }

    /// One call, tried again until it is taken.
    pub(crate) async fn insist(&mut self) {
        let events = self.next();
        let publisher = Publisher::new(self.client.clone());
        let published = publisher.publish(events.clone(), Assurance::Stored, PATIENCE).await;
        assert_eq!(published.unwrap().assured, Assurance::Stored);
        self.assured(&events);
    }
}

fn connect(node: &Node) -> Client {
    Client::connect(&node.at().parse().unwrap(), &Credentials::default()).unwrap()
}

/// Something for it to run in; to be entered before anything connects.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
