//! Why a connection was not admitted.
//!
//! These texts are for the log of the operator here. The caller learns what TLS tells it, or
//! nothing. Errors about calls are made in `answer`, because they go to callers.

use std::io;
use std::time::Duration;

/// Why a connection was closed before any call of it was looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The handshake failed: no client certificate, a wrong authority, an expired certificate, or
    /// not TLS at all.
    #[error(
        "the TLS handshake failed: {0}; check that the caller has a certificate of this mesh's CA"
    )]
    Handshake(#[source] io::Error),
    /// The certificate is valid, but says nothing that can be an identity.
    #[error("the caller's certificate gives no identity: {0}")]
    Identity(#[from] evermesh_identity::Error),
    /// The kernel did not tell who is at the other end of a unix socket.
    #[error("the socket does not tell who is calling: {0}")]
    Credentials(#[source] io::Error),
    /// The caller speaks neither HTTP/2 nor HTTP/1.1.
    #[error("the caller does not speak HTTP; a gRPC or HTTP client is needed")]
    NotHttp,
    /// The caller did not finish in time.
    #[error("no handshake within {0:?}")]
    Deadline(Duration),
    /// The caller closed the connection before it was admitted: a port probe, or a lost network.
    #[error("closed by the caller before the handshake was done")]
    Gone,
}

impl Refusal {
    /// Sorts a failure while reading from the caller: an end of the connection is nobody's fault.
    pub(crate) fn while_reading(error: io::Error, otherwise: fn(io::Error) -> Self) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Gone,
            _ => otherwise(error),
        }
    }
}
