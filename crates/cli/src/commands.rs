//! The commands: one file for each, with its arguments, its help and its way.
//!
//! A command that is added needs its file, and a line in each of the two places below.

mod bench;
mod ca;
mod check;
mod completions;
mod demo;
mod drill;
mod fence;
mod forget;
mod health;
mod leave;
mod letters;
mod man;
mod names;
mod publish;
mod serve;
mod status;
mod subscribe;

use crate::failure::Failure;
use crate::output::Output;

/// What evermesh can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Ca(ca::Args),
    Publish(publish::Args),
    Subscribe(subscribe::Args),
    Fence(fence::Args),
    Forget(forget::Args),
    Leave(leave::Args),
    Letters(letters::Args),
    Names(names::Args),
    Status(status::Args),
    Health(health::Args),
    Demo(demo::Args),
    Drill(drill::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Does it.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => serve::run(args).await,
            Self::Check(args) => check::run(&args, output),
            Self::Ca(args) => ca::run(args, output),
            Self::Publish(args) => publish::run(args, output).await,
            Self::Subscribe(args) => subscribe::run(args, output).await,
            Self::Fence(args) => fence::run(args, output).await,
            Self::Forget(args) => forget::run(args, output).await,
            Self::Leave(args) => leave::run(args, output).await,
            Self::Letters(args) => letters::run(args, output).await,
            Self::Names(args) => names::run(args, output).await,
            Self::Status(args) => status::run(args, output).await,
            Self::Health(args) => health::run(args, output).await,
            Self::Demo(args) => demo::run(args, output).await,
            Self::Drill(args) => drill::run(args, output).await,
            Self::Bench(args) => bench::run(args, output).await,
            Self::Completions(args) => completions::run(&args, output),
            Self::Man(args) => man::run(&args, output),
        }
    }
}
