//! `evermesh status`: how a node is, as a page for people or as JSON.

mod json;
mod page;

use std::time::{Duration, SystemTime};

use evermesh_proto::v1;

use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// The node answers from memory; what takes longer than this is a lost connection.
const DEADLINE: Duration = Duration::from_secs(10);

/// Show how a node is
///
/// Needs the act `observe`: on the local socket, root and the node's own user have it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh status
  evermesh status --at unix:/run/evermesh/web-1.sock --json
  evermesh status --at https://web-1.internal:7443 --cert ops.pem --key-file ops.key --ca ca.pem")]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// One JSON object instead of a page
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let (client, at) = (args.connection.client()?, &args.connection.at);
    let mut node = client.admin();
    let asked = node.get_status(v1::GetStatusRequest {});
    let answer = tokio::time::timeout(DEADLINE, asked).await.map_err(|_| {
        Failure::new(UNAVAILABLE, format!("{at} does not answer within {DEADLINE:?}"))
    })?;
    let status = answer.map_err(|status| client.error(&status))?.into_inner();
    if args.json {
        output.line(&json::object(&status).to_string())
    } else {
        output.bytes(page::page(&status, SystemTime::now()).as_bytes())
    }
}
