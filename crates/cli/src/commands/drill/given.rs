//! Nodes that are there already: where they are, and the commands that do something to them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evermesh_client::Client;
use serde::Deserialize;
use tokio::process::Command;

use crate::Failure;
use crate::connection::Connection;
use crate::failure::{CONFIG, UNAVAILABLE};

/// Nodes in one file: each has several subscriptions and publishers in this process.
const NODES_MAX: usize = 64;
/// How long a command may take: a start waits until the node serves, on most systems.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node: Vec<Entry>,
}

/// One `[[node]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at: String,
    name: Option<String>,
    cert: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    kill: Option<String>,
    start: Option<String>,
    pause: Option<String>,
    #[serde(rename = "continue")]
    go_on: Option<String>,
    part: Option<String>,
    heal: Option<String>,
}

/// A fault: the command that makes it, the one that ends it, and whether it is there now.
#[derive(Debug)]
struct Fault {
    make: String,
    end: String,
    made: AtomicBool,
}

/// A node of a file.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) name: String,
    connection: Connection,
    kill: Option<Fault>,
    pause: Option<Fault>,
    part: Option<Fault>,
}

/// Reads a file of nodes.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, Failure> {
    let wrong = |text: &str| Failure::new(CONFIG, format!("{}: {text}", path.display()));
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io(&format!("read {}", path.display()), &error))?;
    parse(&text).map_err(|text| wrong(&text))
}

fn parse(text: &str) -> Result<Vec<Given>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let count = file.node.len();
    if !(2..=NODES_MAX).contains(&count) {
        return Err(format!(
            "{count} nodes, but a drill needs 2 to {NODES_MAX}: write one [[node]] for each"
        ));
    }
    let given = file.node.into_iter().enumerate().map(|(n, entry)| Given::new(n + 1, entry));
    let given = given.collect::<Result<Vec<_>, _>>()?;
    for (n, one) in given.iter().enumerate() {
        let before = given.iter().take(n);
        if let Some(same) = before.clone().find(|before| before.connection.at == one.connection.at)
        {
            return Err(format!("{} and {} have the same `at`", same.name, one.name));
        }
        if before.clone().any(|before| before.name == one.name) {
            return Err(format!("two nodes have the name {}", one.name));
        }
    }
    Ok(given)
}

/// Both commands, or neither.
fn fault(
    node: &str,
    make: (&str, Option<String>),
    end: (&str, Option<String>),
) -> Result<Option<Fault>, String> {
    match (make, end) {
        ((_, Some(make)), (_, Some(end))) => {
            Ok(Some(Fault { make, end, made: AtomicBool::new(false) }))
        }
        ((_, None), (_, None)) => Ok(None),
        ((there, Some(_)), (lacks, None)) | ((lacks, None), (there, Some(_))) => {
            Err(format!("{node} has `{there}` without `{lacks}`: give both, or neither"))
        }
    }
}

impl Given {
    fn new(number: usize, entry: Entry) -> Result<Self, String> {
        let name = entry.name.unwrap_or_else(|| format!("node-{number}"));
        let kill = fault(&name, ("kill", entry.kill), ("start", entry.start))?;
        let pause = fault(&name, ("pause", entry.pause), ("continue", entry.go_on))?;
        let part = fault(&name, ("part", entry.part), ("heal", entry.heal))?;
        let Entry { at, cert, key_file, ca, .. } = entry;
        let connection = Connection { at, cert, key_file, ca };
        let address: Result<evermesh_client::Address, _> = connection.at.parse();
        address.map_err(|error| format!("{name}: at = \"{}\": {error}", connection.at))?;
        Ok(Self { name, connection, kill, pause, part })
    }

    pub(super) fn client(&self) -> Result<Client, Failure> {
        let failure = self.connection.client();
        failure.map_err(|failure| Failure {
            text: failure.text.map(|text| format!("{}: {text}", self.name)),
            ..failure
        })
    }

    pub(super) const fn can_be_killed(&self) -> bool {
        self.kill.is_some()
    }

    pub(super) const fn can_be_paused(&self) -> bool {
        self.pause.is_some()
    }

    pub(super) const fn can_be_parted(&self) -> bool {
        self.part.is_some()
    }

    pub(super) async fn kill(&self) -> Result<(), Failure> {
        self.make(self.kill.as_ref()).await
    }

    pub(super) async fn start(&self) -> Result<(), Failure> {
        self.end(self.kill.as_ref()).await
    }

