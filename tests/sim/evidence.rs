//! What a disk that takes the place of another leaves of its node's events, and which other disks
//! bear witness that there was more: asked of copies, which are opened as a node would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evermesh_event::{NodeName, Origin};
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Journal, Limits, Options};
use evermesh_testkit::app::OriginText as _;
use evermesh_testkit::checker::Remains;
use evermesh_testkit::world::{Seeded, SimClock};

/// What ids of copies are drawn from: nobody ever meets them.
const SEED: u64 = 0x00C0_FFEE;

/// A copy of a disk, as its node would find it; `None` if it would not start.
pub(crate) fn open(disk: MemoryDisk, name: &str, limits: &Limits) -> Option<Journal> {
    let options = Options {
        node: NodeName::new(name).ok()?,
        storage: Arc::new(disk),
        clock: Arc::new(SimClock::new(0)),
        random: Arc::new(Seeded::new(SEED)),
        limits: limits.clone(),
    };
    Journal::open(options).ok().map(|(journal, _)| journal)
}

/// Of each origin that a node ever numbered under: what is left of it on its disk, and who else
/// shows that there was more.
pub(crate) fn remains(
    origins: &BTreeSet<Origin>,
    is: Option<&Journal>,
    others: &[(String, Journal)],
) -> BTreeMap<String, Remains> {
    let of = |origin: &Origin| {
        let through = is.map_or(0, |is| is.frontier().get(origin).as_u64());
        let numbers = is.filter(|is| is.origin() == origin);
        let shows = |other: &Journal| {
            let seen = other.seen_starts().remove(origin);
            if let Some(is) = numbers {
                return seen.is_some_and(|seen| is.disowned(&seen).is_some());
            }
            seen.is_some() || other.frontier().contains(origin)
        };
        let elsewhere = others.iter().map(|(_, other)| other.frontier().get(origin).as_u64());
        let elsewhere = elsewhere.max().unwrap_or_default();
        let witnesses = others.iter().filter(|(_, other)| shows(other));
        let witnesses = witnesses.map(|(host, _)| host.clone()).collect();
        let seen = numbers.and_then(|is| is.seen_starts().remove(origin));
        let starts = seen.into_iter().flatten();
        let starts = starts.map(|seen| (seen.start.to_string(), seen.durable_head.as_u64()));
        let starts = starts.collect();
        (origin.text(), Remains { through, witnesses, elsewhere, starts })
    };
    origins.iter().map(of).collect()
}
