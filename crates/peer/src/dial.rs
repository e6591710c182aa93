//! Dialling another node: a connection, and who is at its other end. The network as an argument.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use evermesh_identity::{Identity, Naming, peer_identity};
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection and its handshake may take.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// How long what was sent may stay unconfirmed before the kernel gives the connection up.
const UNCONFIRMED_MS_MAX: u32 = 30_000;

/// What a connection is to everybody but its dialler.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection whose other end is known.
pub struct Dialled {
    /// Bytes both ways.
    pub io: Box<dyn Io>,
    /// Who is there, by its certificate.
    pub identity: Identity,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not an address.
    #[error("`{0}` is not an address of a node: https://HOST:PORT")]
    Address(String),
    /// Nobody there, or no way there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody there, who is not trusted or does not trust this node.
    #[error("no mutual TLS with {address}: {source}")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("{0} did not answer within 5 s")]
    Deadline(String),
    /// The certificate names nobody.
    #[error("who is at {address} is not clear: {reason}")]
    Identity {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

/// What a dialler returns.
pub type Dial = BoxFuture<'static, Result<Dialled, DialError>>;

/// Opens connections to other nodes.
pub trait Dialer: Debug + Send + Sync + 'static {
    /// Opens one.
    fn dial(&self, address: &str) -> Dial;
}

/// The real one: TCP and mutual TLS.
#[derive(Clone, Debug)]
pub struct TlsDialer {
    client: Arc<ClientConfig>,
    naming: Naming,
}

impl TlsDialer {
    /// Dials with a node's certificate. `client` already refuses whoever is not a member.
    #[must_use]
    pub const fn new(client: Arc<ClientConfig>, naming: Naming) -> Self {
        Self { client, naming }
    }

    async fn connect(self, address: String) -> Result<Dialled, DialError> {
        let (host, port) = parse(&address).ok_or_else(|| DialError::Address(address.clone()))?;
        let connect = |source| DialError::Connect { address: address.clone(), source };
        let tcp = TcpStream::connect((host, port)).await.map_err(connect)?;
        tcp.set_nodelay(true).map_err(connect)?;
        rustix::net::sockopt::set_tcp_user_timeout(&tcp, UNCONFIRMED_MS_MAX)
            .map_err(|errno| connect(errno.into()))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| DialError::Address(address.clone()))?;
        let connector = TlsConnector::from(self.client);
        let tls = connector.connect(name, tcp).await;
        let tls =
            tls.map_err(|source| DialError::Handshake { address: address.clone(), source })?;
        let (_, session) = tls.get_ref();
        let identity = peer_identity(session.peer_certificates(), &self.naming);
        let identity = identity.map_err(|error| DialError::Identity {
            address: address.clone(),
            reason: error.to_string(),
        })?;
        Ok(Dialled { io: Box::new(tls), identity })
    }
}

impl Dialer for TlsDialer {
    fn dial(&self, address: &str) -> Dial {
        let (dialer, address) = (self.clone(), address.to_owned());
        Box::pin(async move {
            let late = DialError::Deadline(address.clone());
            let connected = tokio::time::timeout(DIAL_DEADLINE, dialer.connect(address)).await;
            connected.unwrap_or(Err(late))
        })
    }
}

/// Host and port of `https://HOST:PORT`; an IPv6 address stands in brackets.
fn parse(address: &str) -> Option<(&str, u16)> {
    let authority = address.strip_prefix("https://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = authority.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(parse("https://web-1.internal:7443"), Some(("web-1.internal", 7443)));
        assert_eq!(parse("https://[::1]:7443/"), Some(("::1", 7443)));
        for bad in ["web-1:7443", "http://web-1:7443", "https://:1", "https://a", "https://a:99999"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
