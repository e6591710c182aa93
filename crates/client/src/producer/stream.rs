//! The talk of a producer with its node: opened, handed in, heard, opened again.
//!
//! Always: a new stream begins with the oldest event that is not assured. It is opened again only
//! once there is something to say.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::FenceToken;
use evermesh_proto::v1;
use futures_util::stream;
use tokio::sync::watch;
use tonic::Streaming;
use v1::publish_stream_request::Message as Request;
use v1::publish_stream_response::Message as Response;

use super::unassured::Unassured;
use crate::backoff::{self, Backoff};
use crate::{Client, Error};

/// A node answers an opening from memory.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

type Answers = Streaming<v1::PublishStreamResponse>;

/// Opens a stream; gives the highest counter that the node knows.
pub(super) async fn open(
    client: &Client,
    open: &v1::PublishStreamOpen,
    kept: &watch::Sender<Unassured>,
) -> Result<(Answers, u64), Error> {
    let requests = requests(open.clone(), kept.subscribe());
    let opening = async {
        let mut node = client.events();
        let answers = node.publish_stream(requests).await;
        let mut answers = answers.map_err(|status| client.error(&status))?.into_inner();
        match heard(client, &mut answers).await? {
            Response::Opened(opened) => Ok((answers, opened.highest_counter)),
            _ => Err(unexpected(client, "something else than that the stream is open")),
        }
    };
    tokio::time::timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
        Err(Error::Late { address: client.address().clone(), waited: OPEN_TIMEOUT })
    })
}

/// What a producer's task does as long as the producer lives.
pub(super) struct Talk {
    client: Client,
    open: v1::PublishStreamOpen,
    /// The producer is at the other end.
    kept: Arc<watch::Sender<Unassured>>,
    /// No stream may know a higher counter than this, or what this producer handed in.
    highest: u64,
    backoff: Backoff,
}

impl Talk {
    pub(super) fn new(
        client: Client,
        open: v1::PublishStreamOpen,
        kept: Arc<watch::Sender<Unassured>>,
        highest: u64,
    ) -> Self {
        Self { client, open, kept, highest, backoff: Backoff::default() }
    }

    pub(super) async fn run(mut self, mut answers: Answers) {
        loop {
            let mut error = self.hear(&mut answers).await;
            answers = loop {
                self.pause(error).await;
                match self.again().await {
                    Ok(answers) => break answers,
                    Err(other) => error = other,
                }
            };
        }
    }

    /// Hears a stream to its end; why it ended.
    async fn hear(&mut self, answers: &mut Answers) -> Error {
        loop {
            let message = match heard(&self.client, answers).await {
                Ok(message) => message,
                Err(error) => return error,
            };
            self.backoff.reset();
            match message {
                Response::Opened(_) => {
                    return unexpected(&self.client, "that the stream is open, twice");
                }
                Response::Refused(said) => {
                    let why = said.refused.unwrap_or_default();
                    self.kept.send_modify(|kept| kept.refuse(said.counter, why));
                }
                Response::Assured(said) => {
                    let token = said.fence_token.as_ref().map(FenceToken::from_proto).transpose();
                    let Ok(token) = token else {
                        return unexpected(&self.client, "a fence token that is none");
                    };
                    self.highest = self.highest.max(said.through_counter);
                    self.kept.send_modify(|kept| kept.assured(said.through_counter, token));
                }
            }
        }
    }

    /// Waits before the next try: a while; or, where trying again does not help by itself, until
    /// the producer heard why and tries all the same.
    async fn pause(&mut self, error: Error) {
        let mut changes = self.kept.subscribe();
        if error.is_retryable() {
            let random = &*self.client.world().random;
            let pause = error.retry_after().unwrap_or_else(|| self.backoff.next(random));
            backoff::wait(pause).await;
        } else {
            self.kept.send_modify(|kept| kept.error = Some(error));
            // The sender is here.
            let _ = changes.wait_for(|kept| kept.error.is_none()).await;
        }
        let _ = changes.wait_for(|kept| !kept.is_empty()).await;
    }

    async fn again(&mut self) -> Result<Answers, Error> {
        let (answers, highest) = open(&self.client, &self.open, &self.kept).await?;
        let handed_in = self.kept.borrow().last().max(self.highest);
        if highest > handed_in {
            return Err(Error::Shared { producer: self.open.producer.clone(), highest, handed_in });
        }
        Ok(answers)
    }
}

/// What the node says next.
async fn heard(client: &Client, answers: &mut Answers) -> Result<Response, Error> {
    loop {
        let message = answers.message().await.map_err(|status| client.error(&status))?;
        let ended = || {
            let reason = "the node ended the publishing stream".to_owned();
            Error::Broken { address: client.address().clone(), reason }
        };
        // A message of a kind that a later version added is nothing to this one.
        if let Some(message) = message.ok_or_else(ended)?.message {
            return Ok(message);
        }
    }
}

fn unexpected(client: &Client, what: &str) -> Error {
    Error::Unexpected { address: client.address().clone(), what: what.to_owned() }
}

/// What the transport sends: the opening, then whatever is kept, from the oldest on.
fn requests(
    open: v1::PublishStreamOpen,
    kept: watch::Receiver<Unassured>,
) -> impl futures_util::Stream<Item = v1::PublishStreamRequest> + Send + 'static {
    stream::unfold((Some(open), kept, 0), |(open, mut kept, mut sent)| async move {
        let message = if let Some(open) = open {
            Request::Open(open)
        } else {
            let group = loop {
                let group = kept.borrow_and_update().group(sent);
                if let Some(group) = group {
                    break group;
                }
                // The producer is gone: nothing more comes.
                kept.changed().await.ok()?;
            };
            let more = u64::try_from(group.events.len()).unwrap_or(u64::MAX) - 1;
            sent = group.first_counter.saturating_add(more);
            Request::Events(group)
        };
        Some((v1::PublishStreamRequest { message: Some(message) }, (None, kept, sent)))
    })
}
