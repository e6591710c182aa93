//! P1: what crosses a reject on its way here takes nothing back that is about to be sent.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use evermesh_event::{BlockBuilder, Sequence, StartId};
use evermesh_journal::Intake;

use super::super::fixture::{Node, at, event, other};
use super::*;

/// A node that holds an event of its own and behind it one of another node: two deliveries.
async fn node() -> Node {
    let node = Node::new();
    let intake = Intake { event: event("first"), sampled: false };
    node.journal().append(&Arc::from("editor"), vec![intake]).await.unwrap();
    let mut block = BlockBuilder::new(other(), StartId::new([1; 16]), Sequence::ZERO);
    block.push(at(1), &event("second"), false);
    node.journal().take(block.finish().unwrap()).await.unwrap();
    node
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
    let node = node().await;
    let mut deliver = node.stream(Offset::ZERO);
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
    let node = node().await;
    let mut deliver = node.stream(Offset::ZERO);
    let (_, first) = deliver.says().await;
    let (behind, second) = deliver.says().await;
    let mut ready = Some(behind);
    deliver.rejects(first, &mut ready).await;
    assert!(ready.is_none(), "the application would pass over it");
    deliver.delayed_until = None;
    assert_eq!(deliver.says().await.1, first);
    assert_eq!(deliver.says().await.1, second);
}
