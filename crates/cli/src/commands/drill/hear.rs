//! The applications of one subscription: they hear, apply, acknowledge, end in order or crash, and
//! the next one goes on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use evermesh_client::{Begin, Client, Item, Options, Subscriber};
use evermesh_event::ResumeToken;
use evermesh_event::verdict::Mark;
use evermesh_proto::v1;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

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
/// How often it is noted how far an application is that keeps its token.
const MARK_EVERY: Duration = Duration::from_millis(200);
/// A node stores the acknowledgements of durable names every 50 ms while it is busy. After so long,
/// two events that it stored one after the other prove that those before are stored too.
const PLACES_WITHIN: Duration = Duration::from_secs(1);
/// Acknowledgements that may be stored or not; the oldest is given up.
const UNPROVEN_MAX: usize = 64;

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
    /// The epoch of the node's start in which it appended what was applied last.
    epoch: Option<u32>,
    unproven: VecDeque<Unproven>,
    marked: Instant,
}

/// Something was acknowledged that the node had perhaps not stored.
///
/// A node shows what it received before it is on its disk. If it is killed then, and the event
/// comes again under a new offset, that is no fault, whoever acknowledged it.
#[derive(Debug)]
struct Unproven {
    mark: Mark,
    /// What the node stores in this start, later than `stored_by`, is behind it in its journal.
    epoch: u32,
    stored_by: Instant,
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
        let mut hearing = Self {
            seat,
            client,
            name,
            draw,
            stored,
            subscriber: None,
            token: None,
            epoch: None,
            unproven: VecDeque::new(),
            marked: Instant::now(),
        };
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
        let through = match item {
            Item::Delivery { delivery, through } => {
                self.apply(&delivery)?;
                self.epoch = Some(through.offset.epoch().get());
                through
            }
            Item::Missed { through, .. } => {
                self.seat.heard().history.missed();
                through
            }
            Item::CaughtUp { through, .. } => through,
            Item::Opened { .. } => {
                self.seat.heard().history.opened();
                self.epoch = None;
                return Ok(());
            }
            Item::Interrupted(_) | Item::Freshness(_) | Item::TakenOver(_) => return Ok(()),
        };
        subscriber.acknowledge(through);
        if self.seat.kind != Kind::Name && self.marked.elapsed() >= MARK_EVERY {
            self.marked = Instant::now();
            self.wait_for_proof(self.marked);
        }
        Ok(())
    }

    fn apply(&self, delivery: &v1::Delivery) -> Result<(), Failure> {
        if self.seat.heard().apply(delivery) {
            return Ok(());
        }
        let text = format!("{} was delivered what is no event", self.seat.label);
        Err(Failure::new(70, text))
    }

    /// The application dies, most likely after it applied something and before it acknowledged it.
    async fn crash(&mut self, mut subscriber: Subscriber) -> Result<(), Failure> {
        let crash = Instant::now() + CRASH_WITHIN;
        while let Ok(item) = timeout_at(crash, subscriber.next()).await {
            match item? {
                Item::Delivery { delivery, .. } => {
                    self.apply(&delivery)?;
                    break;
                }
                other => self.take(&mut subscriber, other)?,
            }
        }
        self.token = subscriber.resume_token();
        self.seat.heard().freshness = None;
        Ok(())
    }

    /// The application ends in order, and hears whether its last acknowledgement was taken.
    async fn end(&mut self, subscriber: Subscriber) {
        self.token = subscriber.resume_token();
        let taken = subscriber.close().await;
        self.seat.heard().freshness = None;
        if taken && self.seat.kind == Kind::Name {
            self.wait_for_proof(Instant::now() + PLACES_WITHIN);
        }
    }

    /// Everything of this stream is acknowledged, and will be stored by then.
    fn wait_for_proof(&mut self, stored_by: Instant) {
        let Some(epoch) = self.epoch else { return };
        let mark = self.seat.heard().history.mark();
        self.unproven.push_back(Unproven { mark, epoch, stored_by });
        if self.unproven.len() > UNPROVEN_MAX {
            self.unproven.pop_front();
        }
    }

    /// What is stored by now, as what the node stored after it shows.
    fn prove(&mut self) {
        let Stored { epoch, before } = *self.stored.borrow();
        let (Some(epoch), Some(before)) = (epoch, before) else { return };
        // Of an earlier start: nobody can know.
        self.unproven.retain(|unproven| unproven.epoch >= epoch);
        let proven =
            |unproven: &mut Unproven| unproven.epoch == epoch && unproven.stored_by <= before;
        while let Some(unproven) = self.unproven.pop_front_if(proven) {
            self.seat.heard().history.secured(&unproven.mark);
        }
    }
}
