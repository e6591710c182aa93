//! One run: nodes, applications and faults; healing; the last words; and the verdict.

mod passing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use evermesh_event::{NodeName, Origin, Planted};
use evermesh_journal::Limits;
use evermesh_journal::simulated::{Flipped, MemoryDisk};
use evermesh_peer::PeerStatus;
use evermesh_testkit::app::last_word::{LAST_WORD, last_word};
use evermesh_testkit::app::{OriginText as _, Stage};
use evermesh_testkit::checker::{
    End, Exchange, Findings, Line, Number, Sure, What, judge, to_json_lines,
};
use evermesh_testkit::net::{Hosts, PORT};
use evermesh_testkit::node::{SimNode, Strings};
use evermesh_testkit::standstill::Standstill;
use evermesh_testkit::world::{self, Seeded, SimClock};
use turmoil::{Builder, Sim};

use crate::cast::{self, SITES, name};
use crate::evidence;
use crate::faults::members::{self, Members};
use crate::faults::{Fault, Kind, Machine, NewDisk, plan};
use crate::links::{Links, host};

/// Until then there are faults.
const HEALED: Duration = Duration::from_secs(7);
/// How long a healed mesh may take until everything that is due was heard.
const LIVE_WITHIN: Duration = Duration::from_secs(25);
/// How long it may take until somebody knows that a node left.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
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
    /// Nothing is ever on it if the node keeps everything in memory.
    disk: MemoryDisk,
    in_memory: bool,
    clock: SimClock,
    strings: Strings,
    up: bool,
    /// Its disk refuses now.
    refuses: bool,
    /// A copy of its disk.
    saved: Option<MemoryDisk>,
    /// It had another disk than it wrote, once.
    exchanged: bool,
    /// Under which origins it numbered.
    origins: BTreeSet<Origin>,
    /// It never comes back.
    gone: bool,
    /// It was told to end; and, before it had, to begin.
    stops: bool,
    begins: bool,
}

/// One run that is under way.
struct Run<'a> {
    sim: Sim<'a>,
    stage: Stage,
    random: Arc<Seeded>,
    nodes: Vec<Node>,
    /// Under which names they run.
    hosts: Hosts,
    limits: Limits,
    /// Journals have little room, and much comes.
    crowded: bool,
    /// Machines of applications.
    beside: Vec<Standstill>,
    links: Links,
    /// Lines that were looked at.
    seen: usize,
    /// Subscribers that still must hear each last word, and which of them they heard.
    hears: BTreeMap<u32, BTreeSet<String>>,
    streams: BTreeMap<u32, u32>,
    /// Where each subscriber is, and which sites it wants.
    wants: BTreeMap<u32, (String, Vec<String>)>,
    members: Members,
    /// The nodes that keep no disk.
    in_memory: BTreeSet<usize>,
    planted: Planted,
    /// Whom the mesh is to forget.
    forget: BTreeSet<String>,
    /// Until when somebody must know that a node left.
    departed: BTreeMap<String, Duration>,
    broken: Vec<String>,
}

/// Everything that is beside one node.
async fn play_applications(
    applications: cast::Applications,
    node: usize,
    least: Sure,
    stage: Stage,
    beside: Standstill,
) -> turmoil::Result {
    for publisher in applications.publishers {
        tokio::spawn(publisher.run(stage.clone(), beside.clone()));
    }
    for subscriber in applications.subscribers {
        tokio::spawn(subscriber.run(stage.clone(), beside.clone()));
    }
    tokio::spawn(last_word(name(node), least, SITES.to_vec(), stage, beside));
    std::future::pending().await
}

/// Runs a seed, with a fault in every node and one kind of trouble that prevails, if there are.
pub(crate) fn run(seed: u64, planted: Planted, storm: Option<Kind>) -> Outcome {
    world::begin();
    let random = Seeded::new(seed);
    let nodes = cast::nodes(&random);
    let crowded = matches!(storm, Some(Kind::LostEnd));
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
        hosts: Hosts::default(),
        limits: cast::limits(&random, planted, crowded),
        crowded,
        beside: Vec::new(),
        links: Links::default(),
        seen: 0,
        hears: BTreeMap::new(),
        streams: BTreeMap::new(),
        wants: BTreeMap::new(),
        members: members::draw(seed, nodes, HEALED),
        in_memory: cast::in_memory(seed, nodes, planted),
        planted,
        forget: BTreeSet::new(),
        departed: BTreeMap::new(),
        broken: Vec::new(),
    };
    run.cast(&random, nodes);
    run.play(seed, &random, storm);
    let lines = run.stage.recorder().snapshot();
    let findings = judge(&lines);
    Outcome { seed, nodes, lines, findings, broken: run.broken }
}

