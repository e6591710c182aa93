//! Ports of this machine for nodes that are started, killed and started again.
//!
//! Always: below the range from which the kernel takes ports of outgoing connections. From that
//! range a killed node's port could be taken before the node is back, and who dials a port where
//! nobody listens could meet itself.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Where the search begins, and how many ports it may look at: the kernel's own range begins at
/// 32768 unless somebody changed that.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// So many ports that were free a moment ago.
pub(crate) fn free(count: usize) -> io::Result<Vec<u16>> {
    // Two that search at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(61) % u32::from(COUNT);
    let begin = u16::try_from(begin).unwrap_or_default();
    let ports = (0..COUNT).map(|n| FIRST + (begin + n) % COUNT);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<_> = ports.filter(free).take(count).collect();
    if ports.len() < count {
        return Err(io::Error::other(format!("none from {FIRST} to {}", FIRST + COUNT - 1)));
    }
    Ok(ports)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn different_ones_that_can_be_bound() {
        let mut ports = free(30).unwrap();
        ports.dedup();
        assert_eq!(ports.len(), 30);
        let held: Vec<_> = ports.iter().map(|p| TcpListener::bind(("127.0.0.1", *p))).collect();
        assert!(held.iter().filter(|held| held.is_ok()).count() > 15, "{held:?}");
    }
}
