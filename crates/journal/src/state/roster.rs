//! The rows of the list of members.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use evermesh_event::{JournalId, NodeName};
use evermesh_proto::v1;
use prost::Message as _;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition};

use super::{State, Trouble, unreadable};
use crate::roster::{Listed, Row};

/// Node name → what is known of this member.
const ROSTER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("roster");

impl State {
    /// Stores rows that changed; what is `None` is gone.
    pub(crate) fn store_roster(&self, rows: &[(NodeName, Option<Row>)]) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let mut table = write.open_table(ROSTER)?;
                for (name, row) in rows {
                    match row {
                        Some(row) => {
                            let row = encode(name, row);
                            drop(table.insert(name.as_str(), row.as_slice())?);
                        }
                        None => drop(table.remove(name.as_str())?),
                    }
                }
            }
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }
}

pub(super) fn load(read: &ReadTransaction) -> Result<Vec<(NodeName, Row)>, Trouble> {
    let mut rows = Vec::new();
    match read.open_table(ROSTER) {
        Ok(table) => {
            for row in table.iter()? {
                let (_, value) = row?;
                rows.push(decode(value.value())?);
            }
        }
        // There never was one.
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rows)
}

/// Set: the list of closed journals stands behind the others, as long as it has to be. Clear: an
/// older version wrote the row.
const LONG_LIST: u8 = 4;

/// When it left, whether that is settled and it is dropped, how long it is away, no closed
/// journals, those that others said are there, closed ones, then `evermesh.v1.ListedMember`.
fn encode(name: &NodeName, row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u64_le(millis(row.left_at));
    bytes.put_u8(u8::from(row.settled) | u8::from(row.dropped) << 1 | LONG_LIST);
    bytes.put_u64_le(millis(row.away));
    bytes.put_u8(0);
    bytes.put_u8(u8::try_from(row.heard.len()).unwrap_or(u8::MAX));
    row.heard.iter().for_each(|journal| bytes.put_slice(journal.as_bytes()));
    bytes.put_u16_le(u16::try_from(row.closed.len()).unwrap_or(u16::MAX));
    row.closed.iter().for_each(|journal| bytes.put_slice(journal.as_bytes()));
    bytes.put_slice(&row.listed.to_proto(name).encode_to_vec());
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<(NodeName, Row), Trouble> {
    if bytes.len() < 19 {
        return Err(unreadable("a member is cut short"));
    }
    let left_at = Duration::from_millis(bytes.get_u64_le());
    let flags = bytes.get_u8();
    let (settled, dropped) = (flags & 1 != 0, flags & 2 != 0);
    let away = Duration::from_millis(bytes.get_u64_le());
    let short = |_| unreadable("a member is cut short");
    let count = bytes.try_get_u8().map_err(short)?;
    let mut closed = journals(&mut bytes, count.into())?;
    let count = bytes.try_get_u8().map_err(short)?;
    let heard = journals(&mut bytes, count.into())?;
    if flags & LONG_LIST != 0 {
        let count = bytes.try_get_u16_le().map_err(short)?;
        closed = journals(&mut bytes, count)?;
    }
    let listed = v1::ListedMember::decode(bytes).map_err(unreadable)?;
    let (name, listed) = Listed::from_proto(&listed).ok_or_else(|| unreadable("a member"))?;
    Ok((name, Row { listed, left_at, settled, dropped, away, closed, heard }))
}

/// So many of them.
fn journals(bytes: &mut &[u8], count: u16) -> Result<Vec<JournalId>, Trouble> {
    let short = || unreadable("a member is cut short");
    let mut journals = Vec::new();
    for _ in 0..count {
        let (journal, rest) = bytes.split_at_checked(16).ok_or_else(short)?;
        journals.push(JournalId::from_slice(journal).map_err(unreadable)?);
        *bytes = rest;
    }
    Ok(journals)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
