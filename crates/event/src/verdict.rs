//! The checker: what was published against what each subscriber heard. Knows nothing of how either
//! came about.
//!
//! Fed with histories in the order in which they were recorded; a demonstration, a drill and the
//! tests use the same one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::position::Sequence;

/// How sure a published event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its publisher was assured STORED or more: it must arrive.
    Assured,
    /// Its publisher heard nothing, or "outcome unknown": it may arrive.
    Unknown,
}

/// How far a subscriber was in its stream at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark(BTreeMap<String, Sequence>);

/// What one subscriber recorded, in its order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Heard in the present stream: the newest sequence of each origin.
    newest: BTreeMap<String, Sequence>,
    /// Heard at all, with how often: (origin, sequence).
    heard: HashMap<(String, Sequence), u32>,
    ids: HashSet<String>,
    /// Acknowledged for good: what was heard through here must not come again.
    secured: BTreeMap<String, Sequence>,
    repeated: u64,
    missed: u64,
    reordered: u64,
    deliveries: u64,
}

impl History {
    /// A stream was opened: order begins anew.
    pub fn opened(&mut self) {
        self.newest.clear();
    }

    /// An event was delivered.
    pub fn heard(&mut self, origin: &str, sequence: Sequence, id: &str) {
        self.deliveries += 1;
        match self.newest.get_mut(origin) {
            Some(newest) if sequence <= *newest => self.reordered += 1,
            Some(newest) => *newest = sequence,
            None => {
                self.newest.insert(origin.to_owned(), sequence);
            }
        }
        let times = self.heard.entry((origin.to_owned(), sequence)).or_default();
        *times += 1;
        if *times > 1 && self.secured.get(origin) >= Some(&sequence) {
            self.repeated += 1;
        }
        self.ids.insert(id.to_owned());
    }

    /// How far the present stream is.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.newest.clone())
    }

    /// What was heard up to a mark was acknowledged, and both are on the node's disk: none of it
    /// may come again from now on (P3).
    pub fn secured(&mut self, mark: &Mark) {
        for (origin, through) in &mark.0 {
            let secured = self.secured.entry(origin.clone()).or_default();
            *secured = (*secured).max(*through);
        }
    }

    /// Whether an event was heard.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// A missed was told.
    pub const fn missed(&mut self) {
        self.missed += 1;
    }

    /// How many deliveries there were, of whatever events.
    #[must_use]
    pub const fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Whether one event was heard.
    #[must_use]
    pub fn has_heard(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// How many different events were heard.
    #[must_use]
    pub fn events(&self) -> usize {
        self.ids.len()
    }
}

/// What was published.
#[derive(Clone, Debug, Default)]
pub struct Published(HashMap<String, Fate>);

impl Published {
    /// An event was handed in; what is assured once stays so.
    pub fn note(&mut self, id: &str, fate: Fate) {
        let known = self.0.entry(id.to_owned()).or_insert(fate);
        if fate == Fate::Assured {
            *known = fate;
        }
    }

    /// What another publisher handed in beside it.
    pub fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|(id, fate)| self.note(id, *fate));
    }

    /// Whether one event was assured.
    #[must_use]
    pub fn is_assured(&self, id: &str) -> bool {
        self.0.get(id) == Some(&Fate::Assured)
    }

    /// How many events were assured.
    #[must_use]
    pub fn assured(&self) -> usize {
        self.0.values().filter(|fate| **fate == Fate::Assured).count()
    }
}

/// What is wrong, and what is merely so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Assured and not heard by a subscriber.
    pub lost: u64,
    /// Heard after a later one of the same origin in the same stream.
    pub reordered: u64,
    /// Heard and never published.
    pub phantom: u64,
    /// Heard under a second sequence. No fault where the origin crashed: readers may see an event
    /// before it is on its origin's disk; if it is lost there and published again under the same
    /// id, it is numbered anew. A fault anywhere else.
    pub renumbered: u64,
    /// Heard again, beyond the first time.
    pub duplicated: u64,
    /// Of those, what came again although its acknowledgement was stored.
    pub repeated: u64,
    /// Missed told.
    pub missed: u64,
    /// The first few ids that were lost, to look for.
    pub examples: BTreeSet<String>,
}

impl Verdict {
    /// How many lost ids are named.
    const EXAMPLES_MAX: usize = 5;

