//! `evermesh man`: manual pages.

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::Arguments;
use crate::failure::{Failure, USAGE};
use crate::output::Output;

/// Print a manual page
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh man | man -l -
  evermesh man serve > evermesh-serve.1")]
pub(crate) struct Args {
    /// A command; without one, the page of evermesh as a whole
    command: Option<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let mut whole = Arguments::command();
    whole.build();
    let command = match &args.command {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::new(USAGE, format!("there is no command `{name}`; see evermesh --help"))
        })?,
    };
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::io("make the manual page", &error))?;
    output.bytes(&page)
}
