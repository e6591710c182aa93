//! A reader: step 3 and step 5 begin here. From memory while it keeps up, from the disk once it
//! fell behind.
//!
//! A reader holds no lock while it waits or reads the disk, and never holds up the writer. Every
//! record read from the disk is checked again.

use std::sync::{Arc, PoisonError};

use evermesh_event::{Offset, Planted};
use tokio::sync::watch;

use crate::error::{Damage, ReadError};
use crate::record::Record;
use crate::segment::Place;
use crate::segment::scan::Scan;
use crate::shared::{Shared, Stage};
use crate::storage::SegmentFile;
use crate::survey::survey;
use crate::tail::Found;
use crate::wounds::{self, Met};

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
    /// The wounds as they were when it read the disk last: places within those that were found
    /// since are none any more.
    seen: u64,
    /// What it read last was in memory, as it had been before it was damaged on the disk.
    from_tail: bool,
    wounds: watch::Receiver<u64>,
}

/// What a look at the disk brought.
#[derive(Debug)]
enum Look {
    Records(Vec<Arc<Record>>, Option<Open>),
    /// What comes next is damaged, and may still come back.
    Wound,
}

/// An open segment and a place in it.
#[derive(Clone, Debug)]
struct Open {
    file: Arc<dyn SegmentFile>,
    place: Place,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, after: Offset) -> Self {
        let (head, wounds) = (shared.head.subscribe(), shared.damaged.version.subscribe());
        let seen = shared.wounds().version();
        Self { shared, after, head, open: None, seen, from_tail: false, wounds }
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
            self.wounds.mark_unchanged();
            let found = self.shared.tail().after(self.after, bytes_max);
            match found {
                Found::Records(records) => return Ok(self.passed(records)),
                Found::OnDisk { through } => match self.read(through, bytes_max).await? {
                    (Look::Records(records, open), seen) => {
                        return Ok(self.passed_on_disk(records, open, seen));
                    }
                    (Look::Wound, _) => self.wait_for_mending().await?,
                },
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
                match self.plan(through, bytes_max).read()? {
                    (Look::Records(records, open), seen) => {
                        Ok(Some(self.passed_on_disk(records, open, seen)))
                    }
                    (Look::Wound, _) => self.ended().map(|()| None),
                }
            }
            Found::OnDisk { .. } => Ok(None),
            Found::AtHead => self.ended().map(|()| None),
        }
    }

    async fn wait(&mut self) -> Result<(), ReadError> {
        self.ended()?;
        self.head.changed().await.map_err(|_| ReadError::Closed)
    }

    async fn wait_for_mending(&mut self) -> Result<(), ReadError> {
        self.ended()?;
        self.wounds.changed().await.map_err(|_| ReadError::Closed)
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
        (self.open, self.from_tail) = (None, true);
        self.pass(records)
    }

    fn passed_on_disk(
        &mut self,
        records: Vec<Arc<Record>>,
        open: Option<Open>,
        seen: u64,
    ) -> Vec<Arc<Record>> {
        (self.open, self.from_tail, self.seen) = (open, false, seen);
        self.pass(records)
    }

    fn pass(&mut self, records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
        if let Some(last) = records.last() {
            self.after = last.end();
        }
        records
    }

    fn plan(&self, through: Offset, bytes_max: usize) -> Plan {
        let bytes_max = bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let shared = Arc::clone(&self.shared);
        let (open, seen) = (self.open.clone(), (self.seen, self.from_tail));
        Plan { shared, open, after: self.after, through, bytes_max, seen, surveyed: None }
    }

    async fn read(&self, through: Offset, bytes_max: usize) -> Result<(Look, u64), ReadError> {
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
    seen: (u64, bool),
    /// The segment, by its marker, that was looked through for what is damaged.
    surveyed: Option<u32>,
}

impl Plan {
    /// At least one record. What is asked for may begin behind the last record of a segment: then
    /// the next one is opened.
    fn read(mut self) -> Result<(Look, u64), ReadError> {
        loop {
            let version = self.check_place()?;
            let (met, cut) = {
                let cuts = self.shared.cuts();
                (cuts.met_after(self.after), cuts.end)
            };
            if !met.is_empty() {
                return Ok((Look::Records(met, None), version));
            }
            let Some(mut open) = self.open_place(cut)? else { continue };
            let records = self.read_segment(&mut open);
            let is_wound = self.is_wound(&open.place);
            // What was read may lie elsewhere by now, or may be something else.
            if self.shared.wounds().version() != version {
                self.open = None;
                continue;
            }
            let (records, after) = records?;
            self.after = after;
            if !records.is_empty() {
                return Ok((Look::Records(records, Some(open)), version));
            }
            if is_wound {
                return Ok((Look::Wound, version));
            }
            self.open = Some(open);
        }
    }

