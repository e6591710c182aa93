//! The rows of durable names and dead letters. One transaction for both: no cursor is on the disk
//! that moved past a letter which is not.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes};
use evermesh_event::{Epoch, Frontier, Offset, Origin, Sequence};
use evermesh_proto::v1;
use prost::Message as _;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition};

use super::{State, Trouble, unreadable};
use crate::letters::Letter;
use crate::names::Name;

/// Durable name → whose it is, what it hears, its place.
const NAMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("names");
/// Number → `evermesh.v1.DeadLetter`.
const LETTERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("letters");

/// What is stored of them.
pub(super) type Stored = (BTreeMap<String, Name>, Vec<Letter>);

impl State {
    /// Stores names and letters that changed; what is `None` is gone.
    pub(crate) fn store_places(
        &self,
        names: &[(String, Option<Name>)],
        letters: &[(u64, Option<Letter>)],
    ) -> Result<(), String> {
        let store = || -> Result<(), Trouble> {
            let write = self.database.begin_write()?;
            {
                let mut table = write.open_table(NAMES)?;
                for (key, name) in names {
                    match name {
                        Some(name) => {
                            drop(table.insert(key.as_str(), encode_name(name)?.as_slice())?)
                        }
                        None => drop(table.remove(key.as_str())?),
                    }
                }
                let mut table = write.open_table(LETTERS)?;
                for (number, letter) in letters {
                    match letter {
                        Some(letter) => drop(
                            table.insert(number, letter.to_proto().encode_to_vec().as_slice())?,
                        ),
                        None => drop(table.remove(number)?),
                    }
                }
            }
            Ok(write.commit()?)
        };
        store().map_err(Trouble::into_reason)
    }
}

pub(super) fn load(read: &ReadTransaction) -> Result<Stored, Trouble> {
    let mut names = BTreeMap::new();
    match read.open_table(NAMES) {
        Ok(table) => {
            for row in table.iter()? {
                let (key, value) = row?;
                names.insert(key.value().to_owned(), decode_name(value.value())?);
            }
        }
        // There never was one.
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let mut letters = Vec::new();
    match read.open_table(LETTERS) {
        Ok(table) => {
            for row in table.iter()? {
                let (_, value) = row?;
                let letter = v1::DeadLetter::decode(value.value()).map_err(unreadable)?;
                letters.push(Letter::from_proto(letter).map_err(unreadable)?);
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((names, letters))
}

/// Place, flag, identity, sites and the frontier, each with its length in front; in which start the
/// place was given.
fn encode_name(name: &Name) -> Result<Vec<u8>, Trouble> {
    let mut row = Vec::new();
    row.put_u64_le(name.acknowledged.as_u64());
    row.put_u8(u8::from(name.untold));
    put_text(&mut row, &name.identity)?;
    put_count(&mut row, name.sites.len())?;
    for site in &name.sites {
        put_text(&mut row, site)?;
    }
    put_count(&mut row, name.through.len())?;
    for (origin, at) in name.through.iter() {
        let origin = origin.to_proto();
        put_text(&mut row, &origin.node)?;
        row.put_slice(&origin.journal);
        row.put_u64_le(at.as_u64());
    }
    row.put_u32_le(name.given.get());
    Ok(row)
}

fn decode_name(mut row: &[u8]) -> Result<Name, Trouble> {
    let acknowledged = Offset::from_u64(row.try_get_u64_le().map_err(unreadable)?);
    let untold = row.try_get_u8().map_err(unreadable)? != 0;
    let identity = take_text(&mut row)?.into();
    let mut sites = Vec::new();
    for _ in 0..row.try_get_u32_le().map_err(unreadable)? {
        sites.push(take_text(&mut row)?);
    }
    let mut through = Frontier::default();
    for _ in 0..row.try_get_u32_le().map_err(unreadable)? {
        let node = take_text(&mut row)?;
        let journal = row.split_at_checked(16).ok_or_else(|| unreadable("an origin"))?;
        row = journal.1;
        let origin = v1::Origin { node, journal: Bytes::copy_from_slice(journal.0) };
        let origin = Origin::from_proto(&origin).map_err(unreadable)?;
        through.advance(&origin, Sequence::from_u64(row.try_get_u64_le().map_err(unreadable)?));
    }
    // An older version did not say.
    let given = match row.is_empty() {
        true => Epoch::default(),
        false => Epoch::new(row.try_get_u32_le().map_err(unreadable)?)
            .ok_or_else(|| unreadable("an epoch is out of range"))?,
    };
    Ok(Name { identity, sites, acknowledged, given, through, untold })
}

fn put_count(row: &mut Vec<u8>, count: usize) -> Result<(), Trouble> {
    row.put_u32_le(u32::try_from(count).map_err(unreadable)?);
    Ok(())
}

fn put_text(row: &mut Vec<u8>, text: &str) -> Result<(), Trouble> {
    put_count(row, text.len())?;
    row.put_slice(text.as_bytes());
    Ok(())
}

fn take_text(row: &mut &[u8]) -> Result<String, Trouble> {
    let length = row.try_get_u32_le().map_err(unreadable)?;
    let length = usize::try_from(length).map_err(unreadable)?;
    let (text, rest) = row.split_at_checked(length).ok_or_else(|| unreadable("a text"))?;
    *row = rest;
    String::from_utf8(text.to_vec()).map_err(unreadable)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use evermesh_event::{JournalId, NodeName};

    use super::*;

    #[test]
    fn a_name_there_and_back() {
        let node = NodeName::new("web-1").unwrap();
        let mut through = Frontier::default();
        through.advance(&Origin { node, journal: JournalId::new([7; 16]) }, Sequence::from_u64(9));
        let name = Name {
            identity: "spiffe://shop/app/varnish".into(),
            sites: vec!["shop".into(), "blog".into()],
            acknowledged: Offset::from_u64(17),
            given: Epoch::new(3).unwrap(),
            through,
            untold: true,
        };
        let row = encode_name(&name).map_err(Trouble::into_reason).unwrap();
        assert_eq!(decode_name(&row).map_err(Trouble::into_reason).unwrap(), name);
        let older = row.len() - 4;
        for cut in (0..row.len()).filter(|cut| *cut != older) {
            assert!(decode_name(row.get(..cut).unwrap()).is_err(), "cut at {cut}");
        }
        let without = decode_name(row.get(..older).unwrap()).map_err(Trouble::into_reason);
        assert_eq!(without.unwrap(), Name { given: Epoch::default(), ..name });
    }
}
