//! Members that come and go: nodes that join and know one address only, that leave in order or
//! by force, that never come back and are forgotten, or come back after they were. Drawn apart,
//! so that a run without them is what it was before there were any.

use std::time::Duration;

use evermesh_testkit::world::Seeded;

use super::{Fault, QUIET_UNTIL};

/// In one run of so many.
const ONE_RUN_IN: u64 = 4;
/// Sets what is drawn here apart from everything else of a seed.
const APART: u64 = 0x00A1_1CE5;

/// Who comes and goes in a run.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The nodes whose applications end with them, or come with them.
    pub(crate) passing: Vec<usize>,
    /// What happens.
    pub(crate) plan: Vec<(Duration, Fault)>,
}

/// What becomes of the members of a run: one joins, one of the first ones goes, or both.
pub(crate) fn draw(seed: u64, nodes: usize, end: Duration) -> Members {
    let random = Seeded::new(seed ^ APART);
    let mut members = Members::default();
    if !random.once_in(ONE_RUN_IN) {
        return members;
    }
    let millis = Duration::from_millis;
    let at = random.between(QUIET_UNTIL, end - millis(3000));
    let goes = random.below(5);
    if goes != 0 {
        // The first node is known to whoever joins, and its publishers publish to the end.
        let node = 1 + random.place(nodes - 1);
        members.goes(&random, node, at);
    }
    if goes == 0 || random.once_in(2) {
        let at = random.between(QUIET_UNTIL, end - millis(1500));
        members.passing.push(nodes);
        members.plan.push((at, Fault::Join(nodes)));
        if random.once_in(2) {
            let gone = at + random.between(millis(800), millis(4000));
            members.goes(&random, nodes, gone);
        }
    }
    members.plan.retain(|(at, fault)| *at < end || matches!(fault, Fault::Forget(_)));
    // Who died is forgotten before all is well again; who did not, is no longer waited to be gone.
    members.plan.iter_mut().for_each(|(at, _)| *at = (*at).min(end - millis(10)));
    members
}

impl Members {
    fn goes(&mut self, random: &Seeded, node: usize, at: Duration) {
        let millis = Duration::from_millis;
        match random.below(6) {
            // It comes back, and joins anew.
            0 => {
                let back = at + random.between(millis(1500), millis(4000));
                self.plan.push((at, Fault::Kill(node)));
                self.plan.push((at + millis(300), Fault::Forget(node)));
                self.plan.push((back, Fault::Start(node)));
                return;
            }
            1 => {
                self.plan.push((at, Fault::Die(node)));
                self.plan
                    .push((at + random.between(millis(10), millis(2000)), Fault::Forget(node)));
            }
            2 => self.plan.push((at, Fault::Leave(node, true))),
            _ => self.plan.push((at, Fault::Leave(node, false))),
        }
        if !self.passing.contains(&node) {
            self.passing.push(node);
        }
    }
}
