//! The links between machines. Troubles overlap: a link is whole again once the last of them is
//! over.

use std::collections::BTreeMap;

use turmoil::Sim;

use crate::faults::Machine;

/// What is wrong with one direction of a link, how many times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wrong {
    cut: u32,
    held: u32,
}

/// All links that are not whole.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<(Machine, Machine), Wrong>);

pub(crate) fn host(machine: Machine) -> String {
    match machine {
        Machine::Node(node) => crate::cast::name(node),
        Machine::Applications(node) => format!("apps-{}", node + 1),
    }
}

impl Links {
    pub(crate) fn cut(&mut self, sim: &Sim<'_>, from: Machine, to: Machine) {
        self.change(sim, from, to, |links| links.entry(from, to).cut += 1);
    }

    pub(crate) fn mend(&mut self, sim: &Sim<'_>, from: Machine, to: Machine) {
        self.change(sim, from, to, |links| {
            let wrong = links.entry(from, to);
            wrong.cut = wrong.cut.saturating_sub(1);
        });
    }

    pub(crate) fn hold(&mut self, sim: &Sim<'_>, a: Machine, b: Machine) {
        self.change(sim, a, b, |links| {
            links.entry(a, b).held += 1;
        });
    }

    pub(crate) fn release(&mut self, sim: &Sim<'_>, a: Machine, b: Machine) {
        self.change(sim, a, b, |links| {
            let wrong = links.entry(a, b);
            wrong.held = wrong.held.saturating_sub(1);
        });
    }

    /// Everything is whole.
    pub(crate) fn heal(&mut self, sim: &Sim<'_>) {
        for (a, b) in self.0.keys().copied().collect::<Vec<_>>() {
            self.change(sim, a, b, |links| *links.entry(a, b) = Wrong::default());
        }
    }

    fn entry(&mut self, from: Machine, to: Machine) -> &mut Wrong {
        self.0.entry((from, to)).or_default()
    }

    fn look(&self, a: Machine, b: Machine) -> (bool, bool, bool) {
        let [ab, ba] = [(a, b), (b, a)].map(|way| self.0.get(&way).copied().unwrap_or_default());
        (ab.cut > 0, ba.cut > 0, ab.held + ba.held > 0)
    }

    /// A link that is cut in any way holds nothing: the simulated network cannot do both.
    fn change(&mut self, sim: &Sim<'_>, a: Machine, b: Machine, change: impl FnOnce(&mut Self)) {
        let before = self.look(a, b);
        change(self);
        let after = self.look(a, b);
        if before == after {
            return;
        }
        let (from, to) = (host(a), host(b));
        sim.release(from.clone(), to.clone());
        match after {
            (false, false, false) => {}
            (false, false, true) => sim.hold(from, to),
            (there, back, _) => {
                if there {
                    sim.partition_oneway(from.clone(), to.clone());
                }
                if back {
                    sim.partition_oneway(to, from);
                }
            }
        }
    }
}
