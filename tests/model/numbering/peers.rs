//! Between nodes: who meets whom, who pulls what from whom, and when a hole is given up.

use evermesh_event::{Epoch, Offset, Sequence};

use super::disk::{Ended, Item, JOURNALS, Next, top};
use super::state::{State, Wrong};
use super::{Numbering, Rule};

impl Numbering {
    /// Hello and welcome: both sides compare what they know, and note it.
    pub(crate) fn meet(&self, state: &mut State, one: usize, other: usize) -> bool {
        if !state.linked(one, other) {
            return false;
        }
        if (one == 0 || other == 0) && self.is_restored(state, one + other) {
            self.take_new_journal(state);
        }
        for (to, from) in [(one, other), (other, one)] {
            self.learn(state, to, from);
        }
        true
    }

    /// Whether what a peer knows shows that the origin's disk is a restored copy.
    fn is_restored(&self, state: &State, peer: usize) -> bool {
        let (mine, known) = (&state.nodes[0].disk, &state.nodes[peer].disk);
        let stranger = |(of, _, start): &(u8, u8, u8)| *of == mine.journal && !mine.is_mine(*start);
        let beyond = |(of, head): &(u8, Sequence)| {
            let ended = mine.ended.iter().find(|ended| epoch(ended.epoch) == head.epoch());
            *of == mine.journal && ended.is_some_and(|ended| *head > ended.own_end)
        };
        self.keeps(Rule::StartIds) && known.seen.iter().any(stranger)
            || self.keeps(Rule::DurableHeads) && known.heads.iter().any(beyond)
    }

    /// The origin takes a new journal id: a new start, and missed for its name, durable before.
    fn take_new_journal(&self, state: &mut State) {
        let former = state.nodes[0].disk.journal;
        // Only where numbers are used again is it needed more often than a disk is restored.
        if usize::from(former) + 1 == JOURNALS {
            return;
        }
        self.append(state, 0, Item::Name);
        let disk = &state.nodes[0].disk;
        let (from, through) = (disk.frontier(former), top(epoch(disk.epoch)));
        self.append(state, 0, Item::Missed { journal: former, from, through });
        let start = state.draw();
        let disk = &mut state.nodes[0].disk;
        disk.durable = disk.records.len();
        let (own_end, end) = (disk.frontier(former), disk.end());
        disk.ended.push(Ended { start: disk.start, epoch: disk.epoch, own_end, end });
        (disk.journal, disk.epoch, disk.start) = (former + 1, disk.epoch + 1, start);
        disk.see((disk.journal, disk.epoch, start));
        self.resume(state, 0);
    }

    /// One side notes what the other knows of the origin's starts.
    fn learn(&self, state: &mut State, to: usize, from: usize) {
        for start in state.nodes[from].disk.seen.clone() {
            let (journal, at, _) = start;
            let disk = &state.nodes[to].disk;
            if disk.seen.contains(&start) {
                continue;
            }
            let others = (0..JOURNALS).map(|of| u8::try_from(of).unwrap());
            let asks = to != 0 || self.keeps(Rule::OwnName);
            let second = asks && !disk.met(journal) && others.into_iter().any(|of| disk.met(of));
            let contested = disk.seen.iter().any(|(of, e, _)| (*of, *e) == (journal, at));
            // The origin judges its own starts by itself.
            let contested = contested && !(to == 0 && disk.journal == journal);
            state.nodes[to].disk.see(start);
            if second {
                self.append(state, to, Item::Name);
            }
            if contested && self.keeps(Rule::OneStartAnEpoch) {
                self.contest(state, to, journal, at);
            }
        }
    }

    /// Two starts of one epoch: nobody can say which numbers are whose.
    fn contest(&self, state: &mut State, to: usize, journal: u8, at: u8) {
        self.append(state, to, Item::Name);
        let from = state.nodes[to].disk.frontier(journal);
        let through = top(epoch(at)).max(from);
        if through > from {
            self.append(state, to, Item::Missed { journal, from, through });
        }
    }

