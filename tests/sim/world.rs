//! One run: nodes, applications and faults; healing; the last words; and the verdict.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use evermesh_event::Planted;
use evermesh_journal::simulated::MemoryDisk;
use evermesh_testkit::app::last_word::{LAST_WORD, last_word};
use evermesh_testkit::app::{OriginText as _, Stage};
use evermesh_testkit::checker::{End, Findings, Line, What, judge, to_json_lines};
use evermesh_testkit::node::{SimNode, Strings};
use evermesh_testkit::standstill::Standstill;
use evermesh_testkit::world::{Seeded, SimClock};
use turmoil::{Builder, Sim};

use crate::cast::{self, SITES, name};
use crate::faults::{Fault, Kind, Machine, plan};
use crate::links::{Links, host};

/// Until then there are faults.
const HEALED: Duration = Duration::from_secs(7);
/// How long a healed mesh may take until everything that is due was heard.
const LIVE_WITHIN: Duration = Duration::from_secs(25);
/// How long it stays quiet, for whoever nobody waits for.
const QUIET: Duration = Duration::from_millis(600);
/// How long fences may take: until every stream that was cut is noticed, then two leases for each
/// site, one after the other, and the calls.
const FENCED_WITHIN: Duration = Duration::from_secs(50);
/// One step of the simulation: coarse, for that is what a run costs.
const TICK: Duration = Duration::from_millis(10);

/// What became of a run.
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) lines: Vec<Line>,
    pub(crate) findings: Findings,
    /// A node did not start, or something else that must never be.
    pub(crate) broken: Vec<String>,
}

impl Outcome {
    /// Stands for everything that was recorded, with its times.
    pub(crate) fn trace(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(to_json_lines(&self.lines).as_bytes());
        hasher.finish()
    }
}

/// A node, as the simulation holds it.
struct Node {
    disk: MemoryDisk,
    clock: SimClock,
    strings: Strings,
    up: bool,
    /// Its disk refuses now.
    refuses: bool,
}

/// One run that is under way.
struct Run<'a> {
    sim: Sim<'a>,
    stage: Stage,
    random: Arc<Seeded>,
    nodes: Vec<Node>,
    /// Machines of applications.
    beside: Vec<Standstill>,
    links: Links,
    /// Lines that were looked at.
    seen: usize,
    /// Subscribers that still must hear each last word, and which of them they heard.
    hears: BTreeMap<u32, BTreeSet<String>>,
    streams: BTreeMap<u32, u32>,
    wants: BTreeMap<u32, usize>,
    broken: Vec<String>,
}

