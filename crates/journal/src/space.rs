//! Where the next record will lie, and whether there is room for it: decided before anything is
//! numbered.
//!
//! The writer follows these decisions and makes none: what was numbered always has its place.

use crate::error::AppendError;
use crate::limits::Limits;
use crate::segment::HEADER_BYTES;

/// The plan of the disk.
#[derive(Debug)]
pub(crate) struct Space {
    segment_bytes: u64,
    max_bytes: u64,
    reserve_bytes: u64,
    /// What all segments take, those that are planned included.
    used_bytes: u64,
    /// Where the next record lies in the newest segment, and that segment's length; `None`: there
    /// is no segment yet.
    newest: Option<(u64, u64)>,
    /// What the file system had left when the writer last asked, less what was planned since.
    free_bytes: u64,
    /// Planned segments that the writer has not created yet.
    planned_bytes: u64,
}

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A publish: leaves the reserve alone.
    Publish,
    /// What came from others, and notices: may use the reserve.
    Reserve,
}

impl Space {
    /// The plan behind what was recovered.
    pub(crate) const fn new(
        limits: &Limits,
        used_bytes: u64,
        newest: Option<(u64, u64)>,
        free_bytes: u64,
    ) -> Self {
        Self {
            segment_bytes: limits.segment_bytes,
            max_bytes: limits.max_bytes,
            reserve_bytes: limits.reserve_bytes,
            used_bytes,
            newest,
            free_bytes,
            planned_bytes: 0,
        }
    }

    /// Refuses if so many bytes, in records of at most so many, might not find room.
    pub(crate) fn check(&self, asks: Use, bytes: u64) -> Result<(), AppendError> {
        let (kept_of_limit, kept_of_disk) = match asks {
            Use::Publish => (self.reserve_bytes, self.reserve_bytes),
            Use::Reserve => (0, 0),
        };
        // A segment is at least half full when the next is begun, unless a record is larger than
        // that half.
        let fits = self.newest.is_some_and(|(at, length)| at.saturating_add(bytes) <= length);
        let needed =
            if fits { 0 } else { self.segment_bytes.max(bytes.saturating_mul(2) + HEADER_BYTES) };
        let over_limit = self.used_bytes + needed + kept_of_limit > self.max_bytes;
        let over_disk = self.free_bytes < needed.saturating_add(kept_of_disk);
        if over_limit || over_disk {
            return Err(AppendError::Full {
                used_bytes: self.used_bytes,
                max_bytes: self.max_bytes,
                free_bytes: self.free_bytes,
            });
        }
        Ok(())
    }

    /// Gives a record its place. `Some`: it begins a segment of this length.
    pub(crate) fn place(&mut self, length: u64) -> Option<u64> {
        if let Some((at, end)) = &mut self.newest
            && *at + length <= *end
        {
            *at += length;
            return None;
        }
        let size = self.segment_bytes.max(HEADER_BYTES + length);
        self.newest = Some((HEADER_BYTES + length, size));
        self.used_bytes += size;
        self.planned_bytes += size;
        self.free_bytes = self.free_bytes.saturating_sub(size);
        Some(size)
    }

    /// The writer created a planned segment.
    pub(crate) const fn created(&mut self, size: u64) {
        self.planned_bytes = self.planned_bytes.saturating_sub(size);
    }

    /// The writer asked the file system.
    pub(crate) const fn refresh(&mut self, free_bytes: u64) {
        self.free_bytes = free_bytes.saturating_sub(self.planned_bytes);
    }

    /// Segments take so much less.
    pub(crate) const fn freed(&mut self, bytes: u64) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        self.free_bytes = self.free_bytes.saturating_add(bytes);
    }

    /// Segments take so much more; `shifted`: the next record of the newest lies so much later, and
    /// that segment is so much longer.
    pub(crate) const fn mended(&mut self, more: i64, shifted: i64) {
        self.used_bytes = self.used_bytes.saturating_add_signed(more);
        self.free_bytes = self.free_bytes.saturating_add_signed(more.saturating_neg());
        if let Some((at, length)) = &mut self.newest {
            *at = at.saturating_add_signed(shifted);
            *length = length.saturating_add_signed(shifted);
        }
    }

    /// With so many segments more, publishes would be refused because of `max_bytes`.
    pub(crate) const fn is_pressed(&self, segments: u64) -> bool {
        let more = segments * self.segment_bytes + self.reserve_bytes;
        self.used_bytes + more > self.max_bytes
    }

    /// What all segments take.
    pub(crate) const fn used_bytes(&self) -> u64 {
        self.used_bytes
    }
}
