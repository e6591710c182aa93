//! What a subscription passed without hearing it, because newer events replace it, until those are
//! acknowledged (P9). No await.
//!
//! What replaces it may not be here yet: the block may have come without it from another node. But
//! it was numbered before this node had the block. So it lies at or before the head that its origin
//! names in the echo of a ping that is sent afterwards, and through there the subscription hears
//! it, or passes it as well, and waits anew. Until then no lease for that origin is passed on to
//! it, and it counts as not having applied what it passed for as long as a lease that was passed on
//! before may be trusted.

use std::collections::BTreeMap;
use std::time::Duration;

use evermesh_event::{Frontier, Origin, Sequence};
use evermesh_journal::Journal;

/// Of each origin of which something was passed so. Bounded by the origins that this node knows.
#[derive(Debug, Default)]
pub(crate) struct Replaced(BTreeMap<Origin, Gap>);

/// What was passed of one origin.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// The newest of it was here then: what replaces it was numbered before that.
    here: Duration,
    /// Everything through here was heard.
    before: Sequence,
    /// The subscription is here…
    passed: Sequence,
    /// …which does not count yet.
    withheld: bool,
    /// Leases that were passed on to it before are over then.
    until: Duration,
    /// What replaces it lies at or before this.
    bound: Option<Sequence>,
}

impl Replaced {
    /// Of a stream that opens. What an earlier stream of its application passed, it will not meet
    /// again; what replaces that is here, unless this node took it so from another one.
    pub(crate) fn before(journal: &Journal) -> Self {
        let of = journal.replaced().into_iter();
        let gap = |here| Gap {
            here,
            before: Sequence::ZERO,
            passed: Sequence::ZERO,
            withheld: false,
            until: Duration::ZERO,
            bound: None,
        };
        Self(of.map(|(origin, here)| (origin, gap(here))).collect())
    }

    /// Something of an origin above a sequence was passed that newer events replace. `leased`: the
    /// longest lease that was passed on to the subscription ends then.
    pub(crate) fn note(
        &mut self,
        origin: &Origin,
        before: Sequence,
        now: Duration,
        leased: Duration,
    ) {
        let new = Gap {
            here: now,
            before,
            passed: Sequence::ZERO,
            withheld: false,
            until: leased,
            bound: None,
        };
        // Since an earlier one nothing more was passed on.
        let gap = self.0.entry(origin.clone()).or_insert(new);
        (gap.here, gap.bound) = (now, None);
    }

    /// What counts as applied of what the subscription has applied now, and before.
    pub(crate) fn counts(
        &mut self,
        moves: &Frontier,
        journal: &Journal,
        now: Duration,
    ) -> Frontier {
        if self.0.is_empty() {
            return moves.clone();
        }
        let mut counts = Frontier::default();
        for (origin, at) in moves.iter() {
            let Some(gap) = self.0.get_mut(origin) else {
                counts.advance(origin, at);
                continue;
            };
            gap.passed = gap.passed.max(at);
            gap.withheld = true;
            counts.advance(origin, at.min(gap.before));
        }
        self.0.retain(|origin, gap| {
            gap.look(origin, journal);
            let heard = gap.bound.is_some_and(|bound| gap.passed >= bound);
            if (heard || now >= gap.until) && std::mem::take(&mut gap.withheld) {
                counts.advance(origin, gap.passed);
            }
            !heard
        });
        counts
    }

    /// It heard what replaces everything that it passed of an origin.
    pub(crate) fn is_heard(&self, origin: &Origin) -> bool {
        !self.0.contains_key(origin)
    }

    /// There is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When something counts again, if nothing else happens.
    pub(crate) fn withheld_until(&self) -> Option<Duration> {
        self.0.values().filter(|gap| gap.withheld).map(|gap| gap.until).min()
    }
}

impl Gap {
    /// Takes the head of an echo, if its ping was sent late enough. What is numbered here is here.
    fn look(&mut self, origin: &Origin, journal: &Journal) {
        let head = if origin == journal.origin() {
            Some(self.bound.unwrap_or_else(|| journal.own_head()))
        } else {
            let echo = journal.leases().echo_of(origin);
            echo.filter(|echo| echo.pinged > self.here).map(|echo| echo.head)
        };
        // The first will do; a later one may be lower, after a crash of the origin.
        self.bound = [self.bound, head].into_iter().flatten().min();
    }
}

#[cfg(test)]
mod tests;
