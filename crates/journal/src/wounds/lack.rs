//! Events of one origin that were lost, and what of them came back.

use std::collections::VecDeque;

use evermesh_event::{Block, Offset, Origin, Sequence};
use evermesh_proto::v1::MissedCause;

use super::Wound;
use crate::record::Missed;

/// A stretch of what is lacking.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// It came back.
    Block(Block),
    /// Nobody holds it.
    Gap {
        /// Through here.
        through: Sequence,
    },
}

/// Everything of an origin between two sequences.
#[derive(Clone, Debug)]
pub(crate) struct Lack {
    pub(crate) origin: Origin,
    /// Everything through here is in its place.
    pub(crate) from: Sequence,
    pub(crate) through: Sequence,
    /// It lay behind the record that ended here…
    pub(crate) lo: Offset,
    /// …and before the one that begins here.
    pub(crate) hi: Offset,
    /// Through here it came back, or nobody holds it.
    pub(crate) covered: Sequence,
    /// What lies between `from` and `covered`, in order.
    pub(crate) parts: VecDeque<Part>,
    /// Nothing of it came back, and nobody holds it.
    pub(crate) given_up: bool,
    /// Of what was put in its place last: only its watermark.
    pub(super) mark: Option<Block>,
}

impl Lack {
    pub(crate) fn new(
        origin: Origin,
        from: Sequence,
        through: Sequence,
        lo: Offset,
        hi: Offset,
    ) -> Self {
        let (covered, parts, given_up, mark) = (from, VecDeque::new(), false, None);
        Self { origin, from, through, lo, hi, covered, parts, given_up, mark }
    }

    pub(super) fn set_from(&mut self, from: Sequence) {
        self.from = from;
        self.covered = from;
    }

    /// It may have lain in this wound.
    pub(crate) fn spans(&self, wound: &Wound) -> bool {
        self.lo <= wound.after && wound.through < self.hi
    }

    pub(super) fn is_covered(&self) -> bool {
        self.covered >= self.through
    }

    /// All of it is in its place.
    pub(super) fn is_done(&self) -> bool {
        self.from >= self.through
    }

    /// Takes what of a block comes next.
    pub(super) fn offer(&mut self, block: &Block) -> bool {
        let next = block.previous() <= self.covered && block.last() > self.covered;
        if *block.origin() != self.origin || !next || self.is_covered() {
            return false;
        }
        let part = block.within(self.covered, self.through);
        self.covered = part.last();
        self.parts.push_back(Part::Block(part));
        true
    }

    pub(super) fn give_up(&mut self, through: Sequence) {
        let through = through.min(self.through);
        if through <= self.covered {
            return;
        }
        self.covered = through;
        if through == self.through && self.parts.is_empty() && self.mark.is_none() {
            self.given_up = true;
            return;
        }
        self.parts.push_back(Part::Gap { through });
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// All that is not in its place.
    pub(super) fn missed(&self) -> Missed {
        missed(&self.origin, self.from, self.through)
    }
}

impl Part {
    const fn bytes(&self) -> usize {
        match self {
            Self::Block(block) => block.encoded().len(),
            Self::Gap { .. } => 64,
        }
    }

    /// How many offsets it takes.
    pub(super) fn span(&self) -> u64 {
        match self {
            Self::Block(block) => u64::from(block.count().max(1)),
            Self::Gap { .. } => 1,
        }
    }

    pub(super) const fn through(&self) -> Sequence {
        match self {
            Self::Block(block) => block.last(),
            Self::Gap { through } => *through,
        }
    }
}

pub(super) fn missed(origin: &Origin, after: Sequence, through: Sequence) -> Missed {
    Missed {
        origin: Some(origin.clone()),
        from: after.plus(1).unwrap_or(after),
        through,
        sites: Vec::new(),
        cause: MissedCause::Damaged,
    }
}
