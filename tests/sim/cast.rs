//! Who takes part: nodes, and beside each its applications, drawn from the seed.

use std::collections::BTreeSet;
use std::time::Duration;

use evermesh_event::Planted;
use evermesh_journal::Limits;
use evermesh_testkit::app::publisher::Publisher;
use evermesh_testkit::app::subscriber::{Place, Subscriber};
use evermesh_testkit::world::{Seeded, SimClock};

/// The sites of every run.
pub(crate) const SITES: [&str; 2] = ["shop", "blog"];
/// Clocks are wrong by at most so many parts in a million: far more than crystals are, far less
/// than the margin of leases allows.
const FAST_MAX: u64 = 20_000;

/// In one run of so many there are nodes without a disk.
const IN_MEMORY_ONE_RUN_IN: u64 = 4;
/// Sets what is drawn of them apart from everything else of a seed.
const IN_MEMORY_APART: u64 = 0x00FE_E717;

/// The applications beside one node.
pub(crate) struct Applications {
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
}

pub(crate) fn name(node: usize) -> String {
    format!("web-{}", node + 1)
}

/// How many nodes: mostly three.
pub(crate) fn nodes(random: &Seeded) -> usize {
    random.one_of(&[3, 3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 7]).unwrap()
}

/// Which nodes keep no disk: one or two, or none. A run without them is what it was before there
/// were any; planted faults are looked for on disks.
pub(crate) fn in_memory(seed: u64, nodes: usize, planted: Planted) -> BTreeSet<usize> {
    let random = Seeded::new(seed ^ IN_MEMORY_APART);
    let always = std::env::var_os("EVERMESH_SIM_MEMORY").is_some();
    let drawn = random.once_in(IN_MEMORY_ONE_RUN_IN) || always;
    if planted != Planted::Nothing || !drawn {
        return BTreeSet::new();
    }
    (0..1 + random.below(2)).map(|_| random.place(nodes)).collect()
}

/// Small, so that segments roll and readers fall behind memory within a run. In one run of three so
/// small that coalescing and retention have to make room. Where it is `crowded` there is room for
/// what comes in a few seconds, and coalescing goes on all the time.
pub(crate) fn limits(random: &Seeded, planted: Planted, crowded: bool) -> Limits {
    let tight = random.once_in(3) || planted == Planted::PassRejected;
    // A publish of one record asks for room of 33 KiB: a segment is not less.
    let segment_bytes = 36 * 1024;
    if crowded {
        let segments = random.one_of(&[7, 8, 10]).unwrap();
        let max_bytes = segments * segment_bytes;
        return Limits { max_bytes, ..limits(random, planted, false) };
    }
    Limits {
        segment_bytes,
        tail_bytes: 4 * 1024,
        unwritten_bytes_max: 1024 * 1024,
        max_bytes: if tight { 6 * segment_bytes } else { 64 * 1024 * 1024 },
        reserve_bytes: 2 * segment_bytes,
        keep_at_least: Duration::from_millis(if tight { 1000 } else { 600_000 }),
        max_age: Duration::from_secs(if tight { 4 } else { 86_400 }),
    }
}

pub(crate) fn clock(random: &Seeded) -> SimClock {
    let fast = i64::try_from(random.below(2 * FAST_MAX + 1)).unwrap();
    SimClock::new(fast - i64::try_from(FAST_MAX).unwrap())
}

/// The applications beside a node.
pub(crate) fn applications(
    random: &Seeded,
    node: usize,
    nodes: usize,
    until: Duration,
    passing: &[usize],
    crowded: bool,
) -> Applications {
    let publishers = if node == 0 { 1 + random.below(2) } else { random.below(2) };
    let subscribers = if nodes > 4 { 1 } else { 1 + random.below(2) };
    Applications {
        publishers: (0..publishers)
            .map(|n| publisher(random, node, n, until))
            .map(|publisher| if crowded { crowds(publisher) } else { publisher })
            .collect(),
        subscribers: (0..subscribers)
            .map(|n| subscriber(random, node, n, nodes))
            .map(|subscriber| stays(subscriber, node, nodes, passing))
            .collect(),
    }
}

fn publisher(random: &Seeded, node: usize, number: u64, until: Duration) -> Publisher {
    Publisher {
        name: format!("editor-{}-{number}", node + 1),
        host: name(node),
        sites: SITES.to_vec(),
        streams: random.once_in(3),
        pause: random.one_of(&[60, 150, 400]).unwrap(),
        until,
        crowds: false,
        in_memory: false,
        random: random.branch(),
    }
}

/// It fills a segment in a moment.
fn crowds(mut publisher: Publisher) -> Publisher {
    (publisher.pause, publisher.crowds) = (60, true);
    publisher
}

/// Nobody roams from or to a node that may be gone.
fn stays(mut is: Subscriber, node: usize, nodes: usize, passing: &[usize]) -> Subscriber {
    if passing.contains(&node) || passing.contains(&((node + 1) % nodes)) {
        is.hosts.truncate(1);
    }
    is
}

fn subscriber(random: &Seeded, node: usize, number: u64, nodes: usize) -> Subscriber {
    let place = match random.below(4) {
        0 => Place::Beginning,
        1 => Place::Name(format!("cache-{number}")),
        _ => Place::Live,
    };
    let named = matches!(place, Place::Name(_));
    let forgetful = place == Place::Live && random.once_in(3);
    let mut hosts = vec![name(node)];
    if !named && random.once_in(5) {
        hosts.push(name((node + 1) % nodes));
    }
    let sites = match random.below(4) {
        0 => vec![SITES[0]],
        1 => Vec::new(),
        _ => SITES.to_vec(),
    };
    let exclude = random.once_in(4);
    let rejects = if random.once_in(5) { (7, random.one_of(&[1, 2, 5]).unwrap()) } else { (0, 0) };
    Subscriber {
        hosts,
        sites,
        exclude_sources: if exclude { vec![format!("editor-{}-0", node + 1)] } else { Vec::new() },
        place,
        // One at a time is too slow for what a large mesh publishes.
        window: random.one_of(&[if nodes > 3 { 4 } else { 1 }, 4, 16, 64]).unwrap(),
        leased: named || !random.once_in(4),
        slow: random.one_of(&[0, 0, 20, 200]).unwrap(),
        rejects,
        restless: random.one_of(&[0, 0, 1500, 4000]).unwrap(),
        forgetful,
        clock: clock(random),
        random: random.branch(),
    }
}
