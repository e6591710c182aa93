//! The rows of what was cut, and the counters of producers whose records may be gone with it. One
//! transaction for both, before a file is removed or replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes};
use evermesh_event::{Block, Offset, Sequence};
use redb::{
    ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};

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
                if origin.value() == FORGOTTEN {
                    cuts.forgotten = reach;
                    continue;
                }
                let origin = decode_origin(origin.value())?;
                if reach.mark.as_ref().is_some_and(|mark| *mark.origin() != origin) {
                    return Err(unreadable("the mark of another origin"));
                }
                cuts.origins.insert(origin, reach);
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

/// The journal gets a new id: who counted under the former one counts anew.
pub(super) fn forget_producers(write: &WriteTransaction) -> Result<(), Trouble> {
    write.open_table(PRODUCERS)?.retain(|_, _| false)?;
    Ok(())
}

fn encode(reach: &Reach) -> Vec<u8> {
    let mut row = Vec::new();
    row.put_u64_le(reach.through.as_u64());
    row.put_u64_le(reach.offset.as_u64());
    let mark = reach.mark.as_ref().map(|mark| mark.encoded().clone()).unwrap_or_default();
    row.put_u32_le(u32::try_from(mark.len()).unwrap_or_default());
    row.put_slice(&mark);
    for (site, offset) in &reach.sites {
        row.put_u64_le(offset.as_u64());
        row.put_u16_le(u16::try_from(site.len()).unwrap_or_default());
        row.put_slice(site.as_bytes());
    }
    row
}

fn decode(mut row: &[u8]) -> Result<Reach, Trouble> {
    let short = |_| unreadable("what was cut");
    let through = Sequence::from_u64(row.try_get_u64_le().map_err(short)?);
    let offset = Offset::from_u64(row.try_get_u64_le().map_err(short)?);
    let length = usize::try_from(row.try_get_u32_le().map_err(short)?).unwrap_or(usize::MAX);
    let (mark, rest) = row.split_at_checked(length).ok_or_else(|| unreadable("a mark"))?;
    row = rest;
    let mark = match mark {
        [] => None,
        mark => Some(Block::decode(Bytes::copy_from_slice(mark)).map_err(unreadable)?),
    };
    if mark.as_ref().is_some_and(|mark| mark.last() != through || mark.count() > 0) {
        return Err(unreadable("a mark that leads elsewhere"));
    }
    let lost = mark.as_ref().map_or(through, Block::previous);
    let mut reach = Reach { through, offset, lost, sites: BTreeMap::new(), mark };
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use evermesh_event::{BlockBuilder, Fill, JournalId, NodeName, Origin, StartId, validate};
    use evermesh_proto::v1;

    use super::*;

    #[test]
    fn what_was_cut_there_and_back_and_nothing_else_is_taken_for_it() {
        let origin = Origin { node: NodeName::new("a").unwrap(), journal: JournalId::new([1; 16]) };
        let at = Sequence::from_u64;
        let mut block = BlockBuilder::new(origin, StartId::new([2; 16]), at(3));
        let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..v1::Event::default() };
        let fill = Fill { id: uuid::Uuid::nil(), now: std::time::UNIX_EPOCH };
        block.push(at(9), &validate(event, fill).unwrap(), false);
        let mark = Some(block.finish().unwrap().watermark(at(4)));
        let offset = Offset::from_u64(12);
        let sites = BTreeMap::from([("shop".to_owned(), Offset::from_u64(7))]);
        let reach = Reach { through: at(9), offset, lost: at(4), sites, mark };
        let row = encode(&reach);
        assert_eq!(decode(&row).ok(), Some(reach.clone()));
        let without = Reach { lost: at(9), mark: None, ..reach.clone() };
        assert_eq!(decode(&encode(&without)).ok(), Some(without));
        let elsewhere = Reach { through: at(8), ..reach };
        assert!(decode(&encode(&elsewhere)).is_err());
        let whole = row.len() - (8 + 2 + "shop".len());
        let cut_short = (0..row.len()).filter(|length| *length != whole);
        cut_short.for_each(|length| assert!(decode(&row[..length]).is_err(), "{length}"));
    }
}