impl Run<'_> {
    fn cast(&mut self, random: &Seeded, nodes: usize) {
        for node in 0..nodes {
            let peers = (0..nodes).filter(|other| *other != node).map(name).collect();
            self.node(random, node, peers);
        }
        for node in 0..nodes {
            self.applications(random, node, nodes);
        }
    }

    fn node(&mut self, random: &Seeded, node: usize, peers: Vec<String>) {
        let (disk, clock) = (MemoryDisk::new(), cast::clock(random));
        let in_memory = self.in_memory.contains(&node);
        let strings = Strings::default();
        let software = SimNode {
            host: name(node),
            peers,
            hosts: self.hosts.clone(),
            disk: Some(disk.clone()).filter(|_| !in_memory),
            clock: clock.clone(),
            random: Arc::new(random.branch()),
            limits: self.limits.clone(),
            planted: self.planted,
            strings: strings.clone(),
            recorder: self.stage.recorder().clone(),
        };
        self.sim.host(name(node), move || software.clone().run());
        self.nodes.push(Node {
            disk,
            in_memory,
            clock,
            strings,
            up: true,
            refuses: false,
            saved: None,
            exchanged: false,
            origins: BTreeSet::new(),
            gone: false,
            stops: false,
            begins: false,
        });
    }

    fn applications(&mut self, random: &Seeded, node: usize, nodes: usize) {
        let machine = Standstill::default();
        let passing = &self.members.passing;
        let mut applications =
            cast::applications(random, node, nodes, HEALED, passing, self.crowded);
        let in_memory = self.in_memory.contains(&node);
        applications.publishers.iter_mut().for_each(|publisher| publisher.in_memory = in_memory);
        let least = if in_memory { Sure::Accepted } else { Sure::Stored };
        let (stage, beside) = (self.stage.clone(), machine.clone());
        let run = play_applications(applications, node, least, stage, beside);
        let host = host(Machine::Applications(node));
        if passing.contains(&node) {
            // Only a host can be ended. Its applications begin once.
            let run = std::cell::RefCell::new(Some(run));
            self.sim.host(host, move || {
                let run = run.borrow_mut().take();
                async move { run.expect("they begin once").await }
            });
        } else {
            self.sim.client(host, run);
        }
        self.beside.push(machine);
    }

    fn play(&mut self, seed: u64, random: &Seeded, storm: Option<Kind>) {
        let mut faults = plan(seed, random, self.nodes.len(), HEALED, storm);
        faults.append(&mut self.members.plan);
        faults.sort_by_key(|(at, _)| *at);
        let mut faults = VecDeque::from(faults);
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
            self.until(deadline, |run| run.all_heard() && run.all_settled())
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
        self.unnoticed();
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
            if let Some(journal) = strings.journal() {
                self.nodes[node].origins.insert(journal.origin().clone());
            }
            match (strings.over(), strings.failed()) {
                (false, _) => {}
                (true, _) if strings.left() => self.left(node),
                (true, _) if strings.renewed() => self.renewed(node),
                (true, Some(why)) => self.failed(node, &why),
                (true, None) if strings.ended() => self.ended(node),
                (true, None) => self.down(node, End::Killed),
            }
        }
        self.forget();
        self.look();
    }

    /// It ended in order.
    fn ended(&mut self, node: usize) {
        self.last_of_memory(node);
        let begins = self.nodes[node].begins;
        self.down(node, End::Goodbye);
        if begins {
            self.up(node);
        }
    }

    /// A node ended by itself. Only a disk that refuses may be the reason.
    fn failed(&mut self, node: usize, why: &str) {
        if !self.nodes[node].refuses {
            self.broken.push(format!("{} ended: {why}", name(node)));
        }
        let begins = self.nodes[node].begins;
        self.down(node, End::DiskFailed);
        if begins {
            self.up(node);
        }
    }

    /// A node ended because others know more of its journal than it does, and begins anew.
    fn renewed(&mut self, node: usize) {
        if !self.nodes[node].exchanged {
            self.broken.push(format!("{} takes its own disk for a copy", name(node)));
        }
        self.down(node, End::Renewed);
        self.up(node);
    }

    /// A node is down. What was written and not synced is in its system's memory, but for a power
    /// loss.
    fn down(&mut self, node: usize, how: End) {
        self.say(What::Stopped { node: name(node), how });
        let held = &mut self.nodes[node];
        (held.up, held.stops, held.begins) = (false, false, false);
        self.sim.crash(name(node));
        held.strings.down();
        if how == End::PowerLoss {
            held.disk.crash(self.random.as_ref());
        } else {
            held.disk.kill();
        }
        if held.in_memory {
            self.bear_witness(node, Exchange::Unkept);
        }
    }

    fn up(&mut self, node: usize) {
        if self.nodes[node].gone {
            return;
        }
        // One that is about to end begins again once it has.
        self.nodes[node].begins = self.nodes[node].stops;
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
            Fault::Stop(node) => {
                self.nodes[node].stops = up(self, node);
                self.nodes[node].strings.stop();
            }
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
            Fault::Slow(node, _) if self.nodes[node].in_memory => {}
            Fault::Slow(node, millis) => self.nodes[node].strings.slow_disk(millis),
            Fault::Jump(node, ahead) => self.nodes[node].clock.jump(ahead),
            Fault::Save(node) => self.nodes[node].saved = Some(self.nodes[node].disk.copy()),
            Fault::Spare(node) => self.nodes[node].saved = Some(MemoryDisk::new()),
            Fault::Exchange(node, _) | Fault::Flip(node, _) if self.nodes[node].in_memory => {}
            Fault::Exchange(node, new) => self.exchange(node, |run| run.new_disk(node, new)),
            Fault::Flip(node, times) => self.exchange(node, |run| run.flip(node, times)),
            Fault::Join(node) => self.join(node),
            Fault::Leave(node, force) => self.nodes[node].strings.leave(force),
            Fault::Die(node) if self.nodes[node].gone => {}
            Fault::Die(node) => {
                if up(self, node) {
                    self.power_loss(node);
                }
                self.gone(node);
            }
            Fault::Forget(node) => {
                self.forget.insert(self.hosts.name_of(&name(node)));
            }
            Fault::Rename(node) => self.exchange(node, |run| {
                // Whoever renames a node lets the others forget the former name.
                run.forget.insert(run.hosts.name_of(&name(node)));
                run.hosts.rename(&name(node), format!("{}-new", name(node)));
                Some(Exchange::Renamed)
            }),
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
        let there = self.nodes.iter().enumerate().filter(|(_, held)| !held.gone);
        let there: Vec<_> = there.map(|(node, _)| self.hosts.name_of(&name(node))).collect();
        self.forget.retain(|name| !there.contains(name));
        // What an operator did may be gone with a disk that was exchanged since.
        let former = self.nodes.iter().enumerate().flat_map(|(node, held)| {
            let gone = held.gone.then(|| self.hosts.name_of(&name(node)));
            let renamed = held.origins.iter().map(|origin| origin.node.to_string());
            gone.into_iter().chain(renamed.filter(|name| !there.contains(name)))
        });
        let until = self.sim.elapsed() + KNOWN_WITHIN;
        self.departed.extend(former.map(|name| (name, until)));
        self.links.heal(&self.sim);
        for node in 0..self.nodes.len() {
            self.machine(Machine::Node(node)).end();
            self.machine(Machine::Applications(node)).end();
            self.nodes[node].strings.slow_disk(0);
            self.nodes[node].disk.set_free_bytes(1 << 40);
            self.nodes[node].clock.jump(0);
            self.repair(node);
        }
        self.configure();
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
                What::Opening { subscription, stream, node, sites, .. } => {
                    self.streams.insert(stream, subscription);
                    let all = || SITES.iter().map(ToString::to_string).collect();
                    let sites = if sites.is_empty() { all() } else { sites };
                    self.wants.insert(subscription, (node, sites));
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
    /// Everybody knows who is gone, and has told what may be missed of them.
    fn all_settled(&self) -> bool {
        let journals = self.nodes.iter().filter_map(|held| held.strings.journal());
        let journals: Vec<_> = journals.collect();
        let known = |name: &String| {
            let name = NodeName::new(name).unwrap();
            journals.iter().any(|it| it.member(&name).is_some_and(|listed| !listed.left))
        };
        let departed = journals.iter().flat_map(|journal| journal.departed());
        self.departed.is_empty()
            && !self.forget.iter().any(known)
            && departed.into_iter().all(|departed| departed.settled)
    }

    fn all_heard(&self) -> bool {
        let there = (0..self.nodes.len()).filter(|node| !self.nodes[*node].gone);
        let hosts: Vec<_> = there.map(name).collect();
        self.wants.iter().all(|(subscription, (_, sites))| {
            let heard = self.hears.get(subscription);
            let word = |host: &String, site: &String| format!("{LAST_WORD}{host}-{site}");
            let heard = |id: String| heard.is_some_and(|heard| heard.contains(&id));
            hosts.iter().all(|host| sites.iter().all(|site| heard(word(host, site))))
        })
    }
}
