//! `evermesh letters`: the events that subscriptions rejected until they were set aside.

use std::time::Duration;

use evermesh_client::Client;
use evermesh_event::Sequence;
use evermesh_proto::v1;
use jiff::Timestamp;
use serde_json::json;

use crate::connection::Connection;
use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;

/// How long the node may take; replaying waits for the disk.
const DEADLINE: Duration = Duration::from_secs(30);
/// Numbers in one request, as the node takes them.
const NUMBERS_MAX: usize = 256;

/// Look at dead letters, publish them again, or drop them
///
/// An event that a subscription rejected five times is set aside, and that subscription is told
/// that it missed it. Here is what was set aside, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh letters list
  evermesh letters list --name varnish --json
  evermesh letters replay 3 4
  evermesh letters drop --all

Listing needs the act `observe`, the others `operate`. A replayed event is published anew, under a
new id and with the attribute evermesh.replay_of: every subscription of its site hears it again.")]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// List dead letters, oldest first
    List {
        #[command(flatten)]
        connection: Connection,
        /// Only those of this durable name
        #[arg(long)]
        name: Option<String>,
        /// One JSON object in each line
        #[arg(long)]
        json: bool,
    },
    /// Publish dead letters again, and drop them
    Replay(Which),
    /// Drop dead letters
    Drop(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    connection: Connection,
    /// The numbers of the letters
    #[arg(value_name = "NUMBER", required_unless_present = "all")]
    numbers: Vec<u64>,
    /// All that are there now
    #[arg(long, conflicts_with = "numbers")]
    all: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    match args.act {
        Act::List { connection, name, json } => {
            let letters = all(&connection.client()?, name.unwrap_or_default()).await?;
            if letters.is_empty() && !json {
                return output.note("no dead letters");
            }
            for letter in &letters {
                output.line(&if json { object(letter) } else { row(letter) })?;
            }
            Ok(())
        }
        Act::Replay(which) => change(which, "replayed", output).await,
        Act::Drop(which) => change(which, "dropped", output).await,
    }
}

/// Every letter, page by page.
async fn all(client: &Client, durable_name: String) -> Result<Vec<v1::DeadLetter>, Failure> {
    let mut node = client.admin();
    let mut letters: Vec<v1::DeadLetter> = Vec::new();
    loop {
        let after_number = letters.last().map(|letter| letter.number).unwrap_or_default();
        let durable_name = durable_name.clone();
        let request = v1::ListLettersRequest { durable_name, letters_max: 0, after_number };
        let page = within(client, node.list_letters(request)).await?;
        letters.extend(page.letters);
        if !page.more {
            return Ok(letters);
        }
    }
}

async fn change(which: Which, done: &str, output: &Output) -> Result<(), Failure> {
    let client = which.connection.client()?;
    let mut numbers = which.numbers;
    if which.all {
        let letters = all(&client, String::new()).await?;
        numbers = letters.into_iter().map(|letter| letter.number).collect();
    }
    let mut node = client.admin();
    let (mut count, mut unknown) = (0, Vec::new());
    for numbers in numbers.chunks(NUMBERS_MAX).map(<[u64]>::to_vec) {
        let (changed, not_there) = if done == "replayed" {
            let request = v1::ReplayLettersRequest { numbers };
            let answer = within(&client, node.replay_letters(request)).await?;
            (answer.replayed, answer.unknown_numbers)
        } else {
            let answer = within(&client, node.drop_letters(v1::DropLettersRequest { numbers }));
            let answer = answer.await?;
            (answer.dropped, answer.unknown_numbers)
        };
        count += changed;
        unknown.extend(not_there.iter().map(ToString::to_string));
    }
    output.line(&format!("{done} {count}"))?;
    if unknown.is_empty() {
        return Ok(());
    }
    let text = format!("no letter has the number {}", unknown.join(", "));
    Err(Failure::new(crate::client_failure::INPUT, text))
}

async fn within<T>(
    client: &Client,
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    let answer = tokio::time::timeout(DEADLINE, asked).await.map_err(|_| {
        Failure::new(UNAVAILABLE, format!("the node does not answer within {DEADLINE:?}"))
    })?;
    Ok(answer.map_err(|status| client.error(&status))?.into_inner())
}

/// When it was set aside, whose event it is, and which.
fn parts(letter: &v1::DeadLetter) -> (String, String, v1::Event) {
    let time = letter.time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    let time = time.map(|time| time.to_string()).unwrap_or_default();
    let entry = letter.entry.clone().unwrap_or_default();
    let node = letter.origin.as_ref().map(|origin| origin.node.as_str()).unwrap_or_default();
    (
        time,
        format!("{node}/{}", Sequence::from_u64(entry.sequence)),
        entry.event.unwrap_or_default(),
    )
}

fn object(letter: &v1::DeadLetter) -> String {
    let (time, place, event) = parts(letter);
    json!({
        "number": letter.number, "name": letter.durable_name, "identity": letter.identity,
        "event": { "id": event.id, "site": event.site, "type": event.r#type, "key": event.key },
        "event_at": place, "attempts": letter.attempts, "reason": letter.reason, "time": time,
    })
    .to_string()
}

fn row(letter: &v1::DeadLetter) -> String {
    let (time, place, event) = parts(letter);
    let who = if letter.durable_name.is_empty() { &letter.identity } else { &letter.durable_name };
    let (number, attempts) = (letter.number, letter.attempts);
    let v1::Event { site, r#type, key, .. } = event;
    let reason = letter.reason.escape_debug();
    format!(
        "{number:>6}  {time}  {who}  {place}  {site} {type} {key}  {attempts} attempts: {reason}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_and_an_object() {
        let event = v1::Event {
            id: "e1".into(),
            site: "shop".into(),
            r#type: "cache.invalidate".into(),
            key: "product:42".into(),
            ..Default::default()
        };
        let letter = v1::DeadLetter {
            number: 3,
            identity: "local:varnish".into(),
            durable_name: "varnish".into(),
            offset: 17,
            origin: Some(v1::Origin { node: "web-1".into(), ..Default::default() }),
            entry: Some(v1::Entry { sequence: 1 << 40 | 5, event: Some(event) }),
            attempts: 5,
            reason: "503 Backend\nfetch failed".into(),
            time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
        };
        assert_eq!(
            row(&letter),
            "     3  1970-01-01T00:00:00Z  varnish  web-1/1:5  shop cache.invalidate product:42  \
             5 attempts: 503 Backend\\nfetch failed"
        );
        assert!(object(&letter).contains("\"event_at\":\"web-1/1:5\""), "{}", object(&letter));
    }
}
