//! What can go wrong with a journal, for people: which file, what happened, what evermesh does,
//! what they can do.

use std::fmt;
use std::io;

use evermesh_event::Offset;

/// Bytes that are not what was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The place in the file, in bytes from its beginning.
    pub position: u64,
    /// The last offset before it that is whole.
    pub after: Offset,
    /// The last offset that may be concerned; `None`: not known.
    pub through: Option<Offset>,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, after, through, what } = self;
        write!(f, "{file} is damaged at byte {position}: {what}; offsets after {after}")?;
        match through {
            Some(through) => write!(f, " through {through} are concerned"),
            None => write!(f, " are concerned"),
        }
    }
}

/// Why a journal cannot be opened or closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process owns the directory.
    #[error(
        "{place} is in use by {holder}; stop that process first, or give this node a data_dir of \
        its own"
    )]
    Locked {
        /// The directory.
        place: String,
        /// The process: its id, and its name where it is known.
        holder: String,
    },
    /// The disk refused.
    #[error("{place}: cannot {what}: {source}")]
    Storage {
        /// What was tried, as a verb.
        what: &'static str,
        /// The directory or file.
        place: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The state database cannot be used.
    #[error(
        "{place}: the state database cannot be used: {reason}; nothing was changed. Restore the \
        whole directory from a \
         copy, or move it away and start with an empty one: the other members still hold what \
         they received"
    )]
    State {
        /// The directory.
        place: String,
        /// What the database said.
        reason: String,
    },
    /// The state database is not what was written.
    #[error("{place}: the state database is not what was written: {reason}")]
    StateDamaged {
        /// The directory.
        place: String,
        /// What the database said.
        reason: String,
    },
    /// Written by a version that this one does not know.
    #[error(
        "{file} has format version {version}, this evermesh reads version {known}; use the \
        evermesh that wrote it or a \
         newer one"
    )]
    Version {
        /// The file.
        file: String,
        /// What it says.
        version: u32,
        /// What is known here.
        known: u32,
    },
    /// Limits that cannot work.
    #[error("the journal's limits cannot work: {0}")]
    Limits(String),
    /// The node was started 16 million times.
    #[error(
        "this journal was started so often that its epochs are used up; move the directory away \
        and start with an \
         empty one"
    )]
    EpochsExhausted,
    /// The journal ended by a failure and not by closing.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A write or fsync failed: nothing more is assured until restart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{place}: cannot {what}: {reason}. Nothing more is assured; whether the last events were \
    stored is unknown. Look at \
     the disk, then start the node again: it recovers what was stored"
)]
pub struct Failure {
    /// The directory.
    pub place: String,
    /// What was tried, as a verb.
    pub what: &'static str,
    /// What the disk said.
    pub reason: String,
}

impl Failure {
    /// What is tried where a journal has to go on under another id.
    pub(crate) const RENEWAL: &str = "go on under this journal id";

    /// The disk is well: the next start goes on, under a new journal id.
    #[must_use]
    pub fn is_renewal(&self) -> bool {
        self.what == Self::RENEWAL
    }
}

/// Why something was not appended. Nothing of it was numbered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The reserve would be touched: retry later.
    #[error(
        "the journal takes {used_bytes} of {max_bytes} bytes{}; it takes no more until there is \
        space: retry later, or raise [journal] max_bytes", left(*free_bytes)
    )]
    Full {
        /// What the segments take.
        used_bytes: u64,
        /// What they may take.
        max_bytes: u64,
        /// What the file system has left; half of all that can be counted, or more: there is none.
        free_bytes: u64,
    },
    /// A write or fsync failed; nothing is assured any more.
    #[error("the disk failed: this node assures nothing until it is restarted")]
    Failed,
    /// This start has no numbers left.
    #[error("this start has no numbers left; restart the node")]
    Exhausted,
    /// The journal was closed.
    #[error("the node is stopping and takes no more events; publish to another node or retry")]
    Closed,
}

/// What the file system has left, where there is one.
fn left(free_bytes: u64) -> String {
    if free_bytes > u64::MAX / 2 {
        return String::new();
    }
    format!(" and the file system has {free_bytes} left")
}

/// Why a reader cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A record is not what was written. Asking again reads it again.
    #[error(
        "{0}; it was not delivered. Restart the node: it tells in its place what may be missed"
    )]
    Damaged(Damage),
    /// The disk refused.
    #[error("{file}: cannot be read: {reason}")]
    Storage {
        /// The file.
        file: String,
        /// What the disk said.
        reason: String,
    },
    /// A write or fsync failed, and everything before that was read.
    #[error("the disk failed: nothing comes after this until the node is restarted")]
    Failed,
    /// The journal was closed, and everything in it was read.
    #[error("the journal was closed")]
    Closed,
}
