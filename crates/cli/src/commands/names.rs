//! `evermesh names`: the durable names of a node, and forgetting one.

use std::time::Duration;

use evermesh_event::Offset;
use evermesh_proto::v1;
use serde_json::json;

use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// The node answers from memory; what takes longer than this is a lost connection.
const DEADLINE: Duration = Duration::from_secs(10);

/// Look at durable names, or forget one
///
/// Under a durable name a node keeps a subscription's place. Until the name is forgotten, events
/// count as applied only once it acknowledged them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh names list
  evermesh names forget varnish

Listing needs the act `observe`, forgetting `operate`.")]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// List the durable names of the node
    List {
        #[command(flatten)]
        connection: Connection,
        /// One JSON object in each line
        #[arg(long)]
        json: bool,
    },
    /// Forget a durable name that nobody uses: nothing is kept for it, and nobody waits for it
    Forget {
        #[command(flatten)]
        connection: Connection,
        /// The name
        name: String,
    },
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    match args.act {
        Act::List { connection, json } => list(&connection, json, output).await,
        Act::Forget { connection, name } => {
            let client = connection.client()?;
            let mut node = client.admin();
            let forgotten = node.forget_name(v1::ForgetNameRequest { name: name.clone() });
            let answer = tokio::time::timeout(DEADLINE, forgotten).await.map_err(late)?;
            answer.map_err(|status| client.error(&status))?;
            output.line(&format!("forgot {name}"))
        }
    }
}

async fn list(connection: &Connection, json: bool, output: &Output) -> Result<(), Failure> {
    let client = connection.client()?;
    let mut node = client.admin();
    let asked = tokio::time::timeout(DEADLINE, node.list_names(v1::ListNamesRequest {})).await;
    let answer = asked.map_err(late)?.map_err(|status| client.error(&status))?;
    let names = answer.into_inner().names;
    if names.is_empty() && !json {
        return output.note("no durable names");
    }
    let width = names.iter().map(|name| name.name.len()).max().unwrap_or_default();
    for name in &names {
        output.line(&if json { object(name) } else { row(name, width) })?;
    }
    Ok(())
}

fn late(_: tokio::time::error::Elapsed) -> Failure {
    Failure::new(UNAVAILABLE, format!("the node does not answer within {DEADLINE:?}"))
}

fn object(name: &v1::DurableName) -> String {
    let acknowledged = Offset::from_u64(name.acknowledged).to_string();
    json!({
        "name": name.name, "identity": name.identity, "sites": name.sites,
        "acknowledged": acknowledged, "connected": name.connected,
    })
    .to_string()
}

fn row(name: &v1::DurableName, width: usize) -> String {
    let sites = if name.sites.is_empty() { "every site".to_owned() } else { name.sites.join(", ") };
    let connected = if name.connected { "connected" } else { "away" };
    let acknowledged = Offset::from_u64(name.acknowledged);
    let (name, identity) = (&name.name, &name.identity);
    format!("{name:width$}  {connected:9}  acknowledged {acknowledged}  {sites}  {identity}")
}
