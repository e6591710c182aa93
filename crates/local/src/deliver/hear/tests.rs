//! P1: what crosses a reject on its way here takes nothing back that is about to be sent.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evermesh_event::world::{Clock, Random};
use evermesh_event::{
    BlockBuilder, Fill, Filter, JournalId, NodeName, Origin, Sequence, StartId, ValidEvent,
    validate,
};
use evermesh_identity::{Identity, Rules};
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Intake, Journal, Limits, Options, Storage, Writer};
use evermesh_telemetry::Spans;

use super::*;
use crate::service::{Local, Parts};
use crate::subscribe::Begin;
use crate::subscriptions::SubscriptionView;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH
    }

    fn boot(&self) -> Duration {
        Duration::ZERO
    }
}

impl Random for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn event(id: &str) -> ValidEvent {
    let event = v1::Event {
        id: id.into(),
        site: "shop".into(),
        r#type: "t".into(),
        ..v1::Event::default()
    };
    validate(event, Fill { id: uuid::Uuid::nil(), now: UNIX_EPOCH }).unwrap()
}

/// A node that holds an event of its own and behind it one of another node: two deliveries.
async fn node() -> (Local, Writer) {
    let node = NodeName::new("web-1").unwrap();
    let (journal, writer) = Journal::open(Options {
        node: node.clone(),
        storage: Arc::new(MemoryDisk::new()) as Arc<dyn Storage>,
        clock: Arc::new(Still),
        random: Arc::new(Still),
        limits: Limits::default(),
    })
    .unwrap();
    let intake = Intake { event: event("first"), sampled: false };
    journal.append(&Arc::from("editor"), vec![intake]).await.unwrap();
    let journal_id = JournalId::new([2; 16]);
    let other = Origin { node: NodeName::new("web-2").unwrap(), journal: journal_id };
    let mut block = BlockBuilder::new(other, StartId::new([1; 16]), Sequence::ZERO);
    block.push(Sequence::from_u64((1 << 40) + 1), &event("second"), false);
    journal.take(block.finish().unwrap()).await.unwrap();
    let local = Local::new(Parts {
        journal,
        rules: Arc::new(Rules::new(vec![], vec![], 0).unwrap()),
        clock: Arc::new(Still),
        random: Arc::new(Still),
        spans: Spans::off(),
        node,
        lease: Duration::from_secs(1),
    });
    (local, writer)
}

fn deliver<'a>(local: &'a Local, who: &'a Identity) -> Deliver<'a> {
    let filter = Filter::new(None, vec![], vec![]).unwrap();
    let view = SubscriptionView {
        identity: who.text().clone(),
        sites: vec![],
        delivered: Offset::ZERO,
        acknowledged: Offset::ZERO,
        unacknowledged: 0,
        durable_name: String::new(),
    };
    let place = local.subscriptions.open(view, None).unwrap();
    let begin = Begin { after: Offset::ZERO, missed: None, name: None };
    Deliver::new(local, who, filter, 16, begin, place)
}

impl Deliver<'_> {
    /// What is said next, and the offset of its only entry.
    async fn says(&mut self) -> (Message, u64) {
        if self.batches.is_empty() {
            let records = self.reader.next(1 << 20).await.unwrap();
            self.batches.extend(records);
        }
        let message = self.next_message().unwrap().unwrap();
        let Message::Delivery(delivery) = &message else { panic!("{message:?}") };
        let offset = delivery.first_offset;
        (message, offset)
    }

    async fn rejects(&mut self, offset: u64, ready: &mut Option<Message>) {
        let reject = v1::Reject { offset, reason: "503".into() };
        let said = v1::SubscribeRequest { message: Some(Said::Reject(reject)) };
        assert!(self.hear(said, ready).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn p1_a_reject_that_crossed_another_takes_back_nothing_that_is_about_to_be_sent() {
    let (local, _writer) = node().await;
    let who = Identity::local(0, 0, None, None);
    let mut deliver = deliver(&local, &who);
    let (_, first) = deliver.says().await;
    let (_, second) = deliver.says().await;
    assert!(first < second);
    let mut ready = None;
    deliver.rejects(first, &mut ready).await;
    // Its delay is over: it is about to come again, when the reject of the second one arrives,
    // which the application said before it could know.
    deliver.delayed_until = None;
    let (again, offset) = deliver.says().await;
    assert_eq!(offset, first);
    ready = Some(again);
    deliver.rejects(second, &mut ready).await;
    let Some(Message::Delivery(kept)) = ready.take() else { panic!("it counts as delivered") };
    assert_eq!((kept.first_offset, kept.attempt), (first, 2));
    assert!(deliver.delayed_until.is_none(), "nothing new was rejected");
    assert_eq!(deliver.says().await.1, second, "and the other one behind it, as was said");
}

#[tokio::test]
async fn a_reject_of_what_was_delivered_takes_back_what_is_about_to_be_sent() {
    let (local, _writer) = node().await;
    let who = Identity::local(0, 0, None, None);
    let mut deliver = deliver(&local, &who);
    let (_, first) = deliver.says().await;
    let (behind, second) = deliver.says().await;
    let mut ready = Some(behind);
    deliver.rejects(first, &mut ready).await;
    assert!(ready.is_none(), "the application would pass over it");
    deliver.delayed_until = None;
    assert_eq!(deliver.says().await.1, first);
    assert_eq!(deliver.says().await.1, second);
}
