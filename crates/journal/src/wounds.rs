//! What is damaged in the journal: where it is, which events were lost with it, what of them came
//! back from others, and what a reader meets there. Pure: no await, no clock.
//!
//! What was lost shows in what follows: the next block of its origin goes on from a sequence that
//! is not here. Such a lack may have lain in any wound between the records that show it. A wound
//! that no lack explains may have been anything: then it is a missed of every origin.
//!
//! What was told there without a range is known besides, and is told in its place again.
//!
//! While others may still hold what is lacking, readers wait before the wound. Then it is filled
//! with what came, or they meet a missed in its place.

mod fill;
mod lack;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use evermesh_event::{Epoch, Offset, Origin, Sequence};

pub(crate) use self::fill::Fill;
pub(crate) use self::lack::Lack;
use crate::cuts::Cuts;
use crate::notices::{Notice, Notices, everything};
use crate::record::{Content, Missed, Record};
use crate::state::Mended;

/// Ranges that were damaged once and are remembered. More of them join: then who resumes there
/// hears more again.
const RANGES_MAX: usize = 4096;
/// What may have come of what is lacking and is not yet written: several of the largest blocks.
const COLLECTED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A place in a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: Offset,
    pub(crate) marker: u32,
    pub(crate) position: u64,
}

/// Offsets that are lost, between two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wound {
    pub(crate) place: Place,
    /// Where the next whole record lies, in the same file.
    pub(crate) goes_on_at: u64,
    pub(crate) after: Offset,
    pub(crate) through: Offset,
}

impl Wound {
    /// How many offsets.
    const fn span(&self) -> u64 {
        self.through.as_u64().saturating_sub(self.after.as_u64())
    }
}

/// Offsets that were damaged once: in another order, now, than when they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) after: Offset,
    pub(crate) through: Offset,
    /// With which change of the wounds it was found; 0: at the beginning of this start.
    pub(crate) since: u64,
    /// From which start on the places that were given out are those of the present order.
    pub(crate) settled: Settled,
    /// Somebody met a missed in this start where it is damaged.
    told: bool,
}

/// From which start on places within a range are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Settled {
    /// From a former one on, in which it was healed.
    From(Epoch),
    /// From this one on: it was damaged when this one began, and nobody passes it unhealed.
    Here,
    /// From the next one on: some were given out in this one before it was healed.
    Later,
}

impl Range {
    fn new(after: Offset, through: Offset, since: u64, settled: Settled) -> Self {
        Self { after, through, since, settled, told: false }
    }
}

/// What a reader meets at a wound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Met {
    /// It may still be filled.
    Open,
    /// It is passed over, and this told.
    Told(Vec<Arc<Record>>),
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Wounds {
    /// Rising.
    all: Vec<Wound>,
    lacks: Vec<Lack>,
    ranges: BTreeMap<Offset, Range>,
    /// What was told without a range, damaged or not.
    pub(crate) notices: Notices,
    /// Somebody asks other members.
    awaited: bool,
    /// Counts changes that readers must know.
    version: u64,
    /// This start.
    epoch: Epoch,
}

impl Wounds {
    /// With what was damaged in former starts, and what was told.
    pub(crate) fn new(
        ranges: impl IntoIterator<Item = Mended>,
        notices: BTreeMap<Offset, Notice>,
    ) -> Self {
        let mut wounds = Self { notices: Notices::new(notices), ..Self::default() };
        for Mended { after, through, from } in ranges {
            wounds.add_range(Range::new(after, through, 0, Settled::From(from)));
        }
        wounds
    }

