//! Subscriber: hears events, and goes on after the last acknowledged one when the connection broke.
//!
//! The last step of the way. One stream at a time: `stream` is its life, `progress` knows what the
//! application has acknowledged and what it may say about it to the node.
//!
//! Always: what was acknowledged is never asked for again, what was not is (P3); a stream that is
//! opened again begins after the last acknowledged place, and a missed that was told in between is
//! told again until it is acknowledged. Deliberately absent: acknowledging by itself, and reading
//! ahead of the application.

mod progress;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::{Offset, ResumeToken};
use evermesh_proto::v1;

use self::progress::Progress;
use self::stream::Stream;
use crate::backoff::{self, Backoff};
use crate::{Client, Error, Freshness};

/// How long the end of a stream is waited for that was said to be over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a node may take to come back that went away while a subscription was opened.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// What a node takes of the reason of a reject.
const REASON_BYTES_MAX: usize = 512;

/// Where a subscription begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// With what comes after it was opened.
    #[default]
    Live,
    /// With the oldest that the node holds.
    Beginning,
    /// After this place.
    After(ResumeToken),
    /// Where the node knows this durable name to be. The node keeps the place; a newer stream of
    /// the same name takes it over.
    Name(String),
}

/// What to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The sites. Empty: every site that this identity may subscribe to.
    pub sites: Vec<String>,
    /// The types. Empty: all.
    pub types: Vec<String>,
    /// Where to begin.
    pub from: Begin,
    /// Events raised by these sources are left out.
    pub exclude_sources: Vec<String>,
    /// How many delivered events may be unacknowledged. 0: as the node does by default.
    pub max_unacknowledged: u32,
    /// Return the echoes of pings too, twice a second. [`Subscriber::freshness`] knows them anyway.
    pub echoes: bool,
}

/// What a subscriber hears. `through` is what to acknowledge once it is applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A stream is open: the first one, or another after an interruption.
    Opened {
        /// The node that serves it.
        node: String,
        /// From here it would be resumed if nothing were delivered.
        begins: ResumeToken,
    },
    /// Events of one origin, in order.
    Delivery {
        /// The events.
        delivery: v1::Delivery,
        /// The place of its last event.
        through: ResumeToken,
    },
    /// Events may be lost: drop what is held of these sites, then acknowledge.
    Missed {
        /// The scope. Empty sites: all.
        missed: v1::Missed,
        /// Its place.
        through: ResumeToken,
    },
    /// Everything that was there at the opening has been delivered.
    CaughtUp {
        /// Whose events are included, and who was not heard.
        caught_up: v1::CaughtUp,
        /// All of it.
        through: ResumeToken,
    },
    /// The echo of a ping, with [`Options::echoes`].
    Freshness(v1::Freshness),
    /// A newer stream took the durable name; nothing follows.
    TakenOver(v1::TakenOver),
    /// The stream ended, and the next call of [`Subscriber::next`] opens another. What was
    /// delivered and not acknowledged will be delivered again.
    Interrupted(String),
}

/// The events of a delivery, each with its place; what cannot be decoded is left out. `through` is
/// what came with the delivery.
pub fn entries(
    delivery: &v1::Delivery,
    through: ResumeToken,
) -> impl Iterator<Item = (ResumeToken, v1::Entry)> + '_ {
    let offset = |n: usize| {
        let follows = delivery.first_offset.saturating_add(n as u64);
        Offset::from_u64(delivery.offsets.get(n).copied().unwrap_or(follows))
    };
    let entries = delivery.entries().enumerate();
    entries.filter_map(move |(n, entry)| {
        Some((ResumeToken { run: through.run, offset: offset(n) }, entry.ok()?))
    })
}

/// Hears events at one node.
#[derive(Debug)]
pub struct Subscriber {
    client: Client,
    options: Options,
    progress: Progress,
    /// The node is at the other end. `None`: interrupted.
    stream: Option<Stream>,
    backoff: Backoff,
    taken_over: bool,
    /// Shown by the next call of `next`.
    opened: Option<Item>,
    freshness: Freshness,
}

impl Subscriber {
    /// Opens a subscription; tried once. Only where the node was there and went away meanwhile, as
    /// one does that restarts, it is tried again for 10 s.
    ///
    /// # Errors
    /// If the node is not there or refuses.
    pub async fn open(client: Client, options: Options) -> Result<Self, Error> {
        let progress = Progress::new(&options.from);
        let freshness = Freshness::new(Arc::clone(&client.world().clock));
        let mut subscriber = Self {
            client,
            options,
            progress,
            stream: None,
            backoff: Backoff::default(),
            taken_over: false,
            opened: None,
            freshness,
        };
        match subscriber.begin_stream().await {
            Err(error) if error.is_retryable() && !matches!(error, Error::Unreachable { .. }) => {
                let again = tokio::time::timeout(AGAIN_WITHIN, subscriber.resume()).await;
                again.unwrap_or(Err(error))?;
            }
            done => done?,
        }
        Ok(subscriber)
    }

