//! Missed needlessly: told though the node knew the place, or it or a member that it reached still
//! held what was named (P1).

use std::collections::HashSet;

use super::disks::Disks;
use super::duplicated::{LOSES_PLACES, stored_name};
use super::history::{Begin, Exchange, Line, Number, What};
use super::listener::{Listener, Told};
use super::nodes::Nodes;
use super::{Findings, Verdict};

/// How often an event is rejected before it is a dead letter.
const ATTEMPTS: usize = 5;

/// For so many milliseconds after something was told, what nodes hold is taken as held then.
const SOON: u64 = 1000;

/// What a disk is another by than its node wrote.
const OTHER_DISK: [Exchange; 4] =
    [Exchange::Restored, Exchange::Emptied, Exchange::Flipped, Exchange::FlippedState];

/// Judges one subscriber.
pub(super) fn judge(
    listener: &Listener,
    (nodes, disks): (&Nodes, &Disks),
    lines: &[Line],
    found: &mut Findings,
) {
    for told in &listener.told {
        if let Some(why) = needless(listener, told, (nodes, disks), lines) {
            let text = format!(
                "subscriber {} was told at {} of {:?}, though {why}",
                listener.subscription, told.at, told.scope
            );
            found.fault(Verdict::MissedNeedlessly, text);
        }
    }
}

fn needless(
    listener: &Listener,
    told: &Told,
    (nodes, disks): (&Nodes, &Disks),
    lines: &[Line],
) -> Option<String> {
    let stream = listener.streams.get(told.stream)?;
    let opened = stream.opened.as_ref()?;
    match (told.scope.cause.as_str(), &stream.from) {
        ("unknown_token", Begin::Token { journal, start, .. }) => {
            let mut starts = nodes.starts(&stream.node).iter();
            let known = starts.any(|known| known.journal == *journal && known.start == *start);
            let began = nodes.began(&stream.node, start);
            let known = known && !disks.changed(&stream.node, began, opened.at, &LOSES_PLACES);
            (known && opened.journal == *journal).then(|| "its node knew that start".to_owned())
        }
        ("unknown_name", Begin::Name(name)) => {
            let place = listener.streams.iter().position(|s| s.number == stream.number)?;
            let earlier = listener.streams.get(..place)?;
            let stored = stored_name(name, earlier, stream, opened, (nodes, disks));
            stored.map(|through| format!("{name} had acknowledged {through} there"))
        }
        ("dead_letter", _) => {
            let mut rejected = stream.rejected.iter();
            // What is set aside under a name is told by each of its streams until acknowledged.
            let before = matches!(stream.from, Begin::Name(_)) && told.stream > 0;
            let times = rejected.by_ref().filter(|(_, offset)| *offset == told.offset).count();
            (!before && times < ATTEMPTS).then(|| format!("it was rejected {times} times"))
        }
        ("unknown_token" | "unknown_name", _) => Some("it began otherwise".to_owned()),
        ("hole", _) if is_contested(told, disks) => None,
        ("hole", _) => held(told, lines, None, told.scope.from),
        // Of a member that was never met nobody knows which journal it had.
        ("forgotten", _) if told.scope.origin.is_none() => {
            (!disks.was_anybody_forgotten(told.at)).then(|| "nobody was forgotten".to_owned())
        }
        ("forgotten", _) => forgotten(told, &stream.node, disks, lines),
        ("rolled_back", _) => {
            let lost = disks.changed(&stream.node, 0, told.at, &OTHER_DISK);
            (!lost).then(|| "its disk was never another".to_owned())
        }
        ("damaged", _) => {
            let flips = [Exchange::Flipped, Exchange::FlippedState];
            (!disks.changed_anywhere(told.at, &flips)).then(|| "no disk was damaged".to_owned())
        }
        // What a node cut it cannot deliver in its place any more, whoever else holds it. What it
        // says to serve all the same, it left out because newer events replace it.
        ("retention", _) => held(told, lines, Some(&stream.node), told.scope.through),
        _ => None,
    }
}

/// A journal that is forgotten went with a disk, or its member, or ended with a last word that
/// nobody else heard, or of which all does not come either.
fn forgotten(told: &Told, host: &str, disks: &Disks, lines: &[Line]) -> Option<String> {
    let origin = told.scope.origin.as_deref().unwrap_or_default();
    let of = disks.host_of(origin);
    let memory = disks.is_memory(of);
    let lost = disks.changed(of, 0, told.at, &OTHER_DISK);
    let last = disks.last_of(origin).filter(|last| last.at <= told.at || !memory);
    let known = last.filter(|last| disks.is_known(last, told.at) || !memory);
    let reached = known.and_then(|last| reached(told, lines, host, last.number.sequence));
    let ended = disks.has_ended(origin, told.at);
    match reached {
        _ if lost || disks.was_forgotten(origin, told.at) => None,
        Some(through) => Some(format!("its last word is here: {through}")),
        None if last.is_some() || ended => None,
        None => Some(format!("{origin} was never anywhere else")),
    }
}

/// Through where a node had an origin when it was told, or soon after from others, if it had
/// everything through a sequence.
fn reached(told: &Told, lines: &[Line], host: &str, last: u64) -> Option<u64> {
    let origin = told.scope.origin.as_ref()?;
    let after = lines.get(told.order..).unwrap_or_default().iter();
    let mut after = after.take_while(|line| line.at <= told.at + SOON);
    after.find_map(|line| match &line.what {
        What::Holds { node, origin: of, base, through, .. } if node == host && of == origin => {
            // What it was told to have missed it does not hold.
            (*through >= last && (*base < last || last == 0)).then_some(*through)
        }
        _ => None,
    })
}

/// Whether two events may have the numbers that are named.
fn is_contested(told: &Told, disks: &Disks) -> bool {
    let origin = told.scope.origin.clone().unwrap_or_default();
    disks.is_contested(&Number { origin, sequence: told.scope.through }, told.at)
}

/// Who still holds all of a range from a sequence on, of those that were looked at when it was
/// told; `only`: this one.
fn held(told: &Told, lines: &[Line], only: Option<&str>, from: u64) -> Option<String> {
    let origin = told.scope.origin.as_ref()?;
    let mut asked = HashSet::new();
    let after = lines.get(told.order..).unwrap_or_default().iter();
    after.filter(|line| line.at <= told.at + SOON).find_map(|line| match &line.what {
        What::Holds { node, origin: of, base, through, .. }
            if of == origin
                && only.is_none_or(|only| only == node)
                && asked.insert(node.clone()) =>
        {
            let all = *base < from && *through >= told.scope.through;
            all.then(|| format!("{node} holds it from {base} through {through}"))
        }
        _ => None,
    })
}
