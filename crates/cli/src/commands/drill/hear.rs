//! The applications of one subscription: they hear, apply, acknowledge, end in order or crash, and
//! the next one goes on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use evermesh_client::{Begin, Client, Item, Options, Subscriber};
use evermesh_event::ResumeToken;
use evermesh_event::verdict::Mark;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::draw::Draw;
use super::probe::Stored;
use super::seat::{Kind, Seat};
use crate::Failure;

/// How long an application lives before the next one takes its place.
const LIFE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// How long one that is to crash waits for an event on which to do it.
const CRASH_WITHIN: Duration = Duration::from_millis(200);
/// Between tries to open a subscription at a node that is away.
const OPEN_AGAIN: Duration = Duration::from_millis(50);
/// A node stores the acknowledgements of durable names every 50 ms while it is busy. After so long,
/// two events that it stored one after the other prove that those before are stored too.
const PLACES_WITHIN: Duration = Duration::from_secs(1);
/// Acknowledgements that may be kept or not; the oldest is given up.
const UNPROVEN_MAX: usize = 16;

/// The applications of one subscription.
#[derive(Debug)]
pub(super) struct Hearing {
    seat: Arc<Seat>,
    client: Client,
    /// The durable name, for who has one.
    name: String,
    draw: Draw,
    /// What the node's disk is known to hold.
    stored: watch::Receiver<Stored>,
    subscriber: Option<Subscriber>,
    /// Where the next one begins.
    token: Option<ResumeToken>,
    unproven: VecDeque<Unproven>,
}

/// An acknowledgement that the node took, and perhaps stored.
#[derive(Debug)]
struct Unproven {
    mark: Mark,
    epoch: u32,
    taken: Instant,
}

impl Hearing {
    /// Opens the subscription for the first time. A durable name is known afterwards.
    pub(super) async fn open(
        seat: Arc<Seat>,
        client: Client,
        name: String,
        draw: Draw,
        stored: watch::Receiver<Stored>,
    ) -> Result<Self, Failure> {
        let (subscriber, token, unproven) = (None, None, VecDeque::new());
        let mut hearing = Self { seat, client, name, draw, stored, subscriber, token, unproven };
        if hearing.seat.kind == Kind::Name {
            hearing.make_known().await?;
        }
        let subscriber = Subscriber::open(hearing.client.clone(), hearing.options()).await?;
        hearing.seat.heard().freshness = Some(subscriber.freshness().clone());
        hearing.subscriber = Some(subscriber);
        Ok(hearing)
    }

    /// An unknown durable name begins with a missed, until that is acknowledged. It is no part of
    /// the drill.
    async fn make_known(&self) -> Result<(), Failure> {
        loop {
            let mut subscriber = Subscriber::open(self.client.clone(), self.options()).await?;
            let mut missed = false;
            loop {
                match subscriber.next().await? {
                    Item::Missed { through, .. } => {
                        subscriber.acknowledge(through);
                        missed = true;
                        break;
                    }
                    Item::CaughtUp { .. } => break,
                    _ => {}
                }
            }
            subscriber.close().await;
            if !missed {
                return Ok(());
            }
        }
    }

    fn options(&self) -> Options {
        let from = match (self.seat.kind, self.token) {
            (Kind::Name, _) => Begin::Name(self.name.clone()),
            (_, Some(token)) => Begin::After(token),
            (_, None) => Begin::Live,
        };
        Options { sites: self.seat.kind.sites(), from, ..Options::default() }
    }

    /// Goes on until it is dropped, or until the node refuses what it must not.
    pub(super) async fn run(mut self) -> Result<Infallible, Failure> {
        loop {
            let mut subscriber = match self.subscriber.take() {
                Some(subscriber) => subscriber,
                None => self.next_application().await?,
            };
            if self.seat.kind == Kind::Live {
                loop {
                    let item = subscriber.next().await?;
                    self.take(&mut subscriber, item)?;
                }
            }
            let ends = Instant::now() + self.draw.between(LIFE.0, LIFE.1);
            while let Ok(item) = timeout_at(ends, subscriber.next()).await {
                self.take(&mut subscriber, item?)?;
            }
            if self.draw.once_in(2) {
                self.crash(subscriber).await?;
            } else {
                self.end(subscriber).await;
            }
        }
    }

