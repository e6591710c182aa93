//! What can go wrong when logs and traces start or end.

use std::time::Duration;

/// Why logs or traces did not start, or did not end cleanly. Never raised while events flow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operator's log filter cannot be read.
    #[error(
        "log filter {filter:?} from {origin} cannot be read: {source}; write for example \
         \"info\" or \"warn,evermesh_peer=debug\""
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// Which setting it came from.
        origin: &'static str,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },

    /// The configured log format has no such name.
    #[error("log format {0:?} is not known; it is \"text\" or \"json\"")]
    Format(String),

    /// This process logs already.
    #[error("logs were started before in this process; start them once")]
    LogsStarted,

    /// The collector's address cannot be used.
    #[error(
        "traces cannot be sent to {endpoint:?}: {reason}; set {variable} to http://HOST:PORT of an \
         OTLP/gRPC collector, or OTEL_TRACES_EXPORTER=none"
    )]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// Which variable it came from.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// The threads of the exporter could not be started.
    #[error("the threads that export traces could not be started: {0}")]
    Threads(#[from] std::io::Error),

    /// The collector did not take the last spans in time.
    #[error("the last spans were not taken within {deadline:?}: {reason}; they are lost")]
    Unflushed {
        /// How long it was waited for.
        deadline: Duration,
        /// What the exporter said.
        reason: String,
    },
}
