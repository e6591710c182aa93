//! Fences: an answer that everybody has applied an event binds every subscription that trusts its
//! cache, from that moment on (P9); and on a healed, quiet mesh there is one in time.
//!
//! What a subscriber never heard because newer events replaced it is applied once something newer
//! of the same key and origin is, or a missed that names it or that was told: until then it may
//! show what was before.

use std::collections::{BTreeMap, HashMap};

use super::disks::Disks;
use super::duplicated::LOSES_PLACES;
use super::history::{Event, Line, Member, Number, Sure, What};
use super::ledger::{Entry, Ledger, node_of};
use super::listener::{Heard, Listener, Told};
use super::lost::{Reach, covers};
use super::{Findings, Verdict};

/// For each origin and site: the sequences that were said to be applied, with the first time at
/// which that was said of this one or a later one.
type Claims = HashMap<(String, String), BTreeMap<u64, u64>>;

/// Judges all subscribers.
pub(super) fn judge(
    lines: &[Line],
    ledger: &Ledger,
    disks: &Disks,
    listeners: &[Listener],
    found: &mut Findings,
) {
    let claims = claims(lines, ledger, found);
    for listener in listeners {
        let reach = Reach::of(listener, ledger, disks);
        for heard in &listener.heard {
            let key = (heard.number.origin.clone(), heard.event.site.clone());
            let of = claims.get(&key).into_iter();
            let said = of.flat_map(|of| of.range(heard.number.sequence..)).next();
            let Some((_, said)) = said else { continue };
            // What was said of an event with this number before there was this one.
            let begun = ledger.by_id.get(&heard.event.id).map(|entry| entry.begun);
            if begun > Some(*said) && disks.is_contested(&heard.number, heard.at) {
                continue;
            }
            // Who was told that it missed this dropped it then.
            let told = told_of(listener, heard, ledger, &reach);
            let applied = applied(listener, heard).min(told.unwrap_or(u64::MAX));
            if dropped(listener, heard, ledger) || comes_anew(listener, heard, ledger, disks) {
                continue;
            }
            if let Some((from, until)) = trusted(listener, heard, *said, applied) {
                let text = format!(
                    "{} was said at {said} to be applied by all, and subscriber {}, which trusted \
                     its cache from {from} until {until}, applied it at {applied}",
                    heard.event.id, listener.subscription
                );
                found.fault(Verdict::Unsound, text);
            }
        }
        replaced(listener, &claims, ledger, (disks, &reach), found);
    }
}

