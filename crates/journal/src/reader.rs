//! A reader: step 3 and step 5 begin here. From memory while it keeps up, from the disk once it
//! fell behind.
//!
//! A reader holds no lock while it waits or reads the disk, and never holds up the writer. Every
//! record read from the disk is checked again.

use std::sync::{Arc, PoisonError};

use evermesh_event::Offset;
use tokio::sync::watch;

use crate::error::{Damage, ReadError};
use crate::record::Record;
use crate::segment::Place;
use crate::segment::scan::Scan;
use crate::shared::{Shared, Stage};
use crate::storage::SegmentFile;
use crate::tail::Found;
use crate::wounds;

/// What one look at the disk reads at least: fewer bytes would cost more calls than copies.
const READ_BYTES_MIN: usize = 64 * 1024;
/// And at most, whatever was asked for: it bounds what a slow reader holds.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Reads records in order. Each subscription and each feed holds one.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    after: Offset,
    head: watch::Receiver<Offset>,
    /// Where the next record lies, if the last came from the disk.
    open: Option<Open>,
}

/// An open segment and a place in it.
#[derive(Clone, Debug)]
struct Open {
    file: Arc<dyn SegmentFile>,
    place: Place,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, after: Offset) -> Self {
        let head = shared.head.subscribe();
        Self { shared, after, head, open: None }
    }

    /// Everything through here was returned.
    #[must_use]
    pub const fn position(&self) -> Offset {
        self.after
    }

    /// The next records: at least one, and beyond that no more than these bytes. Waits for them. If
    /// the call is dropped, nothing is passed over.
    ///
    /// # Errors
    /// If a record is damaged or cannot be read, or if nothing can come any more.
    pub async fn next(&mut self, bytes_max: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        loop {
            self.head.mark_unchanged();
            let found = self.shared.tail().after(self.after, bytes_max);
            match found {
                Found::Records(records) => return Ok(self.passed(records)),
                Found::OnDisk { through } => {
                    let (records, open) = self.read(through, bytes_max).await?;
                    self.open = open;
                    return Ok(self.passed_on_disk(records));
                }
                Found::AtHead => self.wait().await?,
            }
        }
    }

    /// The next records that need no waiting; `None` if there are none in memory.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn try_next(&mut self, bytes_max: usize) -> Result<Option<Vec<Arc<Record>>>, ReadError> {
        let found = self.shared.tail().after(self.after, bytes_max);
        match found {
            Found::Records(records) => Ok(Some(self.passed(records))),
            Found::OnDisk { through } if self.shared.storage.immediate() => {
                let plan = self.plan(through, bytes_max);
                let (records, open) = plan.read()?;
                self.open = open;
                Ok(Some(self.passed_on_disk(records)))
            }
            Found::OnDisk { .. } => Ok(None),
            Found::AtHead => self.ended().map(|()| None),
        }
    }

    async fn wait(&mut self) -> Result<(), ReadError> {
        self.ended()?;
        self.head.changed().await.map_err(|_| ReadError::Closed)
    }

    /// Whether nothing can come any more.
    fn ended(&self) -> Result<(), ReadError> {
        match self.shared.stage() {
            Stage::Running | Stage::Closing => Ok(()),
            Stage::Closed => Err(ReadError::Closed),
            Stage::Failed => Err(ReadError::Failed),
        }
    }

    fn passed(&mut self, records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
        self.open = None;
        self.passed_on_disk(records)
    }

    fn passed_on_disk(&mut self, records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
        if let Some(last) = records.last() {
            self.after = last.end();
        }
        records
    }

    fn plan(&self, through: Offset, bytes_max: usize) -> Plan {
        let bytes_max = bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let shared = Arc::clone(&self.shared);
        Plan { shared, open: self.open.clone(), after: self.after, through, bytes_max }
    }

    async fn read(
        &self,
        through: Offset,
        bytes_max: usize,
    ) -> Result<(Vec<Arc<Record>>, Option<Open>), ReadError> {
        let plan = self.plan(through, bytes_max);
        if self.shared.storage.immediate() {
            return plan.read();
        }
        match tokio::task::spawn_blocking(move || plan.read()).await {
            Ok(read) => read,
            // The runtime is shutting down.
            Err(_) => Err(ReadError::Closed),
        }
    }
}

