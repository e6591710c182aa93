//! What everybody records, one JSON object a line, in the order in which it happened to them.
//!
//! Times are the run's, not a party's own clock: the checker stands outside. Where a party acts by
//! its own clock, it records what that means in the run's time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A line: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since the run began.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// How sure a publisher was told that events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    /// Held at its origin.
    Accepted,
    /// On its origin's disk.
    Stored,
    /// And on the disks of all members that count.
    Replicated,
    /// And acknowledged by every subscription there that counts.
    Applied,
}

/// An event's number: whose, and which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Number {
    /// Node name and journal id, as one text.
    pub origin: String,
    /// The sequence.
    pub sequence: u64,
}

/// An event, as far as the checker looks at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Names it.
    pub id: String,
    /// Its scope.
    pub site: String,
    /// Who raised it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// What it is about; only what may be coalesced says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesce: Option<String>,
}

/// An event that was taken, as its publisher heard it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The event.
    pub id: String,
    /// Its number; a stream of publishes names the newest only.
    pub number: Option<Number>,
}

/// A member, as an answer named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// `stored`, `applied`, `pending`, `suspended` or `left`.
    pub standing: String,
}

/// Where a stream begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// With what comes.
    Live,
    /// With the first event ever.
    Beginning,
    /// Where the node keeps it.
    Name(String),
    /// After an offset of a start of a journal.
    Token {
        /// Which journal.
        journal: String,
        /// Which of its starts.
        start: String,
        /// Everything through here was acknowledged.
        offset: u64,
    },
}

/// A scope that may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Whose events; `None`: everybody's.
    pub origin: Option<String>,
    /// From here…
    pub from: u64,
    /// …through here; both 0: everything so far.
    pub through: u64,
    /// Of which sites; none: of all.
    pub sites: Vec<String>,
    /// Why, as on the wire.
    pub cause: String,
}

/// How a node's start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It said goodbye and closed its journal.
    Goodbye,
    /// Its process ended without a word.
    Killed,
    /// The power went: what was not synced is lost, kept or torn.
    PowerLoss,
    /// Its disk refused, and it ended by itself.
    DiskFailed,
    /// It noticed that its journal was restored from a copy, and goes on under a new id.
    Renewed,
}

/// Why a disk is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exchange {
    /// A copy of an earlier moment was put back.
    Restored,
    /// It is empty.
    Emptied,
    /// A bit in a segment is another one.
    Flipped,
    /// A bit in the state database is another one.
    FlippedState,
    /// It is the same, and the node has another name.
    Renamed,
    /// Its node never comes back.
    Gone,
    /// There is none: its node keeps everything in memory, and its start ended.
    Unkept,
}

