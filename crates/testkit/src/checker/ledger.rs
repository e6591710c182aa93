//! What was published: each event with its numbers, and what its publisher was assured of.

use std::collections::{BTreeMap, HashMap};

use super::disks::Disks;
use super::history::{Event, Exchange, Line, Member, Number, Sure, Taken, What};
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
    /// It was assured STORED or more, under this number if anybody knows it; or accepted in memory
    /// by a start that never ended: nothing can have been lost of that either.
    pub(super) assured: bool,
    /// When that was said first.
    pub(super) assured_at: u64,
    pub(super) number: Option<Number>,
    /// Where nobody knows its number: one that is not below it.
    at_most: Option<Number>,
    /// All its numbers that were ever seen, and since when.
    numbers: BTreeMap<Number, u64>,
}

/// All events.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) by_id: BTreeMap<String, Entry>,
    by_number: HashMap<Number, String>,
}

impl Ledger {
    pub(super) fn read(lines: &[Line], nodes: &Nodes, disks: &Disks, found: &mut Findings) -> Self {
        let mut ledger = Self::default();
        for (order, line) in lines.iter().enumerate() {
            match &line.what {
                What::Publishing { node, events, must } => {
                    events.iter().for_each(|event| ledger.hand_in(node, event, *must, line.at));
                }
                What::Published { node, assured, taken, newest, members } => {
                    let flips = [Exchange::Flipped, Exchange::FlippedState];
                    let forgot = nodes.forgot_before(node, line.at)
                        || disks.changed(node, 0, line.at, &flips);
                    stores_nothing(node, *assured, (members, line.at), disks, found);
                    let binds = *assured >= Sure::Stored || disks.stays_in_memory(node, line.at);
                    for taken in taken {
                        ledger.answered(taken, binds, line.at, (forgot, disks), found);
                        let Some(entry) = ledger.by_id.get_mut(&taken.id) else { continue };
                        if entry.assured_at == line.at {
                            entry.at_most.clone_from(newest);
                        }
                        if let Some(number) = &taken.number {
                            let when = (entry.begun, line.at);
                            let rest = lines.get(order..).unwrap_or_default();
                            overstated(number, members, (when, rest), disks, found);
                        }
                    }
                }
                What::Heard { number, event, .. } => {
                    ledger.heard(number, event, line.at, (nodes, disks), found);
                }
                _ => {}
            }
        }
        ledger.fill_numbers(disks);
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
            assured_at: 0,
            number: None,
            at_most: None,
            numbers: BTreeMap::new(),
        });
    }

    fn answered(
        &mut self,
        taken: &Taken,
        binds: bool,
        at: u64,
        (forgot, disks): (bool, &Disks),
        found: &mut Findings,
    ) {
        if let Some(number) = &taken.number {
            self.number(number, &taken.id, (at, disks), found);
        }
        let Some(entry) = self.by_id.get_mut(&taken.id) else {
            found.fault(Verdict::Phantom, format!("{} was taken and never handed in", taken.id));
            return;
        };
        if !binds {
            return;
        }
        if !std::mem::replace(&mut entry.assured, true) {
            entry.assured_at = at;
        }
        match (&entry.number, &taken.number) {
            (Some(first), Some(second))
                if first.origin == second.origin
                    && first != second
                    && !forgot
                    && !disks.is_contested(first, at) =>
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
        (nodes, disks): (&Nodes, &Disks),
        found: &mut Findings,
    ) {
        self.number(number, &event.id, (at, disks), found);
        let Some(entry) = self.by_id.get_mut(&event.id) else {
            found.fault(Verdict::Phantom, format!("{event:?} was heard, and nobody published it"));
            return;
        };
        if entry.event != *event {
            let text = format!("{event:?} was heard, and published was {:?}", entry.event);
            found.fault(Verdict::Phantom, text);
        }
        if entry.numbers.contains_key(number) {
            return;
        }
        entry.numbers.insert(number.clone(), at);
        let node = disks.host_of(&number.origin);
        let others = entry.numbers.keys().filter(|other| !disks.is_contested(other, at));
        let others = others.filter(|other| other.origin == number.origin);
        let twice =
            others.filter(|other| *other != number).count() > 0 && !nodes.crashed_before(node, at);
        // What was assured keeps its number over a crash.
        let assured = entry.number.as_ref().filter(|assured| {
            assured.origin == number.origin
                && assured.sequence < number.sequence
                && !disks.is_contested(assured, at)
        });
        // What is damaged may have been what told that it was taken before.
        let flips = [Exchange::Flipped, Exchange::FlippedState];
        let forgot = nodes.forgot_before(node, at) || disks.changed(node, 0, at, &flips);
        if (twice || assured.is_some()) && !forgot {
            let text = format!("{} was heard at {at} as {:?}", event.id, entry.numbers);
            found.fault(Verdict::Renumbered, text);
        }
    }

    fn number(
        &mut self,
        number: &Number,
        id: &str,
        (at, disks): (u64, &Disks),
        found: &mut Findings,
    ) {
        let first = self.by_number.entry(number.clone()).or_insert_with(|| id.to_owned());
        if first != id && !disks.is_contested(number, at) {
            let text = format!("{number:?} is both {first} and {id}");
            found.fault(Verdict::Reused, text);
        }
    }

    /// When anybody heard an event first under a number.
    pub(super) fn first_heard(&self, id: &str, number: &Number) -> Option<u64> {
        self.by_id.get(id)?.numbers.get(number).copied()
    }

    /// A stream of publishes does not name every number: what was heard under one has that.
    fn fill_numbers(&mut self, disks: &Disks) {
        for entry in self.by_id.values_mut() {
            if entry.number.is_none() {
                // Where it had several, a new journal began meanwhile; or the disk that it was on
                // is another one, where it was taken again.
                let newest = |there: bool| {
                    let numbers = entry.numbers.iter();
                    let numbers = numbers.filter(|(number, since)| {
                        !there || disks.was_there(number, **since, entry.assured_at)
                    });
                    numbers.max_by_key(|(_, since)| **since)
                };
                let newest = newest(true).or_else(|| newest(false));
                entry.number = newest.map(|(number, _)| number.clone());
            }
        }
    }

    /// What its publisher would have tried until it was stored, and is not.
    pub(super) fn unfinished(&self, disks: &Disks, found: &mut Findings) {
        let tried = |entry: &Entry| entry.must && !disks.is_gone(&entry.node);
        let unfinished = self.by_id.iter().filter(|(_, entry)| tried(entry) && !entry.assured);
        for (id, entry) in unfinished {
            let text = format!("{id}, handed in at {}, was never stored", entry.begun);
            found.fault(Verdict::NotLive, text);
        }
    }
}

