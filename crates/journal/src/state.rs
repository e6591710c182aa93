//! The state database: what must be known before anything is numbered, and outlives every segment.
//!
//! Each change is one durable transaction. Nothing here grows with the number of events.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use bytes::{Buf as _, BufMut as _};
use evermesh_event::{
    Epoch, Frontier, JournalId, NodeName, Offset, Origin, Sequence, Start, StartId,
};
use redb::{BackendError, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::cuts::Cuts;
use crate::error::Error;
use crate::letters::Letter;
use crate::members::KnownMember;
use crate::names::Name;
use crate::notices::Notice;
use crate::producers::Highest;
use crate::roster::Row;
use crate::starts::{SeenStart, SeenStarts};
use crate::storage::Storage;

mod check;
mod cuts;
mod mended;
mod notices;
mod places;
mod roster;

pub(crate) use self::mended::Mended;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Epoch → this node's own start.
const STARTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("starts");
/// Journal id and node name → the starts seen of that origin.
const SEEN: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("seen");
/// Address → the stored sequence as u64, then the name of the member that was found there.
const MEMBERS: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("members");
const VERSION_KEY: &str = "version";
const NODE_KEY: &str = "node";
const JOURNAL_KEY: &str = "journal";
/// Why the next start takes a new journal id.
const RENEWAL_KEY: &str = "renewal";
/// The former journal id, until it is stored that its events may be lost.
const UNTOLD_KEY: &str = "untold";
/// This node left the mesh: the next start takes a new journal id and is a new incarnation.
const LEFT_KEY: &str = "left";
const VERSION: u32 = 1;
/// With which a complete database file begins: the database writes it last.
const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// Own starts kept: the tokens of older ones are unknown.
const STARTS_MAX: usize = 1024;
/// The database is small; its cache need not be large.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// One own start that ended, or is thought to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormerStart {
    pub(crate) start: Start,
    /// Who numbered then.
    pub(crate) journal: JournalId,
    /// Its end is known: it was closed, or a later start recovered it.
    pub(crate) ended: bool,
    /// The last offset that was on the disk.
    pub(crate) end: Offset,
    /// The last own sequence that was on the disk.
    pub(crate) own_end: Sequence,
}

/// What was stored.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The node and its journal id; `None`: the database is new.
    pub(crate) bound: Option<(NodeName, JournalId)>,
    /// Why this start takes a new journal id.
    pub(crate) renewal: Option<String>,
    /// The database before was not what was written, and this one is new.
    pub(crate) set_aside: bool,
    /// The id before that, until everybody here is told.
    pub(crate) untold: Option<Origin>,
    /// Own starts, rising.
    pub(crate) starts: Vec<FormerStart>,
    pub(crate) seen: SeenStarts,
    /// By address, the members that were found there.
    pub(crate) members: BTreeMap<String, KnownMember>,
    pub(crate) names: BTreeMap<String, Name>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) cuts: Cuts,
    /// Counters of producers, as far as their records were cut.
    pub(crate) producers: BTreeMap<String, Highest>,
    pub(crate) roster: Vec<(NodeName, Row)>,
    /// The former start left the mesh for good.
    pub(crate) left: bool,
    /// Through where nothing was lacking when a segment was begun or a start closed last.
    pub(crate) frontier: Frontier,
    /// Offsets between which something was damaged, and is put in its place in another order.
    pub(crate) mended: Vec<Mended>,
    /// Missed that name no range, by their offset; `None`: it is not known which there were.
    pub(crate) notices: Option<BTreeMap<Offset, Notice>>,
}

/// The open database.
#[derive(Debug)]
pub(crate) struct State {
    database: Database,
}

impl State {
    pub(crate) fn open(storage: &dyn Storage) -> Result<Self, Error> {
        let refuse = |reason: String| Error::State { place: storage.place(), reason };
        let backend = storage.state().map_err(|error| refuse(error.to_string()))?;
        begin_again(storage, &*backend).map_err(|error| refuse(error.to_string()))?;
        let checked = check::check(&*backend).map_err(|error| refuse(error.to_string()))?;
        checked.map_err(|reason| Error::StateDamaged { place: storage.place(), reason })?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create_with_backend(Backend(backend));
        Ok(Self { database: database.map_err(|error| refuse(error.to_string()))? })
    }

    pub(crate) fn load(&self, storage: &dyn Storage) -> Result<Past, Error> {
        let place = storage.place();
        self.read_past().map_err(|error| match error {
            Trouble::Version(version) => {
                Error::Version { file: format!("{place}/state.redb"), version, known: VERSION }
            }
            Trouble::Other(reason) => Error::State { place, reason },
        })
    }

