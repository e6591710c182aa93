//! The rule of the list by itself. No await, no clock: what time it is comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evermesh_event::{JournalId, NodeName, Offset, Origin, Sequence};

use super::listed::ENDED_MAX;
use super::{Departed, Listed, Merged};

/// Members that are remembered, with those that left.
const MEMBERS_MAX: usize = 4096;
/// Journals of one name of which it is known that nothing more is to be told: as many as origins
/// that a mesh may remember.
const CLOSED_MAX: usize = 4096;
/// Journals of one name that are known from others only. What is told of one of them as missed
/// concerns the whole name, so the oldest may go.
const HEARD_MAX: usize = 4;
/// How exactly it is stored for how long a member is away.
const AWAY_STORED_EVERY: Duration = Duration::from_secs(60);

/// What is kept of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) listed: Listed,
    /// When it was heard that it left, by the journal's own time.
    pub(crate) left_at: Duration,
    /// It is told what nobody has of it, as far as needed.
    pub(crate) settled: bool,
    /// It left so long ago that nothing is known or told of it any more.
    pub(crate) dropped: bool,
    /// For how long it was not heard while this node ran.
    pub(crate) away: Duration,
    /// Its journals of which nothing more is to be told, the newest last.
    pub(crate) closed: Vec<JournalId>,
    /// Under which others were linked with it, or it pulled from here, and this node never was:
    /// something may be missed of them. The newest last.
    pub(crate) heard: Vec<JournalId>,
}

#[derive(Debug)]
pub(super) struct Table {
    own: Origin,
    rows: BTreeMap<NodeName, Row>,
    dirty: BTreeSet<NodeName>,
    /// Where the journal was when one that left was settled in this start.
    settled_at: BTreeMap<NodeName, Offset>,
    /// This node leaves.
    leaving: bool,
}

impl Table {
    pub(super) fn new(own: Origin, rows: Vec<(NodeName, Row)>) -> Self {
        let mut rows: BTreeMap<_, _> = rows.into_iter().collect();
        rows.entry(own.node.clone()).or_default();
        Self { own, rows, dirty: BTreeSet::new(), settled_at: BTreeMap::new(), leaving: false }
    }

    pub(super) fn list(&self) -> Vec<(NodeName, Listed)> {
        let told = self.rows.iter().filter(|(_, row)| !row.dropped);
        told.map(|(name, row)| (name.clone(), row.listed.clone())).collect()
    }

    pub(super) fn get(&self, name: &NodeName) -> Option<Listed> {
        self.rows.get(name).map(|row| row.listed.clone())
    }

