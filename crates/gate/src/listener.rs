//! Where connections come from.
//!
//! The first step of a connection. Real sockets here; a simulated network brings its own
//! [`Listener`]. Opening, naming and removing sockets is the server's business.

use std::future::Future;
use std::io;

use evermesh_event::Remote;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How long the kernel keeps what a caller neither acknowledges nor has room for. The pings of
/// HTTP/2 cannot end a connection whose buffer is full, this does; as long as their 20 s + 10 s.
const UNACKNOWLEDGED_MAX_MILLIS: u32 = 30_000;

/// A source of raw connections.
pub trait Listener: Send + 'static {
    /// A raw connection.
    type Io: Send + 'static;

    /// The next connection. Must be safe to drop at any point without losing one. After an error
    /// it is called again, a little later.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Remote)>> + Send;
}

/// The shared port.
#[derive(Debug)]
pub struct Tcp(TcpListener);

impl Tcp {
    /// Takes connections from `listener`.
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        Self(listener)
    }
}

impl Listener for Tcp {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Remote)> {
        let (stream, address) = self.0.accept().await?;
        // Small frames must not wait for acknowledgements of earlier ones. Both options fail only
        // on a connection that is already gone, which shows at its first read.
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MAX_MILLIS);
        Ok((stream, Remote::new(address.to_string())))
    }
}

/// The local socket.
#[derive(Debug)]
pub struct Unix(UnixListener);

impl Unix {
    /// Takes connections from `listener`.
    #[must_use]
    pub fn new(listener: UnixListener) -> Self {
        Self(listener)
    }
}

impl Listener for Unix {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Remote)> {
        let (stream, _) = self.0.accept().await?;
        Ok((stream, Remote::new("unix")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_of_the_shared_port_is_prompt_and_not_kept_for_the_dead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caller = TcpStream::connect(address).await.unwrap();
        let (stream, remote) = Tcp::new(listener).accept().await.unwrap();
        assert!(stream.nodelay().unwrap());
        let kept = sockopt::tcp_user_timeout(&stream).unwrap();
        assert_eq!(kept, UNACKNOWLEDGED_MAX_MILLIS);
        assert_eq!(remote.to_string(), caller.local_addr().unwrap().to_string());
    }
}