    /// This start has an epoch: places are given out in it from now on.
    pub(crate) const fn begins(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Offsets are lost. Two wounds at one place are one.
    pub(crate) fn add(&mut self, mut wound: Wound) {
        if let Some(before) = self.all.pop_if(|before| before.place == wound.place) {
            wound.after = before.after;
        }
        let since = self.version;
        let settled = if since == 0 { Settled::Here } else { Settled::Later };
        self.add_range(Range::new(wound.after, wound.through, since, settled));
        let at = self.all.partition_point(|other| other.after < wound.after);
        self.all.insert(at, wound);
    }

    fn add_range(&mut self, new: Range) {
        let Range { after, through, since, settled, .. } = new;
        let before = self.ranges.range(..=after).next_back().map(|(_, range)| *range);
        // What is left of a wound that was filled in part belongs to what was there at first.
        let joins = |range: &Range| range.through >= after && range.after < range.through;
        let full = self.ranges.len() >= RANGES_MAX;
        let mut range = match before {
            Some(range) if joins(&range) || full => range,
            _ => new,
        };
        range.since = range.since.max(since);
        range.settled = range.settled.max(settled);
        range.through = range.through.max(through);
        self.ranges.insert(range.after, range);
    }

    /// Everything of an origin between two sequences is lacking: it lay behind `lo` and before
    /// `hi`. False if nothing is damaged there.
    pub(crate) fn lacks(&mut self, lack: Lack) -> bool {
        let Some(lack) = self.without_known(lack) else { return true };
        let found = self.all.iter().any(|wound| lack.spans(wound));
        if found {
            self.lacks.push(lack);
        }
        found
    }

    /// Without what is known to lack already; `None`: nothing is left.
    fn without_known(&self, mut lack: Lack) -> Option<Lack> {
        for known in &self.lacks {
            if known.origin != lack.origin {
                continue;
            }
            if known.from <= lack.from && known.through > lack.from {
                lack.set_from(known.through);
            } else if known.from < lack.through && known.through >= lack.through {
                lack.through = known.from;
            }
        }
        (lack.from < lack.through).then_some(lack)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Counts up with each change that readers must know.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) const fn change(&mut self) {
        self.version += 1;
    }

    /// From now on readers wait for what may come.
    pub(crate) const fn awaits(&mut self) {
        self.awaited = true;
    }

    pub(crate) fn at(&self, place: Place) -> Option<&Wound> {
        self.all.iter().find(|wound| wound.place == place)
    }

    pub(crate) fn is_wounded(&self, segment: Offset) -> bool {
        self.all.iter().any(|wound| wound.place.segment == segment)
    }

    /// The segments that they lie in.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Offset> {
        self.all.iter().map(|wound| wound.place.segment)
    }

    /// In a segment, by place.
    pub(crate) fn in_segment(&self, segment: Offset) -> Vec<Wound> {
        self.all.iter().filter(|wound| wound.place.segment == segment).copied().collect()
    }

    /// The damaged range that an offset lies strictly within.
    pub(crate) fn range_of(&self, offset: Offset) -> Option<Range> {
        let (_, range) = self.ranges.range(..offset).next_back()?;
        (offset < range.through).then_some(*range)
    }

    /// A wound is about to be filled: its range, from where it began at first. Whoever was told
    /// something within it in this start has a place in another order.
    pub(crate) fn reorder(&mut self, after: Offset) -> Option<Mended> {
        let since = self.version + 1;
        let (_, range) = self.ranges.range_mut(..=after).next_back()?;
        if range.told {
            (range.since, range.settled) = (since, Settled::Later);
        }
        let from = match range.settled {
            Settled::From(from) => from,
            Settled::Here => self.epoch,
            Settled::Later => self.epoch.next().unwrap_or(self.epoch),
        };
        Some(Mended { after: range.after, through: range.through, from })
    }

    /// Where to resume from an offset that was given out in a start: within what was damaged since,
    /// at its beginning.
    pub(crate) fn resumes(&self, offset: Offset, given: Epoch) -> Offset {
        let range = self.range_of(offset).filter(|range| match range.settled {
            Settled::From(from) => given < from,
            Settled::Here => given < self.epoch,
            Settled::Later => true,
        });
        range.map_or(offset, |range| range.after)
    }

    /// What a reader meets.
    pub(crate) fn meet(&mut self, wound: &Wound) -> Met {
        let mut here = self.lacks.iter().filter(|lack| lack.spans(wound));
        if self.awaited && here.any(|lack| !lack.given_up) {
            return Met::Open;
        }
        if let Some((_, range)) = self.ranges.range_mut(..=wound.after).next_back() {
            range.told = true;
        }
        Met::Told(self.told(wound))
    }

    /// What is missed, at the last offsets of those that are lost, and what was told there, in its
    /// place.
    fn told(&self, wound: &Wound) -> Vec<Arc<Record>> {
        let mut told: BTreeMap<_, _> = self.noticed(wound).collect();
        let noticed = told.len() as u64;
        let mut explained = false;
        let mut lost = Vec::new();
        for lack in self.lacks.iter().filter(|lack| lack.spans(wound)) {
            explained = true;
            if !lack.is_done() && self.last_of(lack) == Some(wound.after) {
                lost.push(lack.missed());
            }
        }
        let span = wound.span();
        if !(explained || noticed == span) || lost.len() as u64 + noticed > span {
            // Nothing shows what it was, or there are more origins than places to say so.
            told = BTreeMap::from([(wound.through, everything())]);
            lost.clear();
        }
        let mut at = wound.through.as_u64();
        for missed in lost.into_iter().rev() {
            while told.contains_key(&Offset::from_u64(at)) {
                at -= 1;
            }
            told.insert(Offset::from_u64(at), missed);
        }
        let record = |(at, missed)| Arc::new(Record::new(at, Content::Missed(missed)));
        told.into_iter().map(record).collect()
    }

