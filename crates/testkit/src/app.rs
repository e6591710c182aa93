//! Applications of a simulation: a publisher that tries until it is assured, and a subscriber that
//! resumes. Both record what they see; neither knows what is done to the nodes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evermesh_event::verdict::{Fate, History, Published};
use evermesh_event::{Offset, ResumeToken, Run, Sequence};
use evermesh_proto::v1;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::net::channel;

/// The site of every simulated event.
pub const SITE: &str = "shop";
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a call may take before it is tried anew: a partition swallows packets without a word.
const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// What is shared between an application and who judges it.
pub type Shared<T> = Arc<Mutex<T>>;

/// Looks at what an application recorded.
pub fn with<T, R>(shared: &Shared<T>, look: impl FnOnce(&mut T) -> R) -> R {
    look(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Publishes so many events at a node, one batch after the other, each until it is STORED.
pub async fn publisher(
    host: String,
    batches: Vec<usize>,
    pause: Duration,
    published: Shared<Published>,
) {
    for (batch, count) in batches.into_iter().enumerate() {
        let events: Vec<_> = (0..count)
            .map(|n| v1::Event {
                id: format!("{host}-{batch}-{n}"),
                site: SITE.into(),
                r#type: "t".into(),
                key: format!("k{n}"),
                ..Default::default()
            })
            .collect();
        with(&published, |published| {
            events.iter().for_each(|event| published.note(&event.id, Fate::Unknown));
        });
        while !stored(&host, &events).await {
            tokio::time::sleep(AGAIN).await;
        }
        with(&published, |published| {
            events.iter().for_each(|event| published.note(&event.id, Fate::Assured));
        });
        tokio::time::sleep(pause).await;
    }
}

async fn stored(host: &str, events: &[v1::Event]) -> bool {
    let call = async {
        let mut node = EventReplicationClient::new(channel(host).await.ok()?);
        let request = v1::PublishRequest { events: events.to_vec(), ..Default::default() };
        let done = node.publish(request).await.ok()?.into_inner();
        let taken = done
            .results
            .iter()
            .all(|result| matches!(result.outcome, Some(v1::publish_result::Outcome::Taken(_))));
        Some(taken && done.assured() >= v1::Assurance::Stored)
    };
    matches!(tokio::time::timeout(CALL_DEADLINE, call).await, Ok(Some(true)))
}

/// Hears everything at a node from the beginning, acknowledges in its own time, and resumes after
/// the last acknowledgement whenever its stream ends.
pub async fn subscriber(host: String, history: Shared<History>) {
    let mut from = From::Beginning(v1::Beginning {});
    loop {
        if let Ok(channel) = channel(&host).await
            && let Some(token) = hear(channel, &from, &history).await
        {
            from = From::ResumeToken(token.to_proto());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One stream, until it ends; the place of the last acknowledgement, if there was one.
async fn hear(channel: Channel, from: &From, history: &Shared<History>) -> Option<ResumeToken> {
    let open = v1::SubscribeOpen {
        sites: vec![SITE.into()],
        from: Some(from.clone()),
        max_unacknowledged: 16,
        ..Default::default()
    };
    let (say, said) = mpsc::channel(4);
    say.send(v1::SubscribeRequest { message: Some(Say::Open(open)) }).await.ok()?;
    let mut node = EventReplicationClient::new(channel);
    let opening = tokio::time::timeout(CALL_DEADLINE, node.subscribe(ReceiverStream::new(said)));
    let mut heard = opening.await.ok()?.ok()?.into_inner();
    let (mut run, mut token) = (None, None);
    while let Ok(Some(message)) = heard.message().await {
        let through = match message.message {
            Some(Heard::Opened(opened)) => {
                run = Some(Run::from_slice(&opened.run).ok()?);
                with(history, History::opened);
                continue;
            }
            Some(Heard::Delivery(delivery)) => record(&delivery, history),
            Some(Heard::Missed(missed)) => {
                with(history, History::missed);
                Some(Offset::from_u64(missed.offset))
            }
            Some(Heard::CaughtUp(caught_up)) => Some(Offset::from_u64(caught_up.offset)),
            _ => None,
        };
        let (Some(run), Some(offset)) = (run, through) else { continue };
        let through_offset = offset.as_u64();
        let message = Some(Say::Acknowledge(v1::Acknowledge { through_offset }));
        if say.send(v1::SubscribeRequest { message }).await.is_err() {
            break;
        }
        token = Some(ResumeToken { run, offset });
    }
    token
}

/// Records a delivery; the offset of its last entry.
fn record(delivery: &v1::Delivery, history: &Shared<History>) -> Option<Offset> {
    let origin = &delivery.origin.as_ref()?.node;
    let mut count = 0;
    with(history, |history| {
        for entry in delivery.entries() {
            let Ok(entry) = entry else { continue };
            let event = entry.event.unwrap_or_default();
            history.heard(origin, Sequence::from_u64(entry.sequence), &event.id);
            count += 1;
        }
    });
    let last = delivery.offsets.last().copied();
    let contiguous = delivery.first_offset.checked_add(count)?.checked_sub(1)?;
    Some(Offset::from_u64(last.unwrap_or(contiguous)))
}
