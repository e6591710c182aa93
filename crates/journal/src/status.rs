//! How a journal is, for operators.

use std::time::Duration;

use evermesh_event::{Epoch, Frontier, Offset, Origin, Sequence};

/// A journal as of now. Counts are of this start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who numbers here.
    pub origin: Origin,
    /// The epoch of this start.
    pub epoch: Epoch,
    /// The newest offset.
    pub head: Offset,
    /// Through where all is on the disk.
    pub durable: Offset,
    /// The newest own sequence.
    pub own_head: Sequence,
    /// The newest own sequence on the disk.
    pub own_durable: Sequence,
    /// A write or fsync failed.
    pub failed: bool,
    /// What the segments take on the disk.
    pub disk_bytes: u64,
    /// What they may take.
    pub max_bytes: u64,
    /// How often fdatasync returned for segments.
    pub syncs: u64,
    /// Events numbered here.
    pub events_published: u64,
    /// Events taken from others.
    pub events_received: u64,
    /// Ids in the deduplication window.
    pub window_ids: u64,
    /// How long an id stays in it, at most.
    pub window_age_max: Duration,
    /// Through where nothing is lacking, for each origin.
    pub frontier: Frontier,
}
