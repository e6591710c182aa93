//! `evermesh leave`: a node leaves the mesh for good.

use std::time::Duration;

use evermesh_client::Error;
use evermesh_proto::v1;
use serde_json::json;

use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// What a node waits at most.
const WITHIN_MAX: Duration = Duration::from_secs(60 * 60);
/// How much longer than it waits itself a node has for its answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);

/// Let a node leave the mesh for good, and end
///
/// It waits until the members that are there hold everything that it published, tells all that it
/// does not come back, and ends. Nobody waits for it afterwards, and nobody is told that something
/// was missed. Started again, it joins as a new member.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh leave
  evermesh leave --at unix:/run/evermesh/web-3.sock --within 5m
  evermesh leave --force

Needs the act `operate`. To stop a node that will be back, send it SIGTERM instead. Nodes that a
scheduler adds and removes leave by themselves with `[mesh] on_stop = \"leave\"`.")]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// How long members may take to hold everything, at most 1h
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = within)]
    within: Duration,
    /// Leave after that also if some members do not hold everything: that is told as missed
    #[arg(long)]
    force: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

fn within(text: &str) -> Result<Duration, String> {
    let within = crate::quantity::duration(text)?;
    if within > WITHIN_MAX {
        return Err("at most 1h".to_owned());
    }
    Ok(within)
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let (client, at) = (args.connection.client()?, &args.connection.at);
    let request = v1::LeaveRequest {
        within: prost_types::Duration::try_from(args.within).ok(),
        force: args.force,
    };
    let mut node = client.admin();
    let asked = tokio::time::timeout(args.within + ANSWER_MARGIN, node.leave(request)).await;
    let answer = asked
        .map_err(|_| Failure::new(UNAVAILABLE, format!("{at} does not answer")))?
        .map_err(|status| pending(client.error(&status)))?
        .into_inner();
    let v1::LeaveResponse { holds, lacks } = answer;
    if args.json {
        return output.line(&json!({ "left": true, "holds": holds, "lacks": lacks }).to_string());
    }
    let who = |names: &[String]| {
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    };
    output.line(&format!("it leaves; what it published is held by {}", who(&holds)))?;
    if !lacks.is_empty() {
        output.line(&format!("not by {}", who(&lacks)))?;
    }
    Ok(())
}

/// Somebody does not hold everything yet: that may be otherwise later.
fn pending(error: Error) -> Failure {
    let pending = error.reason() == Some("LEAVE_PENDING");
    let failure = Failure::from(error);
    match failure.text {
        Some(text) if pending => Failure::new(UNAVAILABLE, text),
        text => Failure { text, ..failure },
    }
}
