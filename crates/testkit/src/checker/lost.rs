//! Lost: assured and due, and passed over without a missed that came first (P1). What is merely not
//! there at the quiet end is not live.

use std::collections::{BTreeMap, HashMap};

use super::disks::Disks;
use super::duplicated::LOSES_PLACES;
use super::history::{Begin, Number, Scope};
use super::ledger::{Entry, Ledger, node_of};
use super::listener::{Listener, Told};
use super::{Findings, Verdict};

/// Judges one subscriber.
pub(super) fn judge(
    listener: &Listener,
    ledger: &Ledger,
    disks: &Disks,
    quiet: bool,
    found: &mut Findings,
) {
    let Some((began, from)) = listener.began() else { return };
    let reach = Reach::of(listener, ledger, disks);
    for (id, entry) in &ledger.by_id {
        if !entry.assured || !listener.wants(&entry.event) || listener.first.contains_key(id) {
            continue;
        }
        if listener.closed.is_some_and(|closed| closed <= entry.begun) {
            continue;
        }
        let passed = reach.passed(entry);
        let begun = entry.number.as_ref().is_some_and(|number| reach.heard_below(number));
        if !(*from == Begin::Beginning || entry.begun > began || begun) {
            continue;
        }
        if listener.told.iter().any(|told| covers(told, entry, &reach)) {
            found.counts.covered += 1;
            continue;
        }
        if superseded(listener, entry, ledger, &reach) {
            continue;
        }
        if is_excused(entry, (began, passed, listener.closed), disks) {
            found.counts.void += 1;
            continue;
        }
        let subscription = listener.subscription;
        let text = format!(
            "{id}, {:?}, handed in at {}, never reached subscriber {subscription}",
            entry.number, entry.begun
        );
        if passed.is_some() {
            found.fault(Verdict::Lost, text);
        } else if quiet && listener.closed.is_none() {
            found.fault(Verdict::NotLive, text);
        }
    }
}

/// It went with a disk, and no other one shows that it was there as long as the subscriber was; or
/// it did so before that began; or it was gone when the subscriber passed over it, which it was
/// told, had it stayed, once others had shown it, and it had come to that.
fn is_excused(
    entry: &Entry,
    (began, passed, closed): (u64, Option<u64>, Option<u64>),
    disks: &Disks,
) -> bool {
    let unknown = || disks.newest_of(&entry.node, entry.assured_at);
    let Some(number) = entry.at_most().cloned().or_else(unknown) else { return false };
    let past = || entry.begun <= began && disks.is_past(&number, entry.assured_at, began);
    let gone = |passed| disks.is_gone_by(&number, entry.assured_at, passed);
    disks.is_void(&number, (entry.begun, entry.assured_at), closed)
        || past()
        || (closed.is_some() && passed.is_some_and(gone))
}

/// What was heard of each origin: by sequence, and in which order.
pub(super) struct Reach<'a> {
    heard: HashMap<&'a str, BTreeMap<(u64, usize), Times>>,
    /// When it was told that everything so far may be missed: it began there anew, and perhaps on
    /// another node, which had less.
    everything: Vec<usize>,
    disks: &'a Disks,
    /// A node of this subscriber once had a disk that did not know where it was.
    anew: bool,
}

/// When something was heard by the subscriber, and first by anybody under this number.
#[derive(Clone, Copy, Debug)]
struct Times {
    at: u64,
    first: u64,
}

impl<'a> Reach<'a> {
    pub(super) fn of(listener: &'a Listener, ledger: &Ledger, disks: &'a Disks) -> Self {
        let mut reach = HashMap::<_, BTreeMap<_, _>>::new();
        for heard in &listener.heard {
            let of = reach.entry(heard.number.origin.as_str()).or_default();
            let first = ledger.first_heard(&heard.event.id, &heard.number).unwrap_or(heard.at);
            of.insert((heard.number.sequence, heard.order), Times { at: heard.at, first });
        }
        let everything = listener.told.iter().filter(|told| is_everything(&told.scope));
        let everything = everything.map(|told| told.order).collect();
        let mut streams = listener.streams.iter();
        let anew = streams.any(|at| disks.changed(&at.node, 0, u64::MAX, &LOSES_PLACES));
        Self { heard: reach, everything, disks, anew }
    }

    fn above(&self, number: &Number) -> impl Iterator<Item = (usize, Times)> {
        let of = self.heard.get(number.origin.as_str()).into_iter();
        let above = of.flat_map(|of| of.range((number.sequence + 1, 0)..));
        above.map(|((_, order), times)| (*order, *times))
    }

