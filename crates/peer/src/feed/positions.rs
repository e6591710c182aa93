//! Where the receiver of a feed is in each origin, what of it is wanted, and what waits because
//! something before it is lacking here. Pure: no await, no clock.

use std::collections::{BTreeMap, BTreeSet};

use evermesh_event::{Block, Frontier, NodeName, Origin, Sequence};
use evermesh_journal::{Content, Missed, Record};
use evermesh_proto::v1::MissedCause;

/// The positions of one receiver.
#[derive(Debug)]
pub(crate) struct Positions {
    /// Whose events are always wanted: this node's, under whatever journal id.
    node: NodeName,
    /// What else is wanted.
    wanted: BTreeSet<Origin>,
    at: BTreeMap<Origin, Sequence>,
    /// What it was told that is lacking here, through which sequence: it says from where to go on.
    held_back: BTreeMap<Origin, Sequence>,
}

impl Positions {
    /// A receiver that lacks nothing through its frontier.
    pub(crate) fn new(node: &NodeName, frontier: Frontier) -> Self {
        let at = frontier.iter().map(|(origin, at)| (origin.clone(), at)).collect();
        Self { node: node.clone(), wanted: BTreeSet::new(), at, held_back: BTreeMap::new() }
    }

    /// Where it is in an origin.
    pub(crate) fn get(&self, origin: &Origin) -> Sequence {
        self.at.get(origin).copied().unwrap_or(Sequence::ZERO)
    }

    /// What else is wanted from now on. Returns what begins by that, or goes on again, and after
    /// which sequence.
    pub(crate) fn want(
        &mut self,
        wanted: BTreeMap<Origin, Sequence>,
    ) -> BTreeMap<Origin, Sequence> {
        let mut begins = BTreeMap::new();
        for (origin, at) in &wanted {
            let again = self.held_back.get(origin).is_some_and(|through| through <= at);
            let new = origin.node != self.node && !self.wanted.contains(origin);
            if again || new {
                self.held_back.remove(origin);
                self.at.insert(origin.clone(), *at);
                begins.insert(origin.clone(), *at);
            }
        }
        self.wanted = wanted.into_keys().filter(|origin| origin.node != self.node).collect();
        self.held_back.retain(|of, _| of.node == self.node || self.wanted.contains(of));
        begins
    }

    /// What is lacking between the receiver and this record: it is told that, and of this origin
    /// nothing else before it said from where to go on.
    pub(crate) fn hole(&mut self, record: &Record) -> Option<Missed> {
        let origin = record.moves()?.0;
        if !self.serves(origin) {
            return None;
        }
        let at = self.get(origin);
        let missed = match &record.content {
            Content::Missed(missed) if missed.through > at => missed.clone(),
            Content::Block { block, .. } if block.previous() > at && block.last() > at => Missed {
                origin: Some(origin.clone()),
                from: at.plus(1).unwrap_or(at),
                through: block.previous(),
                sites: Vec::new(),
                cause: MissedCause::Hole,
            },
            _ => return None,
        };
        self.held_back.insert(origin.clone(), missed.through);
        Some(missed)
    }

    /// Whether a block is to be sent; then the receiver is behind it.
    pub(crate) fn pass(&mut self, block: &Block) -> bool {
        let sends = self.serves(block.origin()) && block.last() > self.get(block.origin());
        if sends {
            self.at.insert(block.origin().clone(), block.last());
        }
        sends
    }

    fn serves(&self, origin: &Origin) -> bool {
        let wanted = origin.node == self.node || self.wanted.contains(origin);
        wanted && !self.held_back.contains_key(origin)
    }
}
