//! `evermesh health`: whether a node serves, as an exit code, for probes that can't do mTLS.

use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// A probe that waits longer than this is a failed one anyway.
const DEADLINE: Duration = Duration::from_secs(5);

/// Say whether a node serves: exit code 0, or 69 if it does not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh health
  evermesh health --at unix:/run/evermesh/web-1.sock
  evermesh health --at https://web-1.internal:7443 --cert app.pem --key-file app.key --ca ca.pem")]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let (client, at) = (args.connection.client()?, &args.connection.at);
    let not_healthy = |text: String| Failure::new(UNAVAILABLE, text);
    let mut node = HealthClient::new(client.channel());
    // The empty name asks for the node as a whole.
    let asked = node.check(HealthCheckRequest { service: String::new() });
    let answer = tokio::time::timeout(DEADLINE, asked)
        .await
        .map_err(|_| not_healthy(format!("{at} does not answer within {DEADLINE:?}")))?;
    let answer = answer.map_err(|status| not_healthy(client.error(&status).to_string()))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => output.line("serving"),
        _ => Err(not_healthy(format!("{at} is not serving"))),
    }
}