impl Entry {
    /// Somebody heard it, though its publisher may not have asked to be assured.
    pub(super) fn was_heard(&self) -> bool {
        !self.numbers.is_empty()
    }

    /// It was handed in after a time, or first seen with a number after that.
    pub(super) fn may_be_numbered_after(&self, at: u64) -> bool {
        self.begun >= at || self.numbers.values().min().is_some_and(|seen| *seen >= at)
    }

    /// One of its numbers lies above another.
    pub(super) fn has_above(&self, number: &Number) -> bool {
        let mut all = self.numbers.keys().chain(&self.number);
        all.any(|own| own.origin == number.origin && own.sequence > number.sequence)
    }

    /// Its number of one origin, as far as anybody saw it.
    pub(super) fn number_under(&self, origin: &str) -> Option<&Number> {
        self.numbers.keys().chain(&self.number).find(|number| number.origin == origin)
    }

    /// Its number, or one that is not below it.
    pub(super) fn at_most(&self) -> Option<&Number> {
        self.number.as_ref().or(self.at_most.as_ref())
    }
}

/// The node of an origin.
pub(super) fn node_of(origin: &str) -> &str {
    origin.split_once('/').map_or(origin, |(node, _)| node)
}

/// Nothing is stored where there is no disk, and nobody is named as if it were.
fn stores_nothing(
    node: &str,
    assured: Sure,
    (members, at): (&[Member], u64),
    disks: &Disks,
    found: &mut Findings,
) {
    if disks.is_memory(node) && [Sure::Stored, Sure::Replicated].contains(&assured) {
        let text = format!("{node} keeps no disk, and said {assured:?} at {at}");
        found.fault(Verdict::Overstated, text);
    }
    let stored = members.iter().filter(|member| member.standing == "stored");
    for member in stored.filter(|member| disks.is_memory(disks.host_of(&member.node))) {
        let text = format!("{} keeps no disk, and was named as stored at {at}", member.node);
        found.fault(Verdict::Overstated, text);
    }
}

/// Who was named as having it on its disk must have it there.
fn overstated(
    number: &Number,
    members: &[Member],
    ((begun, at), rest): ((u64, u64), &[Line]),
    disks: &Disks,
    found: &mut Findings,
) {
    for member in members.iter().filter(|m| m.standing == "stored" || m.standing == "applied") {
        let host = disks.host_of(&member.node);
        if disks.changed(host, begun, at, &super::duplicated::LOSES_PLACES) {
            // It had it, on a disk that is gone; nobody can know that yet.
            continue;
        }
        let holds = rest.iter().find_map(|line| match &line.what {
            What::Holds { node, origin, durable, .. }
                if node == host && *origin == number.origin =>
            {
                Some(Some(*durable))
            }
            What::Exchanged { node, .. } if node == host => Some(None),
            _ => None,
        });
        let holds = holds.flatten();
        if let Some(durable) = holds.filter(|durable| *durable < number.sequence) {
            let text = format!(
                "at {at}, {} was said to have {number:?}, and has {durable} on its disk",
                member.node
            );
            found.fault(Verdict::Overstated, text);
        }
    }
}
