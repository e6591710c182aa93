//! A record as bytes. Pure; `docs/journal-format.md` is its written form.
//!
//! 48 bytes of preamble, the local part (who published, in runs), the payload (a block as it came,
//! or a missed), zeros up to a multiple of 16. A record begins with the marker of its segment,
//! which is drawn at random, and its checksum is seeded with it: so no payload can pass for a
//! record, and no record of another file for one of this.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes};
use evermesh_event::limits::BLOCK_BYTES_MAX;
use evermesh_event::{Block, BlockError, NameError, Offset};
use evermesh_proto::v1;
use prost::Message as _;

use super::{Content, Kept, Missed, Record};

/// Marker, checksum, length, kind, offset, durable before, taken at, skip, length of the local
/// part.
pub(crate) const PREAMBLE_BYTES: usize = 48;
/// Records begin at multiples of this, so that a search after damage has few places to look at.
pub(crate) const ALIGNMENT: usize = 16;
/// A record at most: a block of the largest size and the local part.
pub(crate) const RECORD_BYTES_MAX: usize = BLOCK_BYTES_MAX + LOCAL_BYTES_MAX + PREAMBLE_BYTES;
/// The local part at most: one publisher's identity and its count, or the places of what is left of
/// a block of the smallest entries.
const LOCAL_BYTES_MAX: usize = 128 * 1024;
/// An identity is a name in a certificate or a local account; a longer one is stored cut.
const IDENTITY_BYTES_MAX: usize = 8 * 1024;
const KIND_BLOCK: u8 = 1;
const KIND_MISSED: u8 = 2;
/// Set in the kind of a coalesced record: its local part says which offsets are left.
const KEPT: u32 = 0x100;
/// The checksum covers everything behind it.
const CHECKED_FROM: usize = 8;

/// Bytes that are no whole record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing was written here.
    #[error("there is nothing")]
    Nothing,
    /// It says it has more bytes than are here.
    #[error("the record is cut short")]
    Short,
    /// It does not begin as a record of this segment does.
    #[error("no record begins here")]
    Marker,
    /// It says an impossible length.
    #[error("the record's length is impossible")]
    Length,
    /// Not what was written.
    #[error("the record's checksum does not fit")]
    Checksum,
    /// Of a kind that this version does not know.
    #[error("the record's kind is not known")]
    Kind,
    /// Its local part cannot be read.
    #[error("the record's local part cannot be read")]
    Local,
    /// Its block cannot be read.
    #[error("the record's block cannot be read")]
    Block(#[from] BlockError),
    /// Its missed cannot be read.
    #[error("the record's missed cannot be read")]
    Missed,
    /// A name in it cannot be one.
    #[error("the record names what cannot be")]
    Name(#[from] NameError),
}

/// Who published how many entries of a record, in order.
pub(crate) type Publishers = Vec<(Arc<str>, u32)>;

/// A record and what stands beside it on the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The record.
    pub record: Record,
    /// How many bytes it takes, padding included.
    pub length: usize,
    /// Everything through here was durable when it was written.
    pub durable_before: Offset,
    /// When it was taken, in milliseconds since 1970 by the wall clock.
    pub taken_ms: u64,
    /// Who published how many of its entries, in order. Empty for what came from others.
    pub publishers: Vec<(Arc<str>, u32)>,
}

/// An identity as it is stored and compared.
pub(crate) fn stored_identity(identity: &Arc<str>) -> Arc<str> {
    if identity.len() <= IDENTITY_BYTES_MAX {
        return Arc::clone(identity);
    }
    let cut = identity.floor_char_boundary(IDENTITY_BYTES_MAX);
    identity.get(..cut).unwrap_or_default().into()
}

/// How many bytes a record takes on the disk.
pub(crate) fn length(record: &Record, publishers: &Publishers) -> usize {
    let payload = match &record.content {
        Content::Block { block, .. } => block.encoded().len(),
        Content::Missed(missed) => missed.to_proto().encoded_len(),
    };
    let local = record.kept.as_ref().map_or_else(|| local_length(publishers), |kept| kept.length());
    (PREAMBLE_BYTES + local + payload).next_multiple_of(ALIGNMENT)
}

fn local_length(publishers: &Publishers) -> usize {
    publishers.iter().map(|(identity, _)| 6 + identity.len()).sum()
}

/// Appends a record to a buffer.
#[expect(
    clippy::cast_possible_truncation,
    reason = "lengths are bounded by RECORD_BYTES_MAX, identities by IDENTITY_BYTES_MAX"
)]
pub(crate) fn encode(
    buffer: &mut Vec<u8>,
    marker: u32,
    record: &Record,
    publishers: &Publishers,
    taken_ms: u64,
    durable_before: Offset,
) {
    let begin = buffer.len();
    let length = length(record, publishers);
    buffer.reserve(length);
    let (kind, skip) = match &record.content {
        Content::Block { skip, .. } => (KIND_BLOCK, *skip),
        Content::Missed(_) => (KIND_MISSED, 0),
    };
    buffer.put_u32_le(marker);
    buffer.put_u32_le(0);
    let length_at = buffer.len();
    buffer.put_u32_le(0);
    let flag = if record.kept.is_some() { KEPT } else { 0 };
    buffer.put_u32_le(u32::from(kind) | flag);
    buffer.put_u64_le(record.offset.as_u64());
    buffer.put_u64_le(durable_before.as_u64());
    buffer.put_u64_le(taken_ms);
    buffer.put_u32_le(skip);
    if let Some(kept) = &record.kept {
        buffer.put_u32_le(kept.length() as u32);
        buffer.put_u64_le(kept.end.as_u64());
        kept.places.iter().for_each(|place| buffer.put_u32_le(*place));
    } else {
        buffer.put_u32_le(local_length(publishers) as u32);
        for (identity, count) in publishers {
            buffer.put_u32_le(*count);
            buffer.put_u16_le(identity.len() as u16);
            buffer.put_slice(identity.as_bytes());
        }
    }
    match &record.content {
        Content::Block { block, .. } => buffer.put_slice(block.encoded()),
        Content::Missed(missed) => missed.to_proto().encode_raw(buffer),
    }
    let exact = (buffer.len() - begin) as u32;
    buffer.resize(begin + length, 0);
    if let Some(place) = buffer.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&exact.to_le_bytes());
    }
    let checksum = checksum(marker, buffer.get(begin + CHECKED_FROM..).unwrap_or_default());
    if let Some(place) = buffer.get_mut(begin + 4..begin + 8) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads the record at the front of these bytes. `marker` is that of its segment.
