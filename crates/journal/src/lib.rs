//! The durable log: own events and received ones, in the order of arrival. The only meeting place
//! of all stations.
//!
//! - [`Journal`] is the cheap handle: [`Journal::append`] numbers and encodes (step 2 of the way of
//!   one event), [`Journal::take`] applies the receiver's rule to a block that came (step 4),
//!   [`Journal::reader`] reads on.
//! - [`Writer`] owns the disk: one [`Writer::turn`] writes all that waits, calls fdatasync once,
//!   and moves the durable watermark. A thread drives it in production, a task in simulation.
//! - A block is shown to readers before it is durable; only assurance waits for
//!   [`Journal::durable`].
//! - [`Storage`] is the disk as an argument: a [`Directory`] in production, or [`Memory`], of which
//!   nothing is stored; [`simulated::MemoryDisk`] in simulation.
//!
//! The format on disk is written down in `docs/journal-format.md`. Deliberately absent: who is
//! asked for what was damaged, and everything about who may publish or subscribe.

mod applied;
mod coalesce;
mod cursors;
mod cuts;
mod error;
mod heal;
mod intake;
mod journal;
mod leases;
mod letters;
mod limits;
mod members;
mod mending;
mod names;
mod needs;
mod notices;
mod open;
mod producers;
mod reader;
mod record;
mod recover;
mod retain;
mod roster;
mod segment;
mod shared;
pub mod simulated;
mod space;
mod starts;
mod state;
mod status;
mod storage;
mod survey;
mod tail;
mod thread;
mod wounds;
mod writer;

pub use applied::{Applied, Mark};
pub use cursors::Cursors;
pub use error::{AppendError, Damage, Error, Failure, ReadError};
pub use intake::{Appended, Counted, Former, Intake, Numbered, Taken};
pub use journal::{Holding, Journal, Resume};
pub use leases::{Acknowledged, Echo, Heard, Leases, is_silent, margin};
pub use letters::Letter;
pub use limits::Limits;
pub use members::KnownMember;
pub use mending::Lacking;
pub use names::{NAMES_MAX, Name, NameError};
pub use open::Options;
pub use producers::Highest;
pub use reader::Reader;
pub use record::format::{DecodeError, Decoded, decode as decode_record};
pub use record::{Content, Missed, Record};
pub use roster::{Departed, Listed, Merged};
pub use shared::Durable;
pub use starts::{SeenStart, SeenStarts};
pub use status::Status;
pub use storage::{Directory, Held, LockError, Memory, SegmentFile, Storage};
pub use thread::WriterThread;
pub use writer::{Commit, Writer};
