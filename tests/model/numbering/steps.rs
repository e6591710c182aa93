//! What may happen next, and what becomes of it.

use std::fmt;

use evermesh_event::Sequence;

use super::disk::{Disk, Ended, Item, JOURNALS};
use super::peers::epoch;
use super::state::{Event, State, Wrong};
use super::{Numbering, Rule};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Publish,
    Sync(usize),
    Crash(usize),
    Start(usize),
    Meet(usize, usize),
    Pull { to: usize, from: usize, journal: u8 },
    Miss { to: usize, journal: u8 },
    Head(usize),
    Deliver(usize),
    Cut(usize),
    Part,
    Heal,
    Copy,
    Restore,
    Fresh,
}

impl Step {
    /// Everything that may happen among so many nodes and subscriptions.
    pub(crate) fn of(nodes: usize, apps: usize, steps: &mut Vec<Self>) {
        steps.extend([
            Self::Publish,
            Self::Part,
            Self::Heal,
            Self::Copy,
            Self::Restore,
            Self::Fresh,
        ]);
        for node in 0..nodes {
            steps.extend([Self::Sync(node), Self::Crash(node), Self::Start(node), Self::Cut(node)]);
        }
        Self::progress(nodes, apps, steps);
    }

    /// What happens by itself, as long as there is something to do.
    pub(crate) fn progress(nodes: usize, apps: usize, steps: &mut Vec<Self>) {
        for to in 0..nodes {
            steps.extend((to + 1..nodes).map(|other| Self::Meet(to, other)));
            for journal in (0..JOURNALS).map(|journal| u8::try_from(journal).unwrap()) {
                let from = (0..nodes).filter(|from| *from != to);
                steps.extend(from.map(|from| Self::Pull { to, from, journal }));
                steps.push(Self::Miss { to, journal });
            }
            if to > 0 {
                steps.push(Self::Head(to));
            }
        }
        steps.extend((0..apps).map(Self::Deliver));
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: &usize| ["origin", "receiver", "third"][*node];
        match self {
            Self::Publish => write!(f, "origin: an event is published"),
            Self::Sync(node) => write!(f, "{}: what it has is on its disk", name(node)),
            Self::Crash(node) => {
                write!(f, "{}: crashes, what is not on its disk is lost", name(node))
            }
            Self::Start(node) => write!(f, "{}: starts", name(node)),
            Self::Meet(one, other) => write!(f, "{} and {}: meet", name(one), name(other)),
            Self::Pull { to, from, .. } => {
                write!(f, "{}: takes a block from {}", name(to), name(from))
            }
            Self::Miss { to, .. } => write!(f, "{}: stores that it missed something", name(to)),
            Self::Head(to) => write!(f, "{}: hears what is on the origin's disk", name(to)),
            Self::Deliver(app) => write!(f, "subscription {app}: hears the next, acknowledges"),
            Self::Cut(node) => write!(f, "{}: cuts its oldest record", name(node)),
            Self::Part => write!(f, "(origin and receiver are cut off from each other)"),
            Self::Heal => write!(f, "(they reach each other again)"),
            Self::Copy => write!(f, "(the origin's disk is copied)"),
            Self::Restore => write!(f, "(the origin's disk is replaced by the copy)"),
            Self::Fresh => {
                write!(f, "(the origin's disk is set aside, an empty one takes its place)")
            }
        }
    }
}

impl Numbering {
    /// Whether it is worth to try a step.
    pub(crate) fn may(&self, state: &State, step: Step) -> bool {
        let (nodes, left) = (&state.nodes, &state.left);
        let behind = |to: usize, from: usize, journal: u8| {
            let at = |node: usize| nodes[node].disk.frontier(journal);
            journal <= nodes[0].disk.journal && state.linked(to, from) && at(to) < at(from)
        };
        match step {
            Step::Publish => nodes[0].up && left.publish > 0,
            Step::Sync(node) => nodes[node].disk.durable < nodes[node].disk.records.len(),
            Step::Crash(node) => nodes[node].up && left.crash[node] > 0,
            Step::Start(node) => !nodes[node].up,
            Step::Meet(one, other) => state.linked(one, other),
            Step::Pull { to, from, journal } => behind(to, from, journal),
            Step::Miss { to, journal } => (0..nodes.len()).any(|from| behind(to, from, journal)),
            Step::Head(to) => state.linked(to, 0),
            Step::Deliver(app) => nodes[state.apps[app].node].up,
            Step::Cut(node) => left.cut > 0 && nodes[node].disk.durable > 0,
            Step::Part => left.part > 0 && !state.parted,
            Step::Heal => state.parted,
            Step::Copy => left.copy > 0,
            Step::Fresh => left.fresh > 0 && !nodes[0].up,
            Step::Restore => left.restore > 0 && state.copy.is_some() && !nodes[0].up,
        }
    }

