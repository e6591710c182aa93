//! Duplicated: a stream that begins before what the subscriber had acknowledged and stored (P3).
//!
//! A token is stored by who holds it: nothing at or before it comes again, but what its node lost
//! since. Under a durable name the node stores, and what it was not seen to have stored may come
//! again. Within a stream the order of sequences says it.

use super::disks::Disks;
use super::history::{Begin, Exchange};
use super::listener::{Listener, Opened, Stream};
use super::nodes::Nodes;
use super::{Findings, Verdict};

/// What a disk may not know any more where somebody was.
pub(super) const LOSES_PLACES: [Exchange; 5] = [
    Exchange::Restored,
    Exchange::Emptied,
    Exchange::Flipped,
    Exchange::FlippedState,
    Exchange::Unkept,
];

/// Judges one subscriber.
pub(super) fn judge(listener: &Listener, nodes: &Nodes, disks: &Disks, found: &mut Findings) {
    for (place, stream) in listener.streams.iter().enumerate() {
        let Some(opened) = &stream.opened else { continue };
        let stored = match &stream.from {
            Begin::Token { journal, start, offset } if *journal == opened.journal => {
                // What its node lost in a crash of that start may come again.
                let kept = *start == opened.start || nodes.closed(&stream.node, start);
                let began = nodes.began(&stream.node, start);
                let lost = disks.changed(&stream.node, began, opened.at, &LOSES_PLACES);
                (kept && !lost).then_some(*offset)
            }
            Begin::Name(name) => {
                let earlier = listener.streams.get(..place).unwrap_or_default();
                stored_name(name, earlier, stream, opened, (nodes, disks))
            }
            _ => None,
        };
        if let Some(stored) = stored.filter(|stored| opened.offset < *stored) {
            let text = format!(
                "stream {} of subscriber {} began at {} at offset {}, though {stored} was \
                 acknowledged and stored",
                stream.number, listener.subscription, opened.at, opened.offset
            );
            found.fault(Verdict::Duplicated, text);
        }
    }
    again(listener, found);
}

/// Through where the node must have stored a name's acknowledgements.
pub(super) fn stored_name(
    name: &str,
    earlier: &[Stream],
    stream: &Stream,
    opened: &Opened,
    (nodes, disks): (&Nodes, &Disks),
) -> Option<u64> {
    let same = earlier.iter().filter(|before| {
        before.node == stream.node && matches!(&before.from, Begin::Name(n) if n == name)
    });
    let of_journal = same.filter_map(|before| {
        let at = before.opened.as_ref().filter(|at| at.journal == opened.journal)?;
        let stored = before.confirmed.iter().filter(|confirmed| {
            !disks.changed(&stream.node, confirmed.pinged, opened.at, &LOSES_PLACES)
        });
        let stored = stored.filter(|confirmed| {
            at.start == opened.start || nodes.stored(&stream.node, &at.start, confirmed.heard)
        });
        stored.map(|confirmed| confirmed.through).max()
    });
    of_journal.max()
}

/// What lies at or before where its stream began, and came.
fn again(listener: &Listener, found: &mut Findings) {
    for heard in &listener.heard {
        let stream = listener.streams.get(heard.stream);
        let opened = stream.and_then(|stream| stream.opened.as_ref());
        let Some(opened) = opened.filter(|opened| heard.offset <= opened.offset) else { continue };
        let text = format!(
            "subscriber {} heard {} at offset {}, on a stream that began after {}",
            listener.subscription, heard.event.id, heard.offset, opened.offset
        );
        found.fault(Verdict::Duplicated, text);
    }
}
