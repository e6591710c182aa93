//! `evermesh forget`: a member that is gone is waited for no longer.

use std::time::Duration;

use evermesh_proto::v1;

use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// The node answers from memory; what takes longer than this is a lost connection.
const DEADLINE: Duration = Duration::from_secs(10);

/// Forget a member that is gone and does not come back
///
/// Nobody waits for it any more, on any node: fences end without it, and nothing is kept for it.
/// Every subscription is told that it may have missed something of it, unless the member had said
/// its last word. If it comes back after all, it joins as a new member. Members that nobody heard
/// for `[mesh] forget_after` are forgotten by themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh forget web-7
  evermesh forget web-7 --at unix:/run/evermesh/web-2.sock

Ask any node of the mesh. Needs the act `operate`. A member that is there is not forgotten: let it
leave (`evermesh leave`) or stop it first. `evermesh names forget` forgets a durable name.")]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Its name, as `evermesh status` shows it
    node: String,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let client = args.connection.client()?;
    let mut node = client.admin();
    let forgotten = node.forget_member(v1::ForgetMemberRequest { node: args.node.clone() });
    let answer = tokio::time::timeout(DEADLINE, forgotten).await.map_err(|_| {
        Failure::new(UNAVAILABLE, format!("the node does not answer within {DEADLINE:?}"))
    })?;
    answer.map_err(|status| client.error(&status))?;
    output.line(&format!("forgot {}", args.node))
}
