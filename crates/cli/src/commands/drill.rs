//! `evermesh drill`: real nodes are killed, paused and parted from each other while events flow,
//! and a verdict is spoken over what was published, heard and promised.
//!
//! Publishers, subscribers and the checker run in this process. The nodes are processes of their
//! own, here with a relay in each link, or wherever a file says. The verdict is told nothing of
//! what was done to them.

mod book;
mod course;
mod draw;
mod fences;
mod given;
mod hear;
mod nodes;
mod pace;
mod plan;
mod probe;
mod publish;
mod relay;
mod report;
mod seat;
mod strike;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use evermesh_client::World;
use evermesh_proto::v1;
use tokio::time::timeout;

use self::course::Course;
use self::nodes::{Nodes, Own};
use self::plan::Counts;
use self::strike::Done;
use crate::Failure;
use crate::output::Output;

/// How long a node may take to forget a durable name, when all is over.
const FORGET_WITHIN: Duration = Duration::from_secs(5);

/// Show that nothing is lost, whatever happens to the nodes
///
/// Starts nodes on this machine, publishes and subscribes at each of them, and meanwhile kills,
/// pauses and parts them as a seed says. Then heals everything, waits until what was assured has
/// arrived, and says what was lost, reordered, made up, delivered again or missed, and whether a
/// fence was done too early. Leaves no process and no file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh drill
  evermesh drill --nodes 5 --events 200000 --kills 40 --pauses 10 --partitions 10 --seed 7 --json
  evermesh drill --nodes-file drill.toml

The exit code is 0 only if nothing was lost, reordered, made up, needlessly missed, or delivered
again after its acknowledgement was stored, and no fence deceived anybody; it is 1 if not.
A file of nodes has one [[node]] for each, with `at` (as --at elsewhere), optionally `name`,
`cert`, `key_file` and `ca`, and the commands by which faults are made and ended: `kill` and
`start`, `pause` and `continue`, `part` and `heal`. Faults without commands are left out.")]
pub(crate) struct Args {
    /// How many nodes to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=12))]
    nodes: u8,
    /// Use the nodes that this file names instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "keep"])]
    nodes_file: Option<PathBuf>,
    /// How many events to publish
    #[arg(
        long,
        default_value_t = 30_000,
        value_parser = clap::value_parser!(u32).range(1_000..=10_000_000)
    )]
    events: u32,
    /// How many kills, each followed by a start
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    kills: u16,
    /// How many pauses, shorter and longer than a lease
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pauses: u16,
    /// How many partitions between two nodes: refused, silent, silent in one direction
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    partitions: u16,
    /// Draw the faults from this number, to repeat them [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Print the verdict as one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Leave the nodes' logs and journals, and say where
    #[arg(long)]
    keep: bool,
    /// Make one fault on purpose, to see that the verdict notices
    #[arg(long, value_name = "FAULT", hide = true)]
    plant: Option<Plant>,
}

/// A fault on purpose, in the record of one subscription unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Plant {
    /// An event is acknowledged and not written down
    DropOne,
    /// Two events are written down in the wrong order
    SwapTwo,
    /// An event is written down again after it was acknowledged
    HearAgain,
    /// A missed is told
    NeedlessMissed,
    /// Every fence counts as done at once
    SkipFence,
}

/// What is to be done.
#[derive(Debug)]
struct Wanted {
    events: usize,
    counts: Counts,
    seed: u64,
    plant: Option<Plant>,
    /// Counted by who does it.
    done: Arc<Done>,
}

/// Runs it. However it ends, nothing stays behind and nothing stays broken.
pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let random = World::system()?.random;
    let mut drawn = [0; 8];
    random.fill(&mut drawn);
    // Short enough to be typed again.
    let seed = args.seed.unwrap_or_else(|| u64::from_le_bytes(drawn) >> 44);
    let run = format!("drill-{:016x}", u64::from_le_bytes(drawn));
    let nodes = OnceLock::new();
    let ended = tokio::select! {
        biased;
        signal = crate::signals::any() => Err(signal?),
        done = drill(&args, seed, &run, &nodes, output) => done,
    };
    let Some(nodes) = nodes.get() else { return ended };
    restore(nodes, &run, output).await?;
    ended
}

async fn drill(
    args: &Args,
    seed: u64,
    run: &str,
    place: &OnceLock<Arc<Nodes>>,
    output: &Output,
) -> Result<(), Failure> {
    let nodes = match &args.nodes_file {
        Some(file) => Nodes::Given(given::read(file)?),
        None => {
            let mut own = Own::prepare(usize::from(args.nodes), args.keep).await?;
            own.begin().await?;
            Nodes::Own(own)
        }
    };
    let nodes = place.get_or_init(|| Arc::new(nodes));
    output.note(&format!("evermesh drill: {} nodes, seed {seed}", nodes.count()))?;
    if let Some(directory) = nodes.directory().filter(|_| args.keep) {
        output.note(&format!("  files in {}", directory.display()))?;
    }
    let counts = Counts {
        kills: usize::from(args.kills),
        pauses: usize::from(args.pauses),
        partitions: usize::from(args.partitions),
    };
    let (events, done) = (args.events as usize, Arc::new(Done::default()));
    let wanted = Wanted { events, counts, seed, plant: args.plant, done };
    let report = Course::new(Arc::clone(nodes), wanted, run, *output)?.run().await?;
    if args.json {
        if !report.held() {
            report.sentences().iter().try_for_each(|line| output.note(line))?;
        }
        output.line(&report.json().to_string())?;
    } else {
        report.table().iter().try_for_each(|line| output.line(line))?;
    }
    if report.held() { Ok(()) } else { Err(Failure::silent(1)) }
}

/// Given nodes are left as they were: no fault, no durable name.
async fn restore(nodes: &Nodes, run: &str, output: &Output) -> Result<(), Failure> {
    for failure in nodes.restore().await {
        output.note(&format!("evermesh: not undone: {}", failure.text.unwrap_or_default()))?;
    }
    let Nodes::Given(given) = nodes else { return Ok(()) };
    for (n, given) in given.iter().enumerate() {
        let mut node = nodes.client(n)?.admin();
        let request = v1::ForgetNameRequest { name: run.to_owned() };
        let forgotten = timeout(FORGET_WITHIN, node.forget_name(request)).await;
        let why = match forgotten {
            Ok(Ok(_)) => continue,
            Ok(Err(status)) if status.code() == tonic::Code::NotFound => continue,
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "it did not answer within 5 s".to_owned(),
        };
        let name = &given.name;
        output.note(&format!("evermesh: the durable name {run} stays at {name}: {why}"))?;
    }
    Ok(())
}
