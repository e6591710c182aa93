//! `evermesh bench mesh`: events per second and CPU per million events of three real nodes on this
//! machine.
//!
//! One publisher at the first node, one subscriber at each of the others, every event stored
//! before it is assured, every event acknowledged by both subscribers. Publisher and subscribers
//! run in this process; their CPU time is shown apart.

use std::time::{Duration, Instant};

use evermesh_client::Client;
use evermesh_proto::v1;
use serde_json::json;
use tokio::task::JoinSet;

use crate::Failure;
use crate::mesh::{Mesh, NODES, SITE, own_cpu};
use crate::output::Output;

/// Events in one call.
const BATCH_EVENTS: usize = 256;
/// How long the nodes may take to find each other.
const LINK_DEADLINE: Duration = Duration::from_secs(30);
/// How long without any progress before the bench gives up.
const STALL_DEADLINE: Duration = Duration::from_secs(30);
/// The length of a key, in bytes.
const KEY_BYTES: usize = 40;

/// Measures this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// Three nodes, one publisher, two subscribers: events per second, CPU per million events
    Mesh(MeshArgs),
}

#[derive(Debug, clap::Args)]
struct MeshArgs {
    /// How many events
    #[arg(
        long,
        default_value_t = 500_000,
        value_parser = clap::value_parser!(u32).range(1_000..=50_000_000)
    )]
    events: u32,
    /// Bytes of data in each
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    size: u32,
    /// How many may be published and not yet stored
    #[arg(
        long,
        default_value_t = 4_096,
        value_parser = clap::value_parser!(u32).range(256..=65_536)
    )]
    in_flight: u32,
    /// How many times
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// One JSON object for each run
    #[arg(long)]
    json: bool,
}

/// What one run measured.
struct Run {
    seconds: f64,
    nodes_cpu: Duration,
    clients_cpu: Duration,
    memory: u64,
    syncs: u64,
}

/// Runs it. Ctrl-C ends it and leaves nothing behind.
pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let Bench::Mesh(args) = args.bench;
    tokio::select! {
        done = measure(&args, output) => done,
        signal = crate::signals::any() => Err(signal?),
    }
}

async fn measure(args: &MeshArgs, output: &Output) -> Result<(), Failure> {
    for number in 1..=args.runs {
        let run = one(args).await?;
        output.line(&if args.json {
            run.json(args).to_string()
        } else {
            run.text(args, number)
        })?;
    }
    Ok(())
}

async fn one(args: &MeshArgs) -> Result<Run, Failure> {
    let mut mesh = Mesh::prepare(NODES)?;
    (0..NODES).try_for_each(|node| mesh.start_node(node))?;
    let clients: Vec<_> = (0..NODES).map(|node| mesh.connect(node)).collect::<Result<_, _>>()?;
    let [publisher, second, third] = clients.as_slice() else {
        return Err(Failure::new(70, "the bench is written for three nodes"));
    };
    mesh.linked(publisher, LINK_DEADLINE).await?;

    let mut subscribers = JoinSet::new();
    for client in [second, third] {
        let opened = open(client).await?;
        subscribers.spawn(subscribe(opened, u64::from(args.events)));
    }
    let (cpu, own) = (mesh.cpu(), own_cpu());
    let began = Instant::now();
    publish(publisher, args).await?;
    while let Some(done) = subscribers.join_next().await {
        done.map_err(|error| Failure::new(70, error.to_string()))??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let status = publisher.admin().get_status(v1::GetStatusRequest {}).await;
    let status = status.map_err(|status| Failure::new(69, status.to_string()))?.into_inner();
    Ok(Run {
        seconds,
        nodes_cpu: mesh.cpu().saturating_sub(cpu),
        clients_cpu: own_cpu().saturating_sub(own),
        memory: mesh.memory(),
        syncs: status.journal.map_or(0, |journal| journal.syncs),
    })
}

/// Publishes everything, with a bounded number of calls on their way, and waits until all is
/// stored.
async fn publish(client: &Client, args: &MeshArgs) -> Result<(), Failure> {
    let calls_max = (args.in_flight as usize).div_ceil(BATCH_EVENTS);
    let mut payload = Payload::new(args.size as usize);
    let (mut left, mut calls) = (args.events as usize, JoinSet::new());
    while left > 0 || !calls.is_empty() {
        while left > 0 && calls.len() < calls_max {
            let count = left.min(BATCH_EVENTS);
            left -= count;
            let events = (0..count).map(|_| payload.event()).collect();
            let mut node = client.events();
            calls.spawn(async move {
                node.publish(v1::PublishRequest { events, ..Default::default() }).await
            });
        }
        let done = tokio::time::timeout(STALL_DEADLINE, calls.join_next()).await;
        match done.map_err(|_| Failure::new(69, "nothing was stored for 30 s"))? {
            Some(Ok(Ok(_))) | None => {}
            Some(Ok(Err(status))) => return Err(Failure::new(69, status.to_string())),
            Some(Err(error)) => return Err(Failure::new(70, error.to_string())),
        }
    }
    Ok(())
}

/// Random bytes without a cost that would be measured: a window that moves over one random buffer.
struct Payload {
    random: bytes::Bytes,
    size: usize,
    at: usize,
}

impl Payload {
    fn new(size: usize) -> Self {
        let mut random = vec![0; size + 65_536];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for chunk in random.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(state.to_le_bytes().get(..chunk.len()).unwrap_or_default());
        }
        Self { random: random.into(), size, at: 0 }
    }

    fn event(&mut self) -> v1::Event {
        self.at += 1;
        let from = (self.at * 61) % 65_536;
        v1::Event {
            site: SITE.into(),
            r#type: "cache.invalidate".into(),
            key: format!("{:0width$}", self.at, width = KEY_BYTES),
            data: self.random.slice(from..from + self.size),
            ..Default::default()
        }
    }
}