    /// Compares what was published with what one subscriber recorded.
    #[must_use]
    pub fn of(published: &Published, history: &History) -> Self {
        let mut verdict =
            Self { missed: history.missed, reordered: history.reordered, ..Self::default() };
        for (id, fate) in &published.0 {
            if *fate == Fate::Assured && !history.ids.contains(id) {
                verdict.lost += 1;
                verdict.name(id);
            }
        }
        let strangers = history.ids.iter().filter(|id| !published.0.contains_key(*id)).count();
        let numbers = history.heard.len();
        verdict.phantom = strangers as u64;
        verdict.renumbered = numbers.saturating_sub(history.ids.len()) as u64;
        verdict.duplicated = history.deliveries - numbers as u64;
        verdict.repeated = history.repeated;
        verdict
    }

    /// Adds another subscriber's.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.phantom += other.phantom;
        self.renumbered += other.renumbered;
        self.duplicated += other.duplicated;
        self.repeated += other.repeated;
        self.missed += other.missed;
        other.examples.iter().for_each(|id| self.name(id));
    }

    /// P1, P2 and P3 held, and nothing had to be missed.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        let wrong = self.lost + self.reordered + self.phantom + self.repeated;
        wrong == 0 && self.missed == 0
    }

    fn name(&mut self, id: &str) {
        if self.examples.len() < Self::EXAMPLES_MAX {
            self.examples.insert(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64) -> Sequence {
        Sequence::from_u64(sequence)
    }

    /// Three events, published and heard; then a change to what was heard.
    fn verdict(change: impl FnOnce(&mut History, &mut Published)) -> Verdict {
        let (mut published, mut history) = (Published::default(), History::default());
        history.opened();
        for (n, id) in [(1, "a"), (2, "b"), (3, "c")] {
            published.note(id, Fate::Assured);
            history.heard("web-1", at(n), id);
        }
        change(&mut history, &mut published);
        Verdict::of(&published, &history)
    }

    #[test]
    fn a_faultless_history_is_clean() {
        assert_eq!(verdict(|_, _| ()), Verdict::default());
    }

    #[test]
    fn each_planted_fault_is_caught() {
        let lost = verdict(|_, published| published.note("d", Fate::Assured));
        assert_eq!((lost.lost, lost.is_clean()), (1, false));
        assert!(lost.examples.contains("d"));
        let swapped = verdict(|history, published| {
            published.note("d", Fate::Assured);
            published.note("e", Fate::Assured);
            history.heard("web-1", at(5), "e");
            history.heard("web-1", at(4), "d");
        });
        assert_eq!((swapped.reordered, swapped.lost), (1, 0));
        let stranger = verdict(|history, _| history.heard("web-1", at(4), "x"));
        assert_eq!(stranger.phantom, 1);
        let twice = verdict(|history, _| history.heard("web-1", at(4), "a"));
        assert_eq!(twice.renumbered, 1, "one event under two sequences");
        assert!(!verdict(|history, _| history.missed()).is_clean());
    }

    #[test]
    fn again_on_a_new_stream_is_a_duplicate_and_no_fault() {
        let again = verdict(|history, _| {
            history.opened();
            history.heard("web-1", at(3), "c");
        });
        assert_eq!((again.duplicated, again.is_clean()), (1, true));
        let within = verdict(|history, _| history.heard("web-1", at(3), "c"));
        assert_eq!((within.duplicated, within.reordered), (1, 1), "within one stream it is one");
    }

    #[test]
    fn p3_what_was_secured_must_not_come_again() {
        let again = |history: &mut History, n, id| {
            history.opened();
            history.heard("web-1", at(n), id);
        };
        let secured = verdict(|history, _| {
            let mark = history.mark();
            history.secured(&mark);
            again(history, 3, "c");
        });
        assert_eq!((secured.repeated, secured.duplicated, secured.is_clean()), (1, 1, false));
        let later = verdict(|history, published| {
            let mark = history.mark();
            published.note("d", Fate::Assured);
            history.heard("web-1", at(4), "d");
            history.secured(&mark);
            again(history, 4, "d");
        });
        assert_eq!((later.repeated, later.duplicated), (0, 1), "it came after the mark");
        let other = verdict(|history, _| {
            let mark = history.mark();
            history.secured(&mark);
            history.opened();
            history.heard("web-2", at(1), "a");
        });
        assert_eq!((other.repeated, other.renumbered), (0, 1), "another number");
    }

    #[test]
    fn an_unknown_outcome_may_or_may_not_arrive() {
        assert!(verdict(|_, published| published.note("d", Fate::Unknown)).is_clean());
        let arrived = verdict(|history, published| {
            published.note("d", Fate::Unknown);
            history.heard("web-1", at(4), "d");
        });
        assert!(arrived.is_clean());
    }
}
