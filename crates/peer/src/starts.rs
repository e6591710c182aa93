//! Frontiers and starts, from the journal to messages and back.

use std::collections::BTreeMap;

use bytes::Bytes;
use evermesh_event::{Epoch, Frontier, NodeName, Origin, Sequence, StartId};
use evermesh_journal::{Holding, Journal, SeenStart};
use evermesh_proto::v1;

/// Through where nothing is lacking here of each origin. With the starts that were seen of this
/// node's own origin, which others note, and of whom this is told: they say whether it is a copy.
pub(crate) fn of_journal(journal: &Journal, to: &NodeName) -> Vec<v1::OriginFrontier> {
    let all = journal.seen_starts();
    let concerns = |origin: &Origin| origin == journal.origin() || origin.node == *to;
    let seen = |origin: &Origin| {
        let starts = all.get(origin).filter(|_| concerns(origin)).into_iter().flatten();
        let start = starts.map(|seen| v1::StartSeen {
            epoch: seen.epoch.get(),
            start: Bytes::copy_from_slice(seen.start.as_bytes()),
            durable_head: seen.durable_head.as_u64(),
        });
        start.collect()
    };
    let mut frontier = journal.frontier();
    // Of whom it never had an event, it may know more than that node itself.
    let known = all.keys().filter(|origin| concerns(origin)).chain([journal.origin()]);
    known.for_each(|origin| frontier.advance(origin, Sequence::ZERO));
    let holdings = journal.holdings();
    let of = |(origin, at): (&Origin, Sequence)| v1::OriginFrontier {
        origin: Some(origin.to_proto()),
        sequence: at.as_u64(),
        starts: seen(origin),
        base: holdings.get(origin).copied().unwrap_or_default().base.as_u64(),
    };
    frontier.iter().map(of).collect()
}

/// What a peer said to hold when it welcomed.
pub(crate) fn holdings(
    journal: &Journal,
    sent: &[v1::OriginFrontier],
) -> BTreeMap<Origin, Holding> {
    let of = |sent: &v1::OriginFrontier| {
        held_of(journal, sent.origin.as_ref(), sent.base, sent.sequence)
    };
    sent.iter().filter_map(of).collect()
}

/// What a peer said to hold since.
pub(crate) fn held(journal: &Journal, sent: &[v1::OriginHeld]) -> BTreeMap<Origin, Holding> {
    let of =
        |sent: &v1::OriginHeld| held_of(journal, sent.origin.as_ref(), sent.base, sent.through);
    sent.iter().filter_map(of).collect()
}

/// Of who left so long ago that it is forgotten nothing is wanted.
fn held_of(
    journal: &Journal,
    origin: Option<&v1::Origin>,
    base: u64,
    through: u64,
) -> Option<(Origin, Holding)> {
    let (base, through) = (Sequence::from_u64(base), Sequence::from_u64(through));
    let origin = Origin::from_proto(origin?).ok()?;
    (!journal.is_dropped(&origin.node)).then_some((origin, Holding { base, through }))
}

/// What is held otherwise than was told before.
pub(crate) fn changes(
    told: &mut BTreeMap<Origin, Holding>,
    holdings: BTreeMap<Origin, Holding>,
) -> Vec<v1::OriginHeld> {
    let other = holdings.iter().filter(|(origin, holding)| told.get(origin) != Some(holding));
    let of = |(origin, holding): (&Origin, &Holding)| v1::OriginHeld {
        origin: Some(origin.to_proto()),
        base: holding.base.as_u64(),
        through: holding.through.as_u64(),
    };
    let changed = other.map(of).collect();
    *told = holdings;
    changed
}

/// A frontier that another node sent. Origins that cannot be read are as if never met.
pub(crate) fn frontier(sent: &[v1::OriginFrontier]) -> Frontier {
    let of = |sent: &v1::OriginFrontier| {
        let origin = Origin::from_proto(sent.origin.as_ref()?).ok()?;
        Some((origin, Sequence::from_u64(sent.sequence)))
    };
    sent.iter().filter_map(of).collect()
}

/// Why what another node knows of this node's starts shows that this journal was restored, or runs
/// twice.
pub(crate) fn disowned(journal: &Journal, sent: &[v1::OriginFrontier]) -> Option<String> {
    let own = sent.iter().find(|sent| {
        let of = sent.origin.as_ref().and_then(|sent| Origin::from_proto(sent).ok());
        of.as_ref() == Some(journal.origin())
    })?;
    let seen = own.starts.iter().filter_map(|seen| {
        Some(SeenStart {
            epoch: Epoch::new(seen.epoch)?,
            start: StartId::from_slice(&seen.start).ok()?,
            durable_head: Sequence::from_u64(seen.durable_head),
        })
    });
    journal.disowned(&seen.collect::<Vec<_>>())
}

/// The origins that this node meets by a welcome: the peer's, and what it knows of this node's own
/// name.
pub(crate) fn met(journal: &Journal, peer: &Origin, sent: &[v1::OriginFrontier]) -> Vec<Origin> {
    let listed = sent.iter().filter_map(|sent| Origin::from_proto(sent.origin.as_ref()?).ok());
    let own = listed.filter(|origin| origin.node == journal.origin().node);
    own.chain([peer.clone()]).collect()
}

/// Notes the starts that another node says of its own origin.
pub(crate) fn note(journal: &Journal, origin: &Origin, sent: &[v1::OriginFrontier]) {
    let own = sent.iter().find(|sent| {
        sent.origin.as_ref().and_then(|sent| Origin::from_proto(sent).ok()).as_ref() == Some(origin)
    });
    for seen in own.map(|own| own.starts.as_slice()).unwrap_or_default() {
        let start = StartId::from_slice(&seen.start).ok().zip(Epoch::new(seen.epoch));
        if let Some((start, epoch)) = start {
            journal.note_start(origin, epoch, start);
            journal.note_head(origin, Sequence::from_u64(seen.durable_head));
        }
    }
}
