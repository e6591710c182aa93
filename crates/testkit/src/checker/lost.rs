//! Lost: assured and due, and passed over without a missed that came first (P1). What is merely not
//! there at the quiet end is not live.

use std::collections::{BTreeSet, HashMap};

use super::history::{Begin, Number};
use super::ledger::{Entry, Ledger};
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
        if superseded(listener, entry, ledger) {
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
        return scope.origin.is_none() && scope.through == 0 && entry.begun <= told.at;
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

/// Whether a newer one of the same key came instead.
fn superseded(listener: &Listener, entry: &Entry, ledger: &Ledger) -> bool {
    let (Some(key), Some(number)) = (&entry.event.coalesce, &entry.number) else { return false };
    listener.heard.iter().any(|heard| {
        heard.number.origin == number.origin
            && heard.number.sequence > number.sequence
            && heard.event.coalesce.as_ref() == Some(key)
            && heard.event.site == entry.event.site
            && heard.event.source == entry.event.source
            && ledger.by_id.get(&heard.event.id).is_some_and(|newer| newer.assured)
    })
}
