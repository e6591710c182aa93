//! What was cut from the journal: marks for each origin and site, so that whoever did not pass it
//! hears the smallest scope that it may have missed. Pure: no await, no clock.
//!
//! A reader that is before the end of what was cut meets one missed for each origin of which
//! something lay after its place, at the offset where the last of that had been.

use std::collections::BTreeMap;
use std::sync::Arc;

use evermesh_event::{Frontier, Offset, Origin, Sequence};
use evermesh_proto::v1::MissedCause;

use crate::record::{Content, Missed, Record};

/// Sites that are told apart in one origin; beyond them it is all of its sites.
const SITES_MAX: usize = 64;

/// How far an origin gets in a stretch of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Its last sequence there.
    pub(crate) through: Sequence,
    /// The end of its last record there.
    pub(crate) offset: Offset,
    /// The end of the last record with each site. The empty site: every one.
    pub(crate) sites: BTreeMap<String, Offset>,
}

/// How far each origin gets in a stretch of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaches(BTreeMap<Origin, Reach>);

impl Reach {
    pub(crate) fn note_site(&mut self, site: &str, offset: Offset) {
        if let Some(last) = self.sites.get_mut(site) {
            *last = offset.max(*last);
        } else if self.sites.len() < SITES_MAX {
            self.sites.insert(site.to_owned(), offset);
        } else {
            let last = self.sites.values().copied().max().unwrap_or(offset).max(offset);
            self.sites = BTreeMap::from([(String::new(), last)]);
        }
    }

    fn join(&mut self, later: &Self) {
        self.through = self.through.max(later.through);
        self.offset = self.offset.max(later.offset);
        later.sites.iter().for_each(|(site, offset)| self.note_site(site, *offset));
    }

    /// Which sites had something after an offset; empty: all of them.
    fn sites_after(&self, after: Offset) -> Vec<String> {
        let hit = self.sites.iter().filter(|(_, offset)| **offset > after);
        let sites: Vec<_> = hit.map(|(site, _)| site.clone()).collect();
        if sites.iter().any(String::is_empty) { Vec::new() } else { sites }
    }
}

impl Reaches {
    pub(crate) fn note(&mut self, record: &Record) {
        let end = record.end();
        let (origin, through) = match &record.content {
            Content::Block { block, .. } => (block.origin(), block.last()),
            Content::Missed(missed) => match &missed.origin {
                Some(origin) => (origin, missed.through),
                // Told to whoever was there; later ones have nothing to miss by it.
                None => return,
            },
        };
        let reach = match self.0.get_mut(origin) {
            Some(reach) => reach,
            None => self.0.entry(origin.clone()).or_default(),
        };
        reach.through = reach.through.max(through);
        reach.offset = end;
        match &record.content {
            Content::Block { block, .. } if block.kinds().is_empty() => reach.note_site("", end),
            Content::Block { block, .. } => {
                block.kinds().iter().for_each(|kind| reach.note_site(&kind.site, end));
            }
            Content::Missed(missed) if missed.sites.is_empty() => reach.note_site("", end),
            Content::Missed(missed) => {
                missed.sites.iter().for_each(|site| reach.note_site(site, end));
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Origin, &Reach)> {
        self.0.iter()
    }
}

/// Everything that was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cuts {
    /// Nothing at or before it is held.
    pub(crate) end: Offset,
    pub(crate) origins: BTreeMap<Origin, Reach>,
    /// The marks of origins that are not known any more, together.
    pub(crate) forgotten: Reach,
}

impl Cuts {
    /// A stretch of records was cut, the last of which ended there.
    pub(crate) fn add(&mut self, end: Offset, reaches: &Reaches) {
        self.end = self.end.max(end);
        for (origin, reach) in reaches.iter() {
            self.origins.entry(origin.clone()).or_default().join(reach);
        }
    }

    /// Something of an origin that was lost lay in what was cut, before an offset; whose sites is
    /// not known.
    pub(crate) fn note(&mut self, origin: &Origin, through: Sequence, offset: Offset) {
        let reach = self.origins.entry(origin.clone()).or_default();
        reach.through = reach.through.max(through);
        reach.offset = reach.offset.max(offset);
        reach.note_site("", offset);
    }

    /// What was lost may have been of anybody.
    pub(crate) fn note_all(&mut self, offset: Offset) {
        for reach in self.origins.values_mut().chain([&mut self.forgotten]) {
            reach.offset = reach.offset.max(offset);
            reach.note_site("", offset);
        }
    }

    /// An origin is not known any more. Whoever did not pass what was cut of it hears of its sites,
    /// and not whose they were.
    pub(crate) fn forget(&mut self, origin: &Origin) {
        if let Some(reach) = self.origins.remove(origin) {
            self.forgotten.join(&Reach { through: Sequence::ZERO, ..reach });
        }
    }

