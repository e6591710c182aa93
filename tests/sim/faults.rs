//! What is done to the mesh, and when: drawn from the seed before anything runs.
//!
//! A kind of trouble is one line in [`KINDS`] and one arm in [`Draw::trouble`]: what begins, and
//! what ends it. What a fault does stands in `world.rs`, in `inflict`.

mod disks;
pub(crate) mod members;

use std::time::Duration;

use evermesh_journal::simulated::Refusal;
use evermesh_testkit::world::Seeded;

/// No fault begins before: the mesh has met.
const QUIET_UNTIL: Duration = Duration::from_millis(600);
/// The longest trouble.
const LONGEST: Duration = Duration::from_millis(3500);

/// A machine: a node, or the applications beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Machine {
    Node(usize),
    Applications(usize),
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node's process is gone.
    Kill(usize),
    /// Its power is: what was not synced is lost, kept or torn, and nobody hears a last word.
    PowerLoss(usize),
    /// It is told to end, and does so in order.
    Stop(usize),
    /// It comes back.
    Start(usize),
    /// A machine stands still: it reads and writes nothing.
    Stand(Machine),
    /// It goes on.
    GoOn(Machine),
    /// Nothing that the first sends reaches the second, and what is on its way is lost.
    Cut(Machine, Machine),
    /// It does again.
    Mend(Machine, Machine),
    /// Nothing arrives between two, until everything arrives late.
    Hold(Machine, Machine),
    /// It arrives.
    Release(Machine, Machine),
    /// A disk refuses to write.
    RefuseWrites(usize, Refusal),
    /// A disk refuses to sync.
    RefuseSyncs(usize, Refusal),
    /// It works again; a node that ended for it comes back.
    Repair(usize),
    /// A disk has no space left.
    Fill(usize),
    /// It has.
    Clear(usize),
    /// A disk takes so many milliseconds for each group.
    Slow(usize, u64),
    /// A node's wall clock is so many seconds ahead.
    Jump(usize, i64),
    /// A copy of a node's disk is kept.
    Save(usize),
    /// An empty disk is kept for it.
    Spare(usize),
    /// A node that is down gets another disk.
    Exchange(usize, NewDisk),
    /// So many bits of the disk of a node that is down flip.
    Flip(usize, u32),
    /// A node that is down gets another name.
    Rename(usize),
    /// A node begins, which knows the address of the first one only.
    Join(usize),
    /// A node leaves for good, once all hold what it published; or by force.
    Leave(usize, bool),
    /// A node never comes back, nor its disk.
    Die(usize),
    /// The mesh forgets a node, as soon as nobody hears it.
    Forget(usize),
}

/// Which disk a node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewDisk {
    /// The copy that was kept.
    Saved,
    /// That copy; and what is taken out is the copy from now on.
    Swapped,
    /// One on which nothing is.
    Empty,
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Kill,
    PowerLoss,
    Stop,
    Stand,
    Cut,
    CutOneWay,
    Isolate,
    Hold,
    Refuse,
    Fill,
    Slow,
    Jump,
    /// A node's process is gone for a moment, and another one does not reach it when it is back.
    Flicker,
    /// A node's disk is slow, and then its power goes: much that was seen is lost.
    SlowPowerLoss,
    /// The same, while a third node is down: that hears of the lost end from others only.
    LostEnd,
    /// A node stands still, and is cut off while it does: what it reads when it goes on is old.
    StandAlone,
    /// A node's disk is put back as it was some time ago.
    Restore,
    /// The same, or an empty one, and then the other one again: two that are one node, by turns.
    Swap,
    /// A node's disk is lost.
    Empty,
    /// Bits flip.
    Flip,
    /// A node comes back under another name.
    Rename,
}

impl Kind {
    /// The kind with this name.
    pub(crate) fn named(name: &str) -> Self {
        let all = KINDS.iter().chain(&disks::KINDS).map(|(kind, _)| *kind);
        let mut named = all.filter(|kind| format!("{kind:?}") == name);
        named.next().expect("a kind of trouble")
    }
}

/// Each with how often it is drawn.
const KINDS: [(Kind, u64); 16] = [
    (Kind::Kill, 3),
    (Kind::PowerLoss, 4),
    (Kind::Stop, 2),
    (Kind::Stand, 3),
    (Kind::Cut, 3),
    (Kind::CutOneWay, 2),
    (Kind::Isolate, 2),
    (Kind::Hold, 3),
    (Kind::Refuse, 2),
    (Kind::Fill, 1),
    (Kind::Slow, 3),
    (Kind::Jump, 1),
    (Kind::Flicker, 2),
    (Kind::SlowPowerLoss, 2),
    (Kind::StandAlone, 3),
    (Kind::LostEnd, 0),
];

