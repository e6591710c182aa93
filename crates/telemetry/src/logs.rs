//! Log lines to standard error, as text for people or as JSON for collectors.
//!
//! Always holds: nothing is written to standard output, which belongs to what commands print; the
//! environment wins over the configuration, so that an operator can look closer without editing it.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::{Environment, Error};

/// The variable that overrides the configured filter.
const FILTER_VARIABLE: &str = "EVERMESH_LOG";

/// How to log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions<'a> {
    /// What a line looks like.
    pub format: LogFormat,
    /// Which lines are written, in the syntax of `tracing-subscriber`. Empty: `info`.
    pub filter: &'a str,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people. Coloured on a terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(Error::Format(other.to_owned())),
        }
    }
}

/// Starts logging for the whole process.
pub(crate) fn start(options: &LogOptions<'_>, environment: Environment<'_>) -> Result<(), Error> {
    let colour =
        io::stderr().is_terminal() && environment("NO_COLOR").is_none_or(|value| value.is_empty());
    let filter = filter(options, environment)?;
    let subscriber = subscriber(options.format, filter, colour, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::LogsStarted)
}

/// The filter in force: the environment's, else the configured one, else `info`.
fn filter(options: &LogOptions<'_>, environment: Environment<'_>) -> Result<EnvFilter, Error> {
    let from_environment = environment(FILTER_VARIABLE).filter(|value| !value.trim().is_empty());
    let (filter, origin) = match from_environment {
        Some(filter) => (filter, FILTER_VARIABLE),
        None if options.filter.trim().is_empty() => ("info".to_owned(), "the default"),
        None => (options.filter.to_owned(), "the configuration"),
    };
    EnvFilter::builder().parse(&filter).map_err(|source| Error::Filter { filter, origin, source })
}

/// What takes the lines.
fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.with_ansi(colour).finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one warning and one debug line.
    fn written(format: LogFormat, filter: &str, variable: Option<&str>) -> String {
        let options = LogOptions { format, filter };
        let filter = super::filter(&options, &|name| {
            assert_eq!(name, FILTER_VARIABLE);
            variable.map(str::to_owned)
        });
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(format, filter.unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(node = "web-1", "the disk is nearly full");
            tracing::debug!("a detail");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_one_plain_line() {
        let text = written(LogFormat::Text, "", None);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" WARN ") && text.contains("the disk is nearly full"), "{text}");
        assert!(text.contains("node=\"web-1\"") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn json_is_one_object_for_each_line() {
        let text = written(LogFormat::Json, "debug", None);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["message"], "the disk is nearly full");
        assert_eq!(lines[0]["node"], "web-1");
    }

    #[test]
    fn the_environment_wins() {
        assert_eq!(written(LogFormat::Text, "debug", Some("error")), "");
        assert_eq!(written(LogFormat::Text, "error", Some(" ")), "", "an empty one is unset");
    }

    #[test]
    fn a_bad_filter_is_named() {
        let options = LogOptions { format: LogFormat::Text, filter: "a=b=c" };
        let text = filter(&options, &|_| None).unwrap_err().to_string();
        assert!(text.contains("a=b=c") && text.contains("the configuration"), "{text}");
        let text = filter(&options, &|_| Some("x=loud".to_owned())).unwrap_err().to_string();
        assert!(text.contains("x=loud") && text.contains(FILTER_VARIABLE), "{text}");
    }

    #[test]
    fn logs_are_started_once() {
        let options = LogOptions { format: LogFormat::Json, filter: "off" };
        start(&options, &|_| None).unwrap();
        assert!(matches!(start(&options, &|_| None), Err(Error::LogsStarted)));
    }

    #[test]
    fn formats_have_names() {
        assert_eq!("text".parse::<LogFormat>().unwrap(), LogFormat::Text);
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert!("xml".parse::<LogFormat>().unwrap_err().to_string().contains("\"xml\""));
    }
}
