//! The drill: its verdict, that it can fail, given nodes, and that nothing stays behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::demo::{is_clean, last_line};
use crate::mesh::Mesh;
use crate::node::{evermesh, failure, run, until};

/// A drill whose files go below a directory of the test.
fn drill(directory: &Path, more: &[&str]) -> Command {
    let mut command = evermesh();
    command.arg("drill").args(more).env("TMPDIR", directory);
    command
}

const SMALL: [&str; 5] = ["--nodes", "3", "--events", "4000", "--json"];

fn assert_held(result: &Value) {
    for count in [
        "lost",
        "reordered",
        "phantom",
        "duplicated",
        "missed",
        "missed_needlessly",
        "fence_unsound",
        "fence_stuck",
    ] {
        assert_eq!(result[count], 0, "{count}: {result}");
    }
}

#[test]
fn p1_p2_p3_p9_hold_over_kills_pauses_and_partitions_and_nothing_stays_behind() {
    let directory = tempfile::tempdir().unwrap();
    let faults = ["--kills", "3", "--pauses", "2", "--partitions", "2", "--seed", "1"];
    let output = run(drill(directory.path(), &SMALL).args(faults));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    let result = last_line(&output.stdout);
    assert_held(&result);
    let counts = [("published", 4000), ("kills", 3), ("pauses", 2), ("partitions", 2), ("seed", 1)];
    for (key, count) in counts {
        assert_eq!(result[key], count, "{result}");
    }
    // It looked: fences were done while some had applied the event and others could not know it.
    assert!(result["fences"].as_u64() > Some(10), "{result}");
    assert!(result["fence_seen_applied"].as_u64() > Some(50), "{result}");
    assert!(result.as_object().unwrap().values().all(Value::is_number), "{result}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    assert!(said.contains("killed, for") && said.contains("paused, for"), "{said}");
    assert!(is_clean(directory.path()));
}

/// What a drill with a planted fault says; it must not succeed.
fn planted(plant: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let calm = ["--kills", "0", "--pauses", "0", "--partitions", "1", "--plant", plant];
    let output = run(drill(directory.path(), &SMALL).args(calm));
    assert_eq!(output.status.code(), Some(1), "{plant}");
    assert!(is_clean(directory.path()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("This must not be") && said.contains("again with --seed"), "{said}");
    last_line(&output.stdout)
}

#[test]
fn a_planted_loss_is_noticed() {
    let result = planted("drop-one");
    assert_eq!((&result["lost"], &result["reordered"]), (&1.into(), &0.into()), "{result}");
}

#[test]
fn a_fence_that_is_done_too_early_is_noticed() {
    let result = planted("skip-fence");
    assert!(result["fence_unsound"].as_u64() > Some(0), "{result}");
    assert_eq!(result["lost"], 0, "{result}");
}

#[test]
fn ctrl_c_and_sigterm_leave_nothing_behind() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = drill(directory.path(), &SMALL);
        command.args(["--kills", "0", "--pauses", "2", "--partitions", "0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // A node is stopped and cannot end by itself.
        let said = std::io::BufReader::new(child.stderr.take().unwrap());
        let paused = std::io::BufRead::lines(said).any(|line| line.unwrap().contains("paused"));
        assert!(paused);
        kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        until("nothing stays behind", || is_clean(directory.path()));
    }
}

#[test]
fn given_nodes_are_hurt_by_commands_and_left_as_they_were() {
    let mesh = Mesh::started(2);
    let file = mesh.path("drill.toml");
    let [one, other] = &mesh.nodes[..] else { panic!("two nodes") };
    let said = mesh.path("said");
    let note = |word: &str| format!("echo {word} >>{}", said.display());
    let text = format!(
        "[[node]]\nat = \"{}\"\n[[node]]\nat = \"{}\"\nname = \"second\"\n\
         pause = \"kill -STOP {pid} && {}\"\ncontinue = \"kill -CONT {pid} && {}\"\n",
        one.at(),
        other.at(),
        note("paused"),
        note("continued"),
        pid = other.pid(),
    );
    fs::write(&file, text).unwrap();
    let mut command = evermesh();
    command.args(["drill", "--events", "2000", "--json", "--nodes-file"]).arg(&file);
    let output = run(command.args(["--kills", "3", "--pauses", "2"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result = last_line(&output.stdout);
    assert_held(&result);
    let faults = ["kills", "pauses", "partitions"].map(|key| result[key].as_u64().unwrap());
    assert_eq!(faults, [0, 2, 0], "what has no command is left out: {result}");
    let said = fs::read_to_string(&said).unwrap();
    assert_eq!(said, "paused\ncontinued\n".repeat(2));
    let names = run(evermesh().args(["names", "list", "--json", "--at", &one.at()]));
    assert_eq!(String::from_utf8(names.stdout).unwrap(), "", "durable names are forgotten");
}

#[test]
fn a_signal_continues_a_given_node() {
    let mesh = Mesh::started(2);
    let (file, said) = (mesh.path("drill.toml"), mesh.path("said"));
    let [one, other] = &mesh.nodes[..] else { panic!("two nodes") };
    let text = format!(
        "[[node]]\nat = \"{}\"\n[[node]]\nat = \"{}\"\npause = \"echo paused >>{said}\"\n\
         continue = \"echo continued >>{said}\"\n",
        one.at(),
        other.at(),
        said = said.display(),
    );
    fs::write(&file, text).unwrap();
    let mut command = evermesh();
    command.args(["drill", "--pauses", "1", "--nodes-file"]).arg(&file);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it is paused", || fs::read_to_string(&said).is_ok_and(|said| said == "paused\n"));
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(fs::read_to_string(&said).unwrap(), "paused\ncontinued\n");
}

#[test]
fn bad_input_is_named() {
    let wrong = |arguments: &[&str]| failure(evermesh().arg("drill").args(arguments));
    let (code, said) = wrong(&["--nodes", "1"]);
    assert!(code == 64 && said.contains("1 is not in 2..=12"), "{said}");
    let (code, said) = wrong(&["--events", "10"]);
    assert!(code == 64 && said.contains("10 is not in 1000..=10000000"), "{said}");
    let (code, said) = wrong(&["--nodes-file", "/none"]);
    assert!(code == 74 && said.contains("cannot read /none"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("drill.toml");
    let nodes = "[[node]]\nat = \"unix:/a\"\n[[node]]\nat = \"unix:/b\"\nkill = \"true\"\n";
    fs::write(&file, nodes).unwrap();
    let (code, said) = wrong(&["--nodes-file", file.to_str().unwrap()]);
    assert!(code == 78 && said.contains("node-2 has `kill` without `start`"), "{said}");
    fs::write(&file, nodes.replace("kill = \"true\"\n", "")).unwrap();
    let (code, said) = wrong(&["--nodes-file", file.to_str().unwrap()]);
    assert!(code == 69 && said.contains("no node answers at unix:/a"), "{said}");
}
