//! Logs and traces of one node: what it says about itself, and the way of each sampled event.
//!
//! An event carries its trace context (`traceparent`), so the stations of its way on several nodes
//! record spans of one trace without speaking to each other: `evermesh.publish` where it came in,
//! `evermesh.replicate` where another node appended it, `evermesh.deliver` where an application
//! acknowledged it. [`Spans`] is what the stations hold; [`init`] starts everything once.
//!
//! Always holds: without an endpoint in the standard variables there is no exporter, no thread, and
//! a span costs one branch; with one, recording never waits. Whatever does not fit into the bounded
//! queue is dropped and counted, never waited for.
//!
//! Deliberately absent: metrics (the server keeps them), spans that follow the call stack, and any
//! decision that depends on the collector being there.

mod error;
mod export;
mod logs;
mod refusal;
mod settings;
mod spans;
mod traceparent;

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::world::Random;

pub use error::Error;
pub use logs::{LogFormat, LogOptions};
pub use refusal::{Refusal, Refusals};
pub use spans::{Intake, Parent, Span, Spans, Station};
pub use traceparent::sampled;

use export::Export;
use settings::Plan;

/// Reads one variable of the environment; `|name| std::env::var(name).ok()` in production.
///
/// It answers for every choice that is made here. The tracing SDK reads the process's own
/// environment for the rest: resource attributes, batch size and delay, timeouts, headers.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What [`init`] is told.
pub struct Options<'a> {
    /// The node's name: `service.instance.id` of every span and its `evermesh.node`.
    pub node: &'a str,
    /// How to log. `None` leaves logging as it is: for whoever embeds several nodes.
    pub logs: Option<LogOptions<'a>>,
    /// Where the ids of traces and spans are drawn.
    pub random: Arc<dyn Random>,
    /// The environment.
    pub environment: Environment<'a>,
}

/// Logs and traces, started. The server keeps it until the last event has been handled.
#[derive(Debug)]
pub struct Telemetry {
    /// Handed to the stations.
    spans: Spans,
    /// The other end of their queue. `None`: tracing is off.
    export: Option<Export>,
}

/// Starts logs, then traces as far as the standard variables ask for them.
///
/// # Errors
///
/// If the log filter cannot be read, if logs were started before, or if the endpoint for traces
/// cannot be used. A choice that evermesh does not offer (another protocol or exporter than OTLP
/// over gRPC) is not an error: it is logged, and the node runs without traces.
pub fn init(options: &Options<'_>) -> Result<Telemetry, Error> {
    if let Some(logs) = &options.logs {
        logs::start(logs, options.environment)?;
    }
    let settings = match settings::plan(options.environment) {
        Plan::On(settings) => settings,
        Plan::Off { because } => {
            if let Some(because) = because {
                tracing::warn!(%because, "traces are off");
            }
            return Ok(Telemetry { spans: Spans::off(), export: None });
        }
    };
    for warning in &settings.warnings {
        tracing::warn!(%warning, "a variable for traces was not understood");
    }
    let (export, outlet) = Export::start(&settings, options.node)?;
    let spans = Spans::on(options.node, settings.sampling, Arc::clone(&options.random), outlet);
    tracing::info!(endpoint = %settings.endpoint, "traces are exported by OTLP over gRPC");
    Ok(Telemetry { spans, export: Some(export) })
}

impl Telemetry {
    /// What the stations record spans with.
    #[must_use]
    pub fn spans(&self) -> Spans {
        self.spans.clone()
    }

    /// Exports what is still queued, waiting at most `deadline`.
    ///
    /// It blocks the calling thread; the export itself runs on threads of its own, so it is safe to
    /// call from any runtime.
    ///
    /// # Errors
    ///
    /// If the collector did not take everything in time. The spans are lost then; nothing else is.
    pub fn shutdown(self, deadline: Duration) -> Result<(), Error> {
        self.export.map_or(Ok(()), |export| export.shutdown(deadline))
    }
}
