//! Dialing: from an address to an open connection, and what the other end said when it refused.
//!
//! The transport asks for a connection whenever it has none. Always: a dial ends within a bounded
//! time, and says in words for people why it failed.

mod failed;
mod overheard;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower::Service;

pub(crate) use self::failed::Failed;
use self::overheard::Overheard;
use crate::Address;

/// A handshake takes milliseconds, and a lost packet of it one or three seconds.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The only protocol that gRPC speaks.
const H2: &[u8] = b"h2";

/// What is known of the connections to one node.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) address: Address,
    opened: AtomicU64,
    /// With which alert the node ended TLS, until it accepts a connection: the transport above
    /// loses it, and dials again before anybody asks.
    alert: Mutex<Option<String>>,
}

impl Line {
    pub(crate) const fn new(address: Address) -> Self {
        Self { address, opened: AtomicU64::new(0), alert: Mutex::new(None) }
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The alert that ended the last connection.
    pub(crate) fn alert(&self) -> Option<String> {
        self.alert.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_alert(&self, alert: Option<String>) {
        *self.alert.lock().unwrap_or_else(PoisonError::into_inner) = alert;
    }
}

/// Either kind of connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens connections for the transport.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    line: Arc<Line>,
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    pub(crate) const fn new(line: Arc<Line>, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { line, tls }
    }

    async fn dial(self) -> Result<TokioIo<Box<dyn Duplex>>, Failed> {
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, self.open()).await;
        let duplex = dialled.unwrap_or_else(|_| Err(Failed::timeout(DIAL_TIMEOUT)))?;
        self.line.opened.fetch_add(1, Ordering::Relaxed);
        Ok(TokioIo::new(duplex))
    }

    async fn open(&self) -> Result<Box<dyn Duplex>, Failed> {
        let (host, port) = match &self.line.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                return Ok(Box::new(stream.map_err(|error| Failed::socket(&error))?));
            }
            Address::Https { host, port } => (host, *port),
        };
        let Some(tls) = &self.tls else { return Err(Failed::tls(&io::Error::other("no TLS"))) };
        let name = ServerName::try_from(host.clone())
            .map_err(|error| Failed::tls(&io::Error::other(error)))?;
        let stream = TcpStream::connect((host.as_str(), port)).await;
        let stream = stream.map_err(|error| Failed::port(&error))?;
        // Small messages are answered at once, not gathered.
        stream.set_nodelay(true).map_err(|error| Failed::port(&error))?;
        let secured = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        let secured = secured.map_err(|error| Failed::tls(&error))?;
        if secured.get_ref().1.alpn_protocol() != Some(H2) {
            return Err(Failed::tls(&io::Error::other("it does not speak HTTP/2")));
        }
        Ok(Box::new(Overheard::new(secured, Arc::clone(&self.line))))
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Box<dyn Duplex>>;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}
