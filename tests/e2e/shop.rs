//! The web shop of docs/examples: no stale read after APPLIED or with the read fence, also over the
//! kill of a node; and stale reads without evermesh.

use std::process::Command;

use serde_json::Value;

use crate::pages::{repository, succeed};
use crate::python::python;

fn load(arguments: &[&str]) -> Option<Value> {
    let python = python()?;
    let script = repository().join("docs/examples/shop/shop.py");
    let mut command = Command::new(python);
    command.arg(script).args(["load", "--changes", "150", "--mode"]).args(arguments);
    command.env("EVERMESH", env!("CARGO_BIN_EXE_evermesh"));
    let said = succeed(&mut command);
    let counts: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(counts["reads"].as_u64().unwrap() > 0, "{counts}");
    let writes = counts["writes"].as_u64().unwrap() + counts["unanswered"].as_u64().unwrap();
    assert_eq!(writes, 150, "{counts}");
    Some(counts)
}

#[test]
fn p9_nothing_stale_after_applied_while_a_node_is_killed() {
    if let Some(counts) = load(&["applied", "--kill"]) {
        assert_eq!((&counts["stale"], &counts["kills"]), (&0.into(), &1.into()), "{counts}");
        assert!(counts["writes"].as_u64().unwrap() > 0, "{counts}");
    }
}

#[test]
fn p9_an_editor_sees_the_own_change_behind_a_load_balancer() {
    if let Some(counts) = load(&["fence", "--kill"]) {
        assert_eq!(counts["stale"], 0, "{counts}");
    }
}

#[test]
fn without_evermesh_reads_are_stale() {
    if let Some(counts) = load(&["off"]) {
        assert_ne!(counts["stale"], 0, "the load finds what it looks for: {counts}");
    }
}
