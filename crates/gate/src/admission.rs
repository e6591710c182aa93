//! Admission: from a raw connection to one whose caller is known.
//!
//! Comes after `accept`, in a task of the connection's own, under the acceptor's deadline. An
//! [`Identity`] comes from a verified certificate or from the kernel, never from what a caller
//! says about itself. Deliberately absent: what the caller may do (rules), and the deadline.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use evermesh_identity::{Identity, Naming, peer_identity};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::Refusal;

/// Turns a raw connection into a verified one.
pub trait Admission: Send + Sync + 'static {
    /// What the listener gives.
    type Raw;
    /// What HTTP/2 is spoken on.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Finds out who is calling. May be dropped at any point, when its time is over.
    fn admit(
        &self,
        raw: Self::Raw,
    ) -> impl Future<Output = Result<(Self::Io, Identity), Refusal>> + Send;
}

/// Mutual TLS: the identity is that of the client certificate.
pub struct Tls<Raw = TcpStream> {
    acceptor: TlsAcceptor,
    naming: Naming,
    raw: PhantomData<fn(Raw)>,
}

impl<Raw> Tls<Raw> {
    /// Admits callers whose certificate `server` verifies and `naming` understands.
    #[must_use]
    pub fn new(server: Arc<ServerConfig>, naming: Naming) -> Self {
        Self { acceptor: TlsAcceptor::from(server), naming, raw: PhantomData }
    }
}

impl<Raw> fmt::Debug for Tls<Raw> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl<Raw> Admission for Tls<Raw>
where
    Raw: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Raw = Raw;
    type Io = TlsStream<Raw>;

    async fn admit(&self, raw: Raw) -> Result<(Self::Io, Identity), Refusal> {
        let stream = self
            .acceptor
            .accept(raw)
            .await
            .map_err(|error| Refusal::while_reading(error, Refusal::Handshake))?;
        let (_, session) = stream.get_ref();
        let identity = peer_identity(session.peer_certificates(), &self.naming)?;
        Ok((stream, identity))
    }
}

/// The name of a local user, if it has one.
type NameOf = dyn Fn(u32) -> Option<String> + Send + Sync;

/// A unix socket: the identity is the account that the kernel names.
pub struct PeerCredentials {
    name_of: Box<NameOf>,
}

impl PeerCredentials {
    /// `name_of` looks up a user's name. It is called once per connection, on a worker of the
    /// runtime: it must not block.
    #[must_use]
    pub fn new(name_of: impl Fn(u32) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { name_of: Box::new(name_of) }
    }
}

impl fmt::Debug for PeerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCredentials").finish_non_exhaustive()
    }
}

impl Admission for PeerCredentials {
    type Raw = UnixStream;
    type Io = UnixStream;

    async fn admit(&self, raw: UnixStream) -> Result<(Self::Io, Identity), Refusal> {
        let account = raw.peer_cred().map_err(Refusal::Credentials)?;
        let user = (self.name_of)(account.uid());
        let identity =
            Identity::local(account.uid(), account.gid(), account.pid(), user.as_deref());
        Ok((raw, identity))
    }
}