    /// A place within what was found damaged since is none any more: whoever read as far as that
    /// begins again before it.
    fn check_place(&self) -> Result<u64, ReadError> {
        let wounds = self.shared.wounds();
        let (seen, from_tail) = self.seen;
        let since = wounds.range_of(self.after).map_or(0, |range| range.since);
        let version = wounds.version();
        drop(wounds);
        if since > seen || (from_tail && since > 0) {
            return Err(self.damaged(self.shared.storage.place(), 0));
        }
        Ok(version)
    }

    /// A wound that was not passed is there: at the end of a segment, too.
    fn is_wound(&self, place: &Place) -> bool {
        let wounds = self.shared.wounds();
        wounds.at(at(place)).is_some_and(|wound| wound.through > self.after)
    }

    /// What lies next in a segment, and how far that goes. Nothing is past before it is known that
    /// all of it lay where it was looked for.
    fn read_segment(&mut self, open: &mut Open) -> Result<(Vec<Arc<Record>>, Offset), ReadError> {
        let mut after = self.after;
        let mut scan = Scan::new(Arc::clone(&open.file), open.place.marker, open.place.end)
            .with_window(self.bytes_max as u64);
        let (mut records, mut bytes) = (Vec::new(), 0);
        let wounds = self.shared.wounds().in_segment(open.place.segment);
        let mut passed = None;
        while open.place.position <= open.place.end {
            let wound = wounds.iter().find(|wound| wound.place == at(&open.place));
            if let Some(wound) = wound.filter(|wound| passed != Some(wound.after)) {
                if wound.through > after {
                    let Met::Told(met) = self.shared.wounds().meet(wound) else { break };
                    if !self.shared.planted.is(Planted::DamageUntold) {
                        records.extend(met.into_iter().filter(|met| met.offset > after));
                    }
                    after = wound.through;
                }
                passed = Some(wound.after);
                open.place.position = wound.goes_on_at;
                continue;
            }
            if open.place.position >= open.place.end {
                break;
            }
            let read = scan.record_at(open.place.position).map_err(|error| self.refused(&error))?;
            let decoded = match read {
                Ok(decoded) => decoded,
                // What is whole is delivered first; the next look begins with the damage.
                Err(_) if !records.is_empty() => break,
                Err(_) => {
                    self.survey(&open.place)?;
                    break;
                }
            };
            let record = decoded.record;
            if record.offset > self.through {
                break;
            }
            if record.end() > after {
                bytes += record.bytes();
                if bytes > self.bytes_max && !records.is_empty() {
                    break;
                }
                let record = if record.offset <= after { record.trimmed(after) } else { record };
                records.push(Arc::new(record));
            }
            open.place.position += decoded.length as u64;
        }
        Ok((records, after))
    }

    /// What cannot be read becomes a wound, unless it lies elsewhere by now.
    fn survey(&mut self, place: &Place) -> Result<(), ReadError> {
        let again = self.surveyed.replace(place.marker) == Some(place.marker);
        let found = survey(&self.shared, place.segment).map_err(|error| self.refused(&error))?;
        self.open = None;
        if again || !found {
            let file = self.shared.storage.segment_name(place.segment);
            return Err(self.damaged(file, place.position));
        }
        Ok(())
    }

    /// `None`: more was cut than through `cut`, and it may have been what comes next.
    fn open_place(&self, cut: Offset) -> Result<Option<Open>, ReadError> {
        if let Some(open) = self.open.as_ref().filter(|open| self.is_wound(&open.place)) {
            return Ok(Some(open.clone()));
        }
        let place = {
            let catalog = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
            // The writer says so before the segment leaves the catalog.
            if self.shared.cuts().end != cut {
                return Ok(None);
            }
            match &self.open {
                Some(open) => catalog.go_on(open.place).or_else(|| catalog.locate(self.after)),
                None => catalog.locate(self.after),
            }
        };
        let place = place.ok_or_else(|| self.lacking())?;
        match &self.open {
            Some(open) if open.place.is_same_file(&place) => {
                Ok(Some(Open { file: Arc::clone(&open.file), place }))
            }
            _ => {
                let file = self.shared.storage.open_segment(place.segment);
                // Its file goes after that.
                if file.is_err() && self.shared.cuts().end != cut {
                    return Ok(None);
                }
                let file = file.map_err(|error| self.refused(&error))?;
                Ok(Some(Open { file, place }))
            }
        }
    }

    fn refused(&self, error: &std::io::Error) -> ReadError {
        let file = self.shared.storage.place();
        tracing::error!(%file, after = %self.after, %error, "the journal cannot be read");
        ReadError::Storage { file, reason: error.to_string() }
    }

    fn damaged(&self, file: String, position: u64) -> ReadError {
        let what = "a record is not what was written";
        let damage = Damage { file, position, after: self.after, through: None, what };
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

/// A place as wounds have it.
const fn at(place: &Place) -> wounds::Place {
    wounds::Place { segment: place.segment, marker: place.marker, position: place.position }
}

#[cfg(test)]
mod tests;
