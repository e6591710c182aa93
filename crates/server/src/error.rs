//! Why a node did not start, or ended before it was told to.
//!
//! Each message says what happened and what to do; each error knows the exit code (sysexits) that
//! tells a script the same.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use evermesh_event::NodeName;

use crate::config::Problems;

/// Not available: somebody else has it, or it is not there now.
const UNAVAILABLE: u8 = 69;
/// A fault of evermesh itself.
const FAULT: u8 = 70;
/// The operating system cannot do what every system can.
const SYSTEM: u8 = 71;
/// Something cannot be created.
const CANNOT_CREATE: u8 = 73;
/// Reading or writing failed.
const IO: u8 = 74;
/// Not permitted.
const NOT_PERMITTED: u8 = 77;
/// The configuration is wrong, or what it names.
const CONFIG: u8 = 78;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] Problems),
    /// A certificate, a key or a rule is not as it must be.
    #[error(transparent)]
    Identity(#[from] evermesh_identity::Error),
    /// The certificate is another node's.
    #[error(
        "certificate {} is for the node `{certified}`, but [node] name is `{configured}`; use the \
         certificate of `{configured}`, or change the name", file.display()
    )]
    OtherName {
        /// The certificate's file.
        file: PathBuf,
        /// The name in it.
        certified: NodeName,
        /// The name in the configuration.
        configured: NodeName,
    },
    /// Logs or traces could not be started.
    #[error(transparent)]
    Telemetry(#[from] evermesh_telemetry::Error),
    /// The directory of the journal could not be made or entered.
    #[error("cannot use the directory {} ([node] data_dir): {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The journal could not be opened.
    #[error(transparent)]
    Journal(#[from] evermesh_journal::Error),
    /// The shared port could not be bound.
    #[error("cannot listen on {address} ([listen] shared): {}", port(source))]
    Port {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// Somebody answers on the local socket.
    #[error(
        "the socket {} ([listen] local) is in use: somebody answers there; stop that node, or \
         choose another path", path.display()
    )]
    SocketInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// What stands at the socket's path is something else, and stays.
    #[error(
        "{} ([listen] local) is there already and no socket; evermesh leaves it as it is, so \
         remove it or choose another path", path.display()
    )]
    SocketTaken {
        /// The path.
        path: PathBuf,
    },
    /// The local socket could not be made.
    #[error("cannot {doing} {} ([listen] local): {source}", path.display())]
    Socket {
        /// What was attempted: a verb.
        doing: &'static str,
        /// The socket, or its directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The operating system lacks something.
    #[error("this system cannot {what}: {source}")]
    System {
        /// What it should do.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// A write or an fsync of the journal failed (P11).
    #[error(transparent)]
    JournalFailed(#[from] evermesh_journal::Failure),
    /// The journal was restored from a copy: the node begins again with a new journal id.
    #[error("the journal was restored from an older copy, or runs twice")]
    Renewed,
    /// The journal did not close in time.
    #[error(
        "the journal did not close within {0:?}; look after the disk. What was assured is there, \
         and the next start recovers it"
    )]
    JournalStuck(Duration),
    /// Evermesh itself is wrong.
    #[error("{0} ended by a fault of evermesh; please report it with the log lines before this")]
    Fault(&'static str),
}

impl Error {
    /// The exit code, as in sysexits.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::OtherName { .. } | Self::Telemetry(_) => CONFIG,
            Self::Identity(evermesh_identity::Error::File { source, .. }) => {
                permission_or(source, CONFIG)
            }
            Self::Identity(_) => CONFIG,
            Self::DataDir { source, .. } => permission_or(source, CANNOT_CREATE),
            Self::Journal(error) => journal_code(error),
            Self::Port { source, .. } => permission_or(source, UNAVAILABLE),
            Self::SocketInUse { .. } => UNAVAILABLE,
            Self::SocketTaken { .. } => CANNOT_CREATE,
            Self::Socket { source, .. } => permission_or(source, CANNOT_CREATE),
            Self::System { .. } => SYSTEM,
            Self::JournalFailed(_) | Self::JournalStuck(_) | Self::Renewed => IO,
            Self::Fault(_) => FAULT,
        }
    }
}

fn permission_or(source: &io::Error, otherwise: u8) -> u8 {
    if source.kind() == io::ErrorKind::PermissionDenied { NOT_PERMITTED } else { otherwise }
}

fn journal_code(error: &evermesh_journal::Error) -> u8 {
    match error {
        evermesh_journal::Error::Locked { .. } => UNAVAILABLE,
        evermesh_journal::Error::Storage { source, .. } => permission_or(source, IO),
        evermesh_journal::Error::Limits(_) => CONFIG,
        _ => IO,
    }
}

/// What an answer to binding means, and what to do.
fn port(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it (`ss -ltnp` names it), or choose another port"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; 0.0.0.0 or [::] stands for all it has"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{source}; ports below 1024 need CAP_NET_BIND_SERVICE")
        }
        _ => source.to_string(),
    }
}
