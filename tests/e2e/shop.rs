//! The web shop of docs/examples: no stale read after APPLIED or with the read fence, also while a
//! node is killed or stands still; and stale reads where something is left out on purpose. Without
//! the latter the former would show nothing.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};
use serde_json::Value;

use crate::pages::repository;
use crate::python::python;

/// Runs a script of the shop to its end, in a process group of its own; what it printed.
fn run(python: PathBuf, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(python);
    command.args(arguments).current_dir(repository().join("docs/examples/shop"));
    command.env("SHOP_BINARY", env!("CARGO_BIN_EXE_evermesh")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().unwrap();
    let group = Pid::from_raw(child.id().cast_signed()).unwrap();
    let output = child.wait_with_output().unwrap();
    let left = test_kill_process_group(group);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(left, Err(Errno::SRCH), "nodes or workers are left behind: {out}{err}");
    (output.status.success(), out, err)
}

/// What the load counted.
fn load(arguments: &[&str]) -> Option<Value> {
    let python = python()?;
    let binary = env!("CARGO_BIN_EXE_evermesh");
    let script = ["load.py", "--binary", binary, "--operations", "5000"];
    let (success, out, err) = run(python, &[&script, arguments].concat());
    assert!(success, "{arguments:?}: {out}{err}");
    let counts: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&counts["complete"], &counts["errors"]), (&true.into(), &0.into()), "{counts}");
    for (what, least) in [("reads", 1000), ("writes", 10), ("hit", 100)] {
        assert!(counts[what].as_u64().unwrap() > least, "{what}: {counts}");
    }
    Some(counts)
}

/// Nothing was stale; and with a kill, the caches were bypassed and then served again.
fn holds(arguments: &[&str]) {
    let Some(counts) = load(arguments) else { return };
    assert_eq!(counts["stale"], 0, "{counts}");
    if arguments.contains(&"--kill") {
        assert!(counts["bypassed"].as_u64().unwrap() > 0, "{counts}");
        assert!(counts["hit_after_kill"].as_u64().unwrap() > 0, "{counts}");
    }
}

/// The same load finds something where something is left out.
fn fails(arguments: &[&str]) {
    let Some(counts) = load(arguments) else { return };
    assert!(counts["stale"].as_u64().unwrap() > 0, "nothing was stale: {counts}");
}

#[test]
fn p9_nothing_is_stale_after_applied_while_a_node_is_killed() {
    holds(&["--until", "applied", "--kill"]);
}

#[test]
fn p9_nothing_is_stale_after_applied_while_a_node_stands_still() {
    holds(&["--until", "applied", "--pause"]);
}

#[test]
fn p9_who_carries_a_fence_token_reads_nothing_older_while_a_node_is_killed() {
    holds(&["--read-fence", "--kill"]);
}

#[test]
fn p9_who_carries_a_fence_token_reads_nothing_older_while_a_node_stands_still() {
    holds(&["--read-fence", "--pause"]);
}

#[test]
fn without_evermesh_the_load_finds_stale_reads() {
    fails(&["--evermesh", "off"]);
}

#[test]
fn without_the_fence_the_load_finds_stale_reads() {
    fails(&["--until", "stored", "--pause"]);
    fails(&["--until", "stored", "--kill"]);
}

#[test]
fn without_bypassing_the_load_finds_stale_reads() {
    fails(&["--until", "applied", "--kill", "--always-trust"]);
}

#[test]
fn the_shop_keeps_its_own_promises() {
    let Some(python) = python() else { return };
    let (success, out, err) = run(python, &["-m", "unittest", "test_shop"]);
    assert!(success, "{out}{err}");
}
