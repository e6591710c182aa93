//! Why a dial failed, in words for people, and whether another may succeed.

use std::io;
use std::time::Duration;

use tokio_rustls::rustls;

/// A dial that failed. Comes back inside the transport's error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failed {
    /// What happened, and what to look at.
    pub(crate) text: String,
    /// A restart of the node may help; a wrong certificate stays wrong.
    pub(crate) retry: bool,
}

impl Failed {
    const fn later(text: String) -> Self {
        Self { text, retry: true }
    }

    pub(super) fn timeout(waited: Duration) -> Self {
        Self::later(format!("nothing came of dialling it for {waited:?}"))
    }

    /// The local socket.
    pub(super) fn socket(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::later(
                "there is no such socket; is the node running, with this path as [listen] local?"
                    .to_owned(),
            ),
            io::ErrorKind::ConnectionRefused => {
                Self::later("the socket is there, but the node that made it ended".to_owned())
            }
            io::ErrorKind::PermissionDenied => Self {
                text: "this user may not open the socket or its directory".to_owned(),
                retry: false,
            },
            _ => Self::later(error.to_string()),
        }
    }

    /// The shared port.
    pub(super) fn port(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                Self::later("nothing listens there; is the node running?".to_owned())
            }
            _ => Self::later(error.to_string()),
        }
    }

    /// The handshake. What is wrong with a certificate does not mend itself; a connection that was
    /// cut during it does.
    pub(super) fn tls(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(inner) => Self { text: format!("TLS: {inner}"), retry: false },
            None => Self::later(format!("TLS: {error}")),
        }
    }
}