/// Runs a seed, with a fault in every node and one kind of trouble that prevails, if there are.
pub(crate) fn run(seed: u64, planted: Planted, storm: Option<Kind>) -> Outcome {
    let random = Seeded::new(seed);
    let nodes = cast::nodes(&random);
    let mut sim = Builder::new();
    sim.rng_seed(seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(TICK)
        .tcp_capacity(256)
        .max_message_latency(Duration::from_millis(random.one_of(&[5, 20, 60]).unwrap()));
    let mut run = Run {
        sim: sim.build(),
        stage: Stage::default(),
        random: Arc::new(random.branch()),
        nodes: Vec::new(),
        beside: Vec::new(),
        links: Links::default(),
        seen: 0,
        hears: BTreeMap::new(),
        streams: BTreeMap::new(),
        wants: BTreeMap::new(),
        broken: Vec::new(),
    };
    run.cast(&random, nodes, planted);
    run.play(&random, storm);
    let lines = run.stage.recorder().snapshot();
    let findings = judge(&lines);
    Outcome { seed, nodes, lines, findings, broken: run.broken }
}

impl Run<'_> {
    fn cast(&mut self, random: &Seeded, nodes: usize, planted: Planted) {
        let limits = cast::limits(random, planted);
        for node in 0..nodes {
            let peers = (0..nodes).filter(|other| *other != node).map(name).collect();
            let (disk, clock) = (MemoryDisk::new(), cast::clock(random));
            let strings = Strings::default();
            let software = SimNode {
                name: name(node),
                peers,
                disk: disk.clone(),
                clock: clock.clone(),
                random: Arc::new(random.branch()),
                limits: limits.clone(),
                planted,
                strings: strings.clone(),
                recorder: self.stage.recorder().clone(),
            };
            self.sim.host(name(node), move || software.clone().run());
            self.nodes.push(Node { disk, clock, strings, up: true, refuses: false });
        }
        for node in 0..nodes {
            let machine = Standstill::default();
            let applications = cast::applications(random, node, nodes, HEALED);
            let stage = self.stage.clone();
            let beside = machine.clone();
            self.sim.client(host(Machine::Applications(node)), async move {
                for publisher in applications.publishers {
                    tokio::spawn(publisher.run(stage.clone(), beside.clone()));
                }
                for subscriber in applications.subscribers {
                    tokio::spawn(subscriber.run(stage.clone(), beside.clone()));
                }
                tokio::spawn(last_word(name(node), SITES.to_vec(), stage, beside));
                std::future::pending().await
            });
            self.beside.push(machine);
        }
    }

    fn play(&mut self, random: &Seeded, storm: Option<Kind>) {
        let mut faults: VecDeque<_> = plan(random, self.nodes.len(), HEALED, storm).into();
        while self.sim.elapsed() < HEALED {
            while let Some((_, fault)) = faults.pop_front_if(|(at, _)| *at <= self.sim.elapsed()) {
                self.inflict(&fault);
            }
            self.step();
        }
        self.heal();
        let deadline = self.sim.elapsed() + LIVE_WITHIN;
        let live = self.until(deadline, |run| run.stage.published()) && {
            self.stage.close();
            self.until(deadline, Self::all_heard)
        };
        if live {
            let quiet = self.sim.elapsed() + QUIET;
            self.until(quiet, |_| false);
            self.stage.quieten();
            let deadline = self.sim.elapsed() + FENCED_WITHIN;
            if !self.until(deadline, |run| run.stage.fenced()) {
                self.broken.push("fences of the last words were not answered".into());
            }
        }
        self.say(What::Quiet);
    }

    fn say(&self, what: What) {
        self.stage.recorder().say_at(self.sim.elapsed(), what);
    }

    /// Steps on until something is so; false at the deadline.
    fn until(&mut self, deadline: Duration, so: impl Fn(&Self) -> bool) -> bool {
        while !so(self) {
            if self.sim.elapsed() >= deadline {
                return false;
            }
            self.step();
        }
        true
    }

    fn step(&mut self) {
        self.sim.step().unwrap();
        for node in 0..self.nodes.len() {
            let strings = self.nodes[node].strings.clone();
            match (strings.over(), strings.failed()) {
                (false, _) => {}
                (true, Some(why)) => self.failed(node, &why),
                (true, None) if strings.ended() => self.down(node, End::Goodbye),
                (true, None) => self.down(node, End::Killed),
            }
        }
        self.look();
    }

    /// A node ended by itself. Only a disk that refuses may be the reason.
    fn failed(&mut self, node: usize, why: &str) {
        if !self.nodes[node].refuses {
            self.broken.push(format!("{} ended: {why}", name(node)));
        }
        self.down(node, End::DiskFailed);
    }

    /// A node is down. What was written and not synced is in its system's memory, but for a power
    /// loss.
    fn down(&mut self, node: usize, how: End) {
        self.say(What::Stopped { node: name(node), how });
        let held = &mut self.nodes[node];
        held.up = false;
        self.sim.crash(name(node));
        held.strings.down();
        if how == End::PowerLoss {
            held.disk.crash(self.random.as_ref());
        } else {
            held.disk.kill();
        }
    }

    fn up(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].up, true) {
            self.sim.bounce(name(node));
        }
    }

    fn inflict(&mut self, fault: &Fault) {
        self.say(What::Fault { fault: format!("{fault:?}") });
        let up = |run: &Self, node: usize| run.nodes[node].up;
        match *fault {
            Fault::Kill(node) if up(self, node) => self.nodes[node].strings.kill(),
            Fault::PowerLoss(node) if up(self, node) => self.power_loss(node),
            Fault::Kill(_) | Fault::PowerLoss(_) => {}
            Fault::Stop(node) => self.nodes[node].strings.stop(),
            Fault::Start(node) => self.up(node),
            Fault::Stand(machine) => self.machine(machine).begin(),
            Fault::GoOn(machine) => self.machine(machine).end(),
            Fault::Cut(from, to) => self.links.cut(&self.sim, from, to),
            Fault::Mend(from, to) => self.links.mend(&self.sim, from, to),
            Fault::Hold(a, b) => self.links.hold(&self.sim, a, b),
            Fault::Release(a, b) => self.links.release(&self.sim, a, b),
            Fault::RefuseWrites(node, refusal) => {
                self.nodes[node].refuses = true;
                self.nodes[node].disk.refuse_writes(Some(refusal));
            }
            Fault::RefuseSyncs(node, refusal) => {
                self.nodes[node].refuses = true;
                self.nodes[node].disk.refuse_syncs(Some(refusal));
            }
            Fault::Repair(node) => self.repair(node),
            Fault::Fill(node) => self.nodes[node].disk.set_free_bytes(0),
            Fault::Clear(node) => self.nodes[node].disk.set_free_bytes(1 << 40),
            Fault::Slow(node, millis) => self.nodes[node].strings.slow_disk(millis),
            Fault::Jump(node, ahead) => self.nodes[node].clock.jump(ahead),
        }
    }

    fn repair(&mut self, node: usize) {
        self.nodes[node].disk.refuse_writes(None);
        self.nodes[node].disk.refuse_syncs(None);
        self.up(node);
        self.nodes[node].refuses = false;
    }

    /// Nobody hears a last word of it: what it says in going down is lost.
    fn power_loss(&mut self, node: usize) {
        let me = Machine::Node(node);
        let all = (0..self.nodes.len()).flat_map(|n| [Machine::Node(n), Machine::Applications(n)]);
        let others: Vec<_> = all.filter(|other| *other != me).collect();
        for other in &others {
            self.links.cut(&self.sim, me, *other);
            self.links.cut(&self.sim, *other, me);
        }
        self.down(node, End::PowerLoss);
        for other in &others {
            self.links.mend(&self.sim, me, *other);
            self.links.mend(&self.sim, *other, me);
        }
    }

    fn machine(&self, machine: Machine) -> &Standstill {
        match machine {
            Machine::Node(node) => self.nodes[node].strings.machine(),
            Machine::Applications(node) => &self.beside[node],
        }
    }

    fn heal(&mut self) {
        self.links.heal(&self.sim);
        for node in 0..self.nodes.len() {
            self.machine(Machine::Node(node)).end();
            self.machine(Machine::Applications(node)).end();
            self.nodes[node].strings.slow_disk(0);
            self.nodes[node].disk.set_free_bytes(1 << 40);
            self.nodes[node].clock.jump(0);
            self.repair(node);
        }
        self.stage.heal();
        self.say(What::Healed);
    }

    /// Looks at what was recorded in the last step: who heard a last word, and what nodes hold when
    /// somebody was told something about it.
    fn look(&mut self) {
        let lines = self.stage.recorder().since(self.seen, Line::clone);
        self.seen += lines.len();
        let mut holds = false;
        for line in lines {
            match line.what {
                What::Opening { subscription, stream, sites, from, .. } => {
                    self.streams.insert(stream, subscription);
                    let all = if sites.is_empty() { SITES.len() } else { sites.len() };
                    self.wants.insert(subscription, all * self.nodes.len());
                    let _ = from;
                }
                What::Closed { subscription } => {
                    self.wants.remove(&subscription);
                }
                What::Heard { stream, event, .. } if event.id.starts_with(LAST_WORD) => {
                    let subscription = self.streams.get(&stream).copied().unwrap_or_default();
                    self.hears.entry(subscription).or_default().insert(event.id);
                }
                What::Published { members, .. } | What::Fenced { members, .. } => {
                    holds |= !members.is_empty();
                }
                What::Missed { scope, .. } => holds |= scope.origin.is_some(),
                _ => {}
            }
        }
        if holds {
            self.record_holdings();
        }
    }

    fn record_holdings(&self) {
        for (node, held) in self.nodes.iter().enumerate().filter(|(_, held)| held.up) {
            let Some(journal) = held.strings.journal() else { continue };
            let durable = journal.durable_frontier();
            for (origin, holding) in journal.holdings() {
                self.say(What::Holds {
                    node: name(node),
                    origin: origin.text(),
                    base: holding.base.as_u64(),
                    through: holding.through.as_u64(),
                    durable: durable.get(&origin).as_u64(),
                });
            }
        }
    }

    /// Every subscriber that is there heard every last word that it wants.
    fn all_heard(&self) -> bool {
        self.wants.iter().all(|(subscription, wants)| {
            self.hears.get(subscription).is_some_and(|heard| heard.len() >= *wants)
        })
    }
}