    pub(super) fn take_dirty(&mut self) -> Vec<(NodeName, Option<Row>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|name| (name.clone(), self.rows.get(&name).cloned())).collect()
    }

    pub(super) fn merge(
        &mut self,
        from: &NodeName,
        list: &[(NodeName, Listed)],
        now: Duration,
    ) -> Merged {
        let mut merged = Merged::default();
        for (name, told) in list.iter().take(MEMBERS_MAX) {
            if *name == self.own.node {
                merged.returned |= self.hear_of_itself(told);
                merged.changed |= self.hear_of_its_past(told);
            } else {
                merged.changed |= self.hear_of(from, name, told, now);
            }
        }
        merged
    }

    /// What others know of former journals of this node, whoever pulls those from here shall know.
    fn hear_of_its_past(&mut self, told: &Listed) -> bool {
        let own = self.rows.entry(self.own.node.clone()).or_default();
        let before = own.listed.ended.clone();
        let former = told.ended.iter().filter(|(journal, _)| *journal != self.own.journal);
        own.hear_ends(&former.copied().collect::<Vec<_>>());
        let changed = own.listed.ended != before;
        if changed {
            self.dirty.insert(self.own.node.clone());
        }
        changed
    }

    /// What others believe of this node. True: it has to come back.
    fn hear_of_itself(&mut self, told: &Listed) -> bool {
        let Some(own) = self.rows.get_mut(&self.own.node) else { return false };
        if self.leaving {
            // It does leave: nothing brings it back.
            return false;
        }
        let incarnation = told.incarnation.saturating_add(u64::from(told.left));
        if incarnation <= own.listed.incarnation {
            return false;
        }
        own.listed.incarnation = incarnation;
        self.dirty.insert(self.own.node.clone());
        told.left
    }

    fn hear_of(&mut self, from: &NodeName, name: &NodeName, told: &Listed, now: Duration) -> bool {
        let new = !self.rows.contains_key(name);
        if new && !self.make_room() {
            tracing::warn!(member = %name, "more than {MEMBERS_MAX} members: it is not counted");
            return false;
        }
        if new && told.left {
            // Nothing is known of it, so nothing is to be settled; and what one node drops after
            // its time must not come back from another.
            return false;
        }
        let row = self.rows.entry(name.clone()).or_default();
        let before = row.clone();
        let listed = &mut row.listed;
        if (told.incarnation, told.left) > (listed.incarnation, listed.left) || new {
            (listed.incarnation, listed.left) = (told.incarnation, told.left);
            (listed.away, row.away) = (false, Duration::ZERO);
            (row.left_at, row.settled, row.dropped) = (now, false, false);
        } else if row.dropped {
            // Whoever is there and does not know has to be told that it left: by the list.
            if from == name && !told.left {
                (row.left_at, row.dropped) = (now, false);
                self.dirty.insert(name.clone());
            }
            return !row.dropped;
        }
        let better = from == name || listed.address.is_empty();
        if better && !told.address.is_empty() {
            listed.address.clone_from(&told.address);
        }
        row.hear_ends(&told.ended);
        told.present.iter().for_each(|journal| row.hear(*journal));
        let changed = *row != before || new;
        if changed {
            self.dirty.insert(name.clone());
        }
        changed
    }

    pub(super) const fn leaves(&mut self) {
        self.leaving = true;
    }

    pub(super) fn note_address(&mut self, name: &NodeName, address: &str) -> bool {
        let own = *name == self.own.node;
        let Some(row) = self.rows.get_mut(name) else { return false };
        let known = row.listed.address == address || !row.listed.address.is_empty() && !own;
        if !known {
            address.clone_into(&mut row.listed.address);
            self.dirty.insert(name.clone());
        }
        !known
    }

    pub(super) fn leave(&mut self, name: &NodeName, now: Duration) -> bool {
        let dirty = &mut self.dirty;
        let Some(row) = self.rows.get_mut(name).filter(|row| !row.listed.left) else {
            return false;
        };
        row.listed.left = true;
        (row.left_at, row.settled) = (now, false);
        dirty.insert(name.clone());
        true
    }

    pub(super) fn ended(&mut self, origin: &Origin, head: Sequence) {
        let row = self.rows.entry(origin.node.clone()).or_default();
        row.end(origin.journal, head);
        self.dirty.insert(origin.node.clone());
    }

    pub(super) fn ended_here(&mut self, journal: JournalId, head: Sequence) {
        let origin = Origin { node: self.own.node.clone(), journal };
        self.ended(&origin, head);
    }

    pub(super) fn lives(&mut self, origin: &Origin) -> bool {
        let Some(row) = self.rows.get_mut(&origin.node) else { return false };
        let before = (row.closed.len(), row.listed.ended.len());
        row.closed.retain(|closed| *closed != origin.journal);
        row.listed.ended.retain(|(journal, _)| *journal != origin.journal);
        let changed = (row.closed.len(), row.listed.ended.len()) != before;
        if changed {
            self.dirty.insert(origin.node.clone());
        }
        changed
    }

    pub(super) fn pulls(&mut self, origin: &Origin) -> bool {
        if *origin == self.own {
            return false;
        }
        let Some(row) = self.rows.get_mut(&origin.node) else { return false };
        let before = (row.closed.len(), row.heard.len());
        row.closed.retain(|closed| *closed != origin.journal);
        row.hear(origin.journal);
        let changed = (row.closed.len(), row.heard.len()) != before;
        if changed {
            self.dirty.insert(origin.node.clone());
        }
        changed
    }

    pub(super) fn present_of(&self, name: &NodeName) -> Vec<JournalId> {
        self.rows.get(name).map(|row| row.listed.present.clone()).unwrap_or_default()
    }

    pub(super) fn heard_of(&self, name: &NodeName) -> Vec<JournalId> {
        self.rows.get(name).map(|row| row.heard.clone()).unwrap_or_default()
    }

    pub(super) fn not_alone(&self) -> Vec<NodeName> {
        let beside = self.rows.iter().filter(|(_, row)| row.listed.present.len() > 1);
        beside.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn present(&mut self, name: &NodeName, journals: Vec<JournalId>) -> bool {
        let row = self.rows.get_mut(name).filter(|row| row.listed.present != journals);
        let Some(row) = row else { return false };
        // Those beside it may never have been linked here.
        row.heard.retain(|heard| journals.first() != Some(heard));
        row.listed.present = journals;
        self.dirty.insert(name.clone());
        true
    }

    /// A last word that is below what is known of that journal is the one of a copy of its disk: it
    /// says nothing of what came after it.
    pub(super) fn is_closed(&self, origin: &Origin, at: Sequence, seen: Sequence) -> bool {
        self.rows.get(&origin.node).is_some_and(|row| {
            let mut ended = row.listed.ended.iter();
            let reached = ended
                .any(|(journal, head)| *journal == origin.journal && *head == at && seen <= *head);
            reached || row.closed.contains(&origin.journal)
        })
    }

    pub(super) fn has_ended(&self, origin: &Origin) -> bool {
        let ended = self.rows.get(&origin.node).map(|row| row.listed.ended.as_slice());
        ended.unwrap_or_default().iter().any(|(journal, _)| *journal == origin.journal)
    }

    pub(super) fn is_former(&self, origin: &Origin) -> bool {
        self.rows.get(&origin.node).is_some_and(|row| {
            let present = &row.listed.present;
            !row.listed.left && !present.is_empty() && !present.contains(&origin.journal)
        })
    }

    pub(super) fn all_heard(&self) -> Vec<Origin> {
        let heard = self.rows.iter().flat_map(|(name, row)| {
            row.heard.iter().map(|journal| Origin { node: name.clone(), journal: *journal })
        });
        heard.collect()
    }

    pub(super) fn close(&mut self, origin: &Origin) {
        let Some(row) = self.rows.get_mut(&origin.node) else { return };
        if !row.closed.contains(&origin.journal) {
            row.closed.push(origin.journal);
            let surplus = row.closed.len().saturating_sub(CLOSED_MAX);
            row.closed.drain(..surplus);
            row.heard.retain(|heard| *heard != origin.journal);
            self.dirty.insert(origin.node.clone());
        }
    }

    pub(super) fn note_away(&mut self, name: &NodeName, silent: Duration, away: bool) -> bool {
        let Some(row) = self.rows.get_mut(name) else { return false };
        let told = row.listed.away != away;
        row.listed.away = away;
        let stored = if silent.is_zero() {
            !row.away.is_zero()
        } else {
            silent >= row.away + AWAY_STORED_EVERY
        };
        if stored {
            row.away = silent;
        }
        if told || stored {
            self.dirty.insert(name.clone());
        }
        told || stored
    }

    pub(super) fn away_for(&self, name: &NodeName) -> Duration {
        self.rows.get(name).map(|row| row.away).unwrap_or_default()
    }

    pub(super) fn departed(&self, now: Duration) -> Vec<Departed> {
        let left = self.rows.iter().filter(|(_, row)| row.listed.left && !row.dropped);
        let departed = |(name, row): (&NodeName, &Row)| Departed {
            node: name.clone(),
            since: now.saturating_sub(row.left_at),
            settled: row.settled,
        };
        left.map(departed).collect()
    }

    /// Settled in a former start is settled before anything of this one.
    pub(super) fn left(&self) -> BTreeMap<String, Option<Offset>> {
        let left = self.rows.iter().filter(|(_, row)| row.listed.left && !row.dropped);
        let at = |(name, row): (&NodeName, &Row)| {
            let at = self.settled_at.get(name).copied().unwrap_or(Offset::ZERO);
            (name.to_string(), row.settled.then_some(at))
        };
        left.map(at).collect()
    }

    pub(super) fn settled(&mut self, name: &NodeName, at: Offset) {
        self.settled_at.insert(name.clone(), at);
        if let Some(row) = self.rows.get_mut(name) {
            row.settled = true;
            self.dirty.insert(name.clone());
        }
    }

    pub(super) fn drop_departed(&mut self, name: &NodeName) {
        self.settled_at.remove(name);
        if let Some(row) = self.rows.get_mut(name).filter(|row| row.listed.left) {
            row.dropped = true;
            self.dirty.insert(name.clone());
        }
    }

    pub(super) fn is_dropped(&self, name: &NodeName) -> bool {
        self.rows.get(name).is_some_and(|row| row.dropped)
    }

    /// Makes room for one member more. Of who is dropped the one goes that left first.
    fn make_room(&mut self) -> bool {
        if self.rows.len() < MEMBERS_MAX {
            return true;
        }
        let dropped = self.rows.iter().filter(|(_, row)| row.dropped);
        let first = dropped.min_by_key(|(_, row)| row.left_at).map(|(name, _)| name.clone());
        let Some(first) = first else { return false };
        self.rows.remove(&first);
        self.dirty.insert(first);
        true
    }
}

