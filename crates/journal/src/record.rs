//! What a journal is made of: a block as it came, or the notice that something may be lost.
//!
//! A record wraps a block and never changes it: the offset is this node's, the block is its
//! origin's. What a straddling block brought twice is left out by `skip`, not by cutting bytes.

pub(crate) mod format;

use std::sync::Arc;

use bytes::Bytes;
use evermesh_event::block::EntryView;
use evermesh_event::{Block, NameError, Offset, Origin, Sequence};
use evermesh_proto::v1;

/// One record. Readers share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Of its first taken entry, or of the missed.
    pub offset: Offset,
    /// What it holds.
    pub content: Content,
    /// Where it was coalesced: which of its offsets are left.
    pub(crate) kept: Option<Arc<Kept>>,
}

/// The places of a coalesced record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The last offset that it stands for.
    pub(crate) end: Offset,
    /// Of each entry of the block, from the record's first offset on.
    pub(crate) places: Vec<u32>,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Entries of one origin.
    Block {
        /// As it came.
        block: Block,
        /// How many entries at its front to leave out: they are in earlier records, or were asked
        /// to be left out.
        skip: u32,
    },
    /// A scope that may be lost.
    Missed(Missed),
}

/// A scope in which events may be lost. See `evermesh.v1.Missed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Whose events; `None`: of every origin.
    pub origin: Option<Origin>,
    /// The first sequence that may be lost.
    pub from: Sequence,
    /// The last; `ZERO`: not known, and no frontier moves.
    pub through: Sequence,
    /// Whose subscribers are concerned; empty: all.
    pub sites: Vec<String>,
    /// Why.
    pub cause: v1::MissedCause,
}

impl Record {
    /// A record whose entries have offsets that follow by one.
    #[must_use]
    pub const fn new(offset: Offset, content: Content) -> Self {
        Self { offset, content, kept: None }
    }

    /// The offset of its last taken entry.
    #[must_use]
    pub fn end(&self) -> Offset {
        if let Some(kept) = &self.kept {
            return kept.end;
        }
        self.offset.plus(u64::from(self.span()) - 1).unwrap_or(self.offset)
    }

    /// How many offsets it takes. A block of which no entry was taken, only its watermark, takes
    /// one as a missed does.
    pub(crate) fn span(&self) -> u32 {
        match &self.content {
            Content::Block { block, skip } => block.count().saturating_sub(*skip).max(1),
            Content::Missed(_) => 1,
        }
    }

    /// The body from the first taken entry on, as it stands in a delivery. Empty for a missed.
    #[must_use]
    pub fn taken_body(&self) -> Bytes {
        let Content::Block { block, skip } = &self.content else {
            return Bytes::new();
        };
        let Some(last_left_out) = skip.checked_sub(1) else {
            return block.body().clone();
        };
        let last_left_out = usize::try_from(last_left_out).unwrap_or(usize::MAX);
        match block.entries().nth(last_left_out) {
            Some(entry) => block.body().slice(entry.range.end..),
            None => Bytes::new(),
        }
    }

    /// The taken entries with their offsets. Ranges are places in the whole body. None for a
    /// missed.
    pub fn taken_entries(&self) -> impl Iterator<Item = (Offset, EntryView)> {
        let (entries, skip) = match &self.content {
            Content::Block { block, skip } => (Some(block.entries()), *skip),
            Content::Missed(_) => (None, 0),
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let (first, kept) = (self.offset, self.kept.clone());
        let offsets = (0..).map_while(move |n: usize| match &kept {
            Some(kept) => first.plus(u64::from(*kept.places.get(n + skip)?)),
            None => first.plus(n as u64),
        });
        offsets.zip(entries.into_iter().flatten().skip(skip))
    }

    /// Its entries have offsets that follow by one.
    #[must_use]
    pub const fn contiguous(&self) -> bool {
        self.kept.is_none()
    }

    /// The same record without what lies at or before an offset within it.
    pub(crate) fn trimmed(&self, after: Offset) -> Self {
        let passed = after.as_u64().saturating_sub(self.offset.as_u64()).saturating_add(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let mut record = self.clone();
        if let Some(kept) = &self.kept {
            let before = kept.places.iter().filter(|place| **place < passed).count();
            if let Content::Block { skip, .. } = &mut record.content {
                *skip = u32::try_from(before).unwrap_or(u32::MAX).max(*skip);
            }
            return record;
        }
        if let Content::Block { skip, .. } = &mut record.content {
            *skip = skip.saturating_add(passed);
            record.offset = self.offset.plus(u64::from(passed)).unwrap_or(self.offset);
        }
        record
    }

    /// Which origin's frontier it moves, and how far.
    #[must_use]
    pub fn moves(&self) -> Option<(&Origin, Sequence)> {
        match &self.content {
            Content::Block { block, .. } => Some((block.origin(), block.last())),
            Content::Missed(missed) => {
                let origin = missed.origin.as_ref()?;
                (missed.through > Sequence::ZERO).then_some((origin, missed.through))
            }
        }
    }

    /// It moves over something that newer events replace, or may: of which origin, and above which
    /// sequence. A missed that names sites says nothing of what was left out of others before.
    #[must_use]
    pub fn replaced(&self) -> Option<(&Origin, Sequence)> {
        self.content.replaced()
    }

    /// A missed that names no range: nothing that follows shows that it was there.
    pub(crate) fn notice(&self) -> Option<&Missed> {
        match &self.content {
            Content::Missed(missed) if self.moves().is_none() => Some(missed),
            _ => None,
        }
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        /// A record, its block's fields and kinds, and its place in the tail.
        const FIXED_BYTES: usize = 512;
        match &self.content {
            Content::Block { block, .. } => FIXED_BYTES + block.encoded().len(),
            Content::Missed(missed) => FIXED_BYTES + missed.sites.len() * 96,
        }
    }
}

impl Content {
    /// See [`Record::replaced`].
    pub(crate) fn replaced(&self) -> Option<(&Origin, Sequence)> {
        match self {
            Self::Block { block, .. } => {
                block.replaced().then(|| (block.origin(), block.previous()))
            }
            Self::Missed(missed) => {
                let some = missed.through > Sequence::ZERO && !missed.sites.is_empty();
                let before = Sequence::from_u64(missed.from.as_u64().saturating_sub(1));
                missed.origin.as_ref().filter(|_| some).map(|origin| (origin, before))
            }
        }
    }
}

impl Missed {
    /// From a message.
    ///
    /// # Errors
    /// If the origin cannot be one.
    pub fn from_proto(missed: &v1::Missed) -> Result<Self, NameError> {
        Ok(Self {
            origin: missed.origin.as_ref().map(Origin::from_proto).transpose()?,
            from: Sequence::from_u64(missed.from),
            through: Sequence::from_u64(missed.through),
            sites: missed.sites.clone(),
            cause: missed.cause(),
        })
    }

    /// To a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Missed {
        v1::Missed {
            origin: self.origin.as_ref().map(Origin::to_proto),
            from: self.from.as_u64(),
            through: self.through.as_u64(),
            sites: self.sites.clone(),
            cause: self.cause.into(),
        }
    }
}
