//! Producer: hands events to a node one after the other without waiting for each, and keeps them
//! until they are assured.
//!
//! The first step of the way, pipelined. A producer has a name, and each of its events a counter,
//! of which the node keeps the highest: what is handed in again after a break, or by the next
//! process of this name, makes no second event (P5). `unassured` is what is kept, `stream` the talk
//! with the node.
//!
//! Always: what was handed in and is not assured is handed in again, in its order; what is kept is
//! bounded, and who hands in more waits. Deliberately absent: keeping events over the end of this
//! process; who needs that keeps them itself until they are assured, with counters of its own.

mod stream;
mod unassured;

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::FenceToken;
use evermesh_event::limits::MESSAGE_BYTES_MAX;
use evermesh_proto::v1;
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::unassured::Unassured;
pub use self::unassured::{UNASSURED_BYTES_MAX, UNASSURED_EVENTS_MAX};
use crate::{Client, Error, Publisher};

/// What the fields of a request beside its event may take.
const FRAME_BYTES_MAX: usize = 64;

/// Hands events to one node in a stream that is opened again whenever it broke. Dropping it forgets
/// what is not assured; [`Producer::close`] says what that is.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    /// The task that talks with the node is at the other end, and both change it.
    kept: Arc<watch::Sender<Unassured>>,
    task: AbortHandle,
    highest: u64,
    /// The counter of the last event that was handed in here.
    last: u64,
}

/// What became of what was handed in.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Flushed {
    /// Everything through this counter is assured, or was refused. 0: nothing yet.
    pub through_counter: u64,
    /// Names the newest assured event to a fence, where the node named one.
    pub fence_token: Option<FenceToken>,
    /// What was refused since this was last asked: counter, and why.
    pub refused: Vec<(u64, v1::Refused)>,
    /// How many more were refused than could be kept.
    pub refused_more: u64,
    /// The counters of what is still neither assured nor refused.
    pub unassured: Vec<u64>,
}

/// The end of a producer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// What became of what was handed in.
    pub flushed: Flushed,
    /// What is not assured, with its counters. The node may have taken it all the same: a producer
    /// of the same name hands it in again under the same counters.
    pub unassured: Vec<(u64, v1::Event)>,
    /// Why the node refused the stream, if it did.
    pub error: Option<Error>,
}

impl Producer {
    /// Opens the stream of a producer; tried once. The name is 1 to 128 bytes of printable ASCII,
    /// the same over restarts of this process, and of nobody else at the same time. `until` is what
    /// assured means; unspecified: STORED.
    ///
    /// # Errors
    /// If the node is not there or refuses.
    pub async fn open(client: Client, name: &str, until: v1::Assurance) -> Result<Self, Error> {
        let open = v1::PublishStreamOpen { producer: name.to_owned(), until: until.into() };
        let kept = Arc::new(watch::Sender::new(Unassured::default()));
        let (stream, highest) = stream::open(&client, &open, &kept).await?;
        let talk = stream::Talk::new(client.clone(), open, Arc::clone(&kept), highest);
        let task = tokio::spawn(talk.run(stream)).abort_handle();
        Ok(Self { client, kept, task, highest, last: 0 })
    }

    /// The highest counter that the node knew of this producer when this was opened: it has taken
    /// everything through there, though perhaps not assured it.
    #[must_use]
    pub const fn highest_counter(&self) -> u64 {
        self.highest
    }

    /// Hands in an event under the next counter, and says which that is. Waits while as much is
    /// unassured as may be. An event without an id gets one.
    ///
    /// # Errors
    /// If the event fits no message, or the node refused the stream since the last call: then the
    /// event was not handed in, and the next call tries the stream again.
    pub async fn hand_in(&mut self, event: v1::Event) -> Result<u64, Error> {
        let counter = self.last.max(self.highest).saturating_add(1);
        self.hand_in_at(counter, event).await?;
        Ok(counter)
    }

    /// The same under a counter of one's own, such as the number of a row in an outbox: above the
    /// one before, not necessarily by one. What the node has taken before under this counter, it
    /// does not take again, and assures.
    ///
    /// # Errors
    /// As [`Producer::hand_in`], and if the counter is not above the one before.
    pub async fn hand_in_at(&mut self, counter: u64, mut event: v1::Event) -> Result<(), Error> {
        if counter <= self.last {
            return Err(Error::Counter { counter, last: self.last });
        }
        let publisher = Publisher::new(self.client.clone());
        publisher.draw_ids(std::slice::from_mut(&mut event));
        let bytes = event.encoded_len();
        if bytes > MESSAGE_BYTES_MAX - FRAME_BYTES_MAX {
            return Err(Error::TooMuch { events: 1, bytes });
        }
        self.wait(|kept| kept.has_room(bytes)).await?;
        self.kept.send_modify(|kept| kept.push(counter, event, bytes));
        self.last = counter;
        Ok(())
    }

    /// Returns when everything that was handed in is assured or refused, or when `within` has
    /// passed: then [`Flushed::unassured`] says what is not.
    ///
    /// # Errors
    /// If the node refused the stream. Nothing is forgotten, and the next call tries it again.
    pub async fn flush(&mut self, within: Duration) -> Result<Flushed, Error> {
        if let Ok(done) = timeout(within, self.wait(Unassured::is_empty)).await {
            done?;
        }
        let mut flushed = Flushed::default();
        self.kept.send_modify(|kept| flushed = kept.take_flushed());
        Ok(flushed)
    }

    /// The same, and ends the stream. What is not assured then is given back.
    pub async fn close(mut self, within: Duration) -> Closed {
        let done = timeout(within, self.wait(Unassured::is_empty)).await;
        self.task.abort();
        let error = done.ok().and_then(Result::err);
        let (mut flushed, mut unassured) = (Flushed::default(), Vec::new());
        self.kept.send_modify(|kept| {
            flushed = kept.take_flushed();
            unassured = kept.take_events();
        });
        Closed { flushed, unassured, error }
    }

    /// Waits for something of what is kept, or for the end of the stream.
    async fn wait(&mut self, wanted: impl Fn(&Unassured) -> bool) -> Result<(), Error> {
        let mut changes = self.kept.subscribe();
        // The sender is here.
        let _ = changes.wait_for(|kept| kept.error.is_some() || wanted(kept)).await;
        let mut error = None;
        self.kept.send_if_modified(|kept| {
            error = kept.error.take();
            error.is_some()
        });
        error.map_or(Ok(()), Err)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