    fn below(&self, number: &Number) -> impl Iterator<Item = usize> {
        let of = self.heard.get(number.origin.as_str()).into_iter();
        of.flat_map(|of| of.range(..(number.sequence, 0))).map(|((_, order), _)| *order)
    }

    /// When something above an event was heard first. What anybody heard before the event was
    /// handed in, or before the start began that numbered it, bears numbers of another disk, and
    /// passed over nothing.
    fn passed(&self, entry: &Entry) -> Option<u64> {
        let number = entry.number.as_ref()?;
        let numbered = self.disks.numbered_since(number, entry.assured_at).unwrap_or_default();
        let since = entry.begun.max(numbered);
        let above = self.above(number).filter(|(_, times)| times.first >= since);
        above.map(|(_, times)| times.at).min()
    }

    fn heard_below(&self, number: &Number) -> bool {
        self.below(number).next().is_some()
    }

    /// Whether what a missed of everything so far left behind it came nevertheless, by what was
    /// heard since. Who went to a node that had less, and was told everything once more, had
    /// passed over it before if it heard something above meanwhile.
    fn is_behind(&self, number: &Number, told: &Told) -> bool {
        let again = self.everything.iter().copied().filter(|order| *order > told.order).min();
        let within = |order: usize| order > told.order && again.is_none_or(|again| order < again);
        let passed = self.above(number).any(|(order, _)| within(order));
        self.below(number).any(|order| if passed { within(order) } else { order > told.order })
    }
}

/// It names no origin and no range.
fn is_everything(scope: &Scope) -> bool {
    scope.origin.is_none() && (scope.from, scope.through) == (0, 0)
}

/// Whether a missed names the event, and came before anything later of its origin.
pub(super) fn covers(told: &Told, entry: &Entry, reach: &Reach<'_>) -> bool {
    let scope = &told.scope;
    if !scope.sites.is_empty() && !scope.sites.contains(&entry.event.site) {
        return false;
    }
    let Some(number) = &entry.number else {
        // Nobody ever saw its number: any range of its origin may be its own.
        let of = scope.origin.as_ref().is_none_or(|origin| node_of(origin) == entry.node);
        return of && entry.begun <= told.at;
    };
    if by_name(told) {
        let of = scope.origin.as_ref().is_none_or(|of| node_of(of) == node_of(&number.origin));
        return of && entry.begun <= told.at && in_time(told, number, reach);
    }
    if scope.origin.as_ref().is_some_and(|origin| *origin != number.origin) {
        return false;
    }
    let in_range = if (scope.from, scope.through) == (0, 0) {
        // Everything so far: not what came after it was told, nor what lies behind something that
        // was heard after it.
        // A disk that did not know where the subscriber was lets it begin before that again.
        entry.begun <= told.at && (reach.anew || !reach.is_behind(number, told))
    } else {
        (scope.from..=scope.through).contains(&number.sequence)
    };
    in_range && in_time(told, number, reach)
}

/// It came before anything later. That a node runs on a copy may be noticed only after something of
/// it was heard.
fn in_time(told: &Told, number: &Number, reach: &Reach<'_>) -> bool {
    let late = || reach.disks.is_contested(number, told.at);
    !reach.above(number).any(|(order, _)| order < told.order) || late()
}

/// It concerns everything that a node ever numbered, under whatever journal id.
fn by_name(told: &Told) -> bool {
    matches!(told.scope.cause.as_str(), "forgotten" | "rolled_back")
}

/// Whether a newer one of the same key came instead, or was missed instead. Where nobody saw its
/// number, newer is what may have been numbered later.
fn superseded(listener: &Listener, entry: &Entry, ledger: &Ledger, reach: &Reach<'_>) -> bool {
    let Some(key) = &entry.event.coalesce else { return false };
    ledger.by_id.values().any(|newer| {
        let same = newer.event.coalesce.as_ref() == Some(key)
            && newer.event.site == entry.event.site
            && newer.event.source == entry.event.source
            && newer.node == entry.node;
        let later = match (&entry.number, &newer.number) {
            (Some(number), Some(_)) => newer.has_above(number),
            _ => newer.may_be_numbered_after(entry.begun) && newer.event.id != entry.event.id,
        };
        let there = || {
            listener.first.contains_key(&newer.event.id)
                || listener.told.iter().any(|told| covers(told, newer, reach))
                || ended_before(listener, newer, reach)
        };
        same && later && there()
    })
}

/// The subscriber was no more when this would have come.
fn ended_before(listener: &Listener, newer: &Entry, reach: &Reach<'_>) -> bool {
    let ahead = newer.number.is_some() && reach.passed(newer).is_none();
    listener.closed.is_some() && (newer.assured || newer.was_heard()) && ahead
}
