//! A node's disk: its journal, and what it knows of starts.

use evermesh_event::{Epoch, Frontier, JournalId, NodeName, Offset, Origin, Sequence, Verdict};

/// Journal ids that the origin may have in turn.
pub(crate) const JOURNALS: usize = 3;

/// What stands in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// One event of the origin, under one of its journal ids.
    Block { journal: u8, start: u8, previous: Sequence, last: Sequence, event: u8 },
    /// A hole that was stepped over.
    Missed { journal: u8, from: Sequence, through: Sequence },
    /// Missed for the origin's name, whatever the journal id: everything published before.
    Name,
}

/// A start that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ended {
    pub(crate) start: u8,
    pub(crate) epoch: u8,
    /// The durable end of what this node numbered, and of its journal.
    pub(crate) own_end: Sequence,
    pub(crate) end: Offset,
}

/// Everything that outlives a process, and the tail that does not yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) journal: u8,
    pub(crate) epoch: u8,
    pub(crate) start: u8,
    pub(crate) ended: Vec<Ended>,
    pub(crate) records: Vec<(Offset, Item)>,
    /// How many of them a crash leaves.
    pub(crate) durable: usize,
    /// Through where records were cut, of each journal id and of this journal.
    pub(crate) cut: [Sequence; JOURNALS],
    pub(crate) cut_end: Offset,
    /// Starts of the origin that were seen: journal id, epoch, start id.
    pub(crate) seen: Vec<(u8, u8, u8)>,
    /// Its durable heads that were heard: journal id and head, the newest of each epoch.
    pub(crate) heads: Vec<(u8, Sequence)>,
}

impl Disk {
    /// In its first start.
    pub(crate) fn new(start: u8) -> Self {
        Self {
            journal: 0,
            epoch: 1,
            start,
            ended: Vec::new(),
            records: Vec::new(),
            durable: 0,
            cut: [Sequence::ZERO; JOURNALS],
            cut_end: Offset::ZERO,
            seen: Vec::new(),
            heads: Vec::new(),
        }
    }

    /// Through where nothing is lacking under a journal id.
    pub(crate) fn frontier(&self, journal: u8) -> Sequence {
        let through = self.records.iter().filter_map(|(_, item)| match item {
            Item::Block { journal: of, last, .. } => (*of == journal).then_some(*last),
            Item::Missed { journal: of, through, .. } => (*of == journal).then_some(*through),
            Item::Name => None,
        });
        through.max().unwrap_or_default().max(self.cut[usize::from(journal)])
    }

    /// The end of the journal.
    pub(crate) fn end(&self) -> Offset {
        self.records.last().map_or(self.cut_end, |(offset, _)| *offset)
    }

    /// What a receiver at a place would be sent next.
    pub(crate) fn next(&self, journal: u8, at: Sequence) -> Next {
        let frontier = Frontier::from_iter([(origin(journal), at)]);
        for (_, item) in &self.records {
            match item {
                Item::Block { journal: of, previous, last, .. } if *of == journal => {
                    match frontier.judge_range(&origin(journal), *previous, *last) {
                        Verdict::Duplicate => {}
                        Verdict::Hole { needed, .. } => return Next::Hole(needed, Some(*item)),
                        Verdict::Next | Verdict::Straddling { .. } => return Next::Block(*item),
                    }
                }
                Item::Missed { journal: of, through, .. } if *of == journal && *through > at => {
                    return Next::Hole(*through, None);
                }
                _ => {}
            }
        }
        let cut = self.cut[usize::from(journal)];
        if cut > at { Next::Hole(cut, None) } else { Next::Nothing }
    }

    /// Whether it saw anything of a journal id.
    pub(crate) fn met(&self, journal: u8) -> bool {
        self.seen.iter().any(|(of, ..)| *of == journal) || self.frontier(journal) > Sequence::ZERO
    }

    /// Notes a start, with the others in order.
    pub(crate) fn see(&mut self, start: (u8, u8, u8)) {
        if let Err(place) = self.seen.binary_search(&start) {
            self.seen.insert(place, start);
        }
    }

    /// Notes a durable head.
    pub(crate) fn hear_head(&mut self, journal: u8, head: Sequence) {
        let known = |(of, at): &(u8, Sequence)| *of == journal && at.epoch() == head.epoch();
        match self.heads.iter_mut().find(|heard| known(heard)) {
            Some((_, at)) => *at = head.max(*at),
            None => self.heads.push((journal, head)),
        }
        self.heads.sort_unstable();
    }

    /// The start ids that a node itself remembers.
    pub(crate) fn is_mine(&self, start: u8) -> bool {
        self.start == start || self.ended.iter().any(|ended| ended.start == start)
    }
}

/// What comes next for a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// This, which goes on where it is.
    Block(Item),
    /// Nothing is held through here; and the block after that, if that is why.
    Hole(Sequence, Option<Item>),
}

/// The last sequence that an epoch can have.
pub(crate) fn top(epoch: Epoch) -> Sequence {
    Sequence::new(epoch, (1 << 40) - 1).unwrap()
}

fn origin(journal: u8) -> Origin {
    Origin { node: NodeName::new("origin").unwrap(), journal: JournalId::new([journal; 16]) }
}