    /// Takes a step; false if it is not possible.
    pub(crate) fn go(&self, state: &mut State, step: Step) -> bool {
        match step {
            Step::Publish => self.publish(state),
            Step::Sync(node) => self.sync(state, node),
            Step::Crash(node) => self.crash(state, node),
            Step::Start(node) => self.start(state, node),
            Step::Meet(one, other) => self.meet(state, one, other),
            Step::Pull { to, from, journal } => self.pull(state, to, from, journal),
            Step::Miss { to, journal } => self.miss(state, to, journal),
            Step::Head(to) => self.hear_head(state, to),
            Step::Deliver(app) => self.deliver(state, app),
            Step::Cut(node) => self.cut(state, node),
            Step::Part => take(&mut state.left.part) && !std::mem::replace(&mut state.parted, true),
            Step::Heal => std::mem::take(&mut state.parted),
            Step::Copy => {
                let mut copy = state.nodes[0].disk.clone();
                copy.records.truncate(copy.durable);
                state.copy = Some(copy);
                take(&mut state.left.copy)
            }
            Step::Restore => self.restore(state),
            Step::Fresh => self.set_aside(state),
        }
    }

    fn publish(&self, state: &mut State) -> bool {
        if !state.nodes[0].up || !take(&mut state.left.publish) {
            return false;
        }
        let disk = &state.nodes[0].disk;
        let (journal, start) = (disk.journal, disk.start);
        let previous = disk.frontier(journal);
        let at = epoch(if self.keeps(Rule::EpochInSequence) { disk.epoch } else { 1 });
        let counter = if previous.epoch() == at { previous.counter() + 1 } else { 1 };
        let last = Sequence::new(at, counter).unwrap();
        let event = u8::try_from(state.events.len()).unwrap();
        let assured = !self.keeps(Rule::SyncFirst) || !state.nodes[0].crashes;
        state.events.push(Event { journal, sequence: last, assured, lost: false, exempt: false });
        self.append(state, 0, Item::Block { journal, start, previous, last, event });
        true
    }

    fn sync(&self, state: &mut State, node: usize) -> bool {
        let disk = &mut state.nodes[node].disk;
        let tail = disk.records.split_off(disk.durable);
        disk.records.extend(&tail);
        disk.durable = disk.records.len();
        let journal = disk.journal;
        for (_, item) in &tail {
            if let Item::Block { event, journal: of, .. } = item
                && node == 0
                && *of == journal
            {
                state.events[usize::from(*event)].assured = true;
            }
        }
        state.nodes[node].up && !tail.is_empty()
    }

    fn crash(&self, state: &mut State, node: usize) -> bool {
        let disk = &mut state.nodes[node].disk;
        disk.records.truncate(disk.durable);
        std::mem::take(&mut state.nodes[node].up) && take(&mut state.left.crash[node])
    }

    fn start(&self, state: &mut State, node: usize) -> bool {
        if std::mem::replace(&mut state.nodes[node].up, true) {
            return false;
        }
        let start = state.draw();
        let disk = &mut state.nodes[node].disk;
        let (own_end, end) = (disk.frontier(disk.journal), disk.end());
        disk.ended.push(Ended { start: disk.start, epoch: disk.epoch, own_end, end });
        (disk.epoch, disk.start) = (disk.epoch + 1, start);
        if node == 0 {
            disk.see((disk.journal, disk.epoch, start));
        }
        self.resume(state, node);
        true
    }

    /// The subscriptions of a node open new streams.
    pub(crate) fn resume(&self, state: &mut State, node: usize) {
        let everything = state.mask(|_| true);
        let disk = &state.nodes[node].disk;
        for app in state.apps.iter_mut().filter(|app| app.node == node) {
            let (start, at) = app.token;
            let ended = disk.ended.iter().find(|ended| ended.start == start);
            app.newest = [Sequence::ZERO; JOURNALS];
            app.at = if !self.keeps(Rule::EpochInOffset) || disk.start == start {
                at
            } else if let Some(ended) = ended {
                at.min(ended.end)
            } else {
                // A start that this journal does not know.
                app.told |= everything;
                disk.end()
            };
        }
    }

    fn deliver(&self, state: &mut State, number: usize) -> bool {
        let app = &state.apps[number];
        let node = &state.nodes[app.node];
        if !node.up {
            return false;
        }
        if app.at < node.disk.cut_end {
            let journals = (0..).zip(node.disk.cut);
            let told = journals.fold(0, |mask, (journal, through)| {
                mask | state.range(journal, Sequence::ZERO, through)
            });
            let at = node.disk.cut_end;
            let app = &mut state.apps[number];
            app.told |= if self.keeps(Rule::CutIsTold) { told } else { 0 };
            app.at = at;
            return true;
        }
        let next = node.disk.records.iter().find(|(offset, _)| *offset > app.at).copied();
        let Some((offset, item)) = next else { return false };
        let token = (node.disk.start, offset);
        let told = match item {
            Item::Block { journal, last, event, .. } => {
                hear(state, number, journal, last, event);
                0
            }
            Item::Missed { journal, from, through } => state.range(journal, from, through),
            Item::Name => state.mask(|_| true),
        };
        let app = &mut state.apps[number];
        app.told |= told;
        (app.at, app.token) = (offset, token);
        true
    }

