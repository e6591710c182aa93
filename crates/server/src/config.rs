//! The configuration: one TOML file, and the environment over it.
//!
//! The first step of a node's life. [`Config::load`] reads everything, checks everything, and gives
//! either a whole configuration or every problem that it found: nothing is started on half of one.
//! The keys stand in one table (`keys`); a test holds the file that documents them equal to it.
//!
//! Deliberately absent: what only the machine can tell (whether a port is free, whether the
//! certificate is valid now). `assemble` finds that out, and `evermesh check` as far as it can.

mod document;
mod environment;
mod keys;
mod problem;
mod quantity;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use evermesh_door::Push;
use evermesh_event::NodeName;
use evermesh_identity::{Account, Allow, TlsFiles};
use evermesh_telemetry::LogFormat;

pub use self::environment::Environment;
pub use self::keys::{KEYS, Key};
pub use self::problem::{Problem, Problems};

/// A configuration is written by hand; more than this is another file taken for one.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where the commands look for the local socket, and where a node opens it, unless told otherwise.
pub const LOCAL_DEFAULT: &str = "/run/evermesh/evermesh.sock";
/// Where the packages put the configuration.
pub const FILE_DEFAULT: &str = "/etc/evermesh/evermesh.toml";

/// A whole, valid configuration. Paths in it are absolute.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it came from.
    pub file: PathBuf,
    /// `[node]`
    pub node: Node,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`. `None`: the local socket only.
    pub tls: Option<TlsFiles>,
    /// `[mesh]`
    pub mesh: Mesh,
    /// `[journal]`
    pub journal: Journal,
    /// `[log]`
    pub log: Log,
    /// `[[allow]]`, in the order of the file.
    pub allow: Vec<Allow>,
    /// `[[push]]`, in the order of the file.
    pub push: Vec<Push>,
}

/// `[node]`: who this is.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique in the mesh; with TLS it is the name in the certificate.
    pub name: NodeName,
    /// Where the journal is. `None` in memory mode.
    pub data_dir: Option<PathBuf>,
    /// How long calls under way may take to end when the node stops.
    pub drain: Duration,
}

/// `[listen]`: where others reach this node.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The shared port. `None` without `[tls]`, and only then.
    pub shared: Option<SocketAddr>,
    /// The local socket.
    pub local: PathBuf,
    /// Who may publish and subscribe there, besides root and the node's own user.
    pub accounts: Vec<Account>,
}

/// `[mesh]`: the other nodes.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Where to dial them: `https://HOST:PORT`.
    pub peers: Vec<String>,
    /// DNS names in certificates that make a member, for meshes without SPIFFE ids.
    pub member_names: Vec<String>,
    /// How long a member may be silent before it is suspended.
    pub lease: Duration,
    /// Where others dial this node; `None`: they have it in their configuration.
    pub address: Option<String>,
    /// How long a member that nobody hears is waited for until it is forgotten.
    pub forget_after: Duration,
    /// What a stop means to the others.
    pub on_stop: OnStop,
}

/// What it means to the others that this node is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It will be back.
    Stay,
    /// It will not.
    Leave,
}

/// `[journal]`: what it may take.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Where it is kept.
    pub durability: Durability,
    /// On the disk, or in memory, in bytes.
    pub max_bytes: u64,
    /// What everybody is past is kept for so long.
    pub keep_at_least: Duration,
    /// What is older is cut.
    pub max_age: Duration,
}

/// Where the journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In `[node] data_dir`.
    Disk,
    /// Nowhere: each start is a new origin, and nothing is stored.
    Memory,
}

/// `[log]`: lines on standard error.
#[derive(Clone, Debug)]
pub struct Log {
    /// What a line looks like.
    pub format: LogFormat,
    /// Which lines are written.
    pub filter: String,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        write!(f, "{format}, {}", self.filter)
    }
}

impl Config {
    /// Reads and checks the file, and what the environment says instead.
    ///
    /// # Errors
    /// Everything that is wrong, with file, line, key, value and what is allowed.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, Problems> {
        let unreadable = |error: io::Error| {
            Problems::of(Problem::new(format!(
                "cannot read the configuration {}: {error}; name another with --config",
                file.display()
            )))
        };
        let mut bytes = Vec::new();
        File::open(file)
            .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(io::Error::other("it has more than 1 MiB")));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| unreadable(io::Error::other("it is not UTF-8 text")))?;
        Self::parse(&text, &absolute(file).map_err(unreadable)?, environment)
    }

    /// Checks a configuration that was read already. Relative paths in it, and in the environment,
    /// are relative to the directory of `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path, environment: &Environment) -> Result<Self, Problems> {
        read::config(text, file, environment)
    }
}
