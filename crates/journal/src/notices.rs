//! Notices: every missed that names no range. What follows one in the journal shows nothing of it,
//! so the state database remembers each, too, and it is told again in its place if that is damaged.
//! Pure: no await, no clock.
//!
//! A row is stored once its record is on the disk, and before whatever says that it was told. So a
//! row without its record stands for something that was durable, and is lost: it is told anew.

use std::collections::{BTreeMap, BTreeSet};

use evermesh_event::{Offset, Sequence};
use evermesh_proto::v1::MissedCause;

use crate::record::Missed;

/// Rows kept: as many as members that a mesh may remember. Of more, the two oldest become one that
/// names every origin, and is told of whatever is damaged between them.
const NOTICES_MAX: usize = 4096;

/// One of them, or several that became one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Its offset; of several, that of the last.
    pub(crate) through: Offset,
    pub(crate) missed: Missed,
}

/// All that are held, and what of them is not stored yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notices {
    /// By the offset of the first. They do not overlap.
    rows: BTreeMap<Offset, Notice>,
    changed: BTreeSet<Offset>,
    /// Rows of records that are lost, and stand in no place: told anew with the first group.
    lacking: Vec<Offset>,
}

impl Notices {
    pub(crate) fn new(rows: BTreeMap<Offset, Notice>) -> Self {
        Self { rows, ..Self::default() }
    }

    /// A record that is one.
    pub(crate) fn note(&mut self, at: Offset, missed: &Missed) {
        let known = self.rows.range_mut(..=at).next_back();
        match known.filter(|(_, notice)| notice.through >= at) {
            Some((first, notice)) => {
                notice.missed = joined(&notice.missed, missed);
                self.changed.insert(*first);
            }
            None => {
                self.rows.insert(at, Notice { through: at, missed: missed.clone() });
                self.changed.insert(at);
            }
        }
        while self.rows.len() > NOTICES_MAX {
            self.join_oldest();
        }
    }

    fn join_oldest(&mut self) {
        let (Some((first, older)), Some((second, newer))) =
            (self.rows.pop_first(), self.rows.pop_first())
        else {
            return;
        };
        let missed = joined(&older.missed, &newer.missed);
        self.rows.insert(first, Notice { through: newer.through, missed });
        self.changed.extend([first, second]);
    }

    /// Those that lay behind one offset and through another, each with its place there. Rising.
    pub(crate) fn within(&self, after: Offset, through: Offset) -> Vec<(Offset, &Missed)> {
        let rows = self.rows.range(..=through).rev();
        let rows = rows.take_while(|(_, notice)| notice.through > after);
        let mut here: Vec<_> =
            rows.map(|(_, notice)| (notice.through.min(through), &notice.missed)).collect();
        here.reverse();
        here
    }

    /// Those that are neither among the records that were found, by their first and last offset,
    /// nor in one of the places that are damaged: nothing tells them where they were.
    pub(crate) fn lack(&mut self, there: impl Fn(Offset, Offset) -> bool) -> Vec<Missed> {
        let lacking = self.rows.iter().filter(|(first, notice)| !there(**first, notice.through));
        let lacking: Vec<_> = lacking.map(|(first, notice)| (*first, &notice.missed)).collect();
        self.lacking = lacking.iter().map(|(first, _)| *first).collect();
        lacking.into_iter().map(|(_, missed)| missed.clone()).collect()
    }

    /// What was lacking is on the disk again, elsewhere.
    pub(crate) fn told_anew(&mut self) {
        for first in std::mem::take(&mut self.lacking) {
            self.rows.remove(&first);
            self.changed.insert(first);
        }
    }

    /// Everything through an offset was cut, and its rows with it.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.rows.retain(|_, notice| notice.through > end);
    }

    /// What is to be stored: each changed row, or that it is gone.
    pub(crate) fn take_changed(&mut self) -> Vec<(Offset, Option<Notice>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|first| (first, self.rows.get(&first).cloned())).collect()
    }
}

/// Everything may be lost, of every origin.
pub(crate) const fn everything() -> Missed {
    Missed {
        origin: None,
        from: Sequence::ZERO,
        through: Sequence::ZERO,
        sites: Vec::new(),
        cause: MissedCause::Damaged,
    }
}

fn joined(one: &Missed, other: &Missed) -> Missed {
    if one == other { one.clone() } else { everything() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use evermesh_event::{JournalId, NodeName, Origin};

    use super::*;

    fn at(offset: u64) -> Offset {
        Offset::from_u64(offset)
    }

    fn of(node: &str) -> Missed {
        let node = NodeName::new(node).unwrap();
        let origin = Some(Origin { node, journal: JournalId::new([1; 16]) });
        Missed { origin, cause: MissedCause::Forgotten, ..everything() }
    }

    #[test]
    fn p1_each_is_told_in_its_place_and_only_there() {
        let mut notices = Notices::default();
        for (n, node) in [(3, "a"), (7, "b"), (8, "c")] {
            notices.note(at(n), &of(node));
        }
        let within = |after, through| notices.within(at(after), at(through));
        assert_eq!(within(2, 7), [(at(3), &of("a")), (at(7), &of("b"))]);
        assert_eq!(within(3, 6), []);
        assert_eq!(within(7, 20), [(at(8), &of("c"))]);
        assert_eq!(notices.take_changed().len(), 3);
        notices.cut(at(7));
        assert_eq!(notices.within(at(0), at(20)), [(at(8), &of("c"))]);
    }

    #[test]
    fn p1_p7_above_the_bound_the_oldest_become_one_of_every_origin() {
        let mut notices = Notices::default();
        for n in 1..=NOTICES_MAX as u64 + 2 {
            notices.note(at(10 * n), &of(&format!("n{n}")));
        }
        assert_eq!(notices.rows.len(), NOTICES_MAX);
        // Whatever part of it is damaged: it is told there.
        for (after, through, place) in [(9, 10, 10), (15, 16, 16), (20, 25, 25), (25, 35, 30)] {
            let within = notices.within(at(after), at(through));
            assert_eq!(within, [(at(place), &everything())], "{after}..={through}");
        }
        assert_eq!(notices.within(at(30), at(40)), [(at(40), &of("n4"))]);
        let stored = notices.take_changed();
        let rows = stored.into_iter().filter_map(|(first, row)| Some((first, row?))).collect();
        assert_eq!(Notices::new(rows), notices);
    }

    #[test]
    fn p1_what_is_nowhere_is_told_anew_and_then_forgotten() {
        let mut notices = Notices::default();
        notices.note(at(3), &of("a"));
        notices.note(at(7), &of("b"));
        notices.take_changed();
        assert_eq!(notices.lack(|first, _| first == at(3)), [of("b")]);
        assert_eq!(notices.take_changed(), []);
        notices.note(at(9), &of("b"));
        notices.told_anew();
        let row = Notice { through: at(9), missed: of("b") };
        assert_eq!(notices.take_changed(), [(at(7), None), (at(9), Some(row))]);
    }
}
