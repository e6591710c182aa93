//! Damage: what is not what was written, where something proves that it had been durable. And how
//! it is told from a torn end.

use evermesh_event::Offset;

use super::Recovery;
use crate::error::Error;
use crate::notices::everything;
use crate::segment::scan::Scan;
use crate::wounds::{Place, Wound};

const NOT_WRITTEN: &str = "a record is not what was written";

impl Recovery<'_> {
    /// What is not what was written begins there. Where the next whole record lies that must be
    /// taken; `None`: there is none, or what follows is what a crash left of a group that was not
    /// durable, and is cut.
    pub(super) fn damaged(
        &mut self,
        scan: &mut Scan,
        place: Place,
        last: bool,
    ) -> Result<Option<u64>, Error> {
        let head = self.recovered.head;
        let position = place.position;
        let (mut at, mut found, mut durable) = (position, None, self.proven);
        // In the last segment only what some record proves was durable for certain.
        loop {
            let next = scan.record_from(at);
            let next = next.map_err(|error| self.refused("read a segment", error))?;
            let Some((found_at, decoded)) = next else { break };
            durable = durable.max(decoded.durable_before);
            at = found_at + decoded.length as u64;
            if decoded.record.offset > head && found.is_none() {
                found = Some((found_at, decoded.record.offset));
            }
            if !last {
                break;
            }
        }
        let file = self.storage.segment_name(place.segment);
        if last && durable <= head {
            tracing::warn!(
                file, position, after = %head,
                "the node stopped while it wrote: what was not durable is cut, nobody was assured \
                of it"
            );
            return Ok(None);
        }
        self.proven = durable;
        let next = found.filter(|(_, next)| !last || *next <= durable);
        tracing::error!(
            file, position, after = %head,
            "{NOT_WRITTEN}: it stays as it is and is passed over; what was lost is asked of other \
            members or told as missed"
        );
        let Some((found_at, next)) = next else { return Ok(None) };
        self.wound(place, found_at, next);
        Ok(Some(found_at))
    }

    /// Everything between the head and an offset is lost.
    pub(super) fn wound(&mut self, place: Place, goes_on_at: u64, next: Offset) {
        let after = self.recovered.head;
        let before_next = Offset::from_u64(next.as_u64().saturating_sub(1));
        // The first offset of a start has nothing before it in that start: what is lost was the end
        // of the one before.
        let ends = self.expected.ends.range(..next.epoch()).map(|(_, end)| *end).max();
        let one = after.plus(1).unwrap_or(after);
        let through = match ends.filter(|end| *end > after) {
            Some(end) if next.counter() <= 1 => end,
            None if next.counter() <= 1 && after > Offset::ZERO => one,
            _ => before_next,
        };
        self.recovered.wounds.add(Wound { place, goes_on_at, after, through });
        self.recovered.head = through;
    }

    /// What was told without a range: where that is damaged, it is told again in its place; where
    /// it stands nowhere any more, anew. If nobody knows what there was, damage may have been such
    /// a thing, too.
    pub(super) fn notices(&mut self) {
        let wounds = &mut self.recovered.wounds;
        if self.expected.notices.is_none() {
            wounds.suspect();
        }
        if self.recovered.lost_end {
            // Until that is told: else a crash before would leave it untold.
            wounds.notices.note(self.proven, &everything());
        }
        self.recovered.untold = wounds.lacking_notices(&self.noticed);
    }

    /// What the state database knows to have been here, and is not.
    pub(super) fn stored_frontier(&mut self) {
        let own = self.expected.origin.clone();
        for (origin, at) in self.expected.frontier.clone().iter() {
            if self.lacks(origin, at, Offset::from_u64(u64::MAX)) {
                self.recovered.frontier.advance(origin, at);
                self.recovered.bases.advance(origin, at);
                if *origin == own {
                    self.recovered.own_head = at.max(self.recovered.own_head);
                }
            }
        }
    }

    /// What follows the head must be the next offset, or the first of a later start where the
    /// former is known to end here.
    pub(super) fn continues(&self, next: Offset) -> bool {
        let head = self.recovered.head;
        let same_start = next.epoch() == head.epoch() && head.plus(1) == Some(next);
        let ended = || {
            let between = self.expected.ends.range(head.epoch()..next.epoch());
            between.map(|(_, end)| *end).all(|end| end <= head)
        };
        let later_start = next.epoch() > head.epoch() && next.counter() == 1 && ended();
        same_start || later_start
    }
}
