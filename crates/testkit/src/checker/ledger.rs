//! What was published: each event with its numbers, and what its publisher was assured of.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Event, Line, Member, Number, Sure, Taken, What};
use super::nodes::Nodes;
use super::{Findings, Verdict};

/// An event that was handed in.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    /// Where it was handed in first.
    pub(super) node: String,
    /// When.
    pub(super) begun: u64,
    /// Its publisher tries until it is stored.
    must: bool,
    /// It was assured STORED or more, under this number if anybody knows it.
    pub(super) assured: bool,
    pub(super) number: Option<Number>,
    /// All its numbers that were ever seen.
    numbers: BTreeSet<Number>,
}

/// All events.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) by_id: BTreeMap<String, Entry>,
    by_number: HashMap<Number, String>,
}

impl Ledger {
    pub(super) fn read(lines: &[Line], nodes: &Nodes, found: &mut Findings) -> Self {
        let mut ledger = Self::default();
        for (order, line) in lines.iter().enumerate() {
            match &line.what {
                What::Publishing { node, events, must } => {
                    events.iter().for_each(|event| ledger.hand_in(node, event, *must, line.at));
                }
                What::Published { node, assured, taken, members } => {
                    let forgot = nodes.forgot_before(node, line.at);
                    for taken in taken {
                        ledger.answered(taken, *assured, forgot, found);
                        if let Some(number) = &taken.number {
                            let rest = lines.get(order..).unwrap_or_default();
                            overstated(number, members, line.at, rest, found);
                        }
                    }
                }
                What::Heard { number, event, .. } => {
                    ledger.heard(number, event, line.at, nodes, found);
                }
                _ => {}
            }
        }
        ledger.fill_numbers();
        found.counts.assured = ledger.by_id.values().filter(|entry| entry.assured).count() as u64;
        ledger
    }

    fn hand_in(&mut self, node: &str, event: &Event, must: bool, at: u64) {
        self.by_id.entry(event.id.clone()).or_insert_with(|| Entry {
            event: event.clone(),
            node: node.to_owned(),
            begun: at,
            must,
            assured: false,
            number: None,
            numbers: BTreeSet::new(),
        });
    }

    fn answered(&mut self, taken: &Taken, assured: Sure, forgot: bool, found: &mut Findings) {
        if let Some(number) = &taken.number {
            self.number(number, &taken.id, found);
        }
        let Some(entry) = self.by_id.get_mut(&taken.id) else {
            found.fault(Verdict::Phantom, format!("{} was taken and never handed in", taken.id));
            return;
        };
        if assured < Sure::Stored {
            return;
        }
        entry.assured = true;
        match (&entry.number, &taken.number) {
            (Some(first), Some(second))
                if first.origin == second.origin && first != second && !forgot =>
            {
                let text = format!("{} was assured as {first:?} and as {second:?}", taken.id);
                found.fault(Verdict::Renumbered, text);
            }
            (None, Some(number)) => entry.number = Some(number.clone()),
            _ => {}
        }
    }

    fn heard(
        &mut self,
        number: &Number,
        event: &Event,
        at: u64,
        nodes: &Nodes,
        found: &mut Findings,
    ) {
        self.number(number, &event.id, found);
        let Some(entry) = self.by_id.get_mut(&event.id) else {
            found.fault(Verdict::Phantom, format!("{event:?} was heard, and nobody published it"));
            return;
        };
        if entry.event != *event {
            let text = format!("{event:?} was heard, and published was {:?}", entry.event);
            found.fault(Verdict::Phantom, text);
        }
        if !entry.numbers.insert(number.clone()) {
            return;
        }
        let node = node_of(&number.origin);
        let others = entry.numbers.iter().filter(|other| other.origin == number.origin);
        let twice = others.count() > 1 && !nodes.crashed_before(node, at);
        // What was assured keeps its number over a crash.
        let assured = entry.number.as_ref().filter(|assured| {
            assured.origin == number.origin && assured.sequence < number.sequence
        });
        if (twice || assured.is_some()) && !nodes.forgot_before(node, at) {
            let text = format!("{} was heard at {at} as {:?}", event.id, entry.numbers);
            found.fault(Verdict::Renumbered, text);
        }
    }

    fn number(&mut self, number: &Number, id: &str, found: &mut Findings) {
        let first = self.by_number.entry(number.clone()).or_insert_with(|| id.to_owned());
        if first != id {
            let text = format!("{number:?} is both {first} and {id}");
            found.fault(Verdict::Reused, text);
        }
    }

    /// A stream of publishes does not name every number: what was heard under one has that.
    fn fill_numbers(&mut self) {
        for entry in self.by_id.values_mut() {
            if entry.number.is_none() {
                entry.number = entry.numbers.last().cloned();
            }
        }
    }

    /// What its publisher would have tried until it was stored, and is not.
    pub(super) fn unfinished(&self, found: &mut Findings) {
        for (id, entry) in self.by_id.iter().filter(|(_, entry)| entry.must && !entry.assured) {
            let text = format!("{id}, handed in at {}, was never stored", entry.begun);
            found.fault(Verdict::NotLive, text);
        }
    }
}

/// The node of an origin.
pub(super) fn node_of(origin: &str) -> &str {
    origin.split_once('/').map_or(origin, |(node, _)| node)
}

/// Who was named as having it on its disk must have it there.
fn overstated(number: &Number, members: &[Member], at: u64, rest: &[Line], found: &mut Findings) {
    for member in members.iter().filter(|m| m.standing == "stored" || m.standing == "applied") {
        let holds = rest.iter().find_map(|line| match &line.what {
            What::Holds { node, origin, durable, .. }
                if *node == member.node && *origin == number.origin =>
            {
                Some(*durable)
            }
            _ => None,
        });
        if let Some(durable) = holds.filter(|durable| *durable < number.sequence) {
            let text = format!(
                "at {at}, {} was said to have {number:?}, and has {durable} on its disk",
                member.node
            );
            found.fault(Verdict::Overstated, text);
        }
    }
}
