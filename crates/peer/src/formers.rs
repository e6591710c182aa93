//! Former journals of a name: what is lacking of one is had from whoever holds it, and only what
//! does not come is told as missed.
//!
//! Always holds: a name that comes under another journal is not pulled from, nor asked of others,
//! before everybody who can be reached was asked for the last words of its former ones, and what
//! they hold has come, or did not come in time. Nothing here is stored: what was linked under
//! another journal, ended, and is not told of, is what is waited for after a restart, too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::{JournalId, NodeName, Origin};
use evermesh_journal::{Former, Holding};

use crate::peers::Shared;

/// How many leases what is lacking of a former journal is waited for, as for a member that left.
const GRACE_LEASES: u32 = 2;

/// What is waited for, and since when.
#[derive(Debug, Default)]
pub(crate) struct Formers {
    /// The names that come under another journal. By name, so that who is started again and again
    /// meanwhile is not held off for ever.
    coming: Mutex<BTreeMap<NodeName, Duration>>,
    /// The former ones of names that are there under another.
    gone: Mutex<BTreeMap<Origin, Duration>>,
    /// The names that were linked for the first time in this start, and under which journal.
    first: Mutex<BTreeMap<NodeName, JournalId>>,
}

impl Formers {
    /// Whether a member that comes under this journal has to wait for what others hold of its
    /// former ones, which are all but those that are `there`. Whoever hears of it first asks
    /// everybody.
    pub(crate) fn awaits(
        &self,
        shared: &Shared,
        origin: &Origin,
        there: &[JournalId],
        now: Duration,
    ) -> bool {
        let journal = &shared.parts.journal;
        let formers = journal.formers(origin, there);
        if formers.is_empty() {
            return false;
        }
        let first = !coming(self).contains_key(&origin.node);
        let since = *coming(self).entry(origin.node.clone()).or_insert(now);
        if first {
            journal.leases().ask();
        }
        let held = formers.iter().any(|of| of.ended && shared.repair.is_held(&of.origin, of.at));
        let asked = shared.members.all_asked(&origin.node, since);
        is_awaited(!asked || held, now.saturating_sub(since), shared.parts.lease)
    }

    /// A member is about to be linked that itself holds more of its former journals than this node,
    /// as it does that left and joined anew: that comes from nobody sooner.
    pub(crate) fn held_by_itself(
        &self,
        shared: &Shared,
        origin: &Origin,
        held: &BTreeMap<Origin, Holding>,
    ) {
        let formers = shared.parts.journal.formers(origin, &[]).into_iter();
        let holds = |of: &Former| held.get(&of.origin).is_some_and(|held| held.through > of.at);
        let itself = formers.filter(|of| of.ended && holds(of)).map(|of| of.origin);
        shared.parts.journal.await_formers(&origin.node, itself.collect());
    }

    /// A name is about to be linked. If it never was, whatever else is met of it while it is there
    /// under this journal, and nobody said was there, is older than what this node could miss.
    pub(crate) fn linking(&self, shared: &Shared, origin: &Origin) {
        if shared.parts.journal.present_of(&origin.node).is_empty() {
            first(self).insert(origin.node.clone(), origin.journal);
        }
    }

    fn is_older(&self, shared: &Shared, origin: &Origin) -> bool {
        let journal = &shared.parts.journal;
        let linked = journal.present_of(&origin.node).first().copied();
        let first = first(self).get(&origin.node).copied();
        first.is_some()
            && first == linked
            && !journal.heard_of(&origin.node).contains(&origin.journal)
    }

    /// Tells what does not come of former journals, while nodes of their names are there under
    /// others.
    pub(crate) async fn look(&self, shared: &Shared) {
        let (journal, now) = (&shared.parts.journal, shared.parts.clock.boot());
        let grace = shared.parts.lease * GRACE_LEASES;
        // Twice as long: who comes again after that waits anew.
        coming(self).retain(|_, since| now.saturating_sub(*since) < grace * 2);
        let mut open = journal.open_formers();
        open.retain(|origin| has_another(shared, origin, now));
        gone(self).retain(|origin, _| open.contains(origin));
        for origin in open {
            if self.is_older(shared, &origin) {
                journal.former_older(&origin);
                continue;
            }
            let since = *gone(self).entry(origin.clone()).or_insert(now);
            // Longer than who was killed seems to be there: this one may be what just comes.
            if is_awaited(true, now.saturating_sub(since), shared.parts.lease) {
                continue;
            }
            if let Err(error) = journal.former_gone(&origin).await {
                tracing::warn!(
                    %origin, %error,
                    "cannot store what may be missed of a former journal; tries again"
                );
            }
        }
    }
}

/// Something of an origin comes from another node than its own, or from nobody any more. If nodes
/// of its name are there under other journals, or else were seen there by others, those are not
/// missed for it.
pub(crate) fn meet(shared: &Shared, origin: &Origin) {
    let journal = &shared.parts.journal;
    if journal.knows(origin) {
        return;
    }
    let mut there = there(shared, &origin.node, shared.parts.clock.boot());
    // Of two that are there, be one a dead connection, none is missed for the other.
    there.retain(|journal| *journal != origin.journal);
    if there.is_empty() {
        there = journal.heard_of(&origin.node);
    }
    journal.meet_former(origin, &there);
}

/// Under which journals nodes of a name are there: they pull from here, or are linked.
pub(crate) fn there(shared: &Shared, name: &NodeName, now: Duration) -> Vec<JournalId> {
    let mut there = shared.members.there(name, now);
    there.extend(shared.repair.link_of(name).map(|linked| linked.journal));
    there
}

/// A node of this name is there, and none under this journal, as far as anybody knows.
fn has_another(shared: &Shared, origin: &Origin, now: Duration) -> bool {
    if shared.members.is_beside(origin, now) {
        return false;
    }
    // This node itself is there under its own.
    let there = there(shared, &origin.node, now);
    let own = origin.node == shared.parts.node;
    own || (!there.is_empty() && !there.contains(&origin.journal))
}

/// What may still come is waited for, but not for ever.
fn is_awaited(may_come: bool, since: Duration, lease: Duration) -> bool {
    may_come && since < lease * GRACE_LEASES
}

fn coming(formers: &Formers) -> MutexGuard<'_, BTreeMap<NodeName, Duration>> {
    formers.coming.lock().unwrap_or_else(PoisonError::into_inner)
}

fn first(formers: &Formers) -> MutexGuard<'_, BTreeMap<NodeName, JournalId>> {
    formers.first.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone(formers: &Formers) -> MutexGuard<'_, BTreeMap<Origin, Duration>> {
    formers.gone.lock().unwrap_or_else(PoisonError::into_inner)
}
