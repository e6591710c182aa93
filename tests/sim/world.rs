//! One run: the nodes, the applications, the faults, and the verdict.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evermesh_event::verdict::{Fate, History, Published, Verdict};
use evermesh_journal::Limits;
use evermesh_journal::simulated::MemoryDisk;
use evermesh_testkit::app::{Shared, publisher, subscriber, with};
use evermesh_testkit::node::SimNode;
use evermesh_testkit::world::Seeded;
use turmoil::{Builder, Sim};

use crate::faults::{Fault, plan};

const NODES: usize = 3;
/// How long a run may take, in simulated time: faults end within 11 s, then everything must arrive.
const END: Duration = Duration::from_secs(120);

/// Small, so that segments roll and readers fall behind memory within a run.
const LIMITS: Limits = Limits {
    segment_bytes: 2 * 1024 * 1024,
    tail_bytes: 16 * 1024,
    unwritten_bytes_max: 2 * 1024 * 1024,
    max_bytes: 256 * 1024 * 1024,
    reserve_bytes: 16 * 1024 * 1024,
    keep_at_least: Duration::from_secs(600),
    max_age: Duration::from_secs(7 * 24 * 60 * 60),
};

pub(crate) struct World {
    seed: u64,
    random: Arc<Seeded>,
    disks: Vec<MemoryDisk>,
    published: Shared<Published>,
    histories: Vec<Shared<History>>,
}

fn name(node: usize) -> String {
    format!("web-{}", node + 1)
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Arc::new(Seeded::new(seed)),
            disks: (0..NODES).map(|_| MemoryDisk::new()).collect(),
            published: Shared::default(),
            histories: (0..NODES).map(|_| Shared::default()).collect(),
        }
    }

    /// Says that an event was assured which nobody published: a loss that the verdict must see.
    pub(crate) fn plant_loss(&mut self) {
        with(&self.published, |published| published.note("never-published", Fate::Assured));
    }

    pub(crate) fn run(self) {
        let mut sim = Builder::new()
            .rng_seed(self.seed)
            .simulation_duration(END * 2)
            .tick_duration(Duration::from_millis(5))
            .max_message_latency(Duration::from_millis(50))
            .build();
        self.nodes(&mut sim);
        let total = self.applications(&mut sim);
        let mut faults: VecDeque<_> = plan(&self.random, NODES).into();
        while sim.elapsed() < END {
            while let Some((_, fault)) = faults.pop_front_if(|(at, _)| *at <= sim.elapsed()) {
                self.inflict(&mut sim, &fault);
            }
            sim.step().unwrap();
            if faults.is_empty() && self.is_complete(total) {
                break;
            }
        }
        self.judge(total);
    }

    fn nodes(&self, sim: &mut Sim<'_>) {
        for node in 0..NODES {
            let peers = (0..NODES).filter(|other| *other != node).map(name).collect();
            let node = SimNode {
                name: name(node),
                peers,
                disk: self.disks[node].clone(),
                random: self.random.clone(),
                limits: LIMITS,
            };
            sim.host(node.name.clone(), move || node.clone().run());
        }
    }

    /// Publishers at two nodes, a subscriber at each; how many events there will be.
    fn applications(&self, sim: &mut Sim<'_>) -> usize {
        let mut total = 0;
        for node in 0..2 {
            let batches: Vec<_> =
                (0..60).map(|_| usize::try_from(1 + self.random.below(5)).unwrap()).collect();
            total += batches.iter().sum::<usize>();
            let pause = Duration::from_millis(20 + self.random.below(120));
            let published = self.published.clone();
            sim.client(format!("editor-{node}"), async move {
                publisher(name(node), batches, pause, published).await;
                Ok(())
            });
        }
        for (node, history) in self.histories.iter().enumerate() {
            let history = history.clone();
            sim.host(format!("cache-{node}"), move || {
                let history = history.clone();
                async move {
                    subscriber(name(node), history).await;
                    Ok(())
                }
            });
        }
        total
    }

    fn inflict(&self, sim: &mut Sim<'_>, fault: &Fault) {
        match fault {
            Fault::Crash(node) => {
                sim.crash(name(*node));
                self.disks[*node].crash(self.random.as_ref());
            }
            Fault::Start(node) => sim.bounce(name(*node)),
            Fault::Partition(a, b) => sim.partition(name(*a), name(*b)),
            Fault::Repair(a, b) => sim.repair(name(*a), name(*b)),
        }
    }

    fn is_complete(&self, total: usize) -> bool {
        let heard = |history: &Shared<History>| with(history, |history| history.events()) >= total;
        let assured = with(&self.published, |published| published.assured());
        assured >= total && self.histories.iter().all(heard)
    }

    fn judge(&self, total: usize) {
        let seed = self.seed;
        let published = with(&self.published, |published| published.clone());
        for (node, history) in self.histories.iter().enumerate() {
            let verdict = with(history, |history| Verdict::of(&published, history));
            let at = name(node);
            assert!(verdict.is_clean(), "seed {seed}, at {at}: {verdict:?}");
        }
        assert_eq!(published.assured(), total, "seed {seed}: publishing never came to its end");
    }
}
