//! Rejected entries of one subscription: how often each was, what is delivered again, and when.
//! No await, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evermesh_event::Offset;

/// How often an entry is delivered before it is set aside.
pub(crate) const ATTEMPTS_MAX: u32 = 5;
/// The delay after the first reject; each further one doubles it.
const DELAY_FIRST: Duration = Duration::from_millis(200);
/// And at most: an application that is back soon finds its events soon.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// What is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    /// The last entry that was delivered before.
    pub(crate) through: Offset,
    /// Which delivery this is.
    pub(crate) attempt: u32,
}

/// What becomes of a rejected entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Delivered again after a delay.
    Later(Duration),
    /// It was delivered as often as it may.
    Exhausted,
}

/// The rejects of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Rejects {
    /// How often each entry was delivered that was rejected and not acknowledged since.
    attempts: BTreeMap<Offset, u32>,
    again: Option<Again>,
    /// What was rejected last, until something is said in its place. The application passes over
    /// everything behind it until then.
    waits: Option<Offset>,
    /// Entries in whose place the application hears missed.
    aside: BTreeSet<Offset>,
}

impl Rejects {
    /// `aside`: what earlier streams of the same durable name rejected for good.
    pub(crate) const fn new(aside: BTreeSet<Offset>) -> Self {
        Self { attempts: BTreeMap::new(), again: None, waits: None, aside }
    }

    /// An entry was rejected; `newest`: the last that was delivered or left out.
    pub(crate) fn reject(&mut self, offset: Offset, newest: Offset) -> Fate {
        let attempts = self.attempts.entry(offset).or_insert(0);
        *attempts += 1;
        let attempts = *attempts;
        let through = self.again.map_or(newest, |again| again.through.max(newest));
        self.again = Some(Again { through, attempt: attempts + 1 });
        self.waits = Some(offset);
        if attempts >= ATTEMPTS_MAX {
            return Fate::Exhausted;
        }
        let doubled = DELAY_FIRST.saturating_mul(1 << (attempts - 1).min(16));
        Fate::Later(doubled.min(DELAY_MAX))
    }

    /// What is said next begins at `said`, or nothing through `at` is heard. False if what was
    /// rejected last lay before that: it was replaced or cut since, and the application would pass
    /// over everything.
    pub(crate) fn goes_on(&mut self, said: Option<Offset>, at: Offset) -> bool {
        let Some(waits) = self.waits else { return true };
        let Some(first) = said else { return at < waits };
        if first <= waits {
            self.waits = None;
        }
        first <= waits
    }

    /// It is told as missed from now on.
    pub(crate) fn set_aside(&mut self, offset: Offset) {
        self.aside.insert(offset);
        self.attempts.remove(&offset);
    }

    /// Everything through an offset was acknowledged.
    pub(crate) fn acknowledged(&mut self, through: Offset) {
        self.attempts.retain(|offset, _| *offset > through);
        self.aside.retain(|offset| *offset > through);
        self.again.take_if(|again| again.through <= through);
    }

    /// What is delivered again, if anything is.
    pub(crate) const fn again(&self) -> Option<Again> {
        self.again
    }

    /// The entries in whose place missed is told.
    pub(crate) const fn aside(&self) -> &BTreeSet<Offset> {
        &self.aside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Offset {
        Offset::from_u64(offset)
    }

    #[test]
    fn delays_double_and_the_fifth_reject_is_the_last() {
        let mut rejects = Rejects::default();
        let fates: Vec<_> = (0..5).map(|_| rejects.reject(at(7), at(9))).collect();
        let later = |ms| Fate::Later(Duration::from_millis(ms));
        assert_eq!(fates, [later(200), later(400), later(800), later(1600), Fate::Exhausted]);
        assert_eq!(rejects.again(), Some(Again { through: at(9), attempt: 6 }));
        rejects.set_aside(at(7));
        assert!(rejects.aside().contains(&at(7)));
        rejects.acknowledged(at(9));
        assert!(rejects.aside().is_empty() && rejects.again().is_none());
        assert_eq!(rejects.reject(at(10), at(10)), later(200), "another entry begins anew");
    }

    #[test]
    fn what_was_rejected_last_comes_again_before_anything_behind_it() {
        let mut rejects = Rejects::default();
        assert!(rejects.goes_on(Some(at(3)), at(3)), "nothing was rejected");
        rejects.reject(at(7), at(9));
        assert!(rejects.goes_on(None, at(6)), "what was left out lay before it");
        assert!(!rejects.goes_on(None, at(7)) && !rejects.goes_on(Some(at(8)), at(8)), "gone");
        rejects.reject(at(4), at(9));
        assert!(!rejects.goes_on(Some(at(7)), at(9)), "an earlier one was rejected since");
        assert!(rejects.goes_on(Some(at(4)), at(6)) && rejects.goes_on(Some(at(8)), at(8)));
    }
}
