//! The binary evermesh: arguments in, one command run, one exit code out.
//!
//! What goes wrong is one message on standard error that begins with `evermesh:`. Everything that
//! is printed goes through `output`.

mod client_failure;
mod commands;
mod connection;
mod failure;
mod mesh;
mod output;
mod ports;
mod quantity;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

use crate::commands::Command;
use crate::failure::Failure;
use crate::output::Output;

/// Carries events between the nodes of a site, in order, whatever crashes in between.
#[derive(Debug, clap::Parser)]
#[command(name = "evermesh", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  evermesh check --config /etc/evermesh/evermesh.toml
  evermesh serve --config /etc/evermesh/evermesh.toml
  evermesh status

Exit codes: 0 done, 64 wrong usage, 65 wrong input, 69 not available, 70 an error of evermesh,
73 cannot create, 74 input or output, 77 not allowed, 78 configuration.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let output = Output::standard();
    let Err(failure) = run(&output) else { return ExitCode::SUCCESS };
    if let Some(text) = failure.text {
        // Where standard error is gone, the exit code still tells.
        let _ = output.note(&format!("evermesh: {text}"));
    }
    ExitCode::from(failure.code)
}

fn run(output: &Output) -> Result<(), Failure> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error, output),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the runtime", &error))?;
    // Boxed: the futures of some commands are large, and one of them lives as long as the process.
    runtime.block_on(Box::pin(arguments.command.run(output)))
}

/// What the parser has to say: help, the version, or what is wrong with the arguments.
fn explain(error: &clap::Error, output: &Output) -> Result<(), Failure> {
    let text = error.render();
    if !error.use_stderr() {
        return output.bytes(text.to_string().as_bytes());
    }
    let text = text.to_string();
    let text = text.trim_end();
    Err(Failure::new(failure::USAGE, text.strip_prefix("error: ").unwrap_or(text)))
}
