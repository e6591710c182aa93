//! One stream of a subscription: opened, heard, told how far the application is, closed.
//!
//! What is said to the node needs no queue: acknowledgements are cumulative and a later ping
//! replaces an earlier one, so the newest of each is kept until the transport takes it.

use std::time::Duration;

use evermesh_proto::v1;
use futures_util::stream;
use tokio::sync::watch;
use tonic::Streaming;
use v1::subscribe_request::Message as Request;
use v1::subscribe_response::Message as Response;

use crate::{Client, Error};

/// A node answers an opening from memory.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be said: the newest of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Say {
    through: Option<u64>,
    ping: Option<u64>,
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
) -> Result<(Stream, v1::SubscribeOpened), Error> {
    let unexpected = |what: &str| {
        let what = what.to_owned();
        Error::Unexpected { address: client.address().clone(), what }
    };
    let (say, said) = watch::channel(Say::default());
    let opening = async {
        let mut node = client.events();
        let answer = node.subscribe(requests(open, said)).await;
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

    pub(super) fn ping(&self, number: u64) {
        self.say.send_modify(|say| say.ping = Some(number));
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

/// What the transport sends: the opening, then whatever is newest.
fn requests(
    open: v1::SubscribeOpen,
    said: watch::Receiver<Say>,
) -> impl futures_util::Stream<Item = v1::SubscribeRequest> + Send + 'static {
    let first = Some(Request::Open(open));
    stream::unfold((first, said, Say::default()), |(first, mut said, mut done)| async move {
        let request = match first {
            Some(open) => open,
            None => loop {
                let now = *said.borrow_and_update();
                if let Some(through) = now.through.filter(|_| now.through != done.through) {
                    done.through = now.through;
                    break Request::Acknowledge(v1::Acknowledge { through_offset: through });
                }
                if let Some(number) = now.ping.filter(|_| now.ping != done.ping) {
                    done.ping = now.ping;
                    break Request::Ping(v1::SubscribePing { number });
                }
                // An error says that the other end was dropped, and that all it said was seen.
                said.changed().await.ok()?;
            },
        };
        Some((v1::SubscribeRequest { message: Some(request) }, (None, said, done)))
    })
}
