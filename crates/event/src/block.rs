//! The block: the unit that is stored, sent and stored again. Encoded once, at the origin; what
//! travels is its bytes.
//!
//! Layout, version 1: `EMB1`, then three little-endian u32 (length of the header, length of the
//! body, CRC-32C of both), then the header (`evermesh.v1.BlockHeader`), then the body: the entries
//! with tag and length, as they stand in a `Delivery`. A decoded block is whole: checksum, count,
//! and that sequences rise within `previous..=last` have been checked.

mod builder;
mod entry;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use evermesh_proto::v1;
use prost::Message;

pub use self::builder::BlockBuilder;
pub use self::entry::{Entries, EntryView, Glance};
use crate::limits::{BLOCK_BYTES_MAX, EVENT_BYTES_MAX};
use crate::names::{NameError, Origin, StartId};
use crate::position::Sequence;

/// Begins every block. The digit is the version of the layout.
const MAGIC: &[u8; 4] = b"EMB1";
/// Magic, two lengths, checksum.
const PREAMBLE_BYTES: usize = 16;
/// A block's bytes at most: one event of the largest size always fits.
const ENCODED_BYTES_MAX: usize = BLOCK_BYTES_MAX;
const _: () = assert!(EVENT_BYTES_MAX * 2 <= BLOCK_BYTES_MAX);

/// Bytes that are not a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Fewer bytes than it says it has.
    #[error("the block was cut short")]
    Short,
    /// Not a block, or of a version that this node does not know.
    #[error("the bytes are no block of a known version")]
    Magic,
    /// Longer than a block may be.
    #[error("the block has {0} bytes, more than a block may have")]
    Long(usize),
    /// Not what was written.
    #[error("the block's checksum does not fit: it was damaged on disk or on the way")]
    Checksum,
    /// The header cannot be read.
    #[error("the block's header cannot be read")]
    Header,
    /// A name or id in the header cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The entries are not what the header says.
    #[error("the block's entries are not what its header says: {0}")]
    Entries(&'static str),
}

/// 1 to n entries of one origin, whole and checked. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    encoded: Bytes,
    body: Bytes,
    origin: Origin,
    start: StartId,
    previous: Sequence,
    first: Sequence,
    last: Sequence,
    count: u32,
    kinds: Vec<v1::BlockKind>,
    sampled: bool,
    coalesced: bool,
}

impl Block {
    /// Reads a block.
    ///
    /// # Errors
    /// If the bytes are not exactly one whole block.
    pub fn decode(encoded: Bytes) -> Result<Self, BlockError> {
        let length = Self::measure(&encoded)?;
        if length != encoded.len() {
            return Err(BlockError::Short);
        }
        let (preamble, rest) = encoded.split_at_checked(PREAMBLE_BYTES).ok_or(BlockError::Short)?;
        let header_length = number(preamble, 4)?;
        if crc32c::crc32c(rest) as usize != number(preamble, 12)? {
            return Err(BlockError::Checksum);
        }
        let header = rest.get(..header_length).ok_or(BlockError::Short)?;
        let header = v1::BlockHeader::decode(header).map_err(|_| BlockError::Header)?;
        let body = encoded.slice(PREAMBLE_BYTES + header_length..);
        Self::assemble(encoded, body, header)
    }

    /// How many bytes the block at the front of these has, by its preamble alone.
    ///
    /// # Errors
    /// If these bytes do not begin with a preamble, or it says an impossible length.
    pub fn measure(front: &[u8]) -> Result<usize, BlockError> {
        if front.len() < PREAMBLE_BYTES {
            return Err(BlockError::Short);
        }
        if !front.starts_with(MAGIC) {
            return Err(BlockError::Magic);
        }
        let length = PREAMBLE_BYTES + number(front, 4)? + number(front, 8)?;
        if length > ENCODED_BYTES_MAX { Err(BlockError::Long(length)) } else { Ok(length) }
    }

