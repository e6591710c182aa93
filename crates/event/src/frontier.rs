//! The receiver's rule: which block is new here, and from which entry on.

use std::collections::BTreeMap;

use crate::block::Block;
use crate::names::Origin;
use crate::position::Sequence;

/// What a block is to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything in it is here.
    Duplicate,
    /// All of it is new, and it goes on where this node is.
    Next,
    /// It goes on where this node is, but its first entries are here already.
    Straddling {
        /// How many entries at its front to leave out.
        skip: u32,
    },
    /// Something before it is lacking: it cannot be taken before that was asked for.
    Hole {
        /// This node is here…
        at: Sequence,
        /// …and would have to be here.
        needed: Sequence,
    },
}

/// Origin → the sequence through which this node lacks nothing of it. An origin never met is at 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier(BTreeMap<Origin, Sequence>);

impl Frontier {
    /// Through where nothing is lacking of an origin.
    #[must_use]
    pub fn get(&self, origin: &Origin) -> Sequence {
        self.0.get(origin).copied().unwrap_or(Sequence::ZERO)
    }

    /// It was met.
    #[must_use]
    pub fn contains(&self, origin: &Origin) -> bool {
        self.0.contains_key(origin)
    }

    /// What a block is to a receiver with this frontier.
    #[must_use]
    pub fn judge(&self, block: &Block) -> Verdict {
        match self.judge_range(block.origin(), block.previous(), block.last()) {
            Verdict::Next => match block.count_through(self.get(block.origin())) {
                0 => Verdict::Next,
                skip => Verdict::Straddling { skip },
            },
            verdict => verdict,
        }
    }

    /// The same for a block of one entry, by where it begins and ends.
    #[must_use]
    pub fn judge_range(&self, origin: &Origin, previous: Sequence, last: Sequence) -> Verdict {
        let at = self.get(origin);
        if last <= at {
            Verdict::Duplicate
        } else if previous > at {
            Verdict::Hole { at, needed: previous }
        } else {
            Verdict::Next
        }
    }

    /// Moves on; never back.
    pub fn advance(&mut self, origin: &Origin, through: Sequence) {
        if let Some(at) = self.0.get_mut(origin) {
            *at = through.max(*at);
        } else {
            self.0.insert(origin.clone(), through);
        }
    }

    /// Nothing is known of an origin any more: it is as if it had never been met.
    pub fn remove(&mut self, origin: &Origin) {
        self.0.remove(origin);
    }

    /// Every origin and where this node is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&Origin, Sequence)> {
        self.0.iter().map(|(origin, at)| (origin, *at))
    }

    /// How many origins.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No origin was met.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Origin, Sequence)> for Frontier {
    fn from_iter<I: IntoIterator<Item = (Origin, Sequence)>>(entries: I) -> Self {
        let mut frontier = Self::default();
        for (origin, at) in entries {
            frontier.advance(&origin, at);
        }
        frontier
    }
}
