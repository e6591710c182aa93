//! What was cut from the journal: marks for each origin and site, so that whoever did not pass it
//! hears the smallest scope that it may have missed. Pure: no await, no clock.
//!
//! A reader that is before the end of what was cut meets, for each origin, a missed at the offset
//! where the last of what was lost had been, and a watermark behind it: what newer events replace
//! is not lost, for those lie behind, or were lost later and say so there.

use std::collections::BTreeMap;
use std::sync::Arc;

use evermesh_event::{Frontier, Offset, Origin, Sequence};
use evermesh_proto::v1::MissedCause;

use crate::record::{Content, Missed, Record};

mod reach;
#[cfg(test)]
mod tests;

pub(crate) use self::reach::Reach;

/// How far each origin gets in a stretch of records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reaches {
    of: BTreeMap<Origin, Stretch>,
    /// What was missed there of nobody in particular.
    of_nobody: Reach,
}

/// The records of one origin.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stretch {
    /// From where the first of them goes on, and its offset.
    begins: Option<(Sequence, Offset)>,
    reach: Reach,
}

impl Reaches {
    pub(crate) fn note(&mut self, record: &Record) {
        match &record.content {
            Content::Block { block, .. } => {
                let stretch = self.of(block.origin());
                stretch.goes_on(block.previous(), record.offset);
                stretch.reach.note(block, record);
            }
            Content::Missed(missed) => match &missed.origin {
                Some(origin) => {
                    let stretch = self.of(origin);
                    if missed.through > Sequence::ZERO {
                        let before = missed.from.as_u64().saturating_sub(1);
                        stretch.goes_on(Sequence::from_u64(before), record.offset);
                    }
                    stretch.reach.note_missed(missed, record.end());
                }
                None => self.of_nobody.note_missed(missed, record.end()),
            },
        }
    }

    fn of(&mut self, origin: &Origin) -> &mut Stretch {
        if !self.of.contains_key(origin) {
            self.of.insert(origin.clone(), Stretch::default());
        }
        self.of.entry(origin.clone()).or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Origin, &Reach)> {
        self.of.iter().map(|(origin, stretch)| (origin, &stretch.reach))
    }
}

impl Stretch {
    fn goes_on(&mut self, before: Sequence, offset: Offset) {
        match self.begins {
            None => self.begins = Some((before, offset)),
            Some(_) => self.reach.goes_on(before, offset),
        }
    }
}

/// Everything that was cut.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cuts {
    /// Nothing at or before it is held.
    pub(crate) end: Offset,
    pub(crate) origins: BTreeMap<Origin, Reach>,
    /// The marks of origins that are not known any more, and of nobody in particular, together.
    pub(crate) forgotten: Reach,
}

impl Cuts {
    /// A stretch of records was cut, the last of which ended there.
    pub(crate) fn add(&mut self, end: Offset, reaches: &Reaches) {
        self.end = self.end.max(end);
        for (origin, stretch) in &reaches.of {
            let reach = self.origins.entry(origin.clone()).or_default();
            if let Some((before, offset)) = stretch.begins {
                reach.goes_on(before, offset);
            }
            reach.join(&stretch.reach);
        }
        self.forgotten.join(&reaches.of_nobody);
    }

    /// Something of an origin that was lost lay in what was cut, before an offset; whose sites is
    /// not known.
    pub(crate) fn note(&mut self, origin: &Origin, through: Sequence, offset: Offset) {
        self.origins.entry(origin.clone()).or_default().lose_all(through, offset);
    }

    /// What was lost may have been of anybody.
    pub(crate) fn note_all(&mut self, offset: Offset) {
        for reach in self.origins.values_mut().chain([&mut self.forgotten]) {
            reach.lose_all(reach.through, offset);
        }
    }

    /// An origin is not known any more. Whoever did not pass what was cut of it hears of its sites,
    /// and not whose they were.
    pub(crate) fn forget(&mut self, origin: &Origin) {
        if let Some(reach) = self.origins.remove(origin) {
            self.forgotten.join(&reach.of_nobody());
        }
    }

    /// Through where each origin was cut.
    pub(crate) fn frontier(&self) -> Frontier {
        self.origins.iter().map(|(origin, cut)| (origin.clone(), cut.through)).collect()
    }

    /// Through where something was lost: who is at it or beyond can be served all that comes next.
    pub(crate) fn bases(&self) -> Frontier {
        self.origins.iter().map(|(origin, cut)| (origin.clone(), cut.lost)).collect()
    }

    /// Something is lost that was not before.
    pub(crate) fn lose_more_than(&self, before: &Self) -> bool {
        let more = |(origin, cut): (&Origin, &Reach)| {
            let before = before.origins.get(origin);
            before.map_or(Offset::ZERO, Reach::lost_at) < cut.lost_at()
                || before.map_or(Sequence::ZERO, |cut| cut.lost) < cut.lost
        };
        self.forgotten != before.forgotten || self.origins.iter().any(more)
    }

    /// Where somebody begins who lacks what was cut of an origin above a sequence: before every
    /// mark. Marks are offsets, and do not say which sites had something above a sequence: all of
    /// them are named, for a wider scope is never wrong.
    pub(crate) fn place_of(&self, origin: &Origin, sequence: Sequence) -> Option<Offset> {
        let cut = self.origins.get(origin)?;
        (cut.through > sequence).then_some(Offset::ZERO)
    }

    /// What a reader meets in the place of what was cut.
    pub(crate) fn met_after(&self, after: Offset) -> Vec<Arc<Record>> {
        if after >= self.end {
            return Vec::new();
        }
        let origins = self.origins.iter().map(|(origin, cut)| (Some(origin), cut));
        // First of those at one offset: whoever acknowledged it was told of all of them.
        let all = [(None, &self.forgotten)].into_iter().chain(origins);
        let met = all.flat_map(|(origin, cut)| {
            let missed = (cut.lost_at() > after).then(|| {
                let missed = Missed {
                    origin: origin.cloned(),
                    from: Sequence::ZERO,
                    through: cut.lost,
                    sites: cut.sites_after(after),
                    cause: MissedCause::Retention,
                };
                Record::new(cut.lost_at(), Content::Missed(missed))
            });
            let mark = cut.mark.as_ref().filter(|_| cut.offset > after).map(|mark| {
                Record::new(cut.offset, Content::Block { block: mark.clone(), skip: 0 })
            });
            [missed, mark].into_iter().flatten().map(Arc::new)
        });
        let mut met: Vec<_> = met.collect();
        met.sort_by_key(|record| record.offset);
        met
    }
}
