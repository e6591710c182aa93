//! The message `Delivery`, with its entries left as the bytes that came: delivering copies a
//! block's body, and decoding costs a subscriber one slice for each entry until it looks inside.
//!
//! On the wire it is exactly the `Delivery` of `event_replication.proto`; a test holds the two
//! equal.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::v1::{Entry, Origin};

/// Field numbers of `Delivery`.
mod tag {
    pub(super) const ORIGIN: u32 = 1;
    pub(super) const FIRST_OFFSET: u32 = 2;
    pub(super) const OFFSETS: u32 = 3;
    pub(super) const ENTRIES: u32 = 4;
    pub(super) const ATTEMPT: u32 = 5;
}

/// Events of one origin, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// Who numbered them.
    pub origin: Option<Origin>,
    /// The offset of the first entry.
    pub first_offset: u64,
    /// The offset of every entry, where they do not follow by one; else empty.
    pub offsets: Vec<u64>,
    /// 1 the first time on this stream; more after a reject.
    pub attempt: u32,
    /// Runs of entries, each with tag and length in front, as they stand in a block's body. Filled
    /// by who sends.
    spliced: Vec<Bytes>,
    /// Encoded entries without tag and length. Filled by who receives.
    parted: Vec<Bytes>,
}

impl Delivery {
    /// The first byte of an entry in a block's body: field 4, length-delimited.
    pub const ENTRY_TAG: u8 = 4 << 3 | 2;

    /// Adds a run of entries as it stands in a block's body. Whoever calls has decoded that block
    /// before, so it is well formed.
    pub fn splice(&mut self, run: Bytes) {
        self.spliced.push(run);
    }

    /// The encoded entries, each without tag and length, in order.
    pub fn encoded_entries(&self) -> impl Iterator<Item = Result<Bytes, DecodeError>> + '_ {
        let spliced = self.spliced.iter().cloned().flat_map(|mut run| {
            std::iter::from_fn(move || {
                let entry = take_entry(&mut run).transpose();
                if matches!(entry, Some(Err(_))) {
                    run.clear();
                }
                entry
            })
        });
        self.parted.iter().cloned().map(Ok).chain(spliced)
    }

    /// The entries, decoded, in order.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, DecodeError>> + '_ {
        self.encoded_entries().map(|entry| Entry::decode(entry?))
    }
}

/// Takes tag, length and one entry off the front of a run; `None` at its end.
fn take_entry(run: &mut Bytes) -> Result<Option<Bytes>, DecodeError> {
    while run.has_remaining() {
        let (number, wire_type) = encoding::decode_key(run)?;
        if number == tag::ENTRIES {
            encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
            return take_delimited(run).map(Some);
        }
        encoding::skip_field(wire_type, number, run, DecodeContext::default())?;
    }
    Ok(None)
}

fn take_delimited(buf: &mut impl Buf) -> Result<Bytes, DecodeError> {
    let mut entry = Bytes::new();
    encoding::bytes::merge(WireType::LengthDelimited, &mut entry, buf, DecodeContext::default())?;
    Ok(entry)
}

impl Message for Delivery {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if let Some(origin) = &self.origin {
            encoding::message::encode(tag::ORIGIN, origin, buf);
        }
        if self.first_offset != 0 {
            encoding::fixed64::encode(tag::FIRST_OFFSET, &self.first_offset, buf);
        }
        encoding::fixed64::encode_packed(tag::OFFSETS, &self.offsets, buf);
        for entry in &self.parted {
            encoding::bytes::encode(tag::ENTRIES, entry, buf);
        }
        for run in &self.spliced {
            buf.put_slice(run);
        }
        if self.attempt != 0 {
            encoding::uint32::encode(tag::ATTEMPT, &self.attempt, buf);
        }
    }

    fn merge_field(
        &mut self,
        number: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match number {
            tag::ORIGIN => {
                let origin = self.origin.get_or_insert_default();
                encoding::message::merge(wire_type, origin, buf, ctx)
            }
            tag::FIRST_OFFSET => {
                encoding::fixed64::merge(wire_type, &mut self.first_offset, buf, ctx)
            }
            tag::OFFSETS => {
                encoding::fixed64::merge_repeated(wire_type, &mut self.offsets, buf, ctx)
            }
            tag::ENTRIES => {
                encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
                self.parted.push(take_delimited(buf)?);
                Ok(())
            }
            tag::ATTEMPT => encoding::uint32::merge(wire_type, &mut self.attempt, buf, ctx),
            _ => encoding::skip_field(wire_type, number, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let origin =
            self.origin.as_ref().map_or(0, |o| encoding::message::encoded_len(tag::ORIGIN, o));
        let first = if self.first_offset == 0 {
            0
        } else {
            encoding::fixed64::encoded_len(tag::FIRST_OFFSET, &self.first_offset)
        };
        let attempt = if self.attempt == 0 {
            0
        } else {
            encoding::uint32::encoded_len(tag::ATTEMPT, &self.attempt)
        };
        let parted: usize =
            self.parted.iter().map(|entry| encoding::bytes::encoded_len(tag::ENTRIES, entry)).sum();
        let spliced: usize = self.spliced.iter().map(Bytes::len).sum();
        origin
            + first
            + encoding::fixed64::encoded_len_packed(tag::OFFSETS, &self.offsets)
            + parted
            + spliced
            + attempt
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
