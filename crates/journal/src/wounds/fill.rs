//! What is put in the place of what was lost: which blocks, at which offsets. Pure.
//!
//! Wounds are filled in order, and what must lie before something else first, as far as the
//! offsets of a wound go. Within it the blocks may lie in another order than before, those of one
//! origin never. What was told there without a range is told again, at its own offset. What finds
//! no offset is missed.

use std::collections::VecDeque;
use std::sync::Arc;

use evermesh_event::{Block, Epoch, Offset, Sequence};

use super::lack::{self, Lack, Part};
use super::{Wound, Wounds};
use crate::record::{Content, Kept, Missed, Record};

/// So much is written before all of it came: a segment is written anew for each such piece.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// Records for the place of a wound.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) wound: Wound,
    /// In order.
    pub(crate) records: Vec<Record>,
    /// Nothing is lacking there any more.
    pub(crate) complete: bool,
}

impl Wounds {
    /// The next wound for which enough came; what came leaves the table.
    pub(crate) fn next_fill(&mut self) -> Option<Fill> {
        let enough = self.bytes() >= PIECE_BYTES;
        let mut pending = vec![false; self.lacks.len()];
        for wound in self.all.clone() {
            let here: Vec<_> = self.spanning(&wound);
            let state = |test: fn(&Lack) -> bool| {
                here.iter().filter_map(|at| self.lacks.get(*at)).all(test)
            };
            if state(|lack| lack.given_up) {
                continue;
            }
            let waits = here.iter().any(|at| pending.get(*at).copied().unwrap_or(false));
            let complete = state(Lack::is_covered);
            let some = !state(|lack| lack.parts.is_empty());
            if !waits
                && (complete || (enough && some))
                && let Some(fill) = self.fill(wound, &here, complete)
            {
                return Some(fill);
            }
            here.iter().for_each(|at| pending.get_mut(*at).into_iter().for_each(|p| *p = true));
        }
        None
    }

    /// Which lacks may have lain in a wound; what must be there soonest first.
    fn spanning(&self, wound: &Wound) -> Vec<usize> {
        let here = self.lacks.iter().enumerate().filter(|(_, lack)| lack.spans(wound));
        let mut here: Vec<_> = here.map(|(at, lack)| (self.last_of(lack), at)).collect();
        here.sort_unstable();
        here.into_iter().map(|(_, at)| at).collect()
    }

    fn fill(&mut self, wound: Wound, here: &[usize], complete: bool) -> Option<Fill> {
        let last = |lack: &Lack| !lack.is_done() && self.last_of(lack) == Some(wound.after);
        let must: Vec<bool> = here.iter().map(|at| self.lacks.get(*at).is_some_and(last)).collect();
        let musts = must.iter().filter(|must| **must).count() as u64;
        let mut room = Room::new(&wound, self.noticed(&wound).collect(), musts, complete);
        if room.left() < musts + u64::from(!complete) {
            here.iter().filter_map(|at| self.lacks.get(*at)).for_each(|lack| {
                let origin = &lack.origin;
                tracing::error!(%origin, "what was lost finds no place: it is missed");
            });
            self.abandon(here);
            return None;
        }
        for (at, must) in here.iter().zip(must) {
            let Some(lack) = self.lacks.get_mut(*at) else { continue };
            if must && std::mem::take(&mut lack.given_up) {
                lack.parts.push_back(Part::Gap { through: lack.through });
            }
            room.place(lack, must);
        }
        let mark = here.iter().find_map(|at| self.lacks.get(*at)?.mark.clone());
        if !room.close(mark) {
            self.abandon(here);
            return None;
        }
        (!room.records.is_empty()).then_some(Fill { wound, records: room.records, complete })
    }

    /// There is no room to heal anything.
    pub(crate) fn abandon_all(&mut self) {
        if self.lacks.iter().any(|lack| !lack.given_up) {
            tracing::error!("the disk has no room to heal what is damaged: it is missed");
            self.abandon(&(0..self.lacks.len()).collect::<Vec<_>>());
        }
    }

    /// They are told as missed after all.
    fn abandon(&mut self, here: &[usize]) {
        for at in here {
            if let Some(lack) = self.lacks.get_mut(*at) {
                (lack.given_up, lack.covered) = (true, lack.through);
                lack.parts.clear();
            }
        }
        self.change();
    }

    /// A wound was filled, and the others of its segment lie elsewhere now.
    pub(crate) fn filled(&mut self, fill: &Fill, moved: &[(Offset, Wound)]) {
        let end = fill.records.last().map_or(fill.wound.after, Record::end);
        if fill.complete {
            self.all.retain(|wound| wound.after != fill.wound.after);
        }
        for wound in &mut self.all {
            if let Some((_, to)) = moved.iter().find(|(after, _)| *after == wound.after) {
                *wound = *to;
            }
            if wound.after == fill.wound.after {
                wound.after = end;
            }
        }
        self.forget_done();
        self.change();
    }
}

/// The offsets of a wound, while they are given.
struct Room {
    next: u64,
    through: u64,
    /// What each must have at least, if it did not get any yet.
    kept: u64,
    complete: bool,
    /// What has its own offset among them.
    noticed: VecDeque<(Offset, Missed)>,
    records: Vec<Record>,
}

