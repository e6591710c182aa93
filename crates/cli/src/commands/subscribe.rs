//! `evermesh subscribe`: what is heard, as JSON lines, acknowledged once it is written.
//!
//! Always: a line is acknowledged only after it was written and flushed, so that a reader which
//! keeps what it read loses nothing. Where the node goes away, this waits and resumes by itself.

mod begin;
mod line;
mod writer;

use std::pin::{Pin, pin};
use std::time::Duration;

use evermesh_client::{Begin, Item, Options, Subscriber};
use evermesh_event::ResumeToken;
use evermesh_event::limits::UNACKNOWLEDGED_MAX;

use tokio::time::timeout;

use self::line::Lines;
use self::writer::Writer;
use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// Which event is left out where one is to be: after the beginning, where mistakes hide.
const PLANTED: u64 = 100;

/// How long a batch that is being written may take after a signal.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Hear events
///
/// Prints one JSON object in each line: {"event":…}, {"missed":…}, {"caught_up":…}. What was
/// written is acknowledged. When the node restarts, this resumes after the last acknowledged event.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh subscribe --site shop
  evermesh subscribe --site shop --type cache.invalidate --from beginning --count 10
  evermesh subscribe --site shop --from er1.CiAB… | while read -r line; do …; done
  evermesh subscribe --site shop --name varnish

`missed` names sites of which events may be lost: drop what is held of them. `caught_up` says that
everything that was there at the beginning has been printed. `taken_over` says that a newer
subscription took the durable name; this one ends then, with exit code 69.
Ended by Ctrl-C or SIGTERM, the exit code is 130 or 143, and what was printed is acknowledged.")]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// A site to hear; may be given several times. None: every site that is allowed
    #[arg(long = "site", value_name = "SITE")]
    sites: Vec<String>,
    /// A type to hear; may be given several times. None: all
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Where to begin: live, beginning, or the resume_token of a line
    #[arg(long, value_name = "PLACE", default_value = "live", value_parser = begin::parse)]
    from: Begin,
    /// A durable name: the node keeps the place, and goes on there whenever this comes back
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    name: Option<String>,
    /// A source to leave out; may be given several times
    #[arg(long = "exclude-source", value_name = "SOURCE")]
    exclude_sources: Vec<String>,
    /// End after so many events
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Acknowledge nothing: the node stops after --max-unacknowledged events
    #[arg(long)]
    no_ack: bool,
    /// How many events may be delivered and not yet acknowledged [default: 1024]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(UNACKNOWLEDGED_MAX))
    )]
    max_unacknowledged: Option<u32>,
    /// Say also when: `acknowledged` in each event's line, and a line {"opened":…} for each stream
    #[arg(long)]
    timestamps: bool,
    /// Say twice a second how long each member can be trusted: a line {"freshness":…}
    #[arg(long)]
    freshness: bool,
    /// JSON lines: the only form, so this changes nothing
    #[arg(long = "json")]
    _json: bool,
    /// Acknowledge an event that is not printed, to try out what should notice
    #[arg(long, value_name = "FAULT", hide = true)]
    plant: Option<Plant>,
}

/// A fault on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Plant {
    /// One event is not printed.
    DropOne,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let options = Options {
        sites: args.sites,
        types: args.types,
        from: args.name.map_or(args.from, Begin::Name),
        exclude_sources: args.exclude_sources,
        max_unacknowledged: args.max_unacknowledged.unwrap_or_default(),
        echoes: args.freshness,
    };
    let client = args.connection.client()?;
    let mut printing = Printing {
        writer: Writer::start()?,
        lines: Lines::new(args.timestamps, args.plant.map(|Plant::DropOne| PLANTED)),
        output: *output,
        left: args.count.unwrap_or(u64::MAX),
        acknowledges: !args.no_ack,
        timestamps: args.timestamps,
        interrupted: false,
        taken_over: false,
    };
    let mut signal = pin!(crate::signals::any());
    let mut subscriber = tokio::select! {
        opened = Subscriber::open(client, options) => opened?,
        signal = &mut signal => return Err(signal?),
    };
    let end = printing.run(&mut subscriber, signal.as_mut()).await;
    if matches!(end, Err(Failure { code, .. }) if code < 128) || args.no_ack {
        return end;
    }
    if !subscriber.close().await {
        output.note(
            "evermesh: the node did not confirm the last acknowledgement; events may come again",
        )?;
    }
    end
}

/// From what is heard to lines that are written, and back to acknowledgements.
struct Printing {
    writer: Writer,
    lines: Lines,
    output: Output,
    /// How many events are still to be printed.
    left: u64,
    acknowledges: bool,
    timestamps: bool,
    interrupted: bool,
    /// A newer subscription has the durable name.
    taken_over: bool,
}

impl Printing {
    async fn run(
        &mut self,
        subscriber: &mut Subscriber,
        mut signal: Pin<&mut impl Future<Output = Result<Failure, Failure>>>,
    ) -> Result<(), Failure> {
        while self.left > 0 {
            let item = tokio::select! {
                item = subscriber.next() => item?,
                ended = &mut signal => return Err(ended?),
            };
            let through = self.print(item)?;
            let mut written = pin!(self.writer.write(self.lines.take()));
            let ended = tokio::select! {
                done = &mut written => done.map(|()| None)?,
                ended = &mut signal => Some(ended?),
            };
            // What is printed is acknowledged, also where a signal came in between; but a reader
            // that does not read is not waited for.
            if ended.is_some() && !timeout(LAST_WRITE, written).await.is_ok_and(|w| w.is_ok()) {
                return ended.map_or(Ok(()), Err);
            }
            if let Some(through) = through.filter(|_| self.acknowledges) {
                subscriber.acknowledge(through);
            }
            if let Some(ended) = ended {
                return Err(ended);
            }
            if self.taken_over {
                let text = "a newer subscription took this durable name";
                return Err(Failure::new(UNAVAILABLE, text));
            }
        }
        Ok(())
    }

    /// Makes lines; gives what to acknowledge once they are written.
    fn print(&mut self, item: Item) -> Result<Option<ResumeToken>, Failure> {
        Ok(match item {
            Item::Delivery { delivery, through } => {
                let printed = self.lines.delivery(&delivery, through.run, self.left)?;
                self.left = self.left.saturating_sub(printed.events);
                Some(printed.through.unwrap_or(through))
            }
            Item::Missed { missed, through } => {
                self.lines.missed(&missed, through);
                Some(through)
            }
            Item::CaughtUp { caught_up, through } => {
                self.lines.caught_up(&caught_up, through);
                Some(through)
            }
            Item::Freshness(freshness) => {
                self.lines.freshness(&freshness);
                None
            }
            Item::TakenOver(taken_over) => {
                self.lines.taken_over(&taken_over);
                // Written like every other line; there is nothing to come.
                self.taken_over = true;
                None
            }
            Item::Opened { node, begins } => {
                if self.interrupted {
                    self.interrupted = false;
                    self.output.note(&format!("evermesh: resumed at {node}"))?;
                }
                if self.timestamps {
                    self.lines.opened(&node, begins);
                }
                None
            }
            Item::Interrupted(why) => {
                self.interrupted = true;
                self.output.note(&format!("evermesh: {why}; waiting for the node to resume"))?;
                None
            }
        })
    }
}
