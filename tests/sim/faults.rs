//! What is done to the nodes, and when: drawn from the seed before anything runs.

use std::time::Duration;

use evermesh_testkit::world::Seeded;

/// One fault at a time of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power of a node goes: what was not synced is lost, kept or torn.
    Crash(usize),
    /// It comes back.
    Start(usize),
    /// Two nodes no longer reach each other.
    Partition(usize, usize),
    /// They do again.
    Repair(usize, usize),
}

/// The faults of a run, in order of their times.
pub(crate) fn plan(random: &Seeded, nodes: usize) -> Vec<(Duration, Fault)> {
    let seconds = Duration::from_secs;
    let node = || usize::try_from(random.below(nodes as u64)).unwrap();
    let crashed = node();
    let crash = random.between(seconds(1), seconds(6));
    let start = crash + random.between(Duration::from_millis(50), seconds(4));
    let (a, b) = (node(), random.below(nodes as u64 - 1));
    let b = (a + 1 + usize::try_from(b).unwrap()) % nodes;
    let partition = random.between(seconds(1), seconds(6));
    let repair = partition + random.between(Duration::from_millis(50), seconds(5));
    let mut plan = vec![
        (crash, Fault::Crash(crashed)),
        (start, Fault::Start(crashed)),
        (partition, Fault::Partition(a, b)),
        (repair, Fault::Repair(a, b)),
    ];
    plan.sort_by_key(|(at, _)| *at);
    plan
}
