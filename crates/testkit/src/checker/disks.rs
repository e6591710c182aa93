//! Disks that were exchanged: which events that took away, and whether another disk bears
//! witness to it. What no other disk bears witness to nobody can notice, and it is not judged;
//! everything else is lost, unless a missed of its origin's name was told.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Exchange, Line, Number, Remains, What};
use super::ledger::node_of;

/// Another disk, or the same that is not what was written.
#[derive(Clone, Debug)]
struct Change {
    at: u64,
    by: Exchange,
    origins: BTreeMap<String, Remains>,
}

/// A start, as far as it tells whose numbers are whose.
#[derive(Clone, Debug)]
struct Began {
    at: u64,
    start: String,
    origin: String,
    epoch: u32,
}

/// The last word of a node under an origin.
#[derive(Clone, Debug)]
pub(super) struct Last {
    pub(super) at: u64,
    pub(super) number: Number,
    /// Who does not know it.
    pub(super) lack: Vec<String>,
}

/// All of them, by host.
#[derive(Debug, Default)]
pub(super) struct Disks {
    changes: BTreeMap<String, Vec<Change>>,
    began: Vec<Began>,
    /// The host of each name that is another.
    hosts: BTreeMap<String, String>,
    /// When which member was forgotten, by name.
    forgotten: Vec<(u64, String)>,
    /// When each host was gone for good.
    gone: BTreeMap<String, u64>,
    /// What nodes that left in order numbered last.
    last: Vec<Last>,
    /// Origins that ended for good, said or not, and when.
    ended: BTreeMap<String, u64>,
    /// Hosts whose nodes keep no disk.
    in_memory: BTreeSet<String>,
    healed: u64,
}

/// What takes from a node what it knew of others.
const FORGETS: [Exchange; 5] = [
    Exchange::Restored,
    Exchange::Emptied,
    Exchange::FlippedState,
    Exchange::Gone,
    Exchange::Unkept,
];

/// The epoch is in the high bits of a sequence.
const COUNTER_BITS: u32 = 40;

impl Disks {
    pub(super) fn read(lines: &[Line]) -> Self {
        let mut disks = Self::default();
        for line in lines {
            match &line.what {
                What::Started { node, called, journal, start, epoch, in_memory, .. } => {
                    if *in_memory {
                        disks.in_memory.insert(node.clone());
                    }
                    let name = called.as_ref().unwrap_or(node);
                    disks.hosts.insert(name.clone(), node.clone());
                    let (origin, start) = (format!("{name}/{journal}"), start.clone());
                    disks.began.push(Began { at: line.at, start, origin, epoch: *epoch });
                }
                What::Exchanged { node, by, origins } => {
                    if *by == Exchange::Unkept {
                        // Its journal went with it.
                        let of = |began: &&Began| disks.host_of(&began.origin) == node;
                        let began = disks.began.iter().rfind(of);
                        let origin = began.map(|began| began.origin.clone());
                        disks.ended.extend(origin.map(|origin| (origin, line.at)));
                    }
                    let change = Change { at: line.at, by: *by, origins: origins.clone() };
                    disks.changes.entry(node.clone()).or_default().push(change);
                }
                What::Forgotten { name } => disks.forgotten.push((line.at, name.clone())),
                What::Gone { node } => drop(disks.gone.insert(node.clone(), line.at)),
                What::Leaving { number, lack, .. } => {
                    let (number, lack) = (number.clone(), lack.clone());
                    disks.last.push(Last { at: line.at, number, lack });
                }
                What::Leaves { origin } => drop(disks.ended.insert(origin.clone(), line.at)),
                What::Healed => disks.healed = line.at,
                _ => {}
            }
        }
        disks
    }

    /// The host of the node of an origin.
    pub(super) fn host_of<'a>(&'a self, origin: &'a str) -> &'a str {
        let name = node_of(origin);
        self.hosts.get(name).map_or(name, String::as_str)
    }

