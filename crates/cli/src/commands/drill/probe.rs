//! Probers: each publishes single events at its node, and asks for each whether every member has
//! applied it.
//!
//! What a probe is answered also shows what the node's disk holds, see `hear`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evermesh_client::{Client, Outcome, Publisher};
use evermesh_event::FenceToken;
use evermesh_event::verdict::Fate;
use evermesh_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::book::{Book, Made, SITES};
use super::fences::Fences;

/// Between two probes of a node.
const PROBE_EVERY: Duration = Duration::from_millis(60);
/// How long a probe may take to be stored.
const STORE_WITHIN: Duration = Duration::from_secs(2);
/// How long a fence may take: far longer than any fault lasts.
const FENCE_WITHIN: Duration = Duration::from_secs(15);
/// And how much longer its answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);
/// Fences of one node at a time: more than are asked for while a member is away but not suspended.
const FENCES_MAX: usize = 64;
/// Once in so many times a probe is published until it is applied, instead of fenced.
const APPLIED_EVERY: usize = 4;
/// After healing, a fence must be done within this.
const LAST_FENCE_WITHIN: Duration = Duration::from_secs(60);

/// What a node's disk is known to hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored {
    /// The epoch of the newest probe that was stored.
    pub(super) epoch: Option<u32>,
    /// When the one before it was handed in, if the node did not start in between. Of two that were
    /// stored one after the other, the second shows what was done before the first.
    pub(super) before: Option<Instant>,
}

/// The prober of one node.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    pub(super) run: Arc<str>,
    pub(super) node: usize,
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) book: Arc<Book>,
    pub(super) fences: Arc<Fences>,
    /// Numbers of probes, of all tasks that publish some.
    pub(super) numbers: Arc<AtomicU64>,
    /// The subscriptions of the node are at the other end.
    pub(super) stored: watch::Sender<Stored>,
    /// Planted: it takes every fence for done at once.
    pub(super) skips_fences: bool,
}

impl Prober {
    /// Probes until it is dropped.
    pub(super) async fn run(self) {
        let mut asked = JoinSet::new();
        let mut newest = None;
        loop {
            let handed_in = Instant::now();
            if asked.len() >= FENCES_MAX {
                asked.join_next().await;
            }
            let number = self.number();
            if number.is_multiple_of(APPLIED_EVERY) && !self.skips_fences {
                asked.spawn(self.clone().apply(number));
            } else if let Some((id, token)) = self.publish(number).await {
                let epoch = token.sequence.epoch().get();
                let before = newest.filter(|(of, _)| *of == epoch).map(|(_, at)| at);
                self.stored.send_replace(Stored { epoch: Some(epoch), before });
                newest = Some((epoch, handed_in));
                asked.spawn(self.clone().fence(id, token));
            }
            while asked.try_join_next().is_some() {}
            self.fences.look_again();
            sleep(PROBE_EVERY).await;
        }
    }

    fn number(&self) -> usize {
        usize::try_from(self.numbers.fetch_add(1, Ordering::Relaxed)).unwrap_or_default()
    }

    fn event(&self, number: usize) -> v1::Event {
        let event = Made { run: &self.run, by: ('q', self.node), number }.event();
        self.book.note(&event.site, &event.id, Fate::Unknown);
        event
    }

    /// Publishes a probe once; its id and token if it is stored.
    async fn publish(&self, number: usize) -> Option<(String, FenceToken)> {
        self.hand_in(self.event(number), v1::Assurance::Stored, STORE_WITHIN)
            .await
            .map(|(taken, _)| taken)
    }

    async fn hand_in(
        &self,
        event: v1::Event,
        until: v1::Assurance,
        within: Duration,
    ) -> Option<((String, FenceToken), bool)> {
        let (id, site) = (event.id.clone(), event.site.clone());
        let publisher = Publisher::new(self.client.clone());
        // An error: nobody knows, and nobody tries again.
        let answer = publisher.publish(vec![event], until, within).await.ok()?;
        if answer.assured < v1::Assurance::Stored {
            return None;
        }
        let Some(Outcome::Taken(taken)) = answer.outcomes.into_iter().next() else { return None };
        let applied = answer.assured >= v1::Assurance::Applied;
        if applied {
            self.fences.done(&id, &self.name, site != SITES[0]);
        }
        self.book.note(&site, &id, Fate::Assured);
        Some(((id, taken.fence_token), applied))
    }

    /// Publishes a probe until it is applied.
    async fn apply(self, number: usize) {
        let event = self.event(number);
        let done = self.hand_in(event, v1::Assurance::Applied, FENCE_WITHIN).await;
        if !done.is_some_and(|(_, applied)| applied) {
            self.fences.undone();
        }
    }

    async fn fence(self, id: String, token: FenceToken) {
        let aside = token.site != SITES[0];
        if self.skips_fences || self.ask(&token, FENCE_WITHIN).await {
            self.fences.done(&id, &self.name, aside);
        } else {
            self.fences.undone();
        }
    }

    /// Asks once whether every member has applied it.
    async fn ask(&self, token: &FenceToken, within: Duration) -> bool {
        let request = v1::FenceRequest {
            fence_token: Some(token.to_proto()),
            wait_for: within.try_into().ok(),
            this_node_only: false,
        };
        let mut node = self.client.events();
        let answer = timeout(within + ANSWER_MARGIN, node.fence(request)).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.into_inner().done))
    }

    /// One more, when nothing is wrong any more. False: it was not done within a minute.
    pub(super) async fn last(&self) -> bool {
        let deadline = Instant::now() + LAST_FENCE_WITHIN;
        while Instant::now() < deadline {
            let number = self.number();
            if let Some((id, token)) = self.publish(number).await
                && self.ask(&token, deadline.saturating_duration_since(Instant::now())).await
            {
                self.fences.done(&id, &self.name, token.site != SITES[0]);
                return true;
            }
            sleep(PROBE_EVERY).await;
        }
        false
    }
}