    /// What comes next. Waits for it, for ever if need be; where the stream was interrupted, opens
    /// another, and backs off while the node is away. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the node refuses, or its answer cannot be. The next call tries to open another stream.
    pub async fn next(&mut self) -> Result<Item, Error> {
        loop {
            if let Some(opened) = self.opened.take() {
                return Ok(opened);
            }
            if let Some(late) = self.progress.late() {
                return Ok(late);
            }
            let Some(stream) = &mut self.stream else {
                self.resume().await?;
                continue;
            };
            match stream.heard(&self.client).await {
                Ok(message) => {
                    self.backoff.reset();
                    let heard = self.progress.heard(message).map_err(|what| {
                        self.stream = None;
                        Error::Unexpected { address: self.client.address().clone(), what }
                    })?;
                    // What was on its way when something before it was rejected comes again.
                    let Some(item) = heard else { continue };
                    self.tell();
                    if let Item::Freshness(said) = &item {
                        self.freshness.heard(said);
                        if !self.options.echoes {
                            continue;
                        }
                    }
                    if matches!(item, Item::TakenOver(_)) {
                        (self.stream, self.taken_over) = (None, true);
                    }
                    return Ok(item);
                }
                Err(error) => {
                    self.stream = None;
                    if error.is_retryable() {
                        return Ok(Item::Interrupted(error.to_string()));
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Everything through this place was applied. Never blocks; the newest says it all.
    pub fn acknowledge(&mut self, through: ResumeToken) {
        self.progress.acknowledge(through);
        self.tell();
    }

    /// From here another subscriber would go on: after the last acknowledged.
    #[must_use]
    pub const fn resume_token(&self) -> Option<ResumeToken> {
        self.progress.token()
    }

    /// The event of this place could not be applied: it and what follows comes again after a delay,
    /// and is set aside after the fifth time; then [`Item::Missed`] comes in its place. While
    /// interrupted this does nothing: all of it comes again anyway. Of the reason the node takes
    /// 512 bytes; the rest is left out.
    pub fn reject(&mut self, place: ResumeToken, reason: &str) {
        if let (Some(stream), true) = (&self.stream, self.progress.reject(place)) {
            let end = reason.floor_char_boundary(REASON_BYTES_MAX);
            let reason = reason.split_at_checked(end).map_or(reason, |(reason, _)| reason);
            stream.reject(place.offset.as_u64(), reason.to_owned());
        }
    }

    /// How long what this subscription keeps current can be trusted. The subscription pings by
    /// itself; echoes are taken while somebody waits in [`Subscriber::next`].
    #[must_use]
    pub const fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Ends the stream, and waits, for 5 s at most, until the node has taken the last
    /// acknowledgement. Says whether it has.
    pub async fn close(mut self) -> bool {
        let Some(stream) = self.stream.take() else { return false };
        tokio::time::timeout(CLOSE_TIMEOUT, stream.close()).await.unwrap_or_default()
    }

    async fn resume(&mut self) -> Result<(), Error> {
        if self.taken_over {
            return Err(Error::TakenOver { address: self.client.address().clone() });
        }
        loop {
            let error = match self.begin_stream().await {
                Err(error) if error.is_retryable() => error,
                done => return done,
            };
            let random = &*self.client.world().random;
            let pause = error.retry_after().unwrap_or_else(|| self.backoff.next(random));
            backoff::wait(pause).await;
        }
    }

    async fn begin_stream(&mut self) -> Result<(), Error> {
        let opening = stream::open(&self.client, self.request(), self.freshness.clone());
        let (stream, opened) = opening.await?;
        let begins = self
            .progress
            .opened(&opened)
            .map_err(|what| Error::Unexpected { address: self.client.address().clone(), what })?;
        self.opened = Some(Item::Opened { node: opened.node, begins });
        self.stream = Some(stream);
        Ok(())
    }

    fn request(&self) -> v1::SubscribeOpen {
        use v1::subscribe_open::From;
        let from = match (self.progress.token(), &self.options.from) {
            (_, Begin::Name(name)) => From::DurableName(name.clone()),
            (Some(token), _) => From::ResumeToken(token.to_proto()),
            (None, Begin::After(token)) => From::ResumeToken(token.to_proto()),
            (None, Begin::Live) => From::Live(v1::Live {}),
            (None, Begin::Beginning) => From::Beginning(v1::Beginning {}),
        };
        v1::SubscribeOpen {
            sites: self.options.sites.clone(),
            types: self.options.types.clone(),
            from: Some(from),
            exclude_sources: self.options.exclude_sources.clone(),
            max_unacknowledged: self.options.max_unacknowledged,
        }
    }

    fn tell(&mut self) {
        if let (Some(stream), Some(through)) = (&self.stream, self.progress.untold()) {
            stream.acknowledge(Offset::as_u64(through));
        }
    }
}