    fn changes(&self, host: &str) -> &[Change] {
        self.changes.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether something like this was done to the disk of a host between two times.
    pub(super) fn changed(&self, host: &str, from: u64, until: u64, by: &[Exchange]) -> bool {
        let within = |change: &Change| change.at >= from && change.at <= until;
        self.changes(host).iter().any(|change| within(change) && by.contains(&change.by))
    }

    /// The same of any host.
    pub(super) fn changed_anywhere(&self, until: u64, by: &[Exchange]) -> bool {
        self.changes.keys().any(|host| self.changed(host, 0, until, by))
    }

    /// When a member was forgotten or gone, and everybody must know it a while later.
    pub(super) fn gone(&self, name: &str) -> Option<u64> {
        let forgotten = self.forgotten.iter().rfind(|(_, of)| of == name).map(|(at, _)| *at);
        let gone = self.gone.get(self.host_of(name)).copied();
        forgotten.or(gone).map(|at| at.max(self.healed))
    }

    /// When a host's node began first.
    pub(super) fn joined(&self, host: &str) -> u64 {
        let of = |began: &&Began| self.host_of(&began.origin) == host;
        self.began.iter().find(of).map_or(0, |began| began.at)
    }

    /// Nobody publishes on this host any more.
    pub(super) fn is_gone(&self, host: &str) -> bool {
        self.gone.contains_key(host)
    }

    pub(super) fn was_forgotten(&self, origin: &str, until: u64) -> bool {
        self.forgotten.iter().any(|(at, name)| *at <= until && name == node_of(origin))
    }

    pub(super) fn was_anybody_forgotten(&self, until: u64) -> bool {
        self.forgotten.iter().any(|(at, _)| *at <= until)
    }

    /// Under this origin nothing is numbered from a time on.
    pub(super) fn has_ended(&self, origin: &str, at: u64) -> bool {
        self.ended.get(origin).is_some_and(|ended| *ended <= at)
    }

    /// What a host's node had in memory at a time it has for the rest of the run.
    pub(super) fn stays_in_memory(&self, host: &str, at: u64) -> bool {
        self.is_memory(host) && !self.changed(host, at, u64::MAX, &[Exchange::Unkept])
    }

    /// A host's node keeps no disk.
    pub(super) fn is_memory(&self, host: &str) -> bool {
        self.in_memory.contains(host)
    }

    /// Somebody else heard the last word of a node, and has the disk or memory since that it had
    /// then.
    pub(super) fn is_known(&self, last: &Last, until: u64) -> bool {
        let there = self.began.iter().filter(|began| began.at <= last.at);
        let mut others = there.map(|began| self.host_of(&began.origin));
        let of = self.host_of(&last.number.origin);
        others.any(|host| {
            let heard = host != of && !last.lack.iter().any(|lacks| lacks == host);
            heard && !self.changed(host, last.at, until, &FORGETS)
        })
    }

    /// What a node that left in order, or that keeps no disk and ended so, numbered last.
    pub(super) fn last_of(&self, origin: &str) -> Option<&Last> {
        self.last.iter().rfind(|last| last.number.origin == origin)
    }

    /// An event went with a disk, nobody else had it, and all that was over at a time.
    pub(super) fn is_past(&self, number: &Number, assured: u64, at: u64) -> bool {
        let last = self.last_change(number, assured, u64::MAX);
        let Some((change, began)) = last else { return false };
        let elsewhere = change.origins.get(&number.origin).map_or(0, |remains| remains.elsewhere);
        change.at <= at && elsewhere < number.sequence && !Self::is_there(change, number, began)
    }

    /// Two events may have this number: a copy that did not have it was put back before.
    pub(super) fn is_contested(&self, number: &Number, at: u64) -> bool {
        self.changes(self.host_of(&number.origin)).iter().any(|change| {
            change.at <= at
                && ![Exchange::Renamed, Exchange::Unkept].contains(&change.by)
                && change.origins.get(&number.origin).is_some_and(|of| of.through < number.sequence)
        })
    }

    /// An event that was assured at a time is not on the disk that its node had at another.
    pub(super) fn is_gone_by(&self, number: &Number, assured: u64, at: u64) -> bool {
        let last = self.last_change(number, assured, at);
        last.is_some_and(|(change, began)| !Self::is_there(change, number, began))
    }

    /// An event that was assured at a time is on no disk that its node has now, and no other disk
    /// shows that it was: judged at the last exchange, by what stands on the others ever since. Who
    /// was there until a time only is told nothing of what a later exchange shows.
    pub(super) fn is_void(
        &self,
        number: &Number,
        (begun, assured): (u64, u64),
        until: Option<u64>,
    ) -> bool {
        // The answer may be of any start since it was handed in that numbers so.
        let all = self.all_began(number, assured).into_iter();
        let mut since = all.take_while(|(_, ended)| *ended > begun);
        since.any(|(began, _)| self.is_void_since(number, began, until))
    }

    fn is_void_since(&self, number: &Number, began: &Began, until: Option<u64>) -> bool {
        let Some(change) = self.last_change_since(number, began, until.unwrap_or(u64::MAX)) else {
            return false;
        };
        if Self::is_there(change, number, began) {
            return false;
        }
        let knows = |witness: &String| !self.changed(witness, change.at, u64::MAX, &FORGETS);
        let remains = change.origins.get(&number.origin);
        !remains.is_some_and(|remains| remains.witnesses.iter().any(knows))
    }

    /// The last exchange after the start that numbered an event, until a time.
    fn last_change(&self, number: &Number, assured: u64, until: u64) -> Option<(&Change, &Began)> {
        let began = self.began(number, assured)?;
        Some((self.last_change_since(number, began, until)?, began))
    }

    fn last_change_since(&self, number: &Number, began: &Began, until: u64) -> Option<&Change> {
        let host = self.host_of(&number.origin);
        let within = |change: &&Change| (began.at..=until).contains(&change.at);
        self.changes(host).iter().rfind(within)
    }

    /// The disk that is there after an exchange has it, or its node knows that it does not.
    fn is_there(change: &Change, number: &Number, began: &Began) -> bool {
        let Some(remains) = change.origins.get(&number.origin) else { return true };
        if remains.starts.is_empty() {
            return remains.through >= number.sequence;
        }
        // Of two starts with one epoch a copy has only one, and that perhaps not to its end.
        remains.starts.get(&began.start).is_some_and(|end| *end >= number.sequence)
    }

    /// A number that is not below any that a host gave until a time.
    pub(super) fn newest_of(&self, host: &str, at: u64) -> Option<Number> {
        let of = |began: &&Began| began.at <= at && self.host_of(&began.origin) == host;
        let began = self.began.iter().rfind(of)?;
        let sequence = ((u64::from(began.epoch) + 1) << COUNTER_BITS) - 1;
        Some(Number { origin: began.origin.clone(), sequence })
    }

    /// What had a number since a time was on the disk that was there at a later one.
    pub(super) fn was_there(&self, number: &Number, since: u64, at: u64) -> bool {
        let within = |change: &&Change| change.at > since && change.at <= at;
        let last = self.changes(self.host_of(&number.origin)).iter().rfind(within);
        let remains = last.and_then(|change| change.origins.get(&number.origin));
        remains.is_none_or(|remains| remains.through >= number.sequence)
    }

    /// When the start began that numbered what was assured at a time.
    pub(super) fn numbered_since(&self, number: &Number, assured: u64) -> Option<u64> {
        self.began(number, assured).map(|began| began.at)
    }

    /// The start that numbered what was assured at a time.
    fn began(&self, number: &Number, assured: u64) -> Option<&Began> {
        self.all_began(number, assured).first().map(|(began, _)| *began)
    }

    /// The starts that may have numbered what was assured at a time, the last first, each with when
    /// the next one of its host began.
    fn all_began(&self, number: &Number, assured: u64) -> Vec<(&Began, u64)> {
        let epoch = u32::try_from(number.sequence >> COUNTER_BITS).unwrap_or_default();
        let host = self.host_of(&number.origin);
        let until = self.began.iter().rev().filter(|began| began.at <= assured);
        let of_host = until.filter(|began| self.host_of(&began.origin) == host);
        let mut next = u64::MAX;
        let with_end = of_host.map(|began| (began, std::mem::replace(&mut next, began.at)));
        let numbered = |began: &Began| began.origin == number.origin && began.epoch == epoch;
        with_end.filter(|(began, _)| numbered(began)).collect()
    }
}
