//! What there is at one moment.

use evermesh_event::{Offset, Sequence};

use super::disk::{Disk, Item, JOURNALS};

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) publish: u8,
    /// Of each node. One that never crashes has everything on its disk at once.
    pub(crate) crash: [u8; 3],
    pub(crate) cut: u8,
    pub(crate) part: u8,
    pub(crate) copy: u8,
    pub(crate) restore: u8,
    /// The origin's disk is set aside for an empty one.
    pub(crate) fresh: u8,
}

/// An event that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) journal: u8,
    pub(crate) sequence: Sequence,
    /// Its publisher was assured STORED.
    pub(crate) assured: bool,
    /// It was on a disk that is no more.
    pub(crate) lost: bool,
    /// And no other disk bears witness that it ever was.
    pub(crate) exempt: bool,
}

/// A node: 0 is the origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) up: bool,
    pub(crate) disk: Disk,
    /// May lose what was not synced.
    pub(crate) crashes: bool,
}

/// A subscription: acknowledges what it hears, and resumes from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct App {
    pub(crate) node: usize,
    /// Start id and offset.
    pub(crate) token: (u8, Offset),
    pub(crate) at: Offset,
    /// The newest of each journal id in this stream.
    pub(crate) newest: [Sequence; JOURNALS],
    /// Events that it heard, and those that a missed covered when it was told: a bit for each.
    pub(crate) heard: u8,
    pub(crate) told: u8,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wrong {
    Silent,
    Needless,
    Order,
    Twice,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) nodes: Vec<Node>,
    pub(crate) apps: Vec<App>,
    pub(crate) events: Vec<Event>,
    /// Origin and receiver do not reach each other.
    pub(crate) parted: bool,
    pub(crate) copy: Option<Disk>,
    /// The disk was restored.
    pub(crate) restored: bool,
    pub(crate) drawn: u8,
    pub(crate) left: Left,
    pub(crate) wrong: Option<Wrong>,
}

impl State {
    /// All are up, and nothing was published.
    pub(crate) fn new(nodes: usize, apps: &[usize], left: Left) -> Self {
        let node = |n: usize| {
            let mut disk = Disk::new(u8::try_from(n).unwrap());
            if n == 0 {
                disk.see((0, 1, 0));
            }
            Node { up: true, disk, crashes: left.crash[n] > 0 }
        };
        let app = |node: &usize| App {
            node: *node,
            token: (u8::try_from(*node).unwrap(), Offset::ZERO),
            at: Offset::ZERO,
            newest: [Sequence::ZERO; JOURNALS],
            heard: 0,
            told: 0,
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            apps: apps.iter().map(app).collect(),
            events: Vec::new(),
            parted: false,
            copy: None,
            restored: false,
            drawn: u8::try_from(nodes).unwrap(),
            left,
            wrong: None,
        }
    }

    /// Whether two nodes are up and reach each other.
    pub(crate) fn linked(&self, one: usize, other: usize) -> bool {
        let parted = self.parted && one + other == 1;
        one != other && self.nodes[one].up && self.nodes[other].up && !parted
    }

    /// A new start id.
    pub(crate) fn draw(&mut self) -> u8 {
        self.drawn += 1;
        self.drawn - 1
    }

    /// The first thing that went wrong stays.
    pub(crate) fn note(&mut self, wrong: Wrong) {
        self.wrong = self.wrong.or(Some(wrong));
    }

    /// The events under a journal id that lie in a range: a bit for each.
    pub(crate) fn range(&self, journal: u8, from: Sequence, through: Sequence) -> u8 {
        self.mask(|event| {
            event.journal == journal && event.sequence > from && event.sequence <= through
        })
    }

    /// The events of which something is so: a bit for each.
    pub(crate) fn mask(&self, so: impl Fn(&Event) -> bool) -> u8 {
        let bits = self.events.iter().enumerate().filter(|(_, event)| so(event));
        bits.fold(0, |mask, (bit, _)| mask | 1 << bit)
    }

    /// The events that a node holds: a bit for each.
    pub(crate) fn held(&self, node: usize) -> u8 {
        let records = self.nodes[node].disk.records.iter();
        records.fold(0, |mask, (_, item)| match item {
            Item::Block { event, .. } => mask | 1 << event,
            _ => mask,
        })
    }
}
