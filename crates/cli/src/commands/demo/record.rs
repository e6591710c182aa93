//! What one subscriber's file holds, read as far as it is written. Knows nothing of what was
//! published.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use evermesh_event::Sequence;
use evermesh_event::verdict::History;
use serde_json::Value;

use crate::Failure;

/// One subscriber's file, read up to where the last whole line ended.
#[derive(Debug)]
pub(super) struct Record {
    reader: BufReader<File>,
    partial: String,
    /// In the order of the file.
    pub(super) history: History,
    /// When each event was acknowledged: its id, and microseconds since the epoch.
    pub(super) acknowledged: Vec<(String, i64)>,
}

impl Record {
    /// Opens a subscriber's file.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io("open a record", &error))?;
        Ok(Self {
            reader: BufReader::new(file),
            partial: String::new(),
            history: History::default(),
            acknowledged: Vec::new(),
        })
    }

    /// Reads what was written since.
    pub(super) fn read_on(&mut self) -> Result<(), Failure> {
        loop {
            let read = self.reader.read_line(&mut self.partial);
            let read = read.map_err(|error| Failure::io("read a record", &error))?;
            if read == 0 || !self.partial.ends_with('\n') {
                return Ok(());
            }
            let line = std::mem::take(&mut self.partial);
            self.note(&line).ok_or_else(|| {
                Failure::new(
                    70,
                    format!("a subscriber wrote a line that is none of its forms: {line}"),
                )
            })?;
        }
    }

    fn note(&mut self, line: &str) -> Option<()> {
        let said: Value = serde_json::from_str(line).ok()?;
        if let Some(event) = said.get("event") {
            let id = event.get("id")?.as_str()?;
            let sequence: Sequence = said.get("sequence")?.as_str()?.parse().ok()?;
            self.history.heard(said.get("origin")?.as_str()?, sequence, id);
            let at: jiff::Timestamp = said.get("acknowledged")?.as_str()?.parse().ok()?;
            self.acknowledged.push((id.to_owned(), at.as_microsecond()));
        } else if said.get("missed").is_some() {
            self.history.missed();
        } else if said.get("opened").is_some() {
            self.history.opened();
        } else {
            let known = ["caught_up", "freshness", "taken_over"];
            known.iter().find(|kind| said.get(**kind).is_some())?;
        }
        Some(())
    }
}