impl Row {
    /// Others are linked with it under this journal, or were, or it pulls from here.
    fn hear(&mut self, journal: JournalId) {
        let known = self.listed.present.contains(&journal) || self.closed.contains(&journal);
        if known || self.heard.contains(&journal) {
            return;
        }
        self.heard.push(journal);
        let surplus = self.heard.len().saturating_sub(HEARD_MAX);
        self.heard.drain(..surplus);
        // If it left, what nobody has of this journal is still to be told.
        self.settled = false;
    }

    /// Another node tells which ended, the newest last. Who was away tells of old ones: these do
    /// not take the places of what ended since.
    fn hear_ends(&mut self, told: &[(JournalId, Sequence)]) {
        let mut place = self.listed.ended.len();
        for (journal, head) in told.iter().rev() {
            let ended = &mut self.listed.ended;
            if let Some(known) = ended.iter().position(|(known, _)| known == journal) {
                place = known;
                self.end(*journal, *head);
            } else if ended.len() < ENDED_MAX || !self.closed.contains(journal) {
                // Before the one that it is told before.
                ended.insert(place, (*journal, *head));
            }
        }
        self.bound_ends();
    }

    /// A journal ended for good. The oldest that is known goes first.
    fn end(&mut self, journal: JournalId, head: Sequence) {
        let ended = &mut self.listed.ended;
        match ended.iter_mut().find(|(known, _)| *known == journal) {
            // More was numbered than was known when that was settled: by the disk or its copy.
            Some((_, known)) if head > *known => {
                *known = head;
                self.closed.retain(|closed| *closed != journal);
                self.settled = false;
            }
            Some(_) => {}
            None => ended.push((journal, head)),
        }
        self.bound_ends();
    }

    fn bound_ends(&mut self) {
        let surplus = self.listed.ended.len().saturating_sub(ENDED_MAX);
        self.listed.ended.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