impl Room {
    fn new(wound: &Wound, noticed: VecDeque<(Offset, Missed)>, musts: u64, complete: bool) -> Self {
        let next = match wound.after {
            // The first offset of the first start.
            Offset::ZERO => Offset::begin(Epoch::new(1).unwrap_or_default()).as_u64() + 1,
            after => after.as_u64() + 1,
        };
        let kept = if complete { musts } else { musts.max(1) };
        let through = wound.through.as_u64();
        Self { next, through, kept, complete, noticed, records: Vec::new() }
    }

    fn left(&self) -> u64 {
        (self.through + 1).saturating_sub(self.next).saturating_sub(self.noticed.len() as u64)
    }

    fn spare(&self) -> u64 {
        self.left().saturating_sub(self.kept)
    }

    /// How many offsets follow each other from here, behind what has its own here.
    fn run(&mut self) -> u64 {
        while let Some((at, missed)) = self.noticed.pop_front_if(|(at, _)| at.as_u64() <= self.next)
        {
            debug_assert_eq!(at.as_u64(), self.next, "it was passed over");
            self.push(Content::Missed(missed), 1);
        }
        let ends = self.noticed.front().map_or(self.through + 1, |(at, _)| at.as_u64());
        ends.saturating_sub(self.next)
    }

    fn push(&mut self, content: Content, span: u64) {
        self.records.push(Record::new(Offset::from_u64(self.next), content));
        self.next += span;
    }

    /// What of a lack finds its place here.
    fn place(&mut self, lack: &mut Lack, must: bool) {
        let ends = must && self.complete;
        if ends {
            self.kept = self.kept.saturating_sub(1);
        }
        let mut placed = None;
        while let Some(part) = lack.parts.pop_front() {
            let run = self.run();
            let (span, spare) = (part.span(), self.spare());
            // One offset is left for what may have to be missed.
            let more = ends && !lack.parts.is_empty();
            let whole = span + u64::from(more) <= spare;
            if whole && span <= run {
                let after = lack.from;
                lack.from = part.through();
                match part {
                    Part::Block(block) => {
                        placed = Some(block.clone());
                        self.push(Content::Block { block, skip: 0 }, span);
                    }
                    Part::Gap { through } => {
                        let missed = lack::missed(&lack.origin, after, through);
                        self.push(Content::Missed(missed), span);
                    }
                }
                continue;
            }
            let fits = if ends && !whole { spare.saturating_sub(1) } else { spare };
            let count = fits.min(run);
            let split = entry(&part, count);
            if let (Part::Block(block), Some(at)) = (&part, split) {
                let front = block.within(lack.from, at);
                placed = Some(front.clone());
                let span = u64::from(front.count().max(1));
                self.push(Content::Block { block: front, skip: 0 }, span);
                lack.parts.push_front(Part::Block(block.within(at, block.last())));
                lack.from = at;
            } else {
                lack.parts.push_front(part);
            }
            if split.is_some() && (whole || count < fits) {
                continue;
            }
            if ends {
                self.overflows(lack);
            }
            break;
        }
        if let Some(block) = placed {
            lack.mark = Some(block.within(block.last(), block.last()));
        }
    }

    /// There are more events than offsets: the rest is missed.
    fn overflows(&mut self, lack: &mut Lack) {
        tracing::error!(
            origin = %lack.origin, after = %lack.from, through = %lack.through,
            "more came back than was lost here: the rest is missed"
        );
        let missed: Missed = lack.missed();
        self.run();
        self.push(Content::Missed(missed), 1);
        lack.parts.clear();
        lack.from = lack.through;
    }

    /// What is left over belongs to the last record. False if there is none to be had.
    fn close(&mut self, mark: Option<Block>) -> bool {
        if !self.complete {
            return true;
        }
        while let Some((at, missed)) = self.noticed.pop_front() {
            self.widen(at.as_u64().saturating_sub(1));
            self.push(Content::Missed(missed), 1);
            // Nothing lies before it.
            self.widen(at.as_u64());
        }
        if self.records.is_empty() {
            let Some(block) = mark else { return false };
            self.push(Content::Block { block, skip: 0 }, 1);
        }
        self.widen(self.through);
        true
    }

    /// What is left over before an offset belongs to the last record.
    fn widen(&mut self, through: u64) {
        if self.next <= through
            && let Some(last) = self.records.last_mut()
        {
            let count = match &last.content {
                Content::Block { block, .. } => block.count(),
                Content::Missed(_) => 0,
            };
            let end = Offset::from_u64(through);
            last.kept = Some(Arc::new(Kept { end, places: (0..count).collect() }));
            self.next = through + 1;
        }
    }
}

/// The sequence of the entry with which so many are full; `None`: there is no such front.
fn entry(part: &Part, count: u64) -> Option<Sequence> {
    let Part::Block(block) = part else { return None };
    let before = usize::try_from(count.checked_sub(1)?).ok()?;
    block.entries().nth(before).map(|entry| entry.sequence)
}
