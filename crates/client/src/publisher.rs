//! Publisher: hands events to a node, and keeps them until they are assured.
//!
//! The first step of the way. Every event has its id before it is sent for the first time, and
//! every further try sends the same ids, so that the node's dedupe makes one event of them (P5),
//! whatever became of the tries before. Deliberately absent: a queue; who calls waits.

mod answer;

use std::time::{Duration, SystemTime};

use evermesh_event::limits::{MESSAGE_BYTES_MAX, PUBLISH_EVENTS_MAX};
use evermesh_event::world::draw;
use evermesh_proto::v1;
use prost::Message as _;
use tokio::time::Instant;

pub use self::answer::{Outcome, Published, Taken};
use crate::backoff::{self, Backoff};
use crate::{Client, Error};

/// How much longer than it may wait itself a node has for its answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// What a node waits at most within one call.
const NODE_WAIT_MAX: Duration = Duration::from_secs(60);
/// What the fields of a request beside its events may take.
const FRAME_BYTES_MAX: usize = 64;

/// Hands events to one node. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Publisher {
    client: Client,
    all_or_nothing: bool,
}

impl Publisher {
    /// A publisher at this client's node.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client, all_or_nothing: false }
    }

    /// One refused event refuses every event of its call.
    #[must_use]
    pub const fn all_or_nothing(mut self) -> Self {
        self.all_or_nothing = true;
        self
    }

    /// Gives an id to every event that has none. [`Publisher::publish`] does it too; whoever wants
    /// to publish again after an error does it before, and keeps the events.
    pub fn draw_ids(&self, events: &mut [v1::Event]) {
        let world = self.client.world();
        let nameless = events.iter_mut().filter(|event| event.id.is_empty());
        let since = world.clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        for event in nameless {
            let [random @ .., _, _, _, _, _, _] = draw(&*world.random);
            let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
            event.id = id.to_string();
        }
    }

    /// Hands in events, in their order, and returns when they are as sure as asked for, or when
    /// `wait_for` has passed: then [`Published::assured`] says less than was asked for.
    ///
    /// Where the node is away or asks to be tried again, it is tried again under the same ids until
    /// `wait_for` has passed; at least once.
    ///
    /// # Errors
    /// If nothing is known to be assured: the node refused the call as a whole, or was not there in
    /// time. [`Error::may_have_happened`] says whether the events may have been taken, at the last
    /// try or at an earlier one.
    pub async fn publish(
        &self,
        mut events: Vec<v1::Event>,
        until: v1::Assurance,
        wait_for: Duration,
    ) -> Result<Published, Error> {
        self.draw_ids(&mut events);
        let count = events.len();
        let mut request = v1::PublishRequest {
            events,
            until: until.into(),
            all_or_nothing: self.all_or_nothing,
            ..Default::default()
        };
        let bytes = request.encoded_len();
        if count > PUBLISH_EVENTS_MAX || bytes > MESSAGE_BYTES_MAX - FRAME_BYTES_MAX {
            return Err(Error::TooMuch { events: count, bytes });
        }
        let deadline = Instant::now() + wait_for;
        let mut backoff = Backoff::default();
        let mut uncertain = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            request.wait_for = prost_types::Duration::try_from(left.min(NODE_WAIT_MAX)).ok();
            let error = match self.call(request.clone(), left + ANSWER_MARGIN).await {
                Ok(answer) => return answer::read(self.client.address(), answer, count),
                Err(error) => error,
            };
            let random = &*self.client.world().random;
            let pause = error.retry_after().unwrap_or_else(|| backoff.next(random));
            if !error.is_retryable() || Instant::now() + pause >= deadline {
                return Err(uncertain.filter(|_| !error.may_have_happened()).unwrap_or(error));
            }
            if error.may_have_happened() {
                uncertain = Some(error);
            }
            backoff::wait(pause).await;
        }
    }

    async fn call(
        &self,
        request: v1::PublishRequest,
        within: Duration,
    ) -> Result<v1::PublishResponse, Error> {
        let mut node = self.client.events();
        let Ok(answer) = tokio::time::timeout(within, node.publish(request)).await else {
            let address = self.client.address().clone();
            return Err(Error::Late { address, waited: within });
        };
        answer.map(tonic::Response::into_inner).map_err(|status| self.client.error(&status))
    }
}