/// The faults of a run, in order of their times; all of them are over at its end. Now and then one
/// kind of trouble comes again and again, or always `storm`. What befalls disks is drawn apart.
pub(crate) fn plan(
    seed: u64,
    random: &Seeded,
    nodes: usize,
    end: Duration,
    storm: Option<Kind>,
) -> Vec<(Duration, Fault)> {
    let mut draw = Draw { random, nodes, end, plan: Vec::new() };
    let drawn = draw.kind();
    let storm = storm.or_else(|| random.once_in(4).then_some(drawn));
    for _ in 0..2 + random.below(6) {
        let drawn = draw.kind();
        draw.trouble(storm.filter(|_| !random.once_in(4)).unwrap_or(drawn));
    }
    draw.plan.extend(disks::plan(seed, nodes, end));
    draw.plan.sort_by_key(|(at, _)| *at);
    draw.plan
}

fn drawn(random: &Seeded, kinds: &[(Kind, u64)]) -> Kind {
    let all = kinds.iter().map(|(_, weight)| weight).sum();
    let mut drawn = random.below(all);
    let kind = kinds.iter().find(|(_, weight)| {
        let found = drawn < *weight;
        drawn = drawn.wrapping_sub(*weight);
        found
    });
    kind.unwrap().0
}

struct Draw<'a> {
    random: &'a Seeded,
    nodes: usize,
    end: Duration,
    plan: Vec<(Duration, Fault)>,
}

