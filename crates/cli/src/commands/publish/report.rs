//! What publishing says: a line for each event or a summary, progress, and where it stopped.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use evermesh_client::{Error, Outcome, Published, Taken};
use evermesh_proto::v1;
use serde_json::json;

use super::Args;
use crate::client_failure::INPUT;
use crate::failure::{Failure, NOT_ALLOWED, UNAVAILABLE};
use crate::output::Output;

/// How often progress is shown: fast enough to be seen moving, slow enough to cost nothing.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// What a refused event is told that would have been taken without its neighbour.
const ALL_OR_NOTHING: &str = "ALL_OR_NOTHING";
/// What an event is told whose site is not the publisher's to publish to.
const REASON_NOT_ALLOWED: &str = "NOT_ALLOWED";

/// How sure an event must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Wanted {
    /// Held in memory there; promises nothing across a crash
    Accepted,
    /// On that node's disk
    Stored,
    /// And on every other member that is not suspended
    Replicated,
    /// And acknowledged by every subscription of the site, here and there
    Applied,
}

impl From<Wanted> for v1::Assurance {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Accepted => Self::Accepted,
            Wanted::Stored => Self::Stored,
            Wanted::Replicated => Self::Replicated,
            Wanted::Applied => Self::Applied,
        }
    }
}

/// What was published so far, and how it is said.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    json: bool,
    /// The name of the input; empty for the one event of the arguments.
    input: String,
    until: v1::Assurance,
    progress: Option<Instant>,
    count: u64,
    under_way: usize,
    origin: String,
}

impl Report {
    pub(super) fn new(output: Output, args: &Args, input: String) -> Self {
        let shown = args.progress || (!input.is_empty() && std::io::stderr().is_terminal());
        Self {
            output,
            json: args.json,
            input,
            until: args.until.into(),
            progress: shown.then(Instant::now),
            count: 0,
            under_way: 0,
            origin: String::new(),
        }
    }

    /// So many events are handed to the node now.
    pub(super) const fn under_way(&mut self, events: usize) {
        self.under_way = events;
    }

    /// A call is done, and every event of it was taken.
    pub(super) fn published(&mut self, published: &Published) -> Result<(), Failure> {
        self.under_way = 0;
        self.count += published.outcomes.len() as u64;
        let taken = || published.outcomes.iter().filter_map(taken);
        if let Some(taken) = taken().next_back()
            && self.origin != taken.fence_token.origin.node.as_str()
        {
            self.origin = taken.fence_token.origin.to_string();
        }
        if self.json || self.input.is_empty() {
            let line = if self.json { json_line } else { text_line };
            let lines: String = taken().map(|taken| line(taken, published.assured)).collect();
            self.output.bytes(lines.as_bytes())?;
        }
        if let Some(shown) = &mut self.progress
            && shown.elapsed() >= PROGRESS_EVERY
        {
            *shown = Instant::now();
            self.output.note(&format!("{} published", self.count))?;
        }
        Ok(())
    }

    /// Whether what is assured is what was asked for.
    pub(super) fn sure_enough(&self, published: &Published) -> Result<(), Failure> {
        if published.assured >= self.until {
            return Ok(());
        }
        let pending = v1::MemberStanding::Pending;
        let pending = published.members.iter().filter(|member| member.standing() == pending);
        let pending: Vec<_> = pending.map(|member| member.node.as_str()).collect();
        let mut text = format!(
            "{} {}, not {}",
            events(published.outcomes.len() as u64),
            word(published.assured),
            word(self.until)
        );
        if !pending.is_empty() {
            text.push_str(&format!("; not yet at {}", pending.join(", ")));
        }
        if !self.input.is_empty() {
            text.push_str(&format!("; {} in all, nothing after", self.so_far()));
        }
        Err(Failure::new(UNAVAILABLE, text))
    }

