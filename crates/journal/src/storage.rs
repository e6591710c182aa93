//! The disk as an argument: one directory with a lock, segments, and a state file; or memory,
//! which is none.
//!
//! What a write returned from may be lost until `sync_data` returned; what was created or removed,
//! until `sync_directory`.

mod directory;
mod memory;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use evermesh_event::Offset;

pub use self::directory::Directory;
pub use self::memory::Memory;

/// A directory for one journal. The server brings a [`Directory`] or [`Memory`], a simulation its
/// own.
pub trait Storage: Debug + Send + Sync + 'static {
    /// How messages name it.
    fn place(&self) -> String;

    /// How messages name one segment.
    fn segment_name(&self, first: Offset) -> String;

    /// Makes this process the owner, until what is returned is dropped.
    ///
    /// # Errors
    /// If another process is, or the disk refuses.
    fn lock(&self) -> Result<Box<dyn Held>, LockError>;

    /// The first offsets of all segments, rising.
    ///
    /// # Errors
    /// If the disk refuses.
    fn segments(&self) -> io::Result<Vec<Offset>>;

    /// Creates a segment of zeros, with its space reserved where the file system can.
    ///
    /// # Errors
    /// If it exists, or the disk refuses.
    fn create_segment(&self, first: Offset, bytes: u64) -> io::Result<Arc<dyn SegmentFile>>;

    /// Opens a segment.
    ///
    /// # Errors
    /// If there is none, or the disk refuses.
    fn open_segment(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>>;

    /// Creates the file that is to take the place of a segment. One that was left over is emptied.
    ///
    /// # Errors
    /// If the disk refuses.
    fn create_replacement(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>>;

    /// Puts that file, which was synced, in the place of the segment: after a crash there is one or
    /// the other. Readers of the former file keep it until they let go of it.
    ///
    /// # Errors
    /// If the disk refuses.
    fn replace_segment(&self, first: Offset) -> io::Result<()>;

    /// Takes a segment that cannot be read out of the journal, and keeps its file.
    ///
    /// # Errors
    /// If the disk refuses.
    fn set_segment_aside(&self, first: Offset) -> io::Result<()>;

    /// The same with the file of the state database.
    ///
    /// # Errors
    /// If the disk refuses.
    fn set_state_aside(&self) -> io::Result<()>;

    /// Removes a segment.
    ///
    /// # Errors
    /// If the disk refuses.
    fn remove_segment(&self, first: Offset) -> io::Result<()>;

    /// Makes what was created and removed durable.
    ///
    /// # Errors
    /// If the disk refuses.
    fn sync_directory(&self) -> io::Result<()>;

    /// The file of the state database, created if it is absent.
    ///
    /// # Errors
    /// If the disk refuses.
    fn state(&self) -> io::Result<Box<dyn redb::StorageBackend>>;

    /// What the file system has left for this process.
    ///
    /// # Errors
    /// If the disk refuses.
    fn free_bytes(&self) -> io::Result<u64>;

    /// What was synced is there for the next start. If not, nothing may be called stored.
    fn outlives(&self) -> bool {
        true
    }

    /// Reads return at once and need no thread of their own.
    fn immediate(&self) -> bool {
        false
    }
}

/// One segment's file.
pub trait SegmentFile: Debug + Send + Sync + 'static {
    /// Writes all of it there.
    ///
    /// # Errors
    /// If the disk refuses.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Fills all of it from there.
    ///
    /// # Errors
    /// If the file ends before, or the disk refuses.
    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// If the disk refuses: then nothing written since the last success may be believed.
    fn sync_data(&self) -> io::Result<()>;

    /// Its length.
    ///
    /// # Errors
    /// If the disk refuses.
    fn length(&self) -> io::Result<u64>;
}

/// Ownership of a directory; ends when it is dropped.
pub trait Held: Debug + Send + Sync + 'static {}

/// Why a directory could not be owned.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns it.
    #[error("in use by {0}")]
    Taken(String),
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] io::Error),
}