    fn assemble(encoded: Bytes, body: Bytes, header: v1::BlockHeader) -> Result<Self, BlockError> {
        let origin = header.origin.as_ref().ok_or(NameError::NoOrigin)?;
        let mut block = Self {
            encoded,
            body,
            origin: Origin::from_proto(origin)?,
            start: StartId::from_slice(&header.start)?,
            previous: Sequence::from_u64(header.previous),
            first: Sequence::ZERO,
            last: Sequence::from_u64(header.last),
            count: header.count,
            kinds: header.kinds,
            sampled: header.sampled,
            coalesced: header.coalesced,
        };
        block.first = block.check_entries()?;
        Ok(block)
    }

    /// Walks the entries once; returns the first sequence.
    fn check_entries(&self) -> Result<Sequence, BlockError> {
        let (mut at, mut first, mut count) = (self.previous, None, 0);
        let mut entries = self.entries();
        for entry in &mut entries {
            if entry.sequence <= at || entry.sequence.epoch() != self.last.epoch() {
                return Err(BlockError::Entries("the sequences do not rise within one start"));
            }
            at = entry.sequence;
            first.get_or_insert(at);
            count += 1;
        }
        if !entries.is_whole() {
            return Err(BlockError::Entries("one of them cannot be read"));
        }
        if count != self.count || at > self.last {
            return Err(BlockError::Entries("there are more or fewer"));
        }
        if self.coalesced && first.is_none() {
            // Only its watermark is left.
            return Ok(self.last);
        }
        first.ok_or(BlockError::Entries("there is none"))
    }

    /// The whole block as it travels and is stored.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The entries as they stand in a delivery.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Who numbered it.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Which start of its origin.
    #[must_use]
    pub const fn start(&self) -> StartId {
        self.start
    }

    /// Where a receiver must already be, or beyond.
    #[must_use]
    pub const fn previous(&self) -> Sequence {
        self.previous
    }

    /// Its first entry.
    #[must_use]
    pub const fn first(&self) -> Sequence {
        self.first
    }

    /// Where a receiver is after it.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        self.last
    }

    /// How many entries.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Which kinds of entries, each once; empty: look inside.
    #[must_use]
    pub fn kinds(&self) -> &[v1::BlockKind] {
        &self.kinds
    }

    /// At least one entry is of a sampled trace.
    #[must_use]
    pub const fn sampled(&self) -> bool {
        self.sampled
    }

    /// Entries were left out of it, because newer events replace them.
    #[must_use]
    pub const fn coalesced(&self) -> bool {
        self.coalesced
    }

    /// Something between `previous` and `last` is not in it: newer events replace that. A start
    /// numbers without a gap.
    #[must_use]
    pub fn replaced(&self) -> bool {
        let same = self.previous.epoch() == self.last.epoch();
        let before = if same { self.previous.counter() } else { 0 };
        let numbered = self.last.counter().saturating_sub(before);
        self.coalesced && u64::from(self.count) < numbered
    }

    /// The same block without some of its entries, for whoever is at `previous` or beyond: bytes of
    /// what stays, and its watermark, are as they were.
    #[must_use]
    pub fn coalesce(&self, previous: Sequence, stays: impl Fn(&EntryView) -> bool) -> Self {
        builder::coalesce(self, previous, stays)
    }

    /// Nothing of it but where it ends, for whoever is at a sequence or beyond.
    #[must_use]
    pub fn watermark(&self, previous: Sequence) -> Self {
        builder::watermark(self, previous)
    }

    /// The part of it that leads from one sequence to another: itself, if it leads no further.
    /// Bytes of its entries are as they were.
    #[must_use]
    pub fn within(&self, after: Sequence, through: Sequence) -> Self {
        builder::within(self, after, through)
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> Entries {
        Entries::new(self.body.clone())
    }

    /// How many entries at its front are at or below a sequence.
    #[must_use]
    pub fn count_through(&self, sequence: Sequence) -> u32 {
        if sequence < self.first {
            return 0;
        }
        let through = self.entries().take_while(|entry| entry.sequence <= sequence).count();
        u32::try_from(through).unwrap_or(self.count)
    }
}

/// A little-endian u32 at a place.
fn number(bytes: &[u8], at: usize) -> Result<usize, BlockError> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(BlockError::Short)?;
    usize::try_from(u32::from_le_bytes(*bytes)).map_err(|_| BlockError::Short)
}
