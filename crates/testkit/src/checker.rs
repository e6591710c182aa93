//! The checker: what publishers, nodes and subscribers recorded, against what was promised.
//!
//! It is pure: it reads histories and knows nothing of how they came about, so that it judges a
//! simulation and real processes alike. `evermesh_event::verdict` is the small one that the binary
//! carries for its own demonstration; where both can judge, they agree, and a test says so.
//!
//! | Verdict | What is wrong |
//! |---|---|
//! | lost | assured, due, passed over, and no *missed* came first (P1) |
//! | reordered | a sequence, or an offset, that does not rise within its stream (P2) |
//! | duplicated | delivered again though its acknowledgement was stored (P3) |
//! | phantom | heard and never published so, or not asked for |
//! | reused | one number for two events |
//! | renumbered | one event under two numbers of one journal, without a crash between (P5) |
//! | missed needlessly | *missed*, though the node or a member that it reached still held it (P1) |
//! | unsound | a fence or APPLIED was done, and who trusted its cache had not applied it (P9) |
//! | overstated | a member was named as having stored what it had not (P4) |
//! | hasty | a member was named suspended sooner than its lease can have run out (P4, P9) |
//! | not live | healed and quiet, and yet not heard, not stored, or a fence not done |

mod disks;
mod duplicated;
mod fences;
mod history;
mod ledger;
mod listener;
mod lost;
mod needless;
mod nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::disks::Disks;
pub use self::history::{
    Begin, End, Event, Exchange, Line, Member, Number, Remains, Scope, Sure, Taken, What,
    from_json_lines, to_json_lines,
};
use self::ledger::Ledger;
use self::listener::Listener;
use self::nodes::Nodes;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table above says what each means")]
pub enum Verdict {
    Lost,
    Reordered,
    Duplicated,
    Phantom,
    Reused,
    Renumbered,
    MissedNeedlessly,
    Unsound,
    Overstated,
    Hasty,
    NotLive,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub verdict: Verdict,
    /// Which event, which subscriber, and when.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.verdict, self.text)
    }
}

/// What happened, faults or not: a run in which nothing happened proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were assured STORED or more.
    pub assured: u64,
    /// Deliveries.
    pub heard: u64,
    /// Of those, of what the subscriber had heard before.
    pub heard_again: u64,
    /// Missed told.
    pub missed: u64,
    /// Events that were not heard and are covered by a missed.
    pub covered: u64,
    /// Events that were not heard, went with a disk, and of which no other disk knows.
    pub void: u64,
    /// Answers that said applied everywhere: fences and publishes.
    pub applied: u64,
    /// Answers to pings of subscribers that granted something.
    pub fresh: u64,
}

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What happened.
    pub counts: Counts,
}

impl Findings {
    /// Nothing is wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// The kinds of things that are wrong.
    #[must_use]
    pub fn verdicts(&self) -> BTreeSet<Verdict> {
        self.faults.iter().map(|fault| fault.verdict).collect()
    }

    pub(crate) fn fault(&mut self, verdict: Verdict, text: String) {
        self.faults.push(Fault { verdict, text });
    }
}

/// Judges a run: all lines, each party's in its order.
#[must_use]
pub fn judge(lines: &[Line]) -> Findings {
    let mut found = Findings::default();
    let nodes = Nodes::read(lines);
    let disks = Disks::read(lines);
    let ledger = Ledger::read(lines, &nodes, &disks, &mut found);
    hasty(lines, &nodes, &disks, &mut found);
    absent(lines, &disks, &mut found);
    let listeners = Listener::read(lines, &mut found);
    let quiet = lines.iter().any(|line| line.what == What::Quiet);
    for listener in &listeners {
        lost::judge(listener, &ledger, &disks, quiet, &mut found);
        duplicated::judge(listener, &nodes, &disks, &mut found);
        needless::judge(listener, (&nodes, &disks), lines, &mut found);
    }
    fences::judge(lines, &ledger, &disks, &listeners, &mut found);
    if quiet {
        ledger.unfinished(&disks, &mut found);
    }
    found
}

/// Whoever was not heard in this start is pending until a lease of this start is over.
fn hasty(lines: &[Line], nodes: &Nodes, disks: &Disks, found: &mut Findings) {
    let mut handed_in = BTreeMap::new();
    for line in lines {
        let (node, members, asked) = match &line.what {
            What::Publishing { events, .. } => {
                handed_in.extend(events.iter().map(|event| (event.id.as_str(), line.at)));
                continue;
            }
            What::Published { node, members, taken, .. } => {
                let asked = taken.iter().filter_map(|taken| handed_in.get(taken.id.as_str()));
                (node.as_str(), members, asked.max().copied())
            }
            What::Fenced { number, members, .. } => (disks.host_of(&number.origin), members, None),
            _ => continue,
        };
        let asked = asked.unwrap_or(line.at);
        let suspended = members.iter().find(|member| member.standing == "suspended");
        if let Some(member) = suspended.filter(|_| nodes.is_hasty(node, asked, line.at)) {
            let text = format!("{node} named {} as suspended at {}", member.node, line.at);
            found.fault(Verdict::Hasty, text);
        }
    }
}

/// Nobody waits for who is gone before saying that all was heard.
fn absent(lines: &[Line], disks: &Disks, found: &mut Findings) {
    let mut opened = BTreeMap::new();
    for line in lines {
        match &line.what {
            What::Opened { stream, .. } => drop(opened.insert(*stream, line.at)),
            What::CaughtUp { stream, absent } => {
                let since = opened.get(stream).copied().unwrap_or_default();
                let gone = |name: &&String| {
                    disks.gone(name).is_some_and(|gone| gone + KNOWN_AFTER_MS < since)
                };
                if let Some(name) = absent.iter().find(gone) {
                    let text =
                        format!("stream {stream} waited at {} for {name}, which is gone", line.at);
                    found.fault(Verdict::NotLive, text);
                }
            }
            _ => {}
        }
    }
}

/// How long it may take on a healed mesh until all know that a member is gone.
const KNOWN_AFTER_MS: u64 = 5000;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
