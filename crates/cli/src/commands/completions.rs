//! `evermesh completions`: what a shell needs to complete arguments.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::Arguments;
use crate::failure::Failure;
use crate::output::Output;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh completions bash > /etc/bash_completion.d/evermesh
  evermesh completions fish > ~/.config/fish/completions/evermesh.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "evermesh", &mut script);
    output.bytes(&script)
}
