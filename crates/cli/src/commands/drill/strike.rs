//! Faults as they are planned: each begins at its time, lasts, and is ended. What concerns the same
//! node, or the same pair, waits for its turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::nodes::Nodes;
use super::plan::{Fault, How, What};
use crate::Failure;
use crate::output::Output;

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) kills: AtomicU64,
    pub(super) pauses: AtomicU64,
    pub(super) partitions: AtomicU64,
}

/// Who does it.
#[derive(Debug)]
pub(super) struct Striking {
    nodes: Arc<Nodes>,
    done: Arc<Done>,
    output: Output,
    began: Instant,
    /// One for each node, in their order: it is down, or paused.
    busy: Vec<Mutex<()>>,
    /// And one for each pair that is parted.
    parted: BTreeMap<(usize, usize), Mutex<()>>,
}

impl Striking {
    pub(super) fn new(nodes: Arc<Nodes>, done: Arc<Done>, output: Output) -> Self {
        let busy = (0..nodes.count()).map(|_| Mutex::default()).collect();
        let parted = nodes.targets().part.into_iter().map(|pair| (pair, Mutex::default()));
        let (parted, began) = (parted.collect(), Instant::now());
        Self { nodes, done, output, began, busy, parted }
    }

    /// Does everything; returns when all of it is ended again.
    pub(super) async fn run(self, faults: Vec<Fault>) -> Result<(), Failure> {
        let striking = Arc::new(self);
        let mut under_way = JoinSet::new();
        for fault in faults {
            sleep_until(striking.began + fault.at).await;
            under_way.spawn(Arc::clone(&striking).strike(fault.what));
            while let Some(ended) = under_way.try_join_next() {
                ended.map_err(|error| Failure::new(70, error.to_string()))??;
            }
        }
        while let Some(ended) = under_way.join_next().await {
            ended.map_err(|error| Failure::new(70, error.to_string()))??;
        }
        Ok(())
    }

    async fn strike(self: Arc<Self>, what: What) -> Result<(), Failure> {
        match what {
            What::Kill { nodes, down } => self.kill(nodes, down).await,
            What::Pause { node, lasts } => self.pause(node, lasts).await,
            What::Part { pair, how, lasts } => self.part(pair, how, lasts).await,
        }
    }

    async fn kill(&self, mut victims: Vec<usize>, down: Duration) -> Result<(), Failure> {
        // In their order, so that two strikes do not wait for each other.
        victims.sort_unstable();
        let _held = self.hold(&victims).await;
        let names: Vec<_> = victims.iter().map(|node| self.nodes.name(*node)).collect();
        self.say(&format!("{} killed, for {}", names.join(" and "), seconds(down)))?;
        for node in &victims {
            self.nodes.kill(*node).await?;
            self.done.kills.fetch_add(1, Ordering::Relaxed);
        }
        sleep(down).await;
        for node in &victims {
            self.nodes.start(*node).await?;
        }
        Ok(())
    }

    async fn pause(&self, node: usize, lasts: Duration) -> Result<(), Failure> {
        let _held = self.hold(&[node]).await;
        self.say(&format!("{} paused, for {}", self.nodes.name(node), seconds(lasts)))?;
        self.nodes.pause(node).await?;
        self.done.pauses.fetch_add(1, Ordering::Relaxed);
        sleep(lasts).await;
        self.nodes.go_on(node).await
    }

    async fn part(&self, pair: (usize, usize), how: How, lasts: Duration) -> Result<(), Failure> {
        let _held = match self.parted.get(&pair) {
            Some(pair) => Some(pair.lock().await),
            None => None,
        };
        let (one, other) = (self.nodes.name(pair.0), self.nodes.name(pair.1));
        let text = match how {
            _ if pair.0 == pair.1 => format!("{one} parted from the others"),
            How::Refused => format!("{one} and {other} refuse each other"),
            How::Silent => format!("{one} and {other} do not hear each other"),
            How::SilentThere => format!("{other} does not hear {one}"),
            How::SilentBack => format!("{one} does not hear {other}"),
        };
        self.say(&format!("{text}, for {}", seconds(lasts)))?;
        self.nodes.part(pair, how).await?;
        self.done.partitions.fetch_add(1, Ordering::Relaxed);
        sleep(lasts).await;
        self.nodes.heal(pair).await
    }

    async fn hold(&self, nodes: &[usize]) -> Vec<MutexGuard<'_, ()>> {
        let mut held = Vec::new();
        for node in nodes {
            if let Some(busy) = self.busy.get(*node) {
                held.push(busy.lock().await);
            }
        }
        held
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        self.output.note(&format!("{:>7.1} s  {text}", self.began.elapsed().as_secs_f64()))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
