//! The demonstration: its verdict, a loss that is planted, and that nothing stays behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::node::{evermesh, run, until};

/// A demonstration whose files go below a directory of the test.
fn demo(directory: &Path, more: &[&str]) -> Command {
    let mut command = evermesh();
    command.args(["demo", "--events", "10000"]).args(more).env("TMPDIR", directory);
    command
}

/// Neither a file nor a process whose arguments name the directory.
pub(crate) fn is_clean(directory: &Path) -> bool {
    let name = directory.to_str().unwrap().as_bytes();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let arguments = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        arguments.windows(name.len()).any(|window| window == name).then_some(())
    });
    fs::read_dir(directory).unwrap().next().is_none() && processes.count() == 0
}

pub(crate) fn last_line(output: &[u8]) -> Value {
    let text = std::str::from_utf8(output).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn a_kill_costs_nothing_and_nothing_stays_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(&mut demo(directory.path(), &["--json"]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let result = last_line(&output.stdout);
    assert_eq!((result["nodes"].as_u64(), result["kills"].as_u64()), (Some(3), Some(1)));
    assert_eq!(result["published"], 10_000, "{result}");
    for count in ["lost", "reordered", "phantom", "missed"] {
        assert_eq!(result[count], 0, "{result}");
    }
    assert!(result["killed_behind"].as_u64().unwrap() >= 1_000, "{result}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    assert!(is_clean(directory.path()));
}

#[test]
fn a_planted_loss_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(&mut demo(directory.path(), &["--json", "--plant", "drop-one"]));
    assert_eq!(output.status.code(), Some(1));
    let result = last_line(&output.stdout);
    assert_eq!((&result["lost"], &result["reordered"]), (&1.into(), &0.into()), "{result}");
    assert!(is_clean(directory.path()));
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = demo(directory.path(), &[]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Nodes and subscribers are there, and events are under way.
    until("a subscriber heard something", || {
        let made = fs::read_dir(directory.path()).unwrap().next();
        let Some(Ok(made)) = made else { return false };
        let record = fs::metadata(made.path().join("web-3.jsonl"));
        record.is_ok_and(|record| record.len() > 0)
    });
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    until("nothing stays behind", || is_clean(directory.path()));
}
