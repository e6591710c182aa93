//! The rows of what was cut, and the counters of producers whose records may be gone with it. One
//! transaction for both, before a file is removed or replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};
use evermesh_event::{Offset, Sequence};
use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};

use super::{META, State, Trouble, decode_origin, encode_origin, notices, unreadable};
use crate::cuts::{Cuts, Reach};
use crate::producers::Highest;

/// Journal id and node name → how far it was cut, and which sites.
const CUTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("cuts");
/// In place of an origin: all that are not known any more.
const FORGOTTEN: &[u8] = b"";
/// Identity and producer → counter, sequence.
const PRODUCERS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("producers");
/// Nothing at or before this offset is held.
const END_KEY: &str = "cut";
/// Rows of producers: twice as many as are known at a time, then those not known any more go.
const PRODUCERS_MAX: u64 = 8192;

/// What is stored of them.
pub(super) type Stored = (Cuts, BTreeMap<String, Highest>);

impl State {
    /// Stores what was cut, and the counters that were in it.
    pub(crate) fn store_cuts(
        &self,
        cuts: &Cuts,
        producers: &BTreeMap<Arc<str>, Highest>,
    ) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let end = cuts.end.as_u64().to_le_bytes();
                write.open_table(META)?.insert(END_KEY, end.as_slice())?;
                let mut table = write.open_table(CUTS)?;
                for (origin, reach) in &cuts.origins {
                    table.insert(encode_origin(origin).as_slice(), encode(reach).as_slice())?;
                }
                table.insert(FORGOTTEN, encode(&cuts.forgotten).as_slice())?;
                if table.len()? > cuts.origins.len() as u64 + 1 {
                    let known = |key: &[u8]| {
                        decode_origin(key).is_ok_and(|origin| cuts.origins.contains_key(&origin))
                    };
                    table.retain(|key, _| key == FORGOTTEN || known(key))?;
                }
                let mut table = write.open_table(PRODUCERS)?;
                for (key, highest) in producers {
                    table.insert(&**key, (highest.counter, highest.sequence.as_u64()))?;
                }
                if table.len()? > PRODUCERS_MAX {
                    table.retain(|key, _| producers.contains_key(key))?;
                }
            }
            notices::cut(&write, cuts.end)?;
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }
}

pub(super) fn load(read: &ReadTransaction) -> Result<Stored, Trouble> {
    let mut cuts = Cuts::default();
    if let Some(end) = read.open_table(META)?.get(END_KEY)? {
        cuts.end = Offset::from_u64(end.value().try_get_u64_le().map_err(unreadable)?);
    }
    match read.open_table(CUTS) {
        Ok(table) => {
            for row in table.iter()? {
                let (origin, value) = row?;
                let reach = decode(value.value())?;
                match origin.value() {
                    FORGOTTEN => cuts.forgotten = reach,
                    origin => drop(cuts.origins.insert(decode_origin(origin)?, reach)),
                }
            }
        }
        // Nothing was ever cut.
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let mut producers = BTreeMap::new();
    match read.open_table(PRODUCERS) {
        Ok(table) => {
            for row in table.iter()? {
                let (key, value) = row?;
                let (counter, sequence) = value.value();
                let highest = Highest { counter, sequence: Sequence::from_u64(sequence) };
                producers.insert(key.value().to_owned(), highest);
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((cuts, producers))
}

fn encode(reach: &Reach) -> Vec<u8> {
    let mut row = Vec::new();
    row.put_u64_le(reach.through.as_u64());
    row.put_u64_le(reach.offset.as_u64());
    for (site, offset) in &reach.sites {
        row.put_u64_le(offset.as_u64());
        row.put_u16_le(u16::try_from(site.len()).unwrap_or_default());
        row.put_slice(site.as_bytes());
    }
    row
}

fn decode(mut row: &[u8]) -> Result<Reach, Trouble> {
    let short = |_| unreadable("what was cut");
    let mut reach = Reach {
        through: Sequence::from_u64(row.try_get_u64_le().map_err(short)?),
        offset: Offset::from_u64(row.try_get_u64_le().map_err(short)?),
        sites: BTreeMap::new(),
    };
    while !row.is_empty() {
        let offset = Offset::from_u64(row.try_get_u64_le().map_err(short)?);
        let length = usize::from(row.try_get_u16_le().map_err(short)?);
        let (site, rest) =
            row.split_at_checked(length).ok_or_else(|| unreadable("a site that was cut"))?;
        let site = std::str::from_utf8(site).map_err(unreadable)?;
        reach.sites.insert(site.to_owned(), offset);
        row = rest;
    }
    Ok(reach)
}
