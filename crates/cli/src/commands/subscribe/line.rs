//! The JSON lines: one for each event, and for everything else that is heard.
//!
//! Built by hand into one buffer for each batch, without a tree of values in between: this is the
//! only thing that the command does for an event.

use std::collections::HashMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evermesh_event::{FenceToken, Offset, Origin, ResumeToken, Run, Sequence};
use evermesh_proto::v1;
use jiff::Timestamp;

use crate::failure::Failure;

/// What an event's line takes beside its data, most often.
const LINE_BYTES: usize = 1024;

/// Lines that are not written yet.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    timestamps: bool,
    /// The event of this number is left out.
    planted: Option<u64>,
    count: u64,
}

/// What became of a delivery.
#[derive(Debug, Default)]
pub(super) struct Printed {
    /// How many of its events were printed.
    pub(super) events: u64,
    /// The place of the last of them, if any.
    pub(super) through: Option<ResumeToken>,
}

impl Lines {
    pub(super) const fn new(timestamps: bool, planted: Option<u64>) -> Self {
        Self { buffer: Vec::new(), timestamps, planted, count: 0 }
    }

    /// The lines so far.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Events, so many at most.
    pub(super) fn delivery(
        &mut self,
        delivery: &v1::Delivery,
        run: Run,
        most: u64,
    ) -> Result<Printed, Failure> {
        let broken = |what: &str| Failure::new(70, format!("the node delivered {what}"));
        let origin = delivery.origin.as_ref().map(Origin::from_proto);
        let Some(Ok(origin)) = origin else { return Err(broken("events without an origin")) };
        let now = self.timestamps.then(Timestamp::now);
        let mut token = FenceToken { origin, sequence: Sequence::ZERO, site: String::new() };
        let mut printed = Printed::default();
        for (entry, n) in delivery.entries().zip(0..most) {
            let entry = entry.map_err(|_| broken("an event that cannot be decoded"))?;
            let event = entry.event.ok_or_else(|| broken("an entry without its event"))?;
            let offset = match usize::try_from(n).ok().and_then(|n| delivery.offsets.get(n)) {
                Some(offset) => *offset,
                None => delivery.first_offset + n,
            };
            let through = ResumeToken { run, offset: Offset::from_u64(offset) };
            token.sequence = Sequence::from_u64(entry.sequence);
            token.site.clone_from(&event.site);
            self.count += 1;
            if self.planted != Some(self.count) {
                self.event(&event, &token, delivery.attempt, through);
                if let Some(now) = now {
                    self.more(format_args!(",\"acknowledged\":\"{now}\""));
                }
                self.buffer.extend_from_slice(b"}\n");
            }
            printed.events += 1;
            printed.through = Some(through);
        }
        Ok(printed)
    }

    /// All of an event's line but its end.
    fn event(&mut self, event: &v1::Event, token: &FenceToken, attempt: u32, through: ResumeToken) {
        self.buffer.reserve(LINE_BYTES + event.data.len());
        self.text("{\"event\":{\"id\":", &event.id);
        self.text(",\"site\":", &event.site);
        self.text(",\"type\":", &event.r#type);
        self.text(",\"key\":", &event.key);
        self.text(",\"source\":", &event.source);
        let time = event.time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
        match time {
            Some(time) => self.more(format_args!(",\"time\":\"{time}\"")),
            None => self.buffer.extend_from_slice(b",\"time\":null"),
        }
        self.attributes(&event.attributes);
        match std::str::from_utf8(&event.data) {
            Ok(text) => self.text(",\"data\":", text),
            Err(_) => self.text(",\"data_base64\":", &STANDARD.encode(&event.data)),
        }
        self.text(",\"data_content_type\":", &event.data_content_type);
        // Names of nodes, positions and tokens need no escaping.
        let (origin, sequence) = (&token.origin.node, token.sequence);
        self.more(format_args!(
            "}},\"origin\":\"{origin}\",\"sequence\":\"{sequence}\",\"attempt\":{attempt},\
             \"fence_token\":\"{token}\",\"resume_token\":\"{through}\""
        ));
    }

    /// In the order of their names, so that equal events make equal lines.
    fn attributes(&mut self, attributes: &HashMap<String, String>) {
        self.buffer.extend_from_slice(b",\"attributes\":{");
        let mut sorted: Vec<_> = attributes.iter().collect();
        sorted.sort_unstable();
        for (number, (name, value)) in sorted.into_iter().enumerate() {
            self.text(if number == 0 { "" } else { "," }, name);
            self.text(":", value);
        }
        self.buffer.push(b'}');
    }

    pub(super) fn missed(&mut self, missed: &v1::Missed, through: ResumeToken) {
        let position = |value: u64| (value > 0).then(|| Sequence::from_u64(value).to_string());
        let cause = missed.cause().as_str_name();
        let cause = cause.strip_prefix("MISSED_CAUSE_").unwrap_or(cause).to_ascii_lowercase();
        self.object(&serde_json::json!({
            "missed": {
                "origin": missed.origin.as_ref().map(|origin| &origin.node),
                "from": position(missed.from),
                "through": position(missed.through),
                "sites": missed.sites,
                "cause": cause,
            },
            "resume_token": through.to_string(),
        }));
    }

    pub(super) fn caught_up(&mut self, caught_up: &v1::CaughtUp, through: ResumeToken) {
        self.object(&serde_json::json!({
            "caught_up": {
                "members": caught_up.members,
                "absent_members": caught_up.absent_members,
            },
            "resume_token": through.to_string(),
        }));
    }

    pub(super) fn freshness(&mut self, freshness: &v1::Freshness) {
        let lease = |lease: &v1::MemberLease| {
            let remains = lease.remains.and_then(|d| std::time::Duration::try_from(d).ok());
            let seconds = remains.unwrap_or_default().as_secs_f64();
            serde_json::json!({ "node": lease.node, "remains_seconds": seconds })
        };
        let leases: Vec<_> = freshness.leases.iter().map(lease).collect();
        let said = serde_json::json!({ "ping": freshness.ping_number, "leases": leases });
        self.object(&serde_json::json!({ "freshness": said }));
    }

    pub(super) fn taken_over(&mut self, taken_over: &v1::TakenOver) {
        self.object(&serde_json::json!({ "taken_over": { "by": taken_over.by } }));
    }

    pub(super) fn opened(&mut self, node: &str, begins: ResumeToken) {
        self.object(&serde_json::json!({
            "opened": { "node": node, "at": Timestamp::now().to_string() },
            "resume_token": begins.to_string(),
        }));
    }

    fn object(&mut self, object: &serde_json::Value) {
        self.more(format_args!("{object}\n"));
    }

    fn text(&mut self, before: &str, text: &str) {
        self.buffer.extend_from_slice(before.as_bytes());
        // Writing text to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.buffer, text);
    }

    fn more(&mut self, text: std::fmt::Arguments<'_>) {
        // Nor can this.
        let _ = self.buffer.write_fmt(text);
    }
}

#[cfg(test)]
mod tests;
