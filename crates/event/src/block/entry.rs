//! The entries of a block's body, read without decoding events.

use bytes::{Buf, Bytes};
use evermesh_proto::{Delivery, v1};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::position::Sequence;

/// The first byte of an encoded entry: field 1, fixed64. The encoder always writes the sequence
/// first.
pub(super) const SEQUENCE_TAG: u8 = 1 << 3 | 1;
/// After the sequence: field 2, length-delimited.
pub(super) const EVENT_TAG: u8 = 2 << 3 | 2;

/// One entry of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryView {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its place in the body, tag and length included.
    pub range: std::ops::Range<usize>,
    /// The encoded event.
    pub event: Bytes,
}

impl EntryView {
    /// The event, decoded.
    ///
    /// # Errors
    /// If the origin wrote something else than an event.
    pub fn decode(&self) -> Result<v1::Event, DecodeError> {
        v1::Event::decode(self.event.clone())
    }

    /// The entry by itself, encoded anew. Without its event where that cannot be read.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let sequence = self.sequence.as_u64();
        v1::Entry { sequence, event: self.decode().ok() }.encode_to_vec().into()
    }

    /// What rules ask of an event, without decoding it. Empty where the event cannot be read.
    #[must_use]
    pub fn glance(&self) -> Glance<'_> {
        Glance::read(&self.event).unwrap_or_default()
    }
}

/// What rules ask of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance<'a> {
    /// Field 1.
    pub id: &'a str,
    /// Field 2.
    pub site: &'a str,
    /// Field 3.
    pub r#type: &'a str,
    /// Field 4.
    pub key: &'a str,
    /// Field 5.
    pub source: &'a str,
    /// Field 10: a newer event of the same site, type, key and source replaces it.
    pub coalesce: bool,
    /// Field 11.
    pub traceparent: &'a str,
}

impl<'a> Glance<'a> {
    fn read(mut rest: &'a [u8]) -> Option<Self> {
        let mut glance = Self::default();
        while !rest.is_empty() {
            let (number, wire_type) = encoding::decode_key(&mut rest).ok()?;
            if number == 10 && wire_type == WireType::Varint {
                glance.coalesce = encoding::decode_varint(&mut rest).ok()? != 0;
                continue;
            }
            if wire_type != WireType::LengthDelimited {
                encoding::skip_field(wire_type, number, &mut rest, DecodeContext::default())
                    .ok()?;
                continue;
            }
            let length = usize::try_from(encoding::decode_varint(&mut rest).ok()?).ok()?;
            let (value, after) = rest.split_at_checked(length)?;
            rest = after;
            let field = match number {
                1 => &mut glance.id,
                2 => &mut glance.site,
                3 => &mut glance.r#type,
                4 => &mut glance.key,
                5 => &mut glance.source,
                11 => &mut glance.traceparent,
                _ => continue,
            };
            *field = std::str::from_utf8(value).ok()?;
        }
        Some(glance)
    }
}

/// Iterates over a body. Ends early at bytes that cannot be read, which [`Entries::is_whole`] then
/// tells.
#[derive(Clone, Debug)]
pub struct Entries {
    rest: Bytes,
    at: usize,
    whole: bool,
}

impl Entries {
    pub(super) const fn new(body: Bytes) -> Self {
        Self { rest: body, at: 0, whole: true }
    }

    /// Nothing unreadable was met so far.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    fn read(&mut self) -> Option<EntryView> {
        let before = self.rest.len();
        if self.rest.try_get_u8().ok()? != Delivery::ENTRY_TAG {
            return None;
        }
        let length = usize::try_from(encoding::decode_varint(&mut self.rest).ok()?).ok()?;
        if length > self.rest.len() {
            return None;
        }
        let mut entry = self.rest.split_to(length);
        if entry.try_get_u8().ok()? != SEQUENCE_TAG {
            return None;
        }
        let sequence = Sequence::from_u64(entry.try_get_u64_le().ok()?);
        if entry.try_get_u8().ok()? != EVENT_TAG {
            return None;
        }
        let event_length = usize::try_from(encoding::decode_varint(&mut entry).ok()?).ok()?;
        if event_length != entry.len() {
            return None;
        }
        let end = self.at + (before - self.rest.len());
        let range = self.at..end;
        self.at = end;
        Some(EntryView { sequence, range, event: entry })
    }
}

impl Iterator for Entries {
    type Item = EntryView;

    fn next(&mut self) -> Option<EntryView> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_none() {
            self.whole = false;
            self.rest.clear();
        }
        entry
    }
}
