//! P1, P11: one bit of a stopped node's directory is not what was written. Whatever the node makes
//! of it, it delivers no event that is not what was published, and leaves out none without saying
//! missed.
//!
//! It needs no root; it is here because it is one of the faults. The journal's own tests flip many
//! more. By hand: `EVERMESH_FLIPS=10000 cargo test --test root flips`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use evermesh_event::Sequence;
use rustix::process::Signal;
use serde_json::Value;

use crate::dice::Dice;
use crate::mesh::succeed;
use crate::needs::count;
use crate::node::{Node, evermesh, run, until};

/// Flips, if nobody says how many.
const FLIPS: usize = 40;
/// Published: enough that most of a segment's beginning is filled.
const EVENTS: usize = 2_000;
/// What the durable name acknowledged before.
const ACKNOWLEDGED: usize = 700;

/// What was published: sequence and payload, by id.
type Events = BTreeMap<String, (Sequence, String)>;

fn payload(n: usize) -> String {
    format!("payload of {n}: {}", "0123456789abcdef".repeat(1 + n % 16))
}

/// A node that published, and was stopped in order.
fn stopped(directory: &Path) -> (Node, Events) {
    let mut node = Node::new(directory, "web-1", "[journal]\nmax_bytes = \"64MiB\"\n");
    node.start();
    let at = node.at();
    // There before the events: it hears all of them.
    let name = ["--name", "half", "--site", "shop"];
    let mut opened = evermesh();
    opened.args(["subscribe", "--at", &at, "--count", "1"]).args(name);
    let line = |n| format!("{{\"id\":\"e{n}\",\"data\":\"{}\"}}\n", payload(n));
    let lines: String = (0..EVENTS).map(line).collect();
    let input = directory.join("input");
    fs::write(&input, lines).unwrap();
    let publish = || {
        let input = input.to_str().unwrap();
        let kind = ["--site", "shop", "--type", "t", "--input", input, "--json"];
        succeed(&[&["publish", "--at", &at][..], &kind].concat()).stdout
    };
    let mut opened = opened.stdout(std::process::Stdio::piped()).spawn().unwrap();
    until("the name is open", || {
        let said = succeed(&["names", "list", "--at", &at, "--json"]).stdout;
        String::from_utf8(said).unwrap().contains("half")
    });
    let said = publish();
    assert!(opened.wait().unwrap().success());
    let more = (ACKNOWLEDGED - 1).to_string();
    succeed(&[&["subscribe", "--at", &at, "--count", &more][..], &name].concat());
    let mut events = Events::new();
    for (n, line) in std::str::from_utf8(&said).unwrap().lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let sequence = line["sequence"].as_str().unwrap().parse().unwrap();
        events.insert(line["id"].as_str().unwrap().to_owned(), (sequence, payload(n)));
    }
    assert_eq!(events.len(), EVENTS);
    assert_eq!(node.end(Signal::TERM).code(), Some(0));
    (node, events)
}

/// Flips one bit of one file; which. Of a segment more often where something was written.
fn flip(data: &Path, dice: &mut Dice) -> String {
    let mut files: Vec<PathBuf> =
        fs::read_dir(data.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.push(data.join("state.redb"));
    let path = &files[dice.below(files.len())];
    let bytes = fs::read(path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let bound = if dice.below(8) == 0 { bytes.len() } else { used };
    let (at, bit) = (dice.below(bound), dice.below(8));
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at] ^ (1 << bit)], at as u64).unwrap();
    format!("{}: bit {bit} of byte {at}", path.file_name().unwrap().to_str().unwrap())
}

/// What a subscription printed.
#[derive(Default)]
struct Heard {
    ids: Vec<String>,
    missed: usize,
    caught_up: bool,
}

/// Hears until it has caught up, and checks each event and each hole on the way. `None`: it was
/// told why it hears nothing more.
fn hear(node: &Node, from: &[&str], first: usize, events: &Events, what: &str) -> Option<Heard> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let errors = tempfile::NamedTempFile::new().unwrap();
    let mut command = evermesh();
    command.args(["subscribe", "--at", &node.at(), "--site", "shop"]).args(from);
    command.stdout(file.reopen().unwrap()).stderr(errors.reopen().unwrap());
    let mut child = command.spawn().unwrap();
    let mut ended = false;
    until("it has caught up, or was told why not", || {
        ended = child.try_wait().unwrap().is_some();
        let said = fs::read_to_string(errors.path()).unwrap();
        ended |= said.contains("damaged");
        ended || fs::read_to_string(file.path()).unwrap().contains("{\"caught_up\"")
    });
    let _ = child.kill();
    let _ = child.wait();
    let text = fs::read_to_string(file.path()).unwrap();
    let said = fs::read_to_string(errors.path()).unwrap();
    let heard = check(&text, first, events, what);
    if !heard.caught_up {
        assert!(said.contains("damaged") || said.contains("read its journal"), "{what}: {said}");
        return None;
    }
    Some(heard)
}