    fn read_past(&self) -> Result<Past, Trouble> {
        let read = self.database.begin_read()?;
        let meta = match read.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Past::default()),
            Err(error) => return Err(error.into()),
        };
        let value = |key| -> Result<Vec<u8>, Trouble> {
            let value = meta.get(key)?;
            Ok(value.map(|value| value.value().to_vec()).unwrap_or_default())
        };
        let version = value(VERSION_KEY)?.as_slice().try_get_u32_le().unwrap_or(0);
        if version != VERSION {
            return Err(Trouble::Version(version));
        }
        let node = String::from_utf8(value(NODE_KEY)?).unwrap_or_default();
        let node = NodeName::new(&node).map_err(unreadable)?;
        let journal = JournalId::from_slice(&value(JOURNAL_KEY)?).map_err(unreadable)?;
        let renewal = value(RENEWAL_KEY)?;
        let renewal = (!renewal.is_empty()).then(|| String::from_utf8_lossy(&renewal).into_owned());
        let untold = match (&renewal, value(UNTOLD_KEY)?) {
            (Some(_), _) => Some(Origin { node: node.clone(), journal }),
            (None, former) if former.is_empty() => None,
            (None, former) => Some(decode_origin(&former)?),
        };
        let bound = Some((node, journal));
        let left = !value(LEFT_KEY)?.is_empty();
        let mut past = Past { bound, renewal, untold, left, ..Past::default() };
        for row in read.open_table(STARTS)?.iter()? {
            let (epoch, value) = row?;
            past.starts.push(FormerStart::decode(epoch.value(), value.value())?);
        }
        for row in read.open_table(SEEN)?.iter()? {
            let (origin, value) = row?;
            past.seen.insert(decode_origin(origin.value())?, decode_seen(value.value())?);
        }
        match read.open_table(MEMBERS) {
            Ok(table) => {
                for row in table.iter()? {
                    let (address, value) = row?;
                    let (stored, name) = value.value();
                    let name = NodeName::new(name).map_err(unreadable)?;
                    let member = KnownMember { name, stored: Sequence::from_u64(stored) };
                    past.members.insert(address.value().to_owned(), member);
                }
            }
            // No member was ever found.
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
        }
        (past.names, past.letters) = places::load(&read)?;
        (past.cuts, past.producers) = cuts::load(&read)?;
        past.roster = roster::load(&read)?;
        (past.frontier, past.mended) = mended::load(&read, past.cuts.end)?;
        past.notices = notices::load(&read, past.cuts.end)?;
        Ok(past)
    }

    /// Stores the members that were found, and what they hold.
    pub(crate) fn store_members(&self, members: &[(String, KnownMember)]) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let mut table = write.open_table(MEMBERS)?;
                for (address, member) in members {
                    let value = (member.stored.as_u64(), member.name.as_str());
                    table.insert(address.as_str(), value)?;
                }
            }
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }

    /// Stores a new start, beside the end of the former and the notices that were found. Durable on
    /// return: then it may be shown.
    pub(crate) fn begin(
        &self,
        origin: &Origin,
        ended: impl Iterator<Item = FormerStart>,
        start: Start,
        untold: Option<&Origin>,
        found: &notices::Changed,
    ) -> Result<(), String> {
        let begun = FormerStart {
            start,
            journal: origin.journal,
            ended: false,
            end: Offset::ZERO,
            own_end: Sequence::ZERO,
        };
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let mut meta = write.open_table(META)?;
                let former = meta.insert(JOURNAL_KEY, origin.journal.as_bytes().as_slice())?;
                if former.is_none_or(|former| former.value() != origin.journal.as_bytes()) {
                    cuts::forget_producers(&write)?;
                }
                meta.insert(VERSION_KEY, VERSION.to_le_bytes().as_slice())?;
                meta.insert(NODE_KEY, origin.node.as_str().as_bytes())?;
                meta.remove(RENEWAL_KEY)?;
                meta.remove(LEFT_KEY)?;
                if let Some(untold) = untold {
                    meta.insert(UNTOLD_KEY, encode_origin(untold).as_slice())?;
                }
                let mut starts = write.open_table(STARTS)?;
                for start in ended.chain([begun]) {
                    starts.insert(start.start.epoch.get(), start.encode().as_slice())?;
                }
                let oldest_kept = starts.iter()?.rev().nth(STARTS_MAX - 1).transpose()?;
                if let Some(oldest) = oldest_kept.map(|(epoch, _)| epoch.value()) {
                    starts.retain_in(..oldest, |_, _| false)?;
                }
                write.open_table(SEEN)?;
                notices::insert(&write, found)?;
            }
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }

    /// Stores why the next start must take a new journal id.
    pub(crate) fn store_renewal(&self, why: &str) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            write.open_table(META)?.insert(RENEWAL_KEY, why.as_bytes())?;
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }

    /// Stores that this node leaves the mesh: before anybody is told.
    pub(crate) fn store_left(&self) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            write.open_table(META)?.insert(LEFT_KEY, [1].as_slice())?;
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }

    /// Stores that everybody here is told what may be lost of the former journal id.
    pub(crate) fn store_told(&self) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            write.open_table(META)?.remove(UNTOLD_KEY)?;
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }

    /// Stores that this start was closed, and where it ended.
    pub(crate) fn store_end(
        &self,
        origin: &Origin,
        start: Start,
        end: Offset,
        own_end: Sequence,
        frontier: &Frontier,
    ) -> Result<(), String> {
        let ended = FormerStart { start, journal: origin.journal, ended: true, end, own_end };
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            let row = ended.encode();
            write.open_table(STARTS)?.insert(start.epoch.get(), row.as_slice())?;
            mended::insert_frontier(&write, frontier)?;
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }

    /// Stores which starts were seen of some origins.
    pub(crate) fn store_starts(&self, seen: &[(Origin, Vec<SeenStart>)]) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let mut table = write.open_table(SEEN)?;
                for (origin, starts) in seen {
                    let (key, value) = (encode_origin(origin), encode_seen(starts));
                    if starts.is_empty() {
                        table.remove(key.as_slice())?;
                    } else {
                        table.insert(key.as_slice(), value.as_slice())?;
                    }
                }
            }
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }
}