///
/// # Errors
/// If no whole record begins there.
pub fn decode(bytes: &Bytes, marker: u32) -> Result<Decoded, DecodeError> {
    let padded = measure(bytes, marker)?;
    let whole = bytes.get(..padded).ok_or(DecodeError::Short)?;
    let mut fields = whole;
    fields.advance(4);
    let expected = fields.get_u32_le();
    if checksum(marker, fields) != expected {
        return Err(DecodeError::Checksum);
    }
    let exact = usize::try_from(fields.get_u32_le()).map_err(|_| DecodeError::Length)?;
    let kind = fields.get_u32_le();
    let offset = Offset::from_u64(fields.get_u64_le());
    let durable_before = Offset::from_u64(fields.get_u64_le());
    let taken_ms = fields.get_u64_le();
    let skip = fields.get_u32_le();
    let local = usize::try_from(fields.get_u32_le()).map_err(|_| DecodeError::Length)?;
    let payload_at = PREAMBLE_BYTES.checked_add(local).filter(|at| *at <= exact);
    let payload_at = payload_at.ok_or(DecodeError::Length)?;
    let local = bytes.get(PREAMBLE_BYTES..payload_at).unwrap_or_default();
    let (publishers, kept) = if kind & KEPT == 0 {
        (decode_local(local)?, None)
    } else {
        (Publishers::new(), Some(Arc::new(decode_kept(local, offset)?)))
    };
    let payload = bytes.slice(payload_at..exact);
    let content = match u8::try_from(kind & !KEPT) {
        Ok(KIND_BLOCK) => Content::Block { block: Block::decode(payload)?, skip },
        Ok(KIND_MISSED) => {
            let missed = v1::Missed::decode(payload).map_err(|_| DecodeError::Missed)?;
            Content::Missed(Missed::from_proto(&missed)?)
        }
        _ => return Err(DecodeError::Kind),
    };
    let record = Record { offset, content, kept };
    Ok(Decoded { record, length: padded, durable_before, taken_ms, publishers })
}

/// How many bytes, padding included, the record at the front of these says it takes. Nothing but
/// marker and bounds is checked.
pub(crate) fn measure(front: &[u8], marker: u32) -> Result<usize, DecodeError> {
    let Some(mut preamble) = front.get(..PREAMBLE_BYTES) else {
        return Err(DecodeError::Short);
    };
    if preamble.iter().all(|byte| *byte == 0) {
        return Err(DecodeError::Nothing);
    }
    if preamble.get_u32_le() != marker {
        return Err(DecodeError::Marker);
    }
    preamble.advance(4);
    let exact = usize::try_from(preamble.get_u32_le()).map_err(|_| DecodeError::Length)?;
    if !(PREAMBLE_BYTES..=RECORD_BYTES_MAX).contains(&exact) {
        return Err(DecodeError::Length);
    }
    Ok(exact.next_multiple_of(ALIGNMENT))
}

fn checksum(marker: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(marker, bytes)
}

impl Kept {
    fn length(&self) -> usize {
        8 + 4 * self.places.len()
    }
}

/// Places rise, and none lies behind the end.
fn decode_kept(mut local: &[u8], offset: Offset) -> Result<Kept, DecodeError> {
    let end = Offset::from_u64(local.try_get_u64_le().map_err(|_| DecodeError::Local)?);
    let span = end.as_u64().checked_sub(offset.as_u64()).ok_or(DecodeError::Local)?;
    let mut places = Vec::with_capacity(local.len() / 4);
    while !local.is_empty() {
        let place = local.try_get_u32_le().map_err(|_| DecodeError::Local)?;
        if u64::from(place) > span || places.last().is_some_and(|last| *last >= place) {
            return Err(DecodeError::Local);
        }
        places.push(place);
    }
    Ok(Kept { end, places })
}

fn decode_local(mut local: &[u8]) -> Result<Publishers, DecodeError> {
    let mut publishers = Publishers::new();
    while !local.is_empty() {
        let count = local.try_get_u32_le().map_err(|_| DecodeError::Local)?;
        let length = usize::from(local.try_get_u16_le().map_err(|_| DecodeError::Local)?);
        let (identity, rest) = local.split_at_checked(length).ok_or(DecodeError::Local)?;
        let identity = std::str::from_utf8(identity).map_err(|_| DecodeError::Local)?;
        publishers.push((identity.into(), count));
        local = rest;
    }
    Ok(publishers)
}
