//! `evermesh check`: whether a configuration is valid, without starting anything.

use std::path::PathBuf;
use std::time::SystemTime;

use evermesh_server::config::FILE_DEFAULT;
use evermesh_server::{Config, Environment, own};

use crate::failure::{CONFIG, Failure};
use crate::output::Output;

/// Say whether a configuration is valid
///
/// Reads the file, the environment over it, and the certificates that they name, as `serve` would.
/// Exit code 0 if all of it is valid, 78 if not, with everything that is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  evermesh check --config evermesh.toml && systemctl restart evermesh")]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "EVERMESH_CONFIG", default_value = FILE_DEFAULT)]
    config: PathBuf,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let environment = Environment::of_process(std::env::vars_os());
    let config = Config::load(&args.config, &environment)
        .map_err(|problems| Failure::new(CONFIG, problems.to_string()))?;
    let failed = |error: evermesh_server::Error| Failure::new(error.exit_code(), error.to_string());
    let credentials = own::credentials(&config, SystemTime::now()).map_err(failed)?;
    own::rules(&config).map_err(failed)?;

    output.line(&format!("{} is valid", config.file.display()))?;
    let line = |label: &str, text: String| output.line(&format!("  {label:<9}{text}"));
    let (node, listen, mesh) = (&config.node, &config.listen, &config.mesh);
    line(
        "node",
        match &node.data_dir {
            Some(path) => format!("{}, data in {}", node.name, path.display()),
            None => format!("{}, in memory: nothing is stored", node.name),
        },
    )?;
    line("local", listen.local.display().to_string())?;
    if let (Some(shared), Some(own)) = (listen.shared, credentials) {
        line("shared", shared.to_string())?;
        let until = jiff::Timestamp::try_from(own.not_after);
        let until = until.map_or_else(|_| "ever".to_owned(), |at| at.to_string());
        line("tls", format!("{}, until {until}", own.identity.text()))?;
    }
    match mesh.peers.as_slice() {
        [] => line("peers", "none".to_owned())?,
        peers => line("peers", format!("{}; lease {:?}", peers.join(", "), mesh.lease))?,
    }
    line("journal", format!("at most {} MiB", config.journal.max_bytes >> 20))?;
    line("log", config.log.to_string())?;
    line("rules", format!("{}, besides the defaults", config.allow.len()))
}