/// What a disk that was exchanged leaves of an origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// Through where the disk that is there now lacks nothing of it, or knows what it lacks.
    pub through: u64,
    /// Nodes whose disks bear witness that there was more.
    pub witnesses: BTreeSet<String>,
    /// Through where some other disk has it.
    #[serde(default)]
    pub elsewhere: u64,
    /// Its starts that this disk knows, with the end of each; none: they are not told apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub starts: BTreeMap<String, u64>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A publisher hands events in. Their fate is unknown from here on.
    Publishing {
        /// Where.
        node: String,
        /// What.
        events: Vec<Event>,
        /// It tries until they are stored.
        must: bool,
    },
    /// It was answered.
    Published {
        /// Where.
        node: String,
        /// How sure they are.
        assured: Sure,
        /// Those that were taken.
        taken: Vec<Taken>,
        /// The number of the newest of them, where not all are named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<Number>,
        /// Who was counted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        members: Vec<Member>,
    },
    /// A fence was asked for and answered.
    Fenced {
        /// Up to which event.
        number: Number,
        /// Of which site.
        site: String,
        /// Everybody has applied it, or does not count.
        done: bool,
        /// Who was counted.
        members: Vec<Member>,
        /// The mesh was healed and quiet, and the fence waited for as long as it may need then.
        #[serde(default)]
        due: bool,
    },
    /// A subscriber asks for a stream.
    Opening {
        /// Which subscriber: it keeps its number over all its streams.
        subscription: u32,
        /// Which stream, counted over the run.
        stream: u32,
        /// Where.
        node: String,
        /// What it hears; empty: everything.
        sites: Vec<String>,
        /// Whose events it leaves out.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude_sources: Vec<String>,
        /// Where it begins.
        from: Begin,
    },
    /// The stream began.
    Opened {
        /// Which.
        stream: u32,
        /// The node's journal…
        journal: String,
        /// …and start.
        start: String,
        /// Everything through here comes not.
        offset: u64,
    },
    /// An event was delivered.
    Heard {
        /// On which stream.
        stream: u32,
        /// Its number.
        number: Number,
        /// Its place.
        offset: u64,
        /// Which delivery this is.
        attempt: u32,
        /// What.
        event: Event,
    },
    /// A missed was told.
    Missed {
        /// On which stream.
        stream: u32,
        /// Its place.
        offset: u64,
        /// What may be lost.
        scope: Scope,
    },
    /// The subscriber acknowledges.
    Acknowledging {
        /// On which stream.
        stream: u32,
        /// Through where.
        through: u64,
    },
    /// The subscriber rejects.
    Rejecting {
        /// On which stream.
        stream: u32,
        /// What lies there.
        offset: u64,
    },
    /// The subscriber pings.
    Pinging {
        /// On which stream.
        stream: u32,
        /// Counted over its streams.
        number: u64,
    },
    /// A ping was answered.
    Fresh {
        /// On which stream.
        stream: u32,
        /// Which ping.
        number: u64,
        /// Until when it trusts what each member published, in the run's time.
        until: BTreeMap<String, u64>,
    },
    /// A stream ended.
    Ended {
        /// Which.
        stream: u32,
    },
    /// A subscriber is no more, and trusts nothing.
    Closed {
        /// Which.
        subscription: u32,
    },
    /// A node began a start.
    Started {
        /// Which.
        node: String,
        /// Its name, where that is another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        called: Option<String>,
        /// Its journal.
        journal: String,
        /// Its start.
        start: String,
        /// Which start of its disk that is.
        #[serde(default)]
        epoch: u32,
        /// How long a ping makes a member count there, in milliseconds.
        lease: u64,
        /// Its journal may be so full that ids are forced out before their time: the next start
        /// does not know them.
        #[serde(default)]
        forgets_ids: bool,
        /// It keeps no disk.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_memory: bool,
    },
    /// A node's start ended.
    Stopped {
        /// Which.
        node: String,
        /// How.
        how: End,
    },
    /// A node leaves the mesh for good; or it keeps no disk, and ends in order.
    Leaving {
        /// Which.
        node: String,
        /// What it numbered last.
        number: Number,
        /// Who does not have everything of it; of one without a disk, who has not heard that this
        /// is its last word.
        lack: Vec<String>,
    },
    /// That a node leaves is on its disk: under this origin nothing is numbered in another start.
    Leaves {
        /// Its origin.
        origin: String,
    },
    /// An operator lets the mesh forget a member.
    Forgotten {
        /// Its name.
        name: String,
    },
    /// A node is gone for good, and its applications end with it: nobody tries any more to publish
    /// there.
    Gone {
        /// Which.
        node: String,
    },
    /// A subscriber heard everything that there was when its stream began.
    CaughtUp {
        /// On which stream.
        stream: u32,
        /// Who did not say what it has.
        absent: Vec<String>,
    },
    /// The disk of a node that is down is another one than before.
    Exchanged {
        /// Which node.
        node: String,
        /// Why.
        by: Exchange,
        /// For each origin that this node ever numbered under, what that means.
        origins: BTreeMap<String, Remains>,
    },
    /// What a node holds of an origin at this moment.
    Holds {
        /// Which node.
        node: String,
        /// Whose events.
        origin: String,
        /// Whoever is at this sequence or beyond can be served.
        base: u64,
        /// Through where it lacks nothing.
        through: u64,
        /// Through where it lacks nothing on its disk.
        durable: u64,
    },
    /// Something was done to the mesh; for readers only.
    Fault {
        /// What.
        fault: String,
    },
    /// All faults are over.
    Healed,
    /// From here on nothing comes any more: what was due has been heard, or never will be.
    Quiet,
}

/// Writes lines as JSON, one a line.
#[must_use]
pub fn to_json_lines(lines: &[Line]) -> String {
    let json = lines.iter().filter_map(|line| serde_json::to_string(line).ok());
    json.fold(String::new(), |mut text, line| {
        text.push_str(&line);
        text.push('\n');
        text
    })
}

/// Reads what [`to_json_lines`] wrote.
///
/// # Errors
/// If a line is none.
pub fn from_json_lines(text: &str) -> Result<Vec<Line>, serde_json::Error> {
    text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}
