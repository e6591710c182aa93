//! Lost: assured and due, and passed over without a missed that came first (P1). What is merely not
//! there at the quiet end is not live.

use std::collections::{BTreeSet, HashMap};

use super::history::{Begin, Number};
use super::ledger::{Entry, Ledger, node_of};
use super::listener::{Listener, Told};
use super::{Findings, Verdict};

/// Judges one subscriber.
pub(super) fn judge(listener: &Listener, ledger: &Ledger, quiet: bool, found: &mut Findings) {
    let Some((began, from)) = listener.began() else { return };
    let reach = Reach::of(listener);
    for (id, entry) in &ledger.by_id {
        if !entry.assured || !listener.wants(&entry.event) || listener.first.contains_key(id) {
            continue;
        }
        let passed = entry.number.as_ref().is_some_and(|number| reach.heard_above(number));
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
        let subscription = listener.subscription;
        let text = format!(
            "{id}, {:?}, handed in at {}, never reached subscriber {subscription}",
            entry.number, entry.begun
        );
        if passed {
            found.fault(Verdict::Lost, text);
        } else if quiet && listener.closed.is_none() {
            found.fault(Verdict::NotLive, text);
        }
    }
}

/// What was heard of each origin: sequence, and in which order.
struct Reach<'a>(HashMap<&'a str, BTreeSet<(u64, usize)>>);

impl<'a> Reach<'a> {
    fn of(listener: &'a Listener) -> Self {
        let mut reach = HashMap::<_, BTreeSet<_>>::new();
        for heard in &listener.heard {
            let of = reach.entry(heard.number.origin.as_str()).or_default();
            of.insert((heard.number.sequence, heard.order));
        }
        Self(reach)
    }

    fn above(&self, number: &Number) -> impl Iterator<Item = usize> {
        let of = self.0.get(number.origin.as_str()).into_iter();
        of.flat_map(|of| of.range((number.sequence + 1, 0)..)).map(|(_, order)| *order)
    }

    fn below(&self, number: &Number) -> impl Iterator<Item = usize> {
        let of = self.0.get(number.origin.as_str()).into_iter();
        of.flat_map(|of| of.range(..(number.sequence, 0))).map(|(_, order)| *order)
    }

    fn heard_above(&self, number: &Number) -> bool {
        self.above(number).next().is_some()
    }

    fn heard_below(&self, number: &Number) -> bool {
        self.below(number).next().is_some()
    }
}

/// Whether a missed names the event, and came before anything later of its origin.
fn covers(told: &Told, entry: &Entry, reach: &Reach<'_>) -> bool {
    let scope = &told.scope;
    if !scope.sites.is_empty() && !scope.sites.contains(&entry.event.site) {
        return false;
    }
    let Some(number) = &entry.number else {
        // Nobody ever saw its number: any range of its origin may be its own.
        let of = scope.origin.as_ref().is_none_or(|origin| node_of(origin) == entry.node);
        return of && entry.begun <= told.at;
    };
    if scope.origin.as_ref().is_some_and(|origin| *origin != number.origin) {
        return false;
    }
    let in_range = if (scope.from, scope.through) == (0, 0) {
        // Everything so far: not what came after it was told, nor what lies behind something that
        // was heard after it.
        entry.begun <= told.at && !reach.below(number).any(|order| order > told.order)
    } else {
        (scope.from..=scope.through).contains(&number.sequence)
    };
    in_range && !reach.above(number).any(|order| order < told.order)
}

/// Whether a newer one of the same key came instead, or was missed instead. Where nobody saw its
/// number, newer is what was handed in later.
fn superseded(listener: &Listener, entry: &Entry, ledger: &Ledger, reach: &Reach<'_>) -> bool {
    let Some(key) = &entry.event.coalesce else { return false };
    ledger.by_id.values().any(|newer| {
        let same = newer.event.coalesce.as_ref() == Some(key)
            && newer.event.site == entry.event.site
            && newer.event.source == entry.event.source
            && newer.node == entry.node;
        let later = match (&entry.number, &newer.number) {
            (Some(number), Some(newer)) => {
                newer.origin == number.origin && newer.sequence > number.sequence
            }
            _ => newer.begun >= entry.begun && newer.event.id != entry.event.id,
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
    let ahead = newer.number.as_ref().is_some_and(|number| !reach.heard_above(number));
    listener.closed.is_some() && newer.assured && ahead
}
