//! Troubles of disks that outlive a start: restored from an older copy, run by turns with that
//! copy, emptied, with bits that flipped; and nodes that come back under another name. They are
//! drawn apart, so that a run without them is what it was before there were any.

use std::time::Duration;

use evermesh_testkit::world::Seeded;

use super::{Draw, Fault, Kind, NewDisk, QUIET_UNTIL};

/// In one run of so many.
const ONE_RUN_IN: u64 = 4;
/// Each with how often it is drawn.
pub(super) const KINDS: [(Kind, u64); 5] =
    [(Kind::Restore, 4), (Kind::Swap, 3), (Kind::Empty, 3), (Kind::Flip, 4), (Kind::Rename, 2)];
/// Sets what is drawn here apart from everything else of a seed.
const APART: u64 = 0x00D1_5C00;

/// The troubles of a run, if it has any.
pub(crate) fn plan(seed: u64, nodes: usize, end: Duration) -> Vec<(Duration, Fault)> {
    let random = Seeded::new(seed ^ APART);
    if !random.once_in(ONE_RUN_IN) {
        return Vec::new();
    }
    let mut draw = Draw { random: &random, nodes, end, plan: Vec::new() };
    for _ in 0..1 + random.below(2) {
        let kind = super::drawn(&random, &KINDS);
        draw.trouble(kind);
        if matches!(kind, Kind::Rename) {
            // Who has another name cannot know that its disk is an old one: nothing else with it.
            break;
        }
    }
    draw.plan
}

/// When something is saved, when its node goes down, has another disk, and comes back.
struct Times {
    saved: Duration,
    down: Duration,
    exchanged: Duration,
    back: Duration,
}

impl Draw<'_> {
    pub(super) fn disk_trouble(&mut self, kind: Kind, node: usize) {
        match kind {
            Kind::Restore => {
                let times = self.exchange(node, Fault::Exchange(node, NewDisk::Saved));
                self.plan.push((times.saved, Fault::Save(node)));
                self.alone(node, &times);
            }
            Kind::Swap => {
                let swap = Fault::Exchange(node, NewDisk::Swapped);
                let times = self.exchange(node, swap.clone());
                let spare = self.random.once_in(3);
                let other = if spare { Fault::Spare(node) } else { Fault::Save(node) };
                self.plan.push((times.saved, other));
                self.alone(node, &times);
                // And the first one again.
                let millis = Duration::from_millis;
                let down = times.back + self.random.between(millis(100), millis(1500));
                if down + millis(100) < self.end {
                    self.plan.push((down, Fault::Kill(node)));
                    self.plan.push((down + millis(50), swap));
                    self.plan.push((down + millis(100), Fault::Start(node)));
                }
            }
            Kind::Empty => {
                let times = self.exchange(node, Fault::Exchange(node, NewDisk::Empty));
                self.alone(node, &times);
            }
            Kind::Flip => {
                let flips = u32::try_from(1 + self.random.below(3)).unwrap_or(1);
                self.exchange(node, Fault::Flip(node, flips));
            }
            Kind::Rename => {
                self.exchange(node, Fault::Rename(node));
            }
            _ => unreachable!("no trouble of a disk: {kind:?}"),
        }
    }

    /// Its node goes down in whatever way, something is done to it, and it comes back.
    fn exchange(&mut self, node: usize, done: Fault) -> Times {
        let millis = Duration::from_millis;
        let saved = self.random.between(QUIET_UNTIL, self.end - millis(2500));
        let down = saved + self.random.between(millis(50), millis(1800));
        let exchanged = down + self.random.between(millis(20), millis(500));
        let longest = if self.random.once_in(2) { millis(40) } else { millis(1500) };
        let back = (exchanged + self.random.between(millis(10), longest)).min(self.end);
        let end = match self.random.below(3) {
            0 => Fault::Kill(node),
            1 => Fault::PowerLoss(node),
            _ => Fault::Stop(node),
        };
        self.plan.extend([(down, end), (exchanged, done), (back, Fault::Start(node))]);
        Times { saved, down, exchanged, back }
    }

    /// Others hear nothing of what comes after the copy; or the node meets nobody for a while when
    /// it is back; or all is as usual.
    fn alone(&mut self, node: usize, times: &Times) {
        let millis = Duration::from_millis;
        let before = times.saved.saturating_sub(millis(20));
        match self.random.below(4) {
            0 => self.isolate(node, before, times.exchanged),
            1 => {
                let met = times.back + self.random.between(millis(200), millis(2000));
                self.isolate(node, times.down, met.min(self.end));
            }
            _ => {}
        }
    }
}
