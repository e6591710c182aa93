//! One stream of a subscription: opened, heard, told how far the application is, closed.
//!
//! What is said to the node needs no queue: acknowledgements are cumulative and of rejects the
//! earliest event counts, so the newest of each is kept until the transport takes it.

use std::time::Duration;

use evermesh_proto::v1;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Streaming;
use v1::subscribe_request::Message as Request;
use v1::subscribe_response::Message as Response;

use crate::{Client, Error, Freshness};

/// A node answers an opening from memory.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the node is pinged: four times within the shortest lease that nodes grant by default.
const PING_EVERY: Duration = Duration::from_millis(500);

/// What is to be said: the newest of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Say {
    through: Option<u64>,
    /// The offset, why, and the how manieth it is: one event may be rejected several times.
    reject: Option<(u64, String, u64)>,
}

/// An open stream. Dropping it cancels it.
#[derive(Debug)]
pub(super) struct Stream {
    /// The transport takes from the other end; dropping this half-closes.
    say: watch::Sender<Say>,
    /// The node's end.
    heard: Streaming<v1::SubscribeResponse>,
}

/// Opens a stream and waits until the node says that it is open.
pub(super) async fn open(
    client: &Client,
    open: v1::SubscribeOpen,
    freshness: Freshness,
) -> Result<(Stream, v1::SubscribeOpened), Error> {
    let unexpected = |what: &str| {
        let what = what.to_owned();
        Error::Unexpected { address: client.address().clone(), what }
    };
    let (say, said) = watch::channel(Say::default());
    let opening = async {
        let mut node = client.events();
        let answer = node.subscribe(requests(open, said, freshness)).await;
        let mut heard = answer.map_err(|status| client.error(&status))?.into_inner();
        let first = heard.message().await.map_err(|status| client.error(&status))?;
        match first.map(|first| first.message) {
            Some(Some(Response::Opened(opened))) => Ok((Stream { say, heard }, opened)),
            Some(_) => Err(unexpected("something else than that the subscription is open")),
            None => Err(ended(client)),
        }
    };
    tokio::time::timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
        Err(Error::Late { address: client.address().clone(), waited: OPEN_TIMEOUT })
    })
}

impl Stream {
    /// What the node says next.
    pub(super) async fn heard(&mut self, client: &Client) -> Result<Response, Error> {
        loop {
            let message = self.heard.message().await.map_err(|status| client.error(&status))?;
            // A message of a kind that a later version added is nothing to this one.
            if let Some(message) = message.ok_or_else(|| ended(client))?.message {
                return Ok(message);
            }
        }
    }

    pub(super) fn acknowledge(&self, through: u64) {
        self.say.send_modify(|say| say.through = Some(through));
    }

    pub(super) fn reject(&self, offset: u64, reason: String) {
        self.say.send_modify(|say| {
            let number = say.reject.as_ref().map_or(0, |(_, _, number)| number + 1);
            say.reject = Some((offset, reason, number));
        });
    }

    /// Half-closes, and hears the node out. Says whether the node ended the stream without error.
    pub(super) async fn close(self) -> bool {
        let Self { say, mut heard } = self;
        drop(say);
        loop {
            match heard.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

fn ended(client: &Client) -> Error {
    let reason = "the node ended the subscription".to_owned();
    Error::Broken { address: client.address().clone(), reason }
}

/// What the transport sends: the opening, then whatever is newest, and a ping now and then.
fn requests(
    open: v1::SubscribeOpen,
    said: watch::Receiver<Say>,
    freshness: Freshness,
) -> impl futures_util::Stream<Item = v1::SubscribeRequest> + Send + 'static {
    // The first ping follows the opening at once.
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let saying = Saying { open: Some(open), said, done: Say::default(), pings, freshness };
    stream::unfold(saying, |mut saying| async move {
        let message = Some(saying.next().await?);
        Some((v1::SubscribeRequest { message }, saying))
    })
}

/// The application's half of a stream.
struct Saying {
    open: Option<v1::SubscribeOpen>,
    said: watch::Receiver<Say>,
    done: Say,
    pings: Interval,
    freshness: Freshness,
}

impl Saying {
    /// What is said next; `None`: the other end was dropped, and all it said was seen.
    async fn next(&mut self) -> Option<Request> {
        if let Some(open) = self.open.take() {
            return Some(Request::Open(open));
        }
        loop {
            let now = self.said.borrow_and_update().clone();
            if let Some(through_offset) = now.through.filter(|_| now.through != self.done.through) {
                self.done.through = now.through;
                return Some(Request::Acknowledge(v1::Acknowledge { through_offset }));
            }
            if now.reject != self.done.reject {
                self.done.reject.clone_from(&now.reject);
                let (offset, reason, _) = now.reject?;
                return Some(Request::Reject(v1::Reject { offset, reason }));
            }
            tokio::select! {
                changed = self.said.changed() => changed.ok()?,
                _ = self.pings.tick() => {
                    let number = self.freshness.ping();
                    return Some(Request::Ping(v1::SubscribePing { number }));
                }
            }
        }
    }
}