/// A subscription that is open.
struct Opened {
    say: tokio::sync::mpsc::Sender<v1::SubscribeRequest>,
    heard: tonic::Streaming<v1::SubscribeResponse>,
}

async fn open(client: &Client) -> Result<Opened, Failure> {
    let failed = |status: tonic::Status| Failure::new(69, status.to_string());
    let (say, said) = tokio::sync::mpsc::channel(64);
    let open = v1::SubscribeOpen {
        sites: vec![SITE.into()],
        max_unacknowledged: 8_192,
        ..Default::default()
    };
    let open = v1::subscribe_request::Message::Open(open);
    let first = v1::SubscribeRequest { message: Some(open) };
    say.try_send(first).map_err(|error| Failure::new(70, error.to_string()))?;
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut heard = client.events().subscribe(said).await.map_err(failed)?.into_inner();
    heard.message().await.map_err(failed)?;
    Ok(Opened { say, heard })
}

/// Hears and acknowledges everything; decodes every event, as an application does.
async fn subscribe(mut opened: Opened, events: u64) -> Result<(), Failure> {
    use v1::subscribe_response::Message;
    let mut count = 0;
    while count < events {
        let message = tokio::time::timeout(STALL_DEADLINE, opened.heard.message()).await;
        let message = message.map_err(|_| Failure::new(69, "nothing was delivered for 30 s"))?;
        let message = message.map_err(|status| Failure::new(69, status.to_string()))?;
        let Some(message) = message else {
            return Err(Failure::new(69, "a node ended the subscription"));
        };
        let delivery = match message.message {
            Some(Message::Delivery(delivery)) => delivery,
            Some(Message::Missed(_)) => return Err(Failure::new(70, "events were missed")),
            _ => continue,
        };
        let mut here = 0;
        for entry in delivery.entries() {
            entry.map_err(|error| Failure::new(70, error.to_string()))?;
            here += 1;
        }
        count += here;
        let last = delivery.offsets.last().copied();
        let through_offset = last.unwrap_or_else(|| delivery.first_offset + here.saturating_sub(1));
        let applied = v1::Acknowledge { through_offset };
        let message = Some(v1::subscribe_request::Message::Acknowledge(applied));
        if opened.say.send(v1::SubscribeRequest { message }).await.is_err() {
            return Err(Failure::new(69, "a node ended the subscription"));
        }
    }
    Ok(())
}

impl Run {
    fn per_million(&self, cpu: Duration, args: &MeshArgs) -> f64 {
        cpu.as_secs_f64() * 1e6 / f64::from(args.events)
    }

    fn per_second(&self, args: &MeshArgs) -> f64 {
        f64::from(args.events) / self.seconds
    }

    fn text(&self, args: &MeshArgs, number: u32) -> String {
        format!(
            "run {number}: {:>8.0} events/s   CPU-s per million events: nodes {:.2}, \
             clients {:.2}   largest node {} MiB   {:.4} fdatasync per event",
            self.per_second(args),
            self.per_million(self.nodes_cpu, args),
            self.per_million(self.clients_cpu, args),
            self.memory / (1024 * 1024),
            self.syncs_per_event(args),
        )
    }

    fn json(&self, args: &MeshArgs) -> serde_json::Value {
        json!({
            "events": args.events,
            "events_per_second": self.per_second(args),
            "nodes_cpu_seconds_per_million": self.per_million(self.nodes_cpu, args),
            "clients_cpu_seconds_per_million": self.per_million(self.clients_cpu, args),
            "largest_node_bytes": self.memory,
            "fdatasyncs_per_event": self.syncs_per_event(args),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run are exact in f64")]
    fn syncs_per_event(&self, args: &MeshArgs) -> f64 {
        self.syncs as f64 / f64::from(args.events)
    }
}
