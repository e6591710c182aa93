//! `evermesh publish`: one event from the arguments, or many from standard input or a file.
//!
//! Many go in batches, one call at a time while the next batch is read: calls that are under way
//! together are numbered in any order, and the order of the input is what people mean. It costs
//! little, because a batch shares one call and one fdatasync. Each call is tried again under the
//! same ids while the node is away, so that a restart is only a pause.

mod batches;
mod line;
mod report;
mod source;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use evermesh_client::Publisher;
use evermesh_event::limits::EVENT_BYTES_MAX;
use evermesh_proto::v1;

use self::batches::{Batch, Batches, Chunk};
use self::line::Defaults;
use self::report::{Report, Wanted, Why};
use crate::client_failure::INPUT;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Output;

/// Publish events
///
/// One event by --key and --data, or many by --input: one in each line, as a JSON object or as a
/// bare key. Every event is as sure as --until says before this ends with exit code 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh publish --site shop --type cache.invalidate --key product:42
  evermesh publish --site shop --type price --key product:42 --data-file price.json --json
  printf 'product:1\\nproduct:2\\n' | evermesh publish --site shop --type cache.invalidate --input -
  echo '{\"site\":\"shop\",\"type\":\"price\",\"key\":\"a\"}' | evermesh publish --input -

A line of --input that begins with `{` is an object with any of: id, site, type, key, source, time,
attributes, data or data_base64, data_content_type, coalesce, traceparent, tracestate.
What a line does not say comes from the arguments. A line that cannot be published ends it: what
stands before it is published, what stands after it is not.

Exit codes: 0 all is as sure as asked for, 65 an event is refused, 69 the node is not available or
less is assured, 77 not allowed.")]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The site that is concerned
    #[arg(long, required_unless_present = "input")]
    site: Option<String>,
    /// What kind of change it is
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "input")]
    kind: Option<String>,
    /// What changed
    #[arg(long, conflicts_with = "input")]
    key: Option<String>,
    /// The payload
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["input", "data_file"])]
    data: Option<String>,
    /// The payload, from a file; `-`: from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    data_file: Option<PathBuf>,
    /// The media type of the payload
    #[arg(long, value_name = "TYPE")]
    data_content_type: Option<String>,
    /// Who raises it, so that a subscriber can leave out its own
    #[arg(long)]
    source: Option<String>,
    /// What else is to be said of it
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Its id; the same id is one event. Drawn if not given
    #[arg(long, conflicts_with = "input")]
    id: Option<String>,
    /// Only the newest of this site, type, key and source matters
    #[arg(long)]
    coalesce: bool,
    /// How sure it must be
    #[arg(long, value_enum, default_value_t = Wanted::Stored)]
    until: Wanted,
    /// How long to wait for that, with everything that is tried again
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = crate::quantity::duration
    )]
    wait_for: Duration,
    /// Events as lines of a file; `-`: of standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Show progress though standard error is no terminal
    #[arg(long, requires = "input")]
    progress: bool,
    /// One JSON object for each event, once it is assured
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let publisher = Publisher::new(args.connection.client()?).all_or_nothing();
    match &args.input {
        None => one(&args, &publisher, output).await,
        Some(input) => {
            let batches = Batches::read(source::open(input)?, args.defaults())?;
            let mut many = Many {
                publisher,
                report: Report::new(*output, &args, source::name(input)),
                until: args.until.into(),
                wait_for: args.wait_for,
            };
            tokio::select! {
                done = many.run(batches) => done,
                signal = crate::signals::any() => many.report.interrupted(signal?),
            }
        }
    }
}

/// The event of the arguments.
async fn one(args: &Args, publisher: &Publisher, output: &Output) -> Result<(), Failure> {
    let mut event = args.defaults().event();
    event.key = args.key.clone().unwrap_or_default();
    event.id = args.id.clone().unwrap_or_default();
    event.data = match &args.data_file {
        Some(file) => source::read(file, EVENT_BYTES_MAX)?.into(),
        None => args.data.clone().unwrap_or_default().into(),
    };
    let mut events = vec![event];
    publisher.draw_ids(&mut events);
    let id = events.first().map(|event| event.id.clone()).unwrap_or_default();
    let published = publisher.publish(events, args.until.into(), args.wait_for).await;
    let published = published.map_err(|error| {
        let happened = error.may_have_happened();
        let mut failure = Failure::from(error);
        if let Some(text) = failure.text.as_mut().filter(|_| happened) {
            text.push_str("; the event may have been taken: publishing it again with --id ");
            text.push_str(&id);
            text.push_str(" makes no second one");
        }
        failure
    })?;
    let mut report = Report::new(*output, args, String::new());
    if let Some((_, refused)) = report::first_refused(&published.outcomes) {
        let Why { code, text } = Why::of(refused);
        return Err(Failure::new(code, format!("the event is refused: {text}")));
    }
    report.published(&published)?;
    report.sure_enough(&published)
}

/// Many events, batch by batch.
struct Many {
    publisher: Publisher,
    report: Report,
    until: v1::Assurance,
    wait_for: Duration,
}

impl Many {
    async fn run(&mut self, mut batches: Batches) -> Result<(), Failure> {
        while let Some(chunk) = batches.next().await {
            match chunk {
                Chunk::Events(batch) => self.batch(batch).await?,
                Chunk::Bad { line, why } => {
                    let why = Why { code: INPUT, text: why };
                    return Err(self.report.stopped_at(line, &why));
                }
            }
        }
        self.report.finished()
    }

    async fn batch(&mut self, mut batch: Batch) -> Result<(), Failure> {
        self.publisher.draw_ids(&mut batch.events);
        let Some((index, why)) = self.publish(&batch).await? else { return Ok(()) };
        // Nothing of the batch was taken: what stands before the refused one is published now.
        let line = batch.line(index);
        batch.events.truncate(index);
        if !batch.events.is_empty()
            && let Some((index, why)) = self.publish(&batch).await?
        {
            return Err(self.report.stopped_at(batch.line(index), &why));
        }
        Err(self.report.stopped_at(line, &why))
    }

    /// Publishes a batch, or says which event of it is refused, and why.
    async fn publish(&mut self, batch: &Batch) -> Result<Option<(usize, Why)>, Failure> {
        self.report.under_way(batch.events.len());
        let published =
            self.publisher.publish(batch.events.clone(), self.until, self.wait_for).await;
        let published = match published {
            Ok(published) => published,
            Err(error) => return Err(self.report.failed(batch.line(0), error)),
        };
        if let Some((index, refused)) = report::first_refused(&published.outcomes) {
            self.report.under_way(0);
            return Ok(Some((index, Why::of(refused))));
        }
        self.report.published(&published)?;
        self.report.sure_enough(&published)?;
        Ok(None)
    }
}

impl Args {
    fn defaults(&self) -> Defaults {
        Defaults(v1::Event {
            site: self.site.clone().unwrap_or_default(),
            r#type: self.kind.clone().unwrap_or_default(),
            source: self.source.clone().unwrap_or_default(),
            attributes: self.attributes.iter().cloned().collect::<HashMap<_, _>>(),
            data_content_type: self.data_content_type.clone().unwrap_or_default(),
            coalesce: self.coalesce,
            ..Default::default()
        })
    }
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
