//! The limits of one journal, each with its reason.

use std::time::Duration;

use crate::error::Error;

/// The smallest segment: below it, headers and half-empty ends would be most of the disk.
const SEGMENT_BYTES_MIN: u64 = 16 * 1024;
/// The largest segment when sized by [`Limits::with_max_bytes`]: small enough that cutting one
/// loses little.
const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// The smallest segment that [`Limits::with_max_bytes`] chooses: two blocks of the largest size.
const SEGMENT_BYTES_SIZED_MIN: u64 = 2 * 1024 * 1024;
/// Into how many segments a small `max_bytes` is divided, so that the reserve of two stays an
/// eighth of it.
const SEGMENTS_SIZED: u64 = 16;
/// The least that may wait unwritten: one block, so that every block can pass.
const UNWRITTEN_BYTES_MIN: usize = 512 * 1024;

/// What a journal may take. The server sets it from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One segment file.
    pub segment_bytes: u64,
    /// Kept in memory for readers that keep up.
    pub tail_bytes: usize,
    /// Not yet durable; appends wait beyond it.
    pub unwritten_bytes_max: usize,
    /// What the segments may take on the disk. Publishes are refused before it is reached.
    pub max_bytes: u64,
    /// Of `max_bytes`, and of the free space of the file system, what publishes leave to received
    /// events and to what is missed.
    pub reserve_bytes: u64,
    /// What everybody is past is kept for so long, for resume tokens.
    pub keep_at_least: Duration,
    /// What is older is cut, whoever lacks it.
    pub max_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            tail_bytes: 8 * 1024 * 1024,
            unwritten_bytes_max: 16 * 1024 * 1024,
            max_bytes: 4 * 1024 * 1024 * 1024,
            reserve_bytes: 2 * SEGMENT_BYTES_DEFAULT,
            keep_at_least: Duration::from_secs(10 * 60),
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl Limits {
    /// The defaults for a directory that may take so much: a small one gets smaller segments and a
    /// smaller reserve.
    #[must_use]
    pub fn with_max_bytes(max_bytes: u64) -> Self {
        let segment_bytes =
            (max_bytes / SEGMENTS_SIZED).clamp(SEGMENT_BYTES_SIZED_MIN, SEGMENT_BYTES_DEFAULT);
        Self { segment_bytes, max_bytes, reserve_bytes: 2 * segment_bytes, ..Self::default() }
    }

    /// The same for a journal that keeps no disk. A publisher that is answered before the writer
    /// came round to its events is held back, and not refused: between two looks for room no more
    /// is numbered than half a segment.
    #[must_use]
    pub fn in_memory(max_bytes: u64) -> Self {
        let limits = Self::with_max_bytes(max_bytes);
        let unwritten = usize::try_from(limits.segment_bytes / 4).unwrap_or(UNWRITTEN_BYTES_MIN);
        let unwritten_bytes_max = unwritten.clamp(UNWRITTEN_BYTES_MIN, limits.unwritten_bytes_max);
        Self { unwritten_bytes_max, ..limits }
    }

    /// Refuses what cannot work, before anything is touched.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::Limits(message));
        if self.segment_bytes < SEGMENT_BYTES_MIN {
            return refuse(format!("a segment needs at least {SEGMENT_BYTES_MIN} bytes"));
        }
        let least = self.reserve_bytes.saturating_add(self.segment_bytes);
        if self.max_bytes < least {
            return refuse(format!(
                "max_bytes is {}, but one segment and the reserve take {least}; raise it",
                self.max_bytes
            ));
        }
        if self.unwritten_bytes_max < UNWRITTEN_BYTES_MIN {
            return refuse(format!("unwritten_bytes_max must be at least {UNWRITTEN_BYTES_MIN}"));
        }
        Ok(())
    }
}
