//! `evermesh demo`: three real nodes, one of them killed while it lags, and a verdict over what
//! was published and heard.
//!
//! The verdict compares the publisher's own notes with what each subscriber process wrote into its
//! file. It is told nothing of what was done to the nodes.

mod publisher;
mod record;
mod report;

use std::cell::Cell;
use std::time::{Duration, Instant};

use evermesh_client::Client;
use evermesh_event::Sequence;
use evermesh_event::verdict::Verdict;
use evermesh_proto::v1;

use self::publisher::{Log, publish};
use self::record::Record;
use self::report::Report;
use crate::Failure;
use crate::mesh::{Mesh, NODES, name};
use crate::output::Output;

/// The node at which everything is published.
const PUBLISHER: usize = 0;
/// The node that is killed.
const VICTIM: usize = 2;
/// How far the victim lags when it is killed, at least.
const BEHIND_MIN: u64 = 1_000;
/// How long nodes may take to find each other, and the last event to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// With a planted loss the last event never arrives: this long without another is the end.
const QUIET: Duration = Duration::from_secs(5);
/// How often a state is asked for that nothing announces.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// And while the victim's lag is watched.
const WATCH_EVERY: Duration = Duration::from_millis(1);

/// Shows three nodes, a kill, and that nothing is lost.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many events to publish
    #[arg(
        long,
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(10_000..=10_000_000)
    )]
    events: u32,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Make one subscriber leave out an event, to see that the verdict notices
    #[arg(long, value_name = "FAULT")]
    plant: Option<Plant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Plant {
    /// A subscriber acknowledges one event that it does not write down
    DropOne,
}

/// Runs it. Ctrl-C ends it and leaves nothing behind.
pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let show = Show { output, json: args.json };
    tokio::select! {
        done = demonstrate(&args, &show) => done,
        signal = crate::signals::any() => Err(signal?),
    }
}

/// Where progress goes: to standard output, or beside it where the last line belongs to a program.
struct Show<'a> {
    output: &'a Output,
    json: bool,
}

impl Show<'_> {
    fn say(&self, line: &str) -> Result<(), Failure> {
        if self.json { self.output.note(line) } else { self.output.line(line) }
    }
}

async fn demonstrate(args: &Args, show: &Show<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let total = args.events as usize;
    show.say("evermesh demo: three nodes on this machine, one of them is killed")?;
    let mut mesh = Mesh::prepare(NODES)?;
    show.say(&format!("  files in {}", mesh.directory().display()))?;
    for node in 0..NODES {
        mesh.start_node(node)?;
    }
    let client = mesh.connect(PUBLISHER)?;
    mesh.linked(&client, PATIENCE).await?;
    for node in 0..NODES {
        mesh.start_subscriber(node, args.plant.is_some() && node == 1)?;
    }
    show.say("  web-1, web-2 and web-3 are linked by mutual TLS; a subscriber beside each")?;

    let mut log = Log::default();
    publish(&client, &mut log, total * 2 / 5).await?;
    show.say(&format!(
        "  {:>9} published at web-1, each stored before it is assured",
        log.times.len()
    ))?;
    let outage_began = log.times.len();
    let (behind, paused_first) = kill(&mut mesh, &client, &mut log, total / 5).await?;
    let how = if paused_first { "paused, then killed by SIGKILL" } else { "killed by SIGKILL" };
    show.say(&format!("  {:>9} web-3 is {how}, {behind} events behind", log.times.len()))?;
    publish(&client, &mut log, total / 5).await?;
    show.say(&format!("  {:>9} published on, without it", log.times.len()))?;
    mesh.start_node(VICTIM)?;
    mesh.linked(&client, PATIENCE).await?;
    show.say(&format!("  {:>9} web-3 is back and asks for what it lacks", log.times.len()))?;
    let outage = outage_began..log.times.len();
    let rest = total - log.times.len();
    publish(&client, &mut log, rest).await?;
    show.say(&format!("  {:>9} published; waiting for the last to arrive", log.times.len()))?;

    let records = collect(&mut mesh, total, args.plant.is_some()).await?;
    let mut verdict = Verdict::default();
    records.iter().for_each(|record| verdict.add(Verdict::of(&log.published, &record.history)));
    let (calm, all) = Report::latencies(&log.times, &records, outage);
    let report = Report {
        published: log.published.assured(),
        killed_behind: behind,
        paused_first,
        delivered: records.iter().map(|record| record.history.events()).collect(),
        verdict,
        calm,
        all,
        seconds: began.elapsed().as_secs_f64(),
    };
    report.table().iter().try_for_each(|line| show.say(line))?;
    drop(mesh);
    if args.json {
        show.output.line(&report.json().to_string())?;
    }
    if report.verdict.is_clean() { Ok(()) } else { Err(Failure::silent(1)) }
}

/// Publishes a burst and kills the victim while it lags; pauses it first where it keeps up too
/// well to be caught.
async fn kill(
    mesh: &mut Mesh,
    client: &Client,
    log: &mut Log,
    count: usize,
) -> Result<(u64, bool), Failure> {
    let finished = Cell::new(false);
    let burst = async {
        let done = publish(client, log, count / 2).await;
        finished.set(true);
        done
    };
    let hunt = async {
        while !finished.get() {
            let behind = behind(client).await?;
            if behind >= BEHIND_MIN {
                return mesh.kill_node(VICTIM).map(|()| Some(behind));
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
        Ok(None)
    };
    let (done, caught) = tokio::join!(burst, hunt);
    done?;
    if let Some(behind) = caught? {
        publish(client, log, count - count / 2).await?;
        return Ok((behind, false));
    }
    mesh.pause_node(VICTIM)?;
    publish(client, log, count - count / 2).await?;
    let behind = behind(client).await?;
    mesh.kill_node(VICTIM)?;
    if behind < BEHIND_MIN {
        let text = format!("web-3 was only {behind} events behind; publish more with --events");
        return Err(Failure::new(70, text));
    }
    Ok((behind, true))
}

/// How many of the first node's events the victim has not said to have on its disk.
async fn behind(client: &Client) -> Result<u64, Failure> {
    let status = client.admin().get_status(v1::GetStatusRequest {}).await;
    let status = status.map_err(|status| Failure::new(69, status.to_string()))?.into_inner();
    let victim = status.members.iter().find(|member| member.node == name(VICTIM));
    let stored = victim.map_or(0, |victim| Sequence::from_u64(victim.stored).counter());
    let head = status.journal.map_or(0, |journal| Sequence::from_u64(journal.own_head).counter());
    Ok(head.saturating_sub(stored))
}

/// Reads the subscribers' files until everything is in them, or nothing more can come.
async fn collect(mesh: &mut Mesh, total: usize, planted: bool) -> Result<Vec<Record>, Failure> {
    let opened = (0..NODES).map(|node| Record::open(&mesh.path(node, "jsonl")));
    let mut records = opened.collect::<Result<Vec<_>, _>>()?;
    let mut deadline = Instant::now() + PATIENCE;
    let mut heard = 0;
    loop {
        records.iter_mut().try_for_each(Record::read_on)?;
        let now = records.iter().map(|record| record.history.events()).sum();
        if now >= total * NODES {
            return Ok(records);
        }
        if now > heard {
            (heard, deadline) = (now, Instant::now() + if planted { QUIET } else { PATIENCE });
        }
        if Instant::now() > deadline {
            return Ok(records);
        }
        if let Some(fallen) = mesh.fallen() {
            return Err(Failure::new(70, fallen));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
