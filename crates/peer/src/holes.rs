//! The rule of repair at work: shared by all links, and the one place where a hole is given up.
//!
//! A hole that no linked member can fill is stored as missed. While a member that was configured is
//! not linked, it is waited for a moment: it may hold what is lacking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::{Frontier, NodeName, Origin, Sequence};
use evermesh_journal::{Holding, Missed};
use tokio::sync::watch;

use crate::formers;
use crate::mend::Mend;
use crate::peers::Shared;
use crate::repair::{Repair, Wants};

/// How many leases a member that is not linked is waited for: a restart takes less.
const GRACE_LEASES: u32 = 2;

/// What is known of every link for repair.
#[derive(Debug)]
pub(crate) struct Repairs {
    table: Mutex<Repair>,
    mend: Mutex<Mend>,
    /// Counts changes that may matter to other links. Links hold the other end.
    version: watch::Sender<u64>,
}

impl Default for Repairs {
    fn default() -> Self {
        let (version, _) = watch::channel(0);
        Self { table: Mutex::default(), mend: Mutex::default(), version }
    }
}

impl Repairs {
    /// Changes something, and lets every link look at what it wants.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Repair)) {
        change(&mut self.table());
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// A peer told what it holds. Each link looks for itself, when it is told.
    pub(crate) fn holds(&self, name: &NodeName, held: BTreeMap<Origin, Holding>) {
        if !held.is_empty() {
            self.table().holds(name, held);
        }
    }

    pub(crate) fn told(&self, name: &NodeName, origins: &BTreeSet<Origin>) {
        self.table().told(name, origins);
    }

    pub(crate) fn wants(&self, name: &NodeName, own: &Origin, here: &Frontier) -> Wants {
        self.table().wants(name, own, here)
    }

    pub(crate) fn is_held(&self, origin: &Origin, at: Sequence) -> bool {
        self.table().is_held(origin, at)
    }

    pub(crate) fn link_of(&self, name: &NodeName) -> Option<Origin> {
        self.table().link_of(name).cloned()
    }

    /// Counts up with each change.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Who is asked for what was damaged here.
    pub(crate) fn mend(&self) -> MutexGuard<'_, Mend> {
        self.mend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Repair> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The holes that nobody who is linked can fill, and since when.
#[derive(Debug, Default)]
pub(crate) struct Holes(BTreeMap<Origin, Duration>);

impl Holes {
    /// Gives up what stays lacking: stored as missed, before anything later.
    pub(crate) async fn look(&mut self, shared: &Shared) {
        let (journal, now) = (&shared.parts.journal, shared.parts.clock.boot());
        let holes = shared.repair.table().holes(&journal.frontier());
        self.0.retain(|origin, _| holes.iter().any(|hole| hole.origin.as_ref() == Some(origin)));
        let grace = shared.parts.lease * GRACE_LEASES;
        for missed in holes {
            let Some(origin) = missed.origin.clone() else { continue };
            let since = *self.0.entry(origin.clone()).or_insert(now);
            let waits = !shared.members.all_linked() && now.saturating_sub(since) < grace;
            if !waits {
                give_up(shared, &origin, missed).await;
            }
        }
    }
}

async fn give_up(shared: &Shared, origin: &Origin, missed: Missed) {
    tracing::warn!(
        %origin, from = %missed.from, through = %missed.through, cause = missed.cause.as_str_name(),
        "no member that is reachable holds these events: subscriptions hear that they missed them"
    );
    formers::meet(shared, origin);
    match shared.parts.journal.miss(missed).await {
        Ok(_) => shared.repair.change(|_| {}),
        Err(error) => tracing::warn!(%origin, %error, "cannot store what was missed; tries again"),
    }
}

/// Gives up what was damaged here and nobody who is reachable holds: readers pass, and hear missed.
pub(crate) fn give_up_damaged(shared: &Shared) {
    let (journal, now) = (&shared.parts.journal, shared.parts.clock.boot());
    let lacking = journal.lacking();
    let all_linked = shared.members.all_linked();
    let hopeless = shared.repair.mend().hopeless(&lacking, all_linked, shared.parts.lease, now);
    for (lacking, through) in &hopeless {
        tracing::warn!(
            origin = %lacking.origin, after = %lacking.after, %through,
            "no member that is reachable holds these events, which were damaged here: \
            subscriptions hear that they missed them"
        );
        journal.give_up(lacking, *through);
    }
    if !lacking.is_empty() {
        // Who did not answer leaves its range to another link.
        shared.repair.change(|_| {});
    }
}