/// Empties a database file whose making was interrupted: nothing of this directory was ever shown
/// then.
fn begin_again(storage: &dyn Storage, backend: &dyn redb::StorageBackend) -> io::Result<()> {
    let length = backend.len()?;
    let mut magic = [0; MAGIC.len()];
    if length >= MAGIC.len() as u64 {
        backend.read(0, &mut magic)?;
    }
    if length > 0 && magic != *MAGIC && storage.segments()?.is_empty() {
        tracing::warn!(place = %storage.place(), "the state database was being made: begun again");
        backend.set_len(0)?;
    }
    Ok(())
}

/// Why the database did not do what it was asked.
enum Trouble {
    Version(u32),
    Other(String),
}

impl Trouble {
    fn into_reason(self) -> String {
        match self {
            Self::Version(version) => format!("it has version {version}"),
            Self::Other(reason) => reason,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Other(error.into().to_string())
    }
}

fn unreadable(error: impl ToString) -> Trouble {
    Trouble::Other(format!("a row cannot be read: {}", error.to_string()))
}

impl FormerStart {
    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(49);
        row.put_slice(self.start.id.as_bytes());
        row.put_slice(self.journal.as_bytes());
        row.put_u8(u8::from(self.ended));
        row.put_u64_le(self.end.as_u64());
        row.put_u64_le(self.own_end.as_u64());
        row
    }

    fn decode(epoch: u32, mut row: &[u8]) -> Result<Self, Trouble> {
        let epoch = Epoch::new(epoch).ok_or_else(|| unreadable("an epoch is out of range"))?;
        if row.len() < 49 {
            return Err(unreadable("a start is cut short"));
        }
        let id = StartId::from_slice(&row.copy_to_bytes(16)).map_err(unreadable)?;
        let journal = JournalId::from_slice(&row.copy_to_bytes(16)).map_err(unreadable)?;
        Ok(Self {
            start: Start { epoch, id },
            journal,
            ended: row.get_u8() != 0,
            end: Offset::from_u64(row.get_u64_le()),
            own_end: Sequence::from_u64(row.get_u64_le()),
        })
    }
}

fn encode_origin(origin: &Origin) -> Vec<u8> {
    [origin.journal.as_bytes().as_slice(), origin.node.as_str().as_bytes()].concat()
}

fn decode_origin(key: &[u8]) -> Result<Origin, Trouble> {
    let (journal, node) = key.split_at_checked(16).ok_or_else(|| unreadable("an origin"))?;
    let journal = JournalId::from_slice(journal).map_err(unreadable)?;
    let node = std::str::from_utf8(node).map_err(unreadable)?;
    Ok(Origin { node: NodeName::new(node).map_err(unreadable)?, journal })
}

fn encode_seen(starts: &[SeenStart]) -> Vec<u8> {
    let mut row = Vec::with_capacity(starts.len() * 28);
    for seen in starts {
        row.put_u32_le(seen.epoch.get());
        row.put_slice(seen.start.as_bytes());
        row.put_u64_le(seen.durable_head.as_u64());
    }
    row
}

fn decode_seen(mut row: &[u8]) -> Result<Vec<SeenStart>, Trouble> {
    let mut starts = Vec::new();
    while row.len() >= 28 {
        let epoch = Epoch::new(row.get_u32_le());
        starts.push(SeenStart {
            epoch: epoch.ok_or_else(|| unreadable("an epoch is out of range"))?,
            start: StartId::from_slice(&row.copy_to_bytes(16)).map_err(unreadable)?,
            durable_head: Sequence::from_u64(row.get_u64_le()),
        });
    }
    Ok(starts)
}

/// What the storage brought, as the database wants it.
#[derive(Debug)]
struct Backend(Box<dyn redb::StorageBackend>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }
}
