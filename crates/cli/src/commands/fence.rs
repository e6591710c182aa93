//! `evermesh fence`: has every member applied everything up to an event?

use std::time::Duration;

use evermesh_client::Error;
use evermesh_event::FenceToken;
use evermesh_proto::v1;
use serde_json::json;

use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// What a node waits at most.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How much longer than it waits itself a node has for its answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// Ask whether every member has applied an event
///
/// A member has applied it when it holds it and every subscription of the event's site there has
/// acknowledged it. Ask the node that published it, or with --this-node any node about itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh fence ef1.CiAB…
  evermesh fence ef1.CiAB… --wait 30s --json
  evermesh fence ef1.CiAB… --this-node --at unix:/run/evermesh/web-2.sock

The exit code is 0 once every member is applied, suspended or left, and 69 if somebody is pending
when the time is over.")]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The fence_token that publishing returned
    #[arg(value_name = "FENCE_TOKEN")]
    token: FenceToken,
    /// How long to wait, at most 60s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = wait)]
    wait: Duration,
    /// Ask this node alone: has it applied the event itself?
    #[arg(long)]
    this_node: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = crate::quantity::duration(text)?;
    if wait > WAIT_MAX {
        return Err("at most 60s".to_owned());
    }
    Ok(wait)
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let (client, at) = (args.connection.client()?, &args.connection.at);
    let request = v1::FenceRequest {
        fence_token: Some(args.token.to_proto()),
        wait_for: prost_types::Duration::try_from(args.wait).ok(),
        this_node_only: args.this_node,
    };
    let mut node = client.events();
    let asked = tokio::time::timeout(args.wait + ANSWER_MARGIN, node.fence(request)).await;
    let answer = asked
        .map_err(|_| Failure::new(UNAVAILABLE, format!("{at} does not answer")))?
        .map_err(|status| refused(client.error(&status)))?
        .into_inner();
    if args.json {
        output.line(&object(&answer).to_string())?;
    } else {
        output.bytes(table(&answer).as_bytes())?;
    }
    if answer.done {
        return Ok(());
    }
    let pending = answer.members.iter().filter(|m| standing(m) == "pending");
    let names: Vec<_> = pending.map(|member| member.node.as_str()).collect();
    Err(Failure::new(UNAVAILABLE, format!("not applied yet by {}", names.join(", "))))
}

/// What the node said, in the words of this command where they differ.
fn refused(error: Error) -> Failure {
    let elsewhere = error.reason() == Some("FENCE_ELSEWHERE");
    let failure = Failure::from(error);
    let hint = |text: String| if elsewhere { format!("{text} (--this-node)") } else { text };
    Failure { text: failure.text.map(hint), ..failure }
}

fn standing(member: &v1::MemberState) -> String {
    let name = member.standing().as_str_name();
    name.strip_prefix("MEMBER_STANDING_").unwrap_or(name).to_ascii_lowercase()
}

fn took(member: &v1::MemberState) -> Option<f64> {
    let took = member.took.and_then(|took| Duration::try_from(took).ok())?;
    Some(took.as_secs_f64() * 1000.0)
}

fn object(answer: &v1::FenceResponse) -> serde_json::Value {
    let member = |member: &v1::MemberState| {
        let (standing, took) = (standing(member), took(member));
        json!({ "node": member.node, "standing": standing, "took_ms": took })
    };
    json!({ "done": answer.done, "members": answer.members.iter().map(member).collect::<Vec<_>>() })
}

fn table(answer: &v1::FenceResponse) -> String {
    let width = answer.members.iter().map(|member| member.node.len()).max().unwrap_or_default();
    let line = |member: &v1::MemberState| {
        let took = took(member).map(|ms| format!("  after {ms:.1} ms")).unwrap_or_default();
        format!("{:width$}  {}{took}\n", member.node, standing(member))
    };
    answer.members.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_each_member_and_how_long_it_took() {
        let member = |node: &str, standing: v1::MemberStanding, took| v1::MemberState {
            node: node.to_owned(),
            standing: standing.into(),
            took,
        };
        let took = Some(prost_types::Duration { seconds: 0, nanos: 1_500_000 });
        let members = vec![
            member("web-10", v1::MemberStanding::Applied, took),
            member("web-2", v1::MemberStanding::Pending, None),
        ];
        let answer = v1::FenceResponse { done: false, members };
        assert_eq!(table(&answer), "web-10  applied  after 1.5 ms\nweb-2   pending\n");
        assert_eq!(
            object(&answer).to_string(),
            "{\"done\":false,\"members\":[{\"node\":\"web-10\",\"standing\":\"applied\",\
             \"took_ms\":1.5},{\"node\":\"web-2\",\"standing\":\"pending\",\"took_ms\":null}]}"
        );
    }
}