    pub(super) async fn pause(&self) -> Result<(), Failure> {
        self.make(self.pause.as_ref()).await
    }

    pub(super) async fn go_on(&self) -> Result<(), Failure> {
        self.end(self.pause.as_ref()).await
    }

    pub(super) async fn part(&self) -> Result<(), Failure> {
        self.make(self.part.as_ref()).await
    }

    pub(super) async fn heal(&self) -> Result<(), Failure> {
        self.end(self.part.as_ref()).await
    }

    /// Ends every fault that is there.
    pub(super) async fn restore(&self) -> Vec<Failure> {
        let mut failures = Vec::new();
        for fault in [&self.pause, &self.part, &self.kill].into_iter().flatten() {
            if fault.made.load(Ordering::SeqCst) {
                failures.extend(self.end(Some(fault)).await.err());
            }
        }
        failures
    }

    async fn make(&self, fault: Option<&Fault>) -> Result<(), Failure> {
        let Some(fault) = fault else { return Ok(()) };
        // Before it is tried: what was made by half is ended too.
        fault.made.store(true, Ordering::SeqCst);
        self.run(&fault.make).await
    }

    async fn end(&self, fault: Option<&Fault>) -> Result<(), Failure> {
        let Some(fault) = fault else { return Ok(()) };
        self.run(&fault.end).await?;
        fault.made.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Runs a command by the shell; what it says goes to standard error.
    async fn run(&self, command: &str) -> Result<(), Failure> {
        let said = |what: &str| format!("{}: `{command}` {what}", self.name);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null());
        // Apart from the terminal's Ctrl-C, after which it is still needed.
        shell.process_group(0).kill_on_drop(true);
        match tokio::time::timeout(COMMAND_DEADLINE, shell.status()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::new(UNAVAILABLE, said(&format!("failed: {status}")))),
            Ok(Err(error)) => Err(Failure::io("run sh", &error)),
            Err(_) => Err(Failure::new(UNAVAILABLE, said("took longer than 60 s"))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const TWO: &str = "[[node]]\nat = \"unix:/a.sock\"\n[[node]]\nat = \"unix:/b.sock\"\n";

    fn refused(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn nodes_with_what_can_be_done_to_them() {
        let more = "name = \"web-2\"\nkill = \"true\"\nstart = \"true\"\n";
        let nodes = parse(&format!("{TWO}{more}")).unwrap();
        assert_eq!((nodes[0].name.as_str(), nodes[1].name.as_str()), ("node-1", "web-2"));
        assert!(!nodes[0].can_be_killed() && nodes[1].can_be_killed());
        assert!(!nodes[1].can_be_paused() && !nodes[1].can_be_parted());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let lone = refused(&format!("{TWO}kill = \"true\"\n"));
        assert_eq!(lone, "node-2 has `kill` without `start`: give both, or neither");
        let one = refused("[[node]]\nat = \"unix:/a.sock\"\n");
        assert!(one.contains("1 nodes, but a drill needs 2 to 64"), "{one}");
        let at = refused("[[node]]\nat = \"web-1\"\n[[node]]\nat = \"unix:/b.sock\"\n");
        assert!(at.starts_with("node-1: at = \"web-1\": not an address"), "{at}");
        let unknown = refused(&format!("{TWO}stop = \"true\"\n"));
        assert!(
            unknown.contains("unknown field `stop`") && unknown.contains("line 5"),
            "{unknown}"
        );
        let twice = refused(&TWO.replace("/b.", "/a."));
        assert_eq!(twice, "node-1 and node-2 have the same `at`");
    }

    #[tokio::test]
    async fn what_was_done_is_undone_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("said");
        let say = |word: &str| format!("echo {word} >>{}", file.display());
        let (pause, go_on) = (say("pause"), say("continue"));
        let text = format!("{TWO}pause = \"{pause}\"\ncontinue = \"{go_on}\"\n");
        let node = parse(&text).unwrap().pop().unwrap();
        assert!(node.restore().await.is_empty());
        node.pause().await.unwrap();
        assert!(node.restore().await.is_empty() && node.restore().await.is_empty());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "pause\ncontinue\n");
        let failing = Fault { make: "exit 3".into(), end: String::new(), made: false.into() };
        let failure = node.make(Some(&failing)).await.unwrap_err();
        assert_eq!(failure.text.unwrap(), "node-2: `exit 3` failed: exit status: 3");
    }
}
