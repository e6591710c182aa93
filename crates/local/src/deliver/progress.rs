//! How far one subscription is: what its acknowledgements mean for each origin, for `APPLIED`, for
//! leases and for its durable name.
//!
//! A record counts as applied once nothing at or before it waits for an acknowledgement, be it that
//! the filter left it out. What newer events replace counts once those are acknowledged
//! (`replaced`). Bounded: between two entries that wait, each origin stands once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evermesh_event::world::Clock;
use evermesh_event::{Frontier, Offset, Origin, Planted, Sequence, Unacknowledged};
use evermesh_journal::{Journal, Mark, Name};

use super::replaced::Replaced;

/// What a record moves once it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The end of the record.
    pub(crate) end: Offset,
    pub(crate) origin: Origin,
    pub(crate) through: Sequence,
    /// Newer events replace something of it above this.
    pub(crate) without: Option<Sequence>,
}

/// Records that were passed, up to one entry that waits.
#[derive(Debug)]
struct Stretch {
    end: Offset,
    moves: Frontier,
}

/// The progress of one subscription.
#[derive(Debug)]
pub(crate) struct Progress {
    journal: Journal,
    clock: Arc<dyn Clock>,
    mark: Mark,
    name: Option<String>,
    stretches: VecDeque<Stretch>,
    /// What was here when the stream opened, until it is applied.
    opened_at: Option<(Offset, Frontier)>,
    /// What it was told first that it may have missed, until it acknowledged that.
    untold: Option<Offset>,
    replaced: Replaced,
}

impl Progress {
    /// A subscription that begins after what its durable name, if it has one, acknowledged.
    pub(crate) fn new(
        (journal, clock): (&Journal, &Arc<dyn Clock>),
        sites: &[String],
        name: Option<(String, Name)>,
        untold: Option<Offset>,
    ) -> Self {
        let through = name.as_ref().map(|(_, name)| name.through.clone()).unwrap_or_default();
        Self {
            mark: journal.applied().mark(sites, through),
            name: name.map(|(key, _)| key),
            stretches: VecDeque::new(),
            opened_at: Some(journal.here()),
            untold,
            replaced: if passes_replaced(journal) {
                Replaced::default()
            } else {
                Replaced::before(journal)
            },
            journal: journal.clone(),
            clock: Arc::clone(clock),
        }
    }

    /// What was in the journal when the stream opened.
    pub(crate) fn opened_at(&self) -> Option<Offset> {
        self.opened_at.as_ref().map(|(at, _)| *at)
    }

    /// A record was delivered or left out.
    pub(crate) fn pass(&mut self, passed: Passed, window: &Unacknowledged) {
        let Passed { end, origin, through, without } = passed;
        if let Some(before) = without.filter(|_| !passes_replaced(&self.journal)) {
            let leased = self.mark.leased_until();
            self.replaced.note(&origin, before, self.clock.boot(), leased);
        }
        let open = self.stretches.back_mut().filter(|stretch| {
            // Nothing waits that came after it.
            window.newest().is_none_or(|newest| stretch.end >= newest)
        });
        if let Some(stretch) = open {
            stretch.end = end;
            stretch.moves.advance(&origin, through);
        } else {
            let moves = Frontier::from_iter([(origin, through)]);
            self.stretches.push_back(Stretch { end, moves });
        }
    }

    /// The application acknowledged everything through an offset.
    pub(crate) fn acknowledged(&mut self, through: Offset) {
        self.untold = self.untold.filter(|told| through < *told);
    }

    /// Moves on as far as nothing waits. `store`: the application acknowledged something.
    pub(crate) fn settle(&mut self, window: &Unacknowledged, store: bool) {
        if self.untold.is_some() {
            return;
        }
        let applied = window.applied();
        let mut moves = Frontier::default();
        while let Some(stretch) = self.stretches.pop_front_if(|stretch| stretch.end <= applied) {
            stretch.moves.iter().for_each(|(origin, at)| moves.advance(origin, at));
        }
        if let Some((_, here)) = self.opened_at.take_if(|(at, _)| *at <= applied) {
            here.iter().for_each(|(origin, at)| moves.advance(origin, at));
        }
        let counts = self.replaced.counts(&moves, &self.journal, self.clock.boot());
        if !counts.is_empty() {
            self.mark.advance(counts.iter().map(|(origin, at)| (origin.clone(), at)));
        }
        // A name trusts nothing; its next stream does, and begins with what was replaced before.
        if let Some(name) = &self.name
            && (store || !moves.is_empty())
        {
            self.journal.advance_name(name, applied, &moves, store);
        }
    }

    /// What was passed from an offset on was not, after all.
    pub(crate) fn rewind(&mut self, before: Offset) {
        self.stretches.retain(|stretch| stretch.end <= before);
    }

    /// Everything that was here when the stream opened is applied, and what it was told first.
    pub(crate) const fn is_current(&self) -> bool {
        self.opened_at.is_none() && self.untold.is_none()
    }

    /// It acknowledged what replaces everything that it did not hear of an origin.
    pub(crate) fn heard_replaced(&self, origin: &Origin) -> bool {
        self.replaced.is_heard(origin)
    }

    /// It has to settle anew with each echo…
    pub(crate) fn awaits_echo(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// …and so long from now.
    pub(crate) fn withheld_for(&self) -> Option<Duration> {
        let until = self.replaced.withheld_until()?;
        Some(until.saturating_sub(self.clock.boot()))
    }

    /// How far it acknowledged, and until when it may trust its cache.
    pub(crate) const fn mark(&self) -> &Mark {
        &self.mark
    }
}

/// What newer events replace counts at once: a test planted that.
fn passes_replaced(journal: &Journal) -> bool {
    journal.planted().is(Planted::PassReplaced)
}