    /// Through where each origin was cut.
    pub(crate) fn frontier(&self) -> Frontier {
        self.origins.iter().map(|(origin, cut)| (origin.clone(), cut.through)).collect()
    }

    /// Where somebody begins who lacks what was cut of an origin above a sequence: before every
    /// mark. Marks are offsets, and do not say which sites had something above a sequence: all of
    /// them are named, for a wider scope is never wrong.
    pub(crate) fn place_of(&self, origin: &Origin, sequence: Sequence) -> Option<Offset> {
        let cut = self.origins.get(origin)?;
        (cut.through > sequence).then_some(Offset::ZERO)
    }

    /// What a reader meets in the place of what was cut.
    pub(crate) fn missed_after(&self, after: Offset) -> Vec<Arc<Record>> {
        if after >= self.end {
            return Vec::new();
        }
        let origins = self.origins.iter().map(|(origin, cut)| (Some(origin), cut));
        // First of those at one offset: whoever acknowledged it was told of all of them.
        let all = [(None, &self.forgotten)].into_iter().chain(origins);
        let missed = all.filter(|(_, cut)| cut.offset > after).map(|(origin, cut)| {
            let missed = Missed {
                origin: origin.cloned(),
                from: Sequence::ZERO,
                through: cut.through,
                sites: cut.sites_after(after),
                cause: MissedCause::Retention,
            };
            Arc::new(Record::new(cut.offset, Content::Missed(missed)))
        });
        let mut missed: Vec<_> = missed.collect();
        missed.sort_by_key(|record| record.offset);
        missed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use evermesh_event::{JournalId, NodeName};

    use super::*;

    fn origin(node: &str) -> Origin {
        Origin { node: NodeName::new(node).unwrap(), journal: JournalId::new([1; 16]) }
    }

    fn at(offset: u64) -> Offset {
        Offset::from_u64(offset)
    }

    fn reaches(of: &[(&str, u64, &str, u64)]) -> Reaches {
        let mut reaches = Reaches::default();
        for (node, through, site, offset) in of {
            let reach = reaches.0.entry(origin(node)).or_default();
            reach.through = Sequence::from_u64(*through);
            reach.offset = at(*offset);
            reach.note_site(site, at(*offset));
        }
        reaches
    }

    #[test]
    fn p7_who_passed_what_was_cut_misses_nothing_and_others_the_sites_that_were_hit() {
        let mut cuts = Cuts::default();
        cuts.add(at(10), &reaches(&[("a", 3, "shop", 4), ("a", 5, "blog", 9), ("b", 2, "x", 10)]));
        let all = |after| -> Vec<(u64, Vec<String>)> {
            let sites = |record: &Arc<Record>| match &record.content {
                Content::Missed(missed) => (record.offset.as_u64(), missed.sites.clone()),
                Content::Block { .. } => unreachable!(),
            };
            cuts.missed_after(at(after)).iter().map(sites).collect()
        };
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(all(0), [(9, words(&["blog", "shop"])), (10, words(&["x"]))]);
        assert_eq!(all(4), [(9, words(&["blog"])), (10, words(&["x"]))], "shop was passed");
        assert_eq!(all(9), [(10, words(&["x"]))]);
        assert_eq!(all(10), []);
        let place = cuts.place_of(&origin("a"), Sequence::from_u64(1));
        assert_eq!(place.map(|place| all(place.as_u64())), Some(all(0)), "shop lay above 1, too");
        assert_eq!(cuts.place_of(&origin("a"), Sequence::from_u64(5)), None);
    }

    #[test]
    fn p1_what_was_cut_of_an_origin_that_is_forgotten_is_told_all_the_same() {
        let mut cuts = Cuts::default();
        cuts.add(at(10), &reaches(&[("a", 3, "shop", 4), ("b", 2, "blog", 10)]));
        cuts.forget(&origin("a"));
        let told = |after| {
            let missed = cuts.missed_after(at(after)).into_iter();
            missed.map(|record| match &record.content {
                Content::Missed(missed) => (missed.origin.clone(), missed.sites.clone()),
                Content::Block { .. } => unreachable!(),
            })
        };
        let (shop, blog) = (vec!["shop".to_owned()], vec!["blog".to_owned()]);
        let all: Vec<_> = told(0).collect();
        assert_eq!(all, [(None, shop), (Some(origin("b")), blog.clone())]);
        assert_eq!(told(4).collect::<Vec<_>>(), [(Some(origin("b")), blog)]);
        assert!(!cuts.frontier().contains(&origin("a")));
    }

    #[test]
    fn p7_many_sites_become_all_of_them() {
        let mut reach = Reach::default();
        for n in 0..=SITES_MAX as u64 {
            reach.note_site(&n.to_string(), at(n));
        }
        assert_eq!(reach.sites_after(Offset::ZERO), Vec::<String>::new());
        assert_eq!(reach.sites.len(), 1);
    }
}
