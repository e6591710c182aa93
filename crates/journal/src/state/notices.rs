//! The rows of missed that name no range: what was told in the journal, known beside it.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _};
use evermesh_event::Offset;
use evermesh_proto::v1;
use prost::Message as _;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{State, Trouble, unreadable};
use crate::notices::Notice;
use crate::record::Missed;

/// Offset → through which offset, `evermesh.v1.Missed`.
const NOTICES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notices");

/// Rows by their offset; `None`: it is gone.
pub(crate) type Changed = [(Offset, Option<Notice>)];

impl State {
    /// Stores what changed.
    pub(crate) fn store_notices(&self, changed: &Changed) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            insert(&write, changed)?;
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }
}

/// Makes the table, too: where there is none, nobody knows what there was.
pub(super) fn insert(write: &WriteTransaction, changed: &Changed) -> Result<(), Trouble> {
    let mut table = write.open_table(NOTICES)?;
    for (first, notice) in changed {
        match notice {
            Some(notice) => {
                drop(table.insert(first.as_u64(), encode(notice).as_slice())?);
            }
            None => drop(table.remove(first.as_u64())?),
        }
    }
    Ok(())
}

/// Forgets those of what is cut.
pub(super) fn cut(write: &WriteTransaction, end: Offset) -> Result<(), Trouble> {
    let through = |mut row: &[u8]| row.try_get_u64_le().unwrap_or(u64::MAX);
    write.open_table(NOTICES)?.retain(|_, row| through(row) > end.as_u64())?;
    Ok(())
}

/// What is stored, but for what was cut; `None`: it is not known.
pub(super) fn load(
    read: &ReadTransaction,
    cut: Offset,
) -> Result<Option<BTreeMap<Offset, Notice>>, Trouble> {
    let table = match read.open_table(NOTICES) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut notices = BTreeMap::new();
    for row in table.iter()? {
        let (first, row) = row?;
        let notice = decode(row.value())?;
        if notice.through > cut {
            notices.insert(Offset::from_u64(first.value()), notice);
        }
    }
    Ok(Some(notices))
}

fn encode(notice: &Notice) -> Vec<u8> {
    let missed = notice.missed.to_proto();
    let mut row = Vec::with_capacity(8 + missed.encoded_len());
    row.put_u64_le(notice.through.as_u64());
    missed.encode_raw(&mut row);
    row
}

fn decode(mut row: &[u8]) -> Result<Notice, Trouble> {
    let through = Offset::from_u64(row.try_get_u64_le().map_err(unreadable)?);
    let missed = v1::Missed::decode(row).map_err(unreadable)?;
    Ok(Notice { through, missed: Missed::from_proto(&missed).map_err(unreadable)? })
}
