//! `evermesh serve`: runs a node until SIGTERM or Ctrl-C.

use std::path::PathBuf;

use evermesh_server::config::FILE_DEFAULT;
use evermesh_server::{Config, Environment};

use crate::failure::{CONFIG, Failure};

/// Run a node until SIGTERM or Ctrl-C
///
/// Log lines go to standard error; EVERMESH_LOG=debug shows more of them. When the node can be
/// used, it says so: "evermesh web-1 is ready". Told to stop, it says goodbye to the other nodes,
/// stores everything and ends with exit code 0, at the latest after `[node] drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh serve --config /etc/evermesh/evermesh.toml
  EVERMESH_NODE__NAME=web-7 evermesh serve --config site.toml")]
pub(crate) struct Args {
    /// The configuration file; deploy/config/evermesh.toml documents every option
    #[arg(long, value_name = "FILE", env = "EVERMESH_CONFIG", default_value = FILE_DEFAULT)]
    config: PathBuf,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let environment = Environment::of_process(std::env::vars_os());
    let config = Config::load(&args.config, &environment)
        .map_err(|problems| Failure::new(CONFIG, problems.to_string()))?;
    evermesh_server::serve(config, &environment)
        .await
        .map_err(|error| Failure::new(error.exit_code(), error.to_string()))
}
