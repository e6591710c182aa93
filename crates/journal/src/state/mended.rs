//! What tells a later start what was lost with what is damaged, and which offsets are in another
//! order since that was put in its place.

use evermesh_event::{Frontier, Offset, Sequence};
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{State, Trouble, decode_origin, encode_origin};

/// Journal id and node name → the sequence through which nothing was lacking.
const FRONTIER: TableDefinition<'_, &[u8], u64> = TableDefinition::new("frontier");
/// The offset behind which something was damaged → through where.
const MENDED: TableDefinition<'_, u64, u64> = TableDefinition::new("mended");

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
    pub(crate) fn store_mended(
        &self,
        after: Offset,
        through: Offset,
        cut: Offset,
    ) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let mut table = write.open_table(MENDED)?;
                table.insert(after.as_u64(), through.as_u64())?;
                table.retain(|_, through| through > cut.as_u64())?;
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
) -> Result<(Frontier, Vec<(Offset, Offset)>), Trouble> {
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
    match read.open_table(MENDED) {
        Ok(table) => {
            for row in table.iter()? {
                let (after, through) = row?;
                let through = Offset::from_u64(through.value());
                if through > cut {
                    mended.push((Offset::from_u64(after.value()), through));
                }
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((frontier, mended))
}