    /// Takes the next block under a journal id from a member.
    pub(crate) fn pull(&self, state: &mut State, to: usize, from: usize, journal: u8) -> bool {
        let own = to == 0 && state.nodes[0].disk.journal == journal;
        if own || !state.linked(to, from) || !self.may_ask(state, to, from, journal) {
            return false;
        }
        let at = state.nodes[to].disk.frontier(journal);
        let next = state.nodes[from].disk.next(journal, at);
        let item = match next {
            Next::Block(item) => item,
            Next::Hole(_, Some(item)) if !self.keeps(Rule::Previous) => item,
            _ => return false,
        };
        if self.unmet(state, to, from) {
            return false;
        }
        self.append(state, to, item);
        true
    }

    /// Whether hello and welcome would still change something.
    fn unmet(&self, state: &State, one: usize, other: usize) -> bool {
        let mut met = state.clone();
        self.meet(&mut met, one, other);
        met != *state
    }

    /// The origin itself, or anybody while it cannot be reached or does not hold what comes next.
    fn may_ask(&self, state: &State, to: usize, from: usize, journal: u8) -> bool {
        let origin = &state.nodes[0].disk;
        let owner = to != 0 && origin.journal == journal && state.linked(to, 0);
        if from == 0 && origin.journal == journal {
            return true;
        }
        let at = state.nodes[to].disk.frontier(journal);
        let holed = || matches!(origin.next(journal, at), Next::Hole(..));
        self.keeps(Rule::Repair) && (!owner || holed())
    }

    /// Gives up a hole: no reachable member can serve what comes next.
    pub(crate) fn miss(&self, state: &mut State, to: usize, journal: u8) -> bool {
        let own = to == 0 && state.nodes[0].disk.journal == journal;
        let at = state.nodes[to].disk.frontier(journal);
        let linked: Vec<_> =
            (0..state.nodes.len()).filter(|peer| state.linked(to, *peer)).collect();
        if own || linked.iter().any(|peer| self.unmet(state, to, *peer)) {
            return false;
        }
        let (mut holes, mut served) = (Vec::new(), false);
        for peer in &linked {
            match state.nodes[*peer].disk.next(journal, at) {
                Next::Hole(through, _) => holes.push(through),
                Next::Block(_) => served = true,
                Next::Nothing => {}
            }
        }
        let Some(through) = holes.into_iter().min() else { return false };
        if served && self.keeps(Rule::AskOthers) {
            return false;
        }
        let held = linked.iter().fold(0, |mask, peer| mask | state.held(*peer));
        let assured = state.mask(|event| event.assured && !event.exempt);
        if state.range(journal, at, through) & held & assured != 0 {
            state.note(Wrong::Needless);
        }
        self.append(state, to, Item::Missed { journal, from: at, through });
        true
    }

    /// A member hears through where the origin's events are on its disk.
    pub(crate) fn hear_head(&self, state: &mut State, to: usize) -> bool {
        if !state.linked(to, 0) || self.unmet(state, to, 0) {
            return false;
        }
        let origin = &state.nodes[0].disk;
        let mut durable = origin.clone();
        durable.records.truncate(durable.durable);
        let (journal, head) = (origin.journal, durable.frontier(origin.journal));
        if head == Sequence::ZERO {
            return false;
        }
        state.nodes[to].disk.hear_head(journal, head);
        true
    }

    /// At the end of a journal.
    pub(crate) fn append(&self, state: &mut State, node: usize, item: Item) {
        let node = &mut state.nodes[node];
        let disk = &mut node.disk;
        let end = disk.end();
        let within = |at: u8| end.epoch() == epoch(at);
        let at = if self.keeps(Rule::EpochInOffset) { disk.epoch } else { 1 };
        let counter = if within(at) { end.counter() + 1 } else { 1 };
        disk.records.push((Offset::new(epoch(at), counter).unwrap(), item));
        if !node.crashes {
            disk.durable = disk.records.len();
        }
    }
}

/// An epoch of the wire.
pub(crate) fn epoch(epoch: u8) -> Epoch {
    Epoch::new(epoch.into()).unwrap()
}
