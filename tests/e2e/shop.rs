//! The web shop of docs/examples: no stale read after APPLIED or with the read fence, also while a
//! node is killed or stands still; and stale reads where something is left out on purpose.

use std::process::Command;

use serde_json::Value;

use crate::pages::{repository, succeed};
use crate::python::python;

fn stale(arguments: &[&str]) -> Option<u64> {
    let python = python()?;
    let script = repository().join("docs/examples/shop/load.py");
    let mut command = Command::new(python);
    command.arg(script).args(["--binary", env!("CARGO_BIN_EXE_evermesh"), "--operations", "5000"]);
    let said = succeed(command.args(arguments));
    let counts: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(counts["complete"], true, "{counts}");
    assert!(counts["reads"].as_u64().unwrap() > 1000, "{counts}");
    assert!(counts["writes"].as_u64().unwrap() > 10, "{counts}");
    Some(counts["stale"].as_u64().unwrap())
}

#[test]
fn p9_nothing_is_stale_after_applied_while_a_node_is_killed() {
    assert!(stale(&["--until", "applied", "--kill"]).is_none_or(|stale| stale == 0));
}

#[test]
fn p9_nothing_is_stale_after_applied_while_a_node_stands_still() {
    assert!(stale(&["--until", "applied", "--pause"]).is_none_or(|stale| stale == 0));
}

#[test]
fn p9_who_carries_a_fence_token_reads_nothing_older() {
    assert!(stale(&["--read-fence", "--pause"]).is_none_or(|stale| stale == 0));
}

#[test]
fn the_load_finds_what_it_looks_for() {
    for left_out in [["--evermesh", "off"].as_slice(), &["--kill", "--always-trust"]] {
        let stale = stale(left_out);
        assert!(stale.is_none_or(|stale| stale > 0), "{left_out:?}: nothing was stale");
    }
}