    /// What was told there without a range.
    fn noticed(&self, wound: &Wound) -> impl Iterator<Item = (Offset, Missed)> {
        let noticed = self.notices.within(wound.after, wound.through).into_iter();
        noticed.map(|(at, missed)| (at, missed.clone()))
    }

    /// A record that tells without a range, found where it was written.
    pub(crate) fn found_notice(&mut self, record: &Record, missed: &Missed) {
        let before = Offset::from_u64(record.offset.as_u64().saturating_sub(1));
        if self.notices.within(before, record.end()).is_empty() {
            self.notices.note(record.end(), missed);
        }
    }

    /// Nobody knows what was told: it may have been where something is damaged.
    pub(crate) fn suspect(&mut self) {
        self.all.iter().for_each(|wound| self.notices.note(wound.through, &everything()));
    }

    /// What was told and is neither where it was found, nor where something is damaged.
    pub(crate) fn lacking_notices(&mut self, found: &[(Offset, Offset)]) -> Vec<Missed> {
        let wounds = self.all.iter().map(|wound| (wound.after.plus(1), wound.through));
        let wounds = wounds.map(|(first, through)| (first.unwrap_or(through), through));
        let places: Vec<_> = wounds.chain(found.iter().copied()).collect();
        self.notices.lack(|first, through| {
            places.iter().any(|(begin, end)| *begin <= through && first <= *end)
        })
    }

    /// The last wound in which it may have lain, by where that begins.
    fn last_of(&self, lack: &Lack) -> Option<Offset> {
        self.all.iter().rfind(|wound| lack.spans(wound)).map(|wound| wound.after)
    }

    /// A stretch is to be cut: who did not pass it hears of what was lacking there, too.
    pub(crate) fn mark(&self, end: Offset, cuts: &mut Cuts) {
        for (at, missed) in self.notices.within(Offset::ZERO, end) {
            let damaged = || self.all.iter().any(|w| w.after < at && at <= w.through);
            match &missed.origin {
                None => cuts.note_all(at),
                Some(origin) if damaged() => cuts.note(origin, missed.through, at),
                Some(_) => {}
            }
        }
        for wound in self.all.iter().filter(|wound| wound.through <= end) {
            let noticed = self.noticed(wound).count() as u64 == wound.span();
            if !noticed && !self.lacks.iter().any(|lack| lack.spans(wound)) {
                cuts.note_all(wound.through);
            }
        }
        for lack in &self.lacks {
            let last = self.all.iter().rfind(|wound| lack.spans(wound));
            if let Some(last) = last.filter(|last| last.through <= end) {
                cuts.note(&lack.origin, lack.through, last.through);
            }
        }
    }

    /// It is cut.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.notices.cut(end);
        if self.is_empty() && self.ranges.is_empty() {
            return;
        }
        self.all.retain(|wound| wound.through > end);
        self.ranges.retain(|_, range| range.through > end);
        self.forget_done();
        self.change();
    }

    /// Lets go of lacks that no wound can hold.
    fn forget_done(&mut self) {
        let all = &self.all;
        self.lacks.retain(|lack| all.iter().any(|wound| lack.spans(wound)));
    }

    /// What is lacking and nobody gave up: origin, through where it came back, and its end. As long
    /// as there is room for it.
    pub(crate) fn lacking(&self) -> Vec<(Origin, Sequence, Sequence)> {
        if self.bytes() >= COLLECTED_BYTES_MAX / 2 {
            return Vec::new();
        }
        let open = self.lacks.iter().filter(|lack| lack.covered < lack.through);
        open.map(|lack| (lack.origin.clone(), lack.covered, lack.through)).collect()
    }

    /// A block came: takes what of it is lacking. False if nothing is.
    pub(crate) fn offer(&mut self, block: &evermesh_event::Block) -> bool {
        let room = self.bytes() + block.encoded().len() <= COLLECTED_BYTES_MAX;
        room && self.lacks.iter_mut().fold(false, |took, lack| lack.offer(block) | took)
    }

    /// Nobody holds what is lacking of an origin through a sequence. True if that changes what
    /// readers meet.
    pub(crate) fn give_up(
        &mut self,
        origin: &Origin,
        covered: Sequence,
        through: Sequence,
    ) -> bool {
        let same = |lack: &&mut Lack| lack.origin == *origin && lack.covered == covered;
        let Some(lack) = self.lacks.iter_mut().find(same) else { return false };
        lack.give_up(through);
        true
    }

    fn bytes(&self) -> usize {
        self.lacks.iter().map(Lack::bytes).sum()
    }
}
