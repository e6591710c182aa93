//! The first 4 KiB of a segment. Written and synced before any record of it.

use bytes::{Buf as _, BufMut as _};
use evermesh_event::{JournalId, Offset};

/// One page: records begin at a multiple of every sector size.
pub(crate) const HEADER_BYTES: u64 = 4096;
const LENGTH: usize = 4096;
const MAGIC: &[u8; 8] = b"EVERMSEG";
/// The version of the format of segments and records.
pub(crate) const VERSION: u32 = 1;
/// The checksum stands at the end and covers everything before it.
const CHECKSUM_AT: usize = LENGTH - 4;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// With which its records begin and their checksums are seeded. Random, never zero.
    pub(crate) marker: u32,
    /// The offset of its first record.
    pub(crate) first: Offset,
    /// The length of its file.
    pub(crate) length: u64,
    /// The journal that wrote it.
    pub(crate) journal: JournalId,
}

/// Bytes that are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Not what was written.
    Damaged,
    /// Of a version that is not known here.
    Version(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.put_slice(MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_u32_le(self.marker);
        bytes.put_u64_le(self.first.as_u64());
        bytes.put_u64_le(self.length);
        bytes.put_slice(self.journal.as_bytes());
        bytes.resize(CHECKSUM_AT, 0);
        let checksum = crc32c::crc32c(&bytes);
        bytes.put_u32_le(checksum);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (mut fields, mut checksum) =
            bytes.split_at_checked(CHECKSUM_AT).ok_or(HeaderError::Damaged)?;
        if checksum.len() != 4 || crc32c::crc32c(fields) != checksum.get_u32_le() {
            return Err(HeaderError::Damaged);
        }
        if fields.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(HeaderError::Damaged);
        }
        fields.advance(MAGIC.len());
        let version = fields.get_u32_le();
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let marker = fields.get_u32_le();
        let first = Offset::from_u64(fields.get_u64_le());
        let length = fields.get_u64_le();
        let journal = fields.get(..16).and_then(|id| JournalId::from_slice(id).ok());
        let journal = journal.ok_or(HeaderError::Damaged)?;
        Ok(Self { marker, first, length, journal })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_and_every_flipped_bit_is_noticed() {
        let header = Header {
            marker: 0xdead_beef,
            first: Offset::from_u64(77),
            length: 1 << 26,
            journal: JournalId::new([9; 16]),
        };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), Err(HeaderError::Damaged), "bit {bit}");
        }
        assert!(Header::decode(&bytes[..100]).is_err());
    }
}