    async fn next_application(&mut self) -> Result<Subscriber, Failure> {
        loop {
            match Subscriber::open(self.client.clone(), self.options()).await {
                Ok(subscriber) => {
                    self.seat.heard().freshness = Some(subscriber.freshness().clone());
                    return Ok(subscriber);
                }
                Err(error) if error.is_retryable() => sleep(OPEN_AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Applies and acknowledges.
    fn take(&mut self, subscriber: &mut Subscriber, item: Item) -> Result<(), Failure> {
        self.prove();
        let mut heard = self.seat.heard();
        let through = match item {
            Item::Delivery { delivery, through } => {
                if !heard.apply(&delivery) {
                    let text = format!("{} was delivered what is no event", self.seat.label);
                    return Err(Failure::new(70, text));
                }
                through
            }
            Item::Missed { through, .. } => {
                heard.history.missed();
                through
            }
            Item::CaughtUp { through, .. } => through,
            Item::Opened { .. } => {
                heard.history.opened();
                return Ok(());
            }
            Item::Interrupted(_) => {
                // All of it was acknowledged, and who keeps a token resumes behind it.
                if self.seat.kind != Kind::Name {
                    let mark = heard.history.mark();
                    heard.history.secured(&mark);
                }
                return Ok(());
            }
            Item::Freshness(_) | Item::TakenOver(_) => return Ok(()),
        };
        subscriber.acknowledge(through);
        Ok(())
    }

    /// The application dies after it applied something and before it acknowledged that.
    async fn crash(&mut self, mut subscriber: Subscriber) -> Result<(), Failure> {
        self.token = subscriber.resume_token();
        let crash = Instant::now() + CRASH_WITHIN;
        loop {
            let Ok(item) = timeout_at(crash, subscriber.next()).await else { break };
            match item? {
                Item::Delivery { delivery, .. } => {
                    let mut heard = self.seat.heard();
                    let before = heard.history.mark();
                    heard.apply(&delivery);
                    if self.seat.kind == Kind::Token {
                        heard.history.secured(&before);
                    }
                    break;
                }
                other => self.take(&mut subscriber, other)?,
            }
            self.token = subscriber.resume_token();
        }
        self.seat.heard().freshness = None;
        Ok(())
    }

    /// The application ends in order, and hears that its last acknowledgement was taken.
    async fn end(&mut self, subscriber: Subscriber) {
        self.token = subscriber.resume_token();
        let (epoch, mark) = (self.stored.borrow().epoch, self.seat.heard().history.mark());
        let taken = timeout(Duration::from_secs(5), subscriber.close()).await.unwrap_or_default();
        let mut heard = self.seat.heard();
        heard.freshness = None;
        match (self.seat.kind, epoch) {
            (Kind::Token, _) => heard.history.secured(&mark),
            (Kind::Name, Some(epoch)) if taken => {
                drop(heard);
                self.unproven.push_back(Unproven { mark, epoch, taken: Instant::now() });
                if self.unproven.len() > UNPROVEN_MAX {
                    self.unproven.pop_front();
                }
            }
            _ => {}
        }
    }

    /// Acknowledgements under a durable name that are stored by now, as what is stored after them
    /// shows.
    fn prove(&mut self) {
        let Stored { epoch, before } = *self.stored.borrow();
        let Some(before) = before.filter(|_| !self.unproven.is_empty()) else { return };
        // The node started again since: nobody can know.
        self.unproven.retain(|unproven| Some(unproven.epoch) == epoch);
        while let Some(unproven) =
            self.unproven.pop_front_if(|unproven| unproven.taken + PLACES_WITHIN <= before)
        {
            self.seat.heard().history.secured(&unproven.mark);
        }
    }
}