    fn cut(&self, state: &mut State, node: usize) -> bool {
        let disk = &mut state.nodes[node].disk;
        if disk.durable == 0 || !take(&mut state.left.cut) {
            return false;
        }
        let (offset, item) = disk.records.remove(0);
        disk.durable -= 1;
        disk.cut_end = offset;
        if let Item::Block { journal, last: through, .. } | Item::Missed { journal, through, .. } =
            item
        {
            let cut = &mut disk.cut[usize::from(journal)];
            *cut = through.max(*cut);
        }
        true
    }

    /// The origin's disk is replaced by the copy. What no other disk bears witness to cannot be
    /// noticed, and is exempt.
    fn restore(&self, state: &mut State) -> bool {
        let Some(copy) = state.copy.clone() else { return false };
        if state.nodes[0].up || !take(&mut state.left.restore) {
            return false;
        }
        exchange(state, copy);
        true
    }

    fn set_aside(&self, state: &mut State) -> bool {
        if state.nodes[0].up || !take(&mut state.left.fresh) {
            return false;
        }
        let start = state.draw();
        let journal = state.nodes[0].disk.journal + 1;
        state.copy = Some(state.nodes[0].disk.clone());
        exchange(state, Disk { journal, ..Disk::new(start) });
        true
    }

    /// Whether all is quiet, and something that was assured was neither heard nor told missed.
    pub(crate) fn is_lost(&self, state: &State) -> bool {
        let all_up = state.nodes.iter().all(|node| node.up) && !state.parted;
        let owed = state.mask(|event| event.assured && !event.exempt);
        let lost = state.apps.iter().any(|app| {
            let reachable = |node: &usize| *node == app.node || state.linked(app.node, *node);
            let nodes = (0..state.nodes.len()).filter(reachable);
            let held = nodes.fold(0, |mask, node| mask | state.held(node));
            // An origin that is away again before anybody noticed that it was restored.
            let due = if all_up {
                owed
            } else if state.restored {
                0
            } else {
                owed & held
            };
            state.nodes[app.node].up && due & !(app.heard | app.told) != 0
        });
        lost && self.is_quiet(state)
    }

    fn is_quiet(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        Step::progress(state.nodes.len(), state.apps.len(), &mut steps);
        steps.into_iter().filter(|step| self.may(state, *step)).all(|step| {
            let mut next = state.clone();
            !self.go(&mut next, step) || next == *state
        })
    }
}

/// The origin has another disk. What is not on it is judged anew each time: only if another disk
/// bears witness that more was there can anybody notice.
fn exchange(state: &mut State, disk: Disk) {
    let others = &state.nodes[1..];
    let lost = |event: &Event| {
        let (journal, cut) = (event.journal, disk.cut[usize::from(event.journal)]);
        let stands = |item: &Item| {
            matches!(item, Item::Block { journal: of, last, .. }
                if *of == journal && *last == event.sequence)
        };
        event.sequence > cut && !disk.records.iter().any(|(_, item)| stands(item))
    };
    let witness = |journal: u8| {
        if journal != disk.journal {
            return others.iter().any(|node| node.disk.met(journal));
        }
        let end = disk.frontier(journal);
        others.iter().any(|node| {
            let mut seen = node.disk.seen.iter().filter(|(of, ..)| *of == journal);
            let mut heads = node.disk.heads.iter().filter(|(of, _)| *of == journal);
            seen.any(|(.., start)| !disk.is_mine(*start)) || heads.any(|(_, head)| *head > end)
        })
    };
    for event in &mut state.events {
        event.lost = lost(event);
        event.exempt = event.lost && !witness(event.journal);
    }
    state.nodes[0].disk = disk;
    state.restored = true;
}

/// A subscription hears an event.
fn hear(state: &mut State, number: usize, journal: u8, sequence: Sequence, event: u8) {
    let app = &state.apps[number];
    let settled = app.heard | app.told;
    if sequence <= app.newest[usize::from(journal)] {
        state.note(Wrong::Order);
    }
    let before = |other: &Event| {
        // That a disk was restored is told when it is noticed, and that may be later.
        other.assured && !other.lost && other.journal == journal && other.sequence < sequence
    };
    if state.mask(before) & !settled != 0 {
        state.note(Wrong::Silent);
    }
    let bit = 1 << event;
    let namesake =
        state.mask(|other| other.journal == journal && other.sequence == sequence) & !bit;
    if namesake & state.apps[number].heard != 0 {
        state.note(Wrong::Twice);
    }
    let app = &mut state.apps[number];
    app.heard |= bit;
    app.newest[usize::from(journal)] = sequence;
}

/// Uses one up; false if none is left.
fn take(left: &mut u8) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