    /// The end of the input.
    pub(super) fn finished(&self) -> Result<(), Failure> {
        if self.json || self.count == 0 {
            return Ok(());
        }
        let assured = word(self.until);
        self.output.line(&format!("{} at {}, {assured}", self.so_far(), self.origin))
    }

    /// A line that cannot be published.
    pub(super) fn stopped_at(&self, line: u64, why: &Why) -> Failure {
        let Why { code, text } = why;
        let (input, so_far) = (&self.input, self.so_far());
        let text = format!("line {line} of {input}: {text}; {so_far} before it, nothing after it");
        Failure::new(*code, text)
    }

    /// A call that failed as a whole; its first event came from this line.
    pub(super) fn failed(&self, line: u64, error: Error) -> Failure {
        let happened = error.may_have_happened();
        let under_way = events(self.under_way as u64);
        let under_way = format!("the {under_way} from line {line} of {} on", self.input);
        let mut failure = Failure::from(error);
        if let Some(text) = &mut failure.text {
            text.push_str(&format!("; {}", self.so_far()));
            text.push_str(&if happened {
                format!("; whether {under_way} were, too, is not known")
            } else {
                format!("; none of {under_way}")
            });
        }
        failure
    }

    /// A signal ended it.
    pub(super) fn interrupted(&self, mut failure: Failure) -> Result<(), Failure> {
        let mut text = format!("interrupted; {}", self.so_far());
        if self.under_way > 0 {
            text.push_str(&format!(", up to {} more may have been", self.under_way));
        }
        failure.text = Some(text);
        Err(failure)
    }

    fn so_far(&self) -> String {
        format!("{} published", events(self.count))
    }
}

/// The event that refused the call, if one did.
pub(super) fn first_refused<'a>(outcomes: &'a [Outcome]) -> Option<(usize, &'a v1::Refused)> {
    let refused = |(index, outcome): (usize, &'a Outcome)| match outcome {
        Outcome::Refused(refused) => Some((index, refused)),
        Outcome::Taken(_) => None,
    };
    let all = || outcomes.iter().enumerate().filter_map(refused);
    all().find(|(_, refused)| refused.reason != ALL_OR_NOTHING).or_else(|| all().next())
}

/// Why an event cannot be published.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Why {
    /// The exit code.
    pub(super) code: u8,
    /// For people.
    pub(super) text: String,
}

impl Why {
    /// A node's reason: the field within the event, and the node's words.
    pub(super) fn of(refused: &v1::Refused) -> Self {
        let field = refused.field.split_once("].").map_or(&*refused.field, |(_, field)| field);
        let code = if refused.reason == REASON_NOT_ALLOWED { NOT_ALLOWED } else { INPUT };
        Self { code, text: format!("{field}: {}", refused.message) }
    }
}

const fn taken(outcome: &Outcome) -> Option<&Taken> {
    match outcome {
        Outcome::Taken(taken) => Some(taken),
        Outcome::Refused(_) => None,
    }
}

fn json_line(taken: &Taken, assured: v1::Assurance) -> String {
    let token = &taken.fence_token;
    let object = json!({
        "id": taken.id,
        "origin": token.origin.node.as_str(),
        "sequence": token.sequence.to_string(),
        "fence_token": token.to_string(),
        "assured": word(assured),
    });
    format!("{object}\n")
}

fn text_line(taken: &Taken, assured: v1::Assurance) -> String {
    let token = &taken.fence_token;
    let (id, origin, sequence) = (&taken.id, &token.origin.node, token.sequence);
    let before = if taken.duplicate { ", as it was before" } else { "" };
    format!("{id} is {origin}/{sequence}, {}{before}\n", word(assured))
}

const fn word(assured: v1::Assurance) -> &'static str {
    match assured {
        v1::Assurance::Unspecified => "not assured",
        v1::Assurance::Accepted => "accepted",
        v1::Assurance::Stored => "stored",
        v1::Assurance::Replicated => "replicated",
        v1::Assurance::Applied => "applied",
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

#[cfg(test)]
mod tests;
