//! Encodes a block, once, at its origin.

use bytes::{BufMut, Bytes, BytesMut};
use evermesh_proto::{Delivery, v1};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::entry::{EVENT_TAG, EntryView, SEQUENCE_TAG};
use super::{Block, ENCODED_BYTES_MAX, MAGIC, PREAMBLE_BYTES};
use crate::limits::BLOCK_KINDS_MAX;
use crate::names::{Origin, StartId};
use crate::position::Sequence;
use crate::validate::ValidEvent;

/// What a header may take besides its kinds.
const HEADER_BYTES_MAX: usize = 512;

/// A block that is being filled. Nothing of it is seen before [`BlockBuilder::finish`].
#[derive(Debug)]
pub struct BlockBuilder {
    origin: Origin,
    start: StartId,
    previous: Sequence,
    first: Sequence,
    last: Sequence,
    count: u32,
    kinds: Vec<v1::BlockKind>,
    kinds_bytes: usize,
    many_kinds: bool,
    sampled: bool,
    body: BytesMut,
}

impl BlockBuilder {
    /// Begins a block: `previous` is the origin's last sequence before it.
    #[must_use]
    pub fn new(origin: Origin, start: StartId, previous: Sequence) -> Self {
        Self {
            origin,
            start,
            previous,
            first: Sequence::ZERO,
            last: previous,
            count: 0,
            kinds: Vec::new(),
            kinds_bytes: 0,
            many_kinds: false,
            sampled: false,
            body: BytesMut::new(),
        }
    }

    /// Whether this event still fits. An empty block takes every valid event.
    #[must_use]
    pub fn fits(&self, event: &ValidEvent) -> bool {
        let entry = entry_length(event.length());
        let body = self.body.len() + 1 + encoded_len_varint(entry as u64) + entry;
        let kind =
            event.event().site.len() + event.event().r#type.len() + event.event().source.len();
        let header = HEADER_BYTES_MAX + self.kinds_bytes + kind;
        PREAMBLE_BYTES + header + body <= ENCODED_BYTES_MAX
    }

    /// Adds an event under a sequence above all before it.
    pub fn push(&mut self, sequence: Sequence, event: &ValidEvent, sampled: bool) {
        debug_assert!(sequence > self.last, "{sequence} is not above {}", self.last);
        let entry = entry_length(event.length());
        self.body.reserve(entry + 16);
        self.body.put_u8(Delivery::ENTRY_TAG);
        encode_varint(entry as u64, &mut self.body);
        self.body.put_u8(SEQUENCE_TAG);
        self.body.put_u64_le(sequence.as_u64());
        self.body.put_u8(EVENT_TAG);
        encode_varint(event.length() as u64, &mut self.body);
        event.event().encode_raw(&mut self.body);
        self.note_kind(event.event());
        if self.count == 0 {
            self.first = sequence;
        }
        self.last = sequence;
        self.count += 1;
        self.sampled |= sampled;
    }

    fn note_kind(&mut self, event: &v1::Event) {
        let same = |kind: &v1::BlockKind| {
            kind.site == event.site && kind.r#type == event.r#type && kind.source == event.source
        };
        if self.many_kinds || self.kinds.iter().rev().any(same) {
            return;
        }
        if self.kinds.len() == BLOCK_KINDS_MAX {
            self.many_kinds = true;
            self.kinds.clear();
            return;
        }
        let kind = v1::BlockKind {
            site: event.site.clone(),
            r#type: event.r#type.clone(),
            source: event.source.clone(),
        };
        self.kinds_bytes += kind.encoded_len() + 4;
        self.kinds.push(kind);
    }

    /// How many events it holds.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The sequence after which the next block goes on.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        self.last
    }

    /// Encodes it; `None` if it is empty.
    #[must_use]
    pub fn finish(self) -> Option<Block> {
        if self.count == 0 {
            return None;
        }
        seal(Parts {
            origin: self.origin,
            start: self.start,
            previous: self.previous,
            first: self.first,
            last: self.last,
            count: self.count,
            kinds: self.kinds,
            sampled: self.sampled,
            coalesced: false,
            body: &self.body,
        })
    }
}

