//! What a test needs of the machine, asked before it begins.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

/// What not every machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// To mount file systems, which containers often forbid even to root.
    Mounting,
    /// A file system that keeps what a power cut leaves.
    Ext4,
    /// Networks apart from that of this machine.
    Networks,
    /// Packets dropped by rules.
    Rules,
    /// To make system calls of another process fail.
    Injection,
}

impl Need {
    fn is_there(self) -> bool {
        let works = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            command.output().is_ok_and(|output| output.status.success())
        };
        match self {
            Self::Mounting => {
                works("unshare", &["--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
            }
            Self::Ext4 => works("mkfs.ext4", &["-V"]) && Path::new("/dev/loop-control").exists(),
            Self::Networks => works("unshare", &["--net", "ip", "link", "add", "type", "bridge"]),
            Self::Rules => works("unshare", &["--net", "nft", "add", "table", "inet", "t"]),
            Self::Injection => works("strace", &["-e", "inject=fsync:error=EIO", "true"]),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mounting => "to mount file systems",
            Self::Ext4 => "mkfs.ext4 (e2fsprogs) and loop devices",
            Self::Networks => "network namespaces and ip (iproute2)",
            Self::Rules => "nft (nftables)",
            Self::Injection => "strace, allowed to inject",
        })
    }
}

/// Whether this machine has all of it. If not: fails if everything is required, and says what is
/// not run else.
pub(crate) fn are_there(needs: &[Need]) -> bool {
    let mut lacking = Vec::new();
    if !geteuid().is_root() {
        lacking.push("root".to_owned());
    } else {
        lacking.extend(needs.iter().filter(|need| !need.is_there()).map(Need::to_string));
    }
    if lacking.is_empty() {
        return true;
    }
    let lacking = lacking.join(", ");
    assert!(std::env::var_os("EVERMESH_REQUIRE").is_none(), "needs {lacking}");
    // Past the capture of the test runner, which shows nothing of a test that passes.
    let _ = writeln!(std::io::stderr(), "not run: needs {lacking}");
    false
}

/// How often something is done: what a variable says, or as often as every change can afford.
pub(crate) fn count(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect(variable))
}
