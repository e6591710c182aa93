//! What tells a later start what was lost with what is damaged, and which offsets are in another
//! order since that was put in its place.

use evermesh_event::{Epoch, Frontier, Offset, Sequence};
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{State, Trouble, decode_origin, encode_origin, unreadable};

/// Journal id and node name → the sequence through which nothing was lacking.
const FRONTIER: TableDefinition<'_, &[u8], u64> = TableDefinition::new("frontier");
/// The offset behind which something was damaged → through where.
const MENDED: TableDefinition<'_, u64, u64> = TableDefinition::new("mended");
/// The same offset → from which epoch on the places that were given out are those of that order.
const SETTLED: TableDefinition<'_, u64, u32> = TableDefinition::new("settled");

/// Offsets between which something was damaged, and is put in its place in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mended {
    pub(crate) after: Offset,
    pub(crate) through: Offset,
    /// Places that were given out from this start on are of that order.
    pub(crate) from: Epoch,
}

impl State {
    /// Stores through where everything is on the disk.
    pub(crate) fn store_frontier(&self, frontier: &Frontier) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            insert_frontier(&write, frontier)?;
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }

    /// Stores that offsets are about to be put in another order, and forgets those that were cut.
    pub(crate) fn store_mended(&self, mended: &Mended, cut: Offset) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let after = mended.after.as_u64();
                let mut table = write.open_table(MENDED)?;
                table.insert(after, mended.through.as_u64())?;
                table.retain(|_, through| through > cut.as_u64())?;
                let mut settled = write.open_table(SETTLED)?;
                settled.insert(after, mended.from.get())?;
                settled.retain(|after, _| table.get(after).is_ok_and(|row| row.is_some()))?;
            }
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }
}

pub(super) fn insert_frontier(
    write: &WriteTransaction,
    frontier: &Frontier,
) -> Result<(), Trouble> {
    let mut table = write.open_table(FRONTIER)?;
    for (origin, at) in frontier.iter() {
        table.insert(encode_origin(origin).as_slice(), at.as_u64())?;
    }
    Ok(())
}

/// What is stored of them, but for what was cut.
pub(super) fn load(
    read: &ReadTransaction,
    cut: Offset,
) -> Result<(Frontier, Vec<Mended>), Trouble> {
    let (mut frontier, mut mended) = (Frontier::default(), Vec::new());
    match read.open_table(FRONTIER) {
        Ok(table) => {
            for row in table.iter()? {
                let (origin, at) = row?;
                frontier.advance(&decode_origin(origin.value())?, Sequence::from_u64(at.value()));
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let settled = match read.open_table(SETTLED) {
        Ok(table) => Some(table),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    match read.open_table(MENDED) {
        Ok(table) => {
            for row in table.iter()? {
                let (after, through) = row?;
                let through = Offset::from_u64(through.value());
                let from = match &settled {
                    Some(table) => table.get(after.value())?.map(|from| from.value()),
                    None => None,
                };
                // An older version did not say: then no former start is known to be late enough.
                let from = from.map_or(Some(Epoch::MAX), Epoch::new);
                let from = from.ok_or_else(|| unreadable("an epoch is out of range"))?;
                if through > cut {
                    mended.push(Mended { after: Offset::from_u64(after.value()), through, from });
                }
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((frontier, mended))
}
