//! How fast this machine appends: events of 256 bytes in batches of 64, each batch waiting for its
//! fdatasync.
//!
//! `cargo run --release -p evermesh-journal --example append -- DIRECTORY [PUBLISHERS] [SECONDS]`

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evermesh_event::world::{Clock, Random};
use evermesh_event::{Fill, NodeName, validate};
use evermesh_journal::{Directory, Intake, Journal, Limits, Options};
use evermesh_proto::v1;

const BATCH: u64 = 64;
const EVENT_BYTES: usize = 256;

#[derive(Debug)]
struct SystemClock(Instant);

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn boot(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Enough for ids that only have to differ from run to run.
#[derive(Debug)]
struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = next.to_le_bytes()[7];
        }
    }
}

fn intake(publisher: u64, number: u64) -> Result<Intake, Box<dyn Error + Send + Sync>> {
    let event = v1::Event {
        id: format!("{publisher:016x}{number:016x}"),
        site: "shop".into(),
        r#type: "cache.invalidate".into(),
        key: format!("product:{number}"),
        data: vec![b'x'; EVENT_BYTES - 96].into(),
        ..v1::Event::default()
    };
    let event = validate(event, Fill { id: uuid::Uuid::nil(), now: UNIX_EPOCH })?;
    Ok(Intake { event, sampled: false })
}

async fn publish(
    journal: Journal,
    publisher: u64,
    until: Instant,
) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let identity = Arc::from(format!("uid:{publisher}"));
    let mut durable = journal.durable();
    let mut number = 0;
    while Instant::now() < until {
        let events = (number..number + BATCH).map(|number| intake(publisher, number));
        let appended = journal.append(&identity, events.collect::<Result<Vec<_>, _>>()?).await?;
        let own = durable.wait_for(|durable| durable.failed || durable.own >= appended.own_through);
        if own.await?.failed {
            return Err("the disk failed".into());
        }
        number += BATCH;
    }
    Ok(number)
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
        .as_secs_f64()
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let place = PathBuf::from(arguments.next().ok_or("append DIRECTORY [PUBLISHERS] [SECONDS]")?);
    let publishers: u64 = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let (journal, writer) = Journal::open(Options {
        node: NodeName::new("bench")?,
        storage: Arc::new(Directory::open(place)?),
        clock: Arc::new(SystemClock(Instant::now())),
        random: Arc::new(Counted(AtomicU64::new(u64::try_from(seed % u128::from(u64::MAX))?))),
        limits: Limits::with_max_bytes(64 << 30),
    })?;
    let thread = writer.spawn()?;
    let (began, cpu_before) = (Instant::now(), cpu_seconds());
    let until = began + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..publishers)
        .map(|publisher| tokio::spawn(publish(journal.clone(), publisher, until)))
        .collect();
    let mut events = 0;
    for task in tasks {
        events += task.await??;
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    journal.close().await?;
    let ended = tokio::task::spawn_blocking(|| thread.join()).await?;
    ended?;
    let status = journal.status();
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    let (events, syncs) = (events as f64, status.syncs as f64);
    writeln!(
        std::io::stdout(),
        "{:.0} events/s, {:.2} CPU s per million events, {:.0} fdatasyncs/s, {:.4} per event",
        events / took,
        cpu / (events / 1e6),
        syncs / took,
        syncs / events
    )?;
    Ok(())
}