/// Every event is what was published, they come in their order, and before what follows a hole
/// missed was told of it.
fn check(text: &str, first: usize, events: &Events, what: &str) -> Heard {
    let mut heard = Heard::default();
    let mut expected = first;
    // Through where missed covers, by sequence; all of it where it names no range.
    let mut covered: Vec<(Sequence, Sequence)> = Vec::new();
    let hole = |from: usize, to: usize, covered: &[(Sequence, Sequence)]| {
        for n in from..to {
            let (sequence, _) = &events[&format!("e{n}")];
            let told = covered.iter().any(|(from, through)| (from..=through).contains(&sequence));
            assert!(told, "{what}: e{n} was left out, and nobody was told");
        }
    };
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(event) = line.get("event") {
            let id = event["id"].as_str().unwrap();
            let (sequence, payload) = events.get(id).unwrap_or_else(|| panic!("{what}: {id}"));
            assert_eq!(event["data"], payload.as_str(), "{what}: {id}");
            assert_eq!(line["sequence"], sequence.to_string(), "{what}: {id}");
            let n: usize = id[1..].parse().unwrap();
            assert!(n >= expected, "{what}: {id} after e{expected}");
            hole(expected, n, &covered);
            expected = n + 1;
            heard.ids.push(id.to_owned());
        } else if let Some(missed) = line.get("missed") {
            let place = |name: &str| missed[name].as_str().map(|text| text.parse().unwrap());
            let from = place("from").unwrap_or(Sequence::ZERO);
            covered.push((from, place("through").unwrap_or(Sequence::from_u64(u64::MAX))));
            heard.missed += 1;
        } else if line.get("caught_up").is_some() {
            hole(expected, EVENTS, &covered);
            heard.caught_up = true;
            break;
        }
    }
    heard
}

/// What became of the flips.
#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    refused_while_read: usize,
    told: usize,
    whole: usize,
}

#[test]
fn a_flipped_bit_is_no_wrong_event_and_no_silent_hole() {
    let directory = tempfile::tempdir().unwrap();
    let (mut node, events) = stopped(directory.path());
    let data = directory.path().join("web-1.data");
    let copy = directory.path().join("copy");
    node.set("EVERMESH_NODE__DATA_DIR", copy.to_str().unwrap());
    let (mut dice, mut outcomes) = (Dice::new(), Outcomes::default());
    let flips = count("EVERMESH_FLIPS", FLIPS);
    for _ in 0..flips {
        let _ = fs::remove_dir_all(&copy);
        let copied = run(std::process::Command::new("cp").arg("-a").arg(&data).arg(&copy));
        assert!(copied.status.success());
        let what = flip(&copy, &mut dice);
        let before = node.log().len();
        if let Err(ended) = node.try_start() {
            let log = node.log();
            let said = &log[before..];
            let clear = said.contains("is damaged at byte")
                || said.contains("the state database cannot be used")
                || said.contains("has format version");
            assert!(clear, "{what}: {ended}: {said}");
            outcomes.refused += 1;
            continue;
        }
        let all = hear(&node, &["--from", "beginning"], 0, &events, &what);
        let rest = hear(&node, &["--name", "half"], ACKNOWLEDGED, &events, &what);
        match (all, rest) {
            (Some(all), Some(rest)) if all.missed + rest.missed == 0 => outcomes.whole += 1,
            (Some(_), Some(_)) => outcomes.told += 1,
            _ => outcomes.refused_while_read += 1,
        }
        node.end(Signal::KILL);
    }
    eprintln!("{flips} flips: {outcomes:?}");
    assert!(outcomes.whole < flips, "nothing was flipped that matters: {outcomes:?}");
    assert_eq!(outcomes.refused, 0, "damage is passed over and told: {outcomes:?}");
}