impl Draw<'_> {
    fn kind(&self) -> Kind {
        drawn(self.random, &KINDS)
    }

    fn trouble(&mut self, kind: Kind) {
        let node = self.node();
        let (a, b) = self.pair();
        match kind {
            Kind::Kill => self.between(Fault::Kill(node), Fault::Start(node)),
            Kind::PowerLoss => self.between(Fault::PowerLoss(node), Fault::Start(node)),
            Kind::Stop => self.between(Fault::Stop(node), Fault::Start(node)),
            Kind::Stand => {
                let machine = self.machine();
                self.between(Fault::Stand(machine), Fault::GoOn(machine));
            }
            Kind::Cut => {
                let begun = self.plan.len();
                self.between(Fault::Cut(a, b), Fault::Mend(a, b));
                self.both_ways(begun);
            }
            Kind::CutOneWay => self.between(Fault::Cut(a, b), Fault::Mend(a, b)),
            Kind::Isolate => {
                let (from, until) = self.times();
                self.isolate(node, from, until);
            }
            Kind::StandAlone => self.stand_alone(node),
            Kind::Flicker => self.flicker(node),
            Kind::SlowPowerLoss => self.slow_power_loss(node),
            Kind::LostEnd => self.lost_end(node),
            Kind::Hold => self.between(Fault::Hold(a, b), Fault::Release(a, b)),
            Kind::Refuse => {
                let refusal = self.random.one_of(&[Refusal::Failed, Refusal::NoSpace]).unwrap();
                let fault = if self.random.once_in(2) {
                    Fault::RefuseWrites(node, refusal)
                } else {
                    Fault::RefuseSyncs(node, refusal)
                };
                self.between(fault, Fault::Repair(node));
            }
            Kind::Fill => self.between(Fault::Fill(node), Fault::Clear(node)),
            Kind::Slow => {
                let millis = 10 + self.random.below(290);
                self.between(Fault::Slow(node, millis), Fault::Slow(node, 0));
            }
            Kind::Jump => {
                let by = self.random.one_of(&[-315_360_000, -3600, -1, 3600, 315_360_000]).unwrap();
                self.between(Fault::Jump(node, by), Fault::Jump(node, 0));
            }
            Kind::Restore | Kind::Swap | Kind::Empty | Kind::Flip | Kind::Rename => {
                self.disk_trouble(kind, node);
            }
        }
    }

    /// Something begins, and something ends it.
    fn between(&mut self, begin: Fault, end: Fault) {
        let (from, until) = self.times();
        self.plan.push((from, begin));
        self.plan.push((until, end));
    }

    /// When something begins, and when it ends.
    fn times(&self) -> (Duration, Duration) {
        let at = self.random.between(QUIET_UNTIL, self.end - Duration::from_millis(200));
        let short = self.random.once_in(3);
        let longest = if short { Duration::from_millis(400) } else { LONGEST };
        let until = at + self.random.between(Duration::from_millis(30), longest);
        (at, until.min(self.end))
    }

    /// What was planned since is done the other way round as well.
    fn both_ways(&mut self, begun: usize) {
        let back: Vec<_> = self.plan[begun..]
            .iter()
            .filter_map(|(at, fault)| match fault {
                Fault::Cut(a, b) => Some((*at, Fault::Cut(*b, *a))),
                Fault::Mend(a, b) => Some((*at, Fault::Mend(*b, *a))),
                _ => None,
            })
            .collect();
        self.plan.extend(back);
    }

    /// A node, or one with its applications, is cut off from all others.
    fn isolate(&mut self, node: usize, from: Duration, until: Duration) {
        let begun = self.plan.len();
        let me = Machine::Node(node);
        let others = (0..self.nodes).filter(|other| *other != node).map(Machine::Node);
        let mut others: Vec<_> = others.collect();
        if self.random.once_in(2) {
            others.push(Machine::Applications(node));
        }
        for other in others {
            self.plan.push((from, Fault::Cut(me, other)));
            self.plan.push((until, Fault::Mend(me, other)));
        }
        self.both_ways(begun);
    }

    /// It stands still for most of a lease, and is cut off until that is long over.
    fn stand_alone(&mut self, node: usize) {
        let (from, _) = self.times();
        let millis = Duration::from_millis;
        let on = from + self.random.between(millis(600), millis(980));
        self.plan.push((from, Fault::Stand(Machine::Node(node))));
        self.plan.push((on.min(self.end), Fault::GoOn(Machine::Node(node))));
        let cut = from + self.random.between(millis(20), millis(80));
        let mended = on + self.random.between(millis(500), millis(2000));
        if mended < self.end {
            self.isolate(node, cut, mended);
        }
    }

    /// Who trusted the former start may still do so when the next one answers its first fence.
    fn flicker(&mut self, node: usize) {
        let (from, _) = self.times();
        let millis = Duration::from_millis;
        let back = from + self.random.between(millis(20), millis(250));
        self.plan.push((from, Fault::Kill(node)));
        self.plan.push((back.min(self.end), Fault::Start(node)));
        let (me, beside) = (Machine::Node(node), Machine::Applications(node));
        let other = (node + 1 + self.random.place(self.nodes - 1)) % self.nodes;
        let other = if self.random.once_in(2) { Machine::Node(other) } else { beside };
        let until = (back + self.random.between(millis(200), millis(1500))).min(self.end);
        for (a, b) in [(me, other), (other, me)] {
            self.plan.push((from, Fault::Cut(a, b)));
            self.plan.push((until, Fault::Mend(a, b)));
        }
    }

    fn slow_power_loss(&mut self, node: usize) {
        let (from, until) = self.times();
        let millis = Duration::from_millis;
        let back = (until + self.random.between(millis(50), millis(1500))).min(self.end);
        self.plan.push((from, Fault::Slow(node, 100 + self.random.below(1900))));
        self.plan.push((until, Fault::PowerLoss(node)));
        self.plan.push((back, Fault::Slow(node, 0)));
        self.plan.push((back, Fault::Start(node)));
    }

    /// Who was down has not heard what was stored before, nor meets its origin for a while.
    fn lost_end(&mut self, node: usize) {
        let begun = self.plan.len();
        self.slow_power_loss(node);
        let at = |fault: &Fault| {
            let mut planned = self.plan[begun..].iter();
            planned.find(|(_, planned)| planned == fault).map(|(at, _)| *at)
        };
        let (slow, back) = (self.plan[begun].0, at(&Fault::Start(node)).unwrap());
        let lost = at(&Fault::PowerLoss(node)).unwrap();
        let millis = Duration::from_millis;
        let other = (node + 1 + self.random.place(self.nodes - 1)) % self.nodes;
        let down = slow.saturating_sub(self.random.between(millis(50), millis(400)));
        let up = (back + self.random.between(millis(50), millis(400))).min(self.end);
        self.plan.push((down, Fault::Kill(other)));
        self.plan.push((up, Fault::Start(other)));
        let met = (up + self.random.between(millis(800), millis(2500))).min(self.end);
        let (a, b) = (Machine::Node(node), Machine::Node(other));
        for (a, b) in [(a, b), (b, a)] {
            self.plan.push((lost, Fault::Cut(a, b)));
            self.plan.push((met, Fault::Mend(a, b)));
        }
    }

    fn node(&self) -> usize {
        self.random.place(self.nodes)
    }

    fn machine(&self) -> Machine {
        let node = self.node();
        if self.random.once_in(4) { Machine::Applications(node) } else { Machine::Node(node) }
    }

    /// Two machines that speak with each other: mostly two nodes.
    fn pair(&self) -> (Machine, Machine) {
        let node = self.node();
        let other = (node + 1 + self.random.place(self.nodes - 1)) % self.nodes;
        let (a, b) = (Machine::Node(node), Machine::Node(other));
        let applications = Machine::Applications(node);
        match self.random.below(6) {
            0 => (a, applications),
            1 => (applications, a),
            _ => (a, b),
        }
    }
}