/// What a block is made of.
struct Parts<'a> {
    origin: Origin,
    start: StartId,
    previous: Sequence,
    first: Sequence,
    last: Sequence,
    count: u32,
    kinds: Vec<v1::BlockKind>,
    sampled: bool,
    coalesced: bool,
    body: &'a [u8],
}

fn seal(parts: Parts<'_>) -> Option<Block> {
    let Parts { origin, start, previous, first, last, count, kinds, sampled, coalesced, body } =
        parts;
    let header = v1::BlockHeader {
        origin: Some(origin.to_proto()),
        start: Bytes::copy_from_slice(start.as_bytes()),
        previous: previous.as_u64(),
        last: last.as_u64(),
        count,
        kinds,
        sampled,
        coalesced,
    };
    let header_length = header.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREAMBLE_BYTES + header_length + body.len());
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(u32::try_from(header_length).ok()?);
    bytes.put_u32_le(u32::try_from(body.len()).ok()?);
    bytes.put_u32_le(0);
    header.encode_raw(&mut bytes);
    bytes.put_slice(body);
    let (preamble, rest) = bytes.split_at_mut_checked(PREAMBLE_BYTES)?;
    let checksum = crc32c::crc32c(rest).to_le_bytes();
    preamble.get_mut(12..)?.copy_from_slice(&checksum);
    let encoded = bytes.freeze();
    debug_assert!(encoded.len() <= ENCODED_BYTES_MAX, "a block of {} bytes", encoded.len());
    let body = encoded.slice(PREAMBLE_BYTES + header_length..);
    let kinds = header.kinds;
    Some(Block {
        encoded,
        body,
        origin,
        start,
        previous,
        first,
        last,
        count,
        kinds,
        sampled,
        coalesced,
    })
}

/// See [`Block::coalesce`].
pub(super) fn coalesce(
    block: &Block,
    previous: Sequence,
    stays: impl Fn(&EntryView) -> bool,
) -> Block {
    some(block, previous.min(block.previous), block.last, stays)
}

/// See [`Block::watermark`].
pub(super) fn watermark(block: &Block, previous: Sequence) -> Block {
    let made = seal(Parts {
        origin: block.origin.clone(),
        start: block.start,
        previous: previous.min(block.last),
        first: block.last,
        last: block.last,
        count: 0,
        kinds: Vec::new(),
        sampled: false,
        coalesced: true,
        body: &[],
    });
    // Without a body its lengths always have a place.
    made.unwrap_or_else(|| block.clone())
}

/// See [`Block::within`].
pub(super) fn within(block: &Block, after: Sequence, through: Sequence) -> Block {
    let (previous, last) = (block.previous.max(after), block.last.min(through));
    if (previous, last) == (block.previous, block.last) {
        return block.clone();
    }
    some(block, previous, last, |entry| entry.sequence > previous && entry.sequence <= last)
}

/// A block of some of the entries.
fn some(
    block: &Block,
    previous: Sequence,
    last: Sequence,
    stays: impl Fn(&EntryView) -> bool,
) -> Block {
    let (mut body, mut first, mut count) = (BytesMut::new(), None, 0);
    for entry in block.entries().filter(stays) {
        body.put_slice(block.body.get(entry.range).unwrap_or_default());
        first.get_or_insert(entry.sequence);
        count += 1;
    }
    let made = seal(Parts {
        origin: block.origin.clone(),
        start: block.start,
        previous,
        first: first.unwrap_or(last),
        last,
        count,
        // Some may have no entry any more: then a reader looks inside in vain.
        kinds: block.kinds.clone(),
        sampled: block.sampled,
        coalesced: true,
        body: &body,
    });
    // It is shorter than the block that it was made from, and that had a place for its lengths.
    made.unwrap_or_else(|| block.clone())
}

/// An entry without its own tag and length: the sequence, and the event with tag and length.
fn entry_length(event: usize) -> usize {
    9 + 1 + encoded_len_varint(event as u64) + event
}