/// Judges what a subscriber did not hear because newer events replaced it.
fn replaced(
    listener: &Listener,
    claims: &Claims,
    ledger: &Ledger,
    (disks, reach): (&Disks, &Reach<'_>),
    found: &mut Findings,
) {
    let emptied = emptied(listener, usize::MAX);
    for (id, entry) in &ledger.by_id {
        let due = entry.assured && entry.begun > emptied && listener.wants(&entry.event);
        let (Some(number), Some(_), true) = (&entry.number, &entry.event.coalesce, due) else {
            continue;
        };
        if listener.first.contains_key(id) || disks.is_contested(number, u64::MAX) {
            continue;
        }
        let of = claims.get(&(number.origin.clone(), entry.event.site.clone())).into_iter();
        let Some((_, said)) = of.flat_map(|of| of.range(number.sequence..)).next() else {
            continue;
        };
        let same = |event: &Event| {
            let key = |of: &Event| (of.coalesce.clone(), of.site.clone(), of.source.clone());
            key(event) == key(&entry.event)
        };
        let heard = listener.heard.iter().filter(|heard| {
            let later = heard.number.sequence > number.sequence;
            later && heard.number.origin == number.origin && same(&heard.event)
        });
        let heard = heard.map(|heard| applied(listener, heard)).filter(|at| *at > 0);
        let newer = ledger.by_id.values();
        // Where nobody saw its number, newer is what was handed in later.
        let after = |newer: &Entry| match &newer.number {
            None => newer.begun > entry.begun,
            Some(_) => newer.has_above(number),
        };
        let newer = newer.filter(|newer| same(&newer.event) && after(newer));
        let names: Vec<_> = newer.chain([entry]).collect();
        let told = listener.told.iter();
        let told = told.filter(|told| names.iter().any(|entry| covers(told, entry, reach)));
        let applied = heard.chain(told.map(|told| told.at)).min().unwrap_or(u64::MAX);
        if let Some((from, until)) = shown(listener, number, *said, applied) {
            let text = format!(
                "{id}, which newer ones replaced, was said at {said} to be applied by all, and \
                 subscriber {}, which trusted its cache from {from} until {until}, applied one of \
                 those at {applied}",
                listener.subscription
            );
            found.fault(Verdict::Unsound, text);
        }
    }
}

fn claims(lines: &[Line], ledger: &Ledger, found: &mut Findings) -> Claims {
    let mut claims = Claims::new();
    let mut claim = |number: &Number, site: &str, at: u64| {
        let key = (number.origin.clone(), site.to_owned());
        let first = claims.entry(key).or_default().entry(number.sequence).or_insert(at);
        *first = at.min(*first);
    };
    for line in lines {
        match &line.what {
            What::Fenced { number, site, done: true, .. } => {
                found.counts.applied += 1;
                claim(number, site, line.at);
            }
            What::Fenced { number, done: false, due: true, members, .. } => {
                let pending = members.iter().filter(|member| member.standing == "pending");
                let pending: Vec<_> = pending.map(|Member { node, .. }| node).collect();
                let text =
                    format!("a fence of {number:?} was not done at {}: {pending:?}", line.at);
                found.fault(Verdict::NotLive, text);
            }
            What::Published { assured: Sure::Applied, taken, newest, .. } => {
                found.counts.applied += 1;
                for taken in taken {
                    let Some(entry) = ledger.by_id.get(&taken.id) else { continue };
                    // It may have been numbered by several journals: this is said of one.
                    let under = |newest: &Number| entry.number_under(&newest.origin);
                    let number = taken.number.as_ref().or_else(|| newest.as_ref().and_then(under));
                    if let Some(number) =
                        number.or_else(|| entry.number.as_ref().filter(|_| newest.is_none()))
                    {
                        claim(number, &entry.event.site, line.at);
                    }
                }
            }
            _ => {}
        }
    }
    for of in claims.values_mut() {
        let mut first = u64::MAX;
        for at in of.values_mut().rev() {
            first = first.min(*at);
            *at = first;
        }
    }
    claims
}

/// When a delivery counts as applied: at once, unless it was rejected before it was acknowledged.
fn applied(listener: &Listener, heard: &Heard) -> u64 {
    let Some(stream) = listener.streams.get(heard.stream) else { return heard.at };
    let acknowledged = stream.acknowledged.iter();
    let acknowledged = acknowledged
        .filter(|(order, _, through)| *order > heard.order && *through >= heard.offset)
        .map(|(order, ..)| *order)
        .min();
    let taken_back = stream.rejected.iter().any(|(order, offset)| {
        *order > heard.order
            && *offset <= heard.offset
            && acknowledged.is_none_or(|acknowledged| *order < acknowledged)
    });
    // A later delivery is judged by itself.
    if taken_back { 0 } else { heard.at }
}

/// When a missed that came before a delivery named it.
fn told_of(listener: &Listener, heard: &Heard, ledger: &Ledger, reach: &Reach<'_>) -> Option<u64> {
    let entry = ledger.by_id.get(&heard.event.id)?;
    let mut before = listener.told.iter().filter(|told| told.order < heard.order);
    before.find(|told| covers(told, entry, reach)).map(|told| told.at)
}

/// Whether a missed before it let the subscriber drop everything, what this event says included,
/// and the stream that told it went on behind the event.
fn dropped(listener: &Listener, heard: &Heard, ledger: &Ledger) -> bool {
    let Some(entry) = ledger.by_id.get(&heard.event.id) else { return false };
    listener.told.iter().filter(|told| told.order < heard.order).any(|told| {
        let everything = told.scope.origin.is_none() && told.scope.through == 0;
        everything && entry.begun <= told.at && told.stream != heard.stream
    })
}

/// It is from before the subscriber's cache began, or dropped everything, and comes from others to
/// a node whose disk did not know it any more.
fn comes_anew(listener: &Listener, heard: &Heard, ledger: &Ledger, disks: &Disks) -> bool {
    let Some(entry) = ledger.by_id.get(&heard.event.id) else { return false };
    let Some(stream) = listener.streams.get(heard.stream) else { return false };
    let emptied = emptied(listener, heard.order);
    let node = &stream.node;
    let knew = disks.joined(node) <= entry.begun;
    entry.begun <= emptied && (!knew || disks.changed(node, 0, heard.at, &LOSES_PLACES))
}

/// When its cache began, or was dropped as a whole, for the last time before something.
fn emptied(listener: &Listener, before: usize) -> u64 {
    let everything = |told: &&Told| told.scope.origin.is_none() && told.scope.through == 0;
    let told = listener.told.iter().filter(|told| told.order < before).filter(everything);
    let began = listener.began().map(|(at, _)| at);
    told.map(|told| told.at).chain(began).max().unwrap_or_default()
}

/// A time in which it trusted its cache though it had not applied what was said to be.
fn trusted(listener: &Listener, heard: &Heard, said: u64, applied: u64) -> Option<(u64, u64)> {
    let first = listener.first.get(&heard.event.id).and_then(|first| listener.heard.get(*first));
    if first.is_some_and(|first| first.order < heard.order) {
        let mut earlier = listener
            .heard
            .iter()
            .filter(|earlier| earlier.order < heard.order && earlier.event.id == heard.event.id);
        if earlier.any(|earlier| self::applied(listener, earlier) > 0) {
            return None;
        }
    }
    shown(listener, &heard.number, said, applied)
}

/// A time from when something was said to be applied until it was, in which it trusted its cache.
fn shown(listener: &Listener, number: &Number, said: u64, applied: u64) -> Option<(u64, u64)> {
    let fresh = listener.fresh.get(node_of(&number.origin)).into_iter().flatten();
    let mut wrong = fresh.filter_map(|(from, until)| {
        let until = listener.closed.map_or(*until, |closed| closed.min(*until));
        let (begin, end) = ((*from).max(said), until.min(applied));
        (begin < end).then_some((*from, until))
    });
    wrong.next()
}