/// One look at the disk, with all that it needs.
#[derive(Debug)]
struct Plan {
    shared: Arc<Shared>,
    open: Option<Open>,
    after: Offset,
    /// Where the tail begins: the disk is asked for nothing behind it.
    through: Offset,
    bytes_max: usize,
}

impl Plan {
    /// At least one record. What is asked for may begin behind the last record of a segment: then
    /// the next one is opened.
    fn read(mut self) -> Result<(Vec<Arc<Record>>, Option<Open>), ReadError> {
        loop {
            let lost = self.shared.cuts().missed_after(self.after);
            if !lost.is_empty() {
                return Ok((lost, None));
            }
            let mut open = self.open_place()?;
            let records = self.read_segment(&mut open)?;
            if !records.is_empty() {
                return Ok((records, Some(open)));
            }
            self.open = Some(open);
        }
    }

    fn read_segment(&self, open: &mut Open) -> Result<Vec<Arc<Record>>, ReadError> {
        let mut scan = Scan::new(Arc::clone(&open.file), open.place.marker, open.place.end)
            .with_window(self.bytes_max as u64);
        let (mut records, mut bytes) = (Vec::new(), 0);
        while open.place.position < open.place.end {
            let place =
                wounds::Place { segment: open.place.segment, position: open.place.position };
            if let Some(wound) = self.shared.wounds.at(place) {
                records.extend(wound.met.iter().filter(|met| met.offset > self.after).cloned());
                open.place.position = wound.goes_on_at;
                if wound.goes_on_at > place.position {
                    continue;
                }
            }
            let read = scan.record_at(open.place.position).map_err(|error| self.refused(&error))?;
            let decoded = match read {
                Ok(decoded) => decoded,
                // What is whole is delivered first; the next look begins with the damage.
                Err(_) if !records.is_empty() => break,
                Err(_) => return Err(self.damaged(&open.place)),
            };
            let record = decoded.record;
            if record.offset > self.through {
                break;
            }
            if record.end() > self.after {
                bytes += record.bytes();
                if bytes > self.bytes_max && !records.is_empty() {
                    break;
                }
                let record =
                    if record.offset <= self.after { record.trimmed(self.after) } else { record };
                records.push(Arc::new(record));
            }
            open.place.position += decoded.length as u64;
        }
        Ok(records)
    }

    fn open_place(&self) -> Result<Open, ReadError> {
        let place = {
            let catalog = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
            match &self.open {
                Some(open) => catalog.go_on(open.place).or_else(|| catalog.locate(self.after)),
                None => catalog.locate(self.after),
            }
        };
        let place = place.ok_or_else(|| self.lacking())?;
        match &self.open {
            Some(open) if open.place.is_same_file(&place) => {
                Ok(Open { file: Arc::clone(&open.file), place })
            }
            _ => {
                let file = self.shared.storage.open_segment(place.segment);
                let file = file.map_err(|error| self.refused(&error))?;
                Ok(Open { file, place })
            }
        }
    }

    fn refused(&self, error: &std::io::Error) -> ReadError {
        let file = self.shared.storage.place();
        tracing::error!(%file, after = %self.after, %error, "the journal cannot be read");
        ReadError::Storage { file, reason: error.to_string() }
    }

    fn damaged(&self, place: &Place) -> ReadError {
        let damage = Damage {
            file: self.shared.storage.segment_name(place.segment),
            position: place.position,
            after: self.after,
            through: None,
            what: "a record is not what was written",
        };
        tracing::error!(%damage, "a durable record cannot be read");
        ReadError::Damaged(damage)
    }

    fn lacking(&self) -> ReadError {
        ReadError::Damaged(Damage {
            file: self.shared.storage.place(),
            position: 0,
            after: self.after,
            through: Some(self.through),
            what: "no segment holds the next record",
        })
    }
}
