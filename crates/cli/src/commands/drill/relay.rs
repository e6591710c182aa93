//! A relay on a link: bytes pass through it as they are, so mutual TLS stays between the two nodes.
//!
//! It can refuse, and it can hold bytes back in one direction or in both, as a network does that
//! drops packets: what is held is not lost, since TCP would send it again, and goes on when the
//! link is healed, to whoever is still there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One read: what a kernel hands over at once on loopback, most often.
const BUFFER_BYTES: usize = 64 * 1024;
/// Connections at a time. A link has one; those that are held back stay until a peer gives them up.
const CONNECTIONS_MAX: usize = 32;
/// Between tries to take the port again after it was given up in order to refuse.
const BIND_AGAIN: Duration = Duration::from_millis(20);

/// What gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Everything, nothing, or one direction: from who dialled, and to it.
    Open { there: bool, back: bool },
    /// No connection.
    Refused,
}

impl Passage {
    pub(super) const FREE: Self = Self::Open { there: true, back: true };

    const fn there(&self) -> bool {
        matches!(self, Self::Open { there: true, .. })
    }

    const fn back(&self) -> bool {
        matches!(self, Self::Open { back: true, .. })
    }

    fn refused(&self) -> bool {
        *self == Self::Refused
    }
}

/// Relays from a port to another until it is dropped.
pub(super) async fn relay(
    listener: TcpListener,
    to: u16,
    passage: watch::Receiver<Passage>,
) -> io::Result<()> {
    let (own, to) = (listener.local_addr()?, SocketAddr::from((Ipv4Addr::LOCALHOST, to)));
    let (mut listener, mut turns) = (Some(listener), passage.clone());
    loop {
        if let Some(listener) = listener.take() {
            accept(&listener, to, &passage).await;
        }
        // Nobody listens there now, which is what refuses.
        if turns.wait_for(|passage| !passage.refused()).await.is_err() {
            return Ok(());
        }
        match TcpListener::bind(own).await {
            Ok(again) => listener = Some(again),
            Err(_) => tokio::time::sleep(BIND_AGAIN).await,
        }
    }
}

/// Takes connections until it is to refuse; then all of them end.
async fn accept(listener: &TcpListener, to: SocketAddr, passage: &watch::Receiver<Passage>) {
    let (mut connections, mut turns) = (JoinSet::new(), passage.clone());
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            _ = turns.wait_for(Passage::refused) => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if room => {
                // One that is gone already is nothing to relay.
                if let Ok((dialler, _)) = accepted {
                    connections.spawn(connection(dialler, to, passage.clone()));
                }
            }
        }
    }
}

/// One connection, until one of its ends is gone.
async fn connection(
    mut dialler: TcpStream,
    to: SocketAddr,
    passage: watch::Receiver<Passage>,
) -> io::Result<()> {
    let mut node = TcpStream::connect(to).await?;
    dialler.set_nodelay(true)?;
    node.set_nodelay(true)?;
    let (from_dialler, to_dialler) = dialler.split();
    let (from_node, to_node) = node.split();
    let there = pass(from_dialler, to_node, passage.clone(), Passage::there);
    let back = pass(from_node, to_dialler, passage, Passage::back);
    tokio::try_join!(there, back).map(|_| ())
}

/// One direction of it.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passage: watch::Receiver<Passage>,
    open: impl Fn(&Passage) -> bool,
) -> io::Result<()> {
    let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await;
        // Also an end does not get through where nothing does.
        passage.wait_for(&open).await.map_err(ended)?;
        let count = read?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    /// A relay, what turns it, its address, and the listener behind it.
    async fn made() -> (JoinSet<io::Result<()>>, watch::Sender<Passage>, SocketAddr, TcpListener) {
        let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (own, to) = (listener.local_addr().unwrap(), behind.local_addr().unwrap().port());
        let (turn, passage) = watch::channel(Passage::FREE);
        let mut tasks = JoinSet::new();
        tasks.spawn(relay(listener, to, passage));
        (tasks, turn, own, behind)
    }

    #[tokio::test]
    async fn what_is_held_back_arrives_once_it_is_healed() {
        let (_tasks, turn, own, behind) = made().await;
        let mut dialler = TcpStream::connect(own).await.unwrap();
        let (mut node, _) = behind.accept().await.unwrap();
        let mut heard = [0; 3];
        dialler.write_all(b"one").await.unwrap();
        node.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"one");

        turn.send_replace(Passage::Open { there: false, back: true });
        dialler.write_all(b"two").await.unwrap();
        node.write_all(b"his").await.unwrap();
        dialler.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"his", "the other direction is open");
        assert!(tokio::time::timeout(SOON, node.read_exact(&mut heard)).await.is_err());
        turn.send_replace(Passage::FREE);
        node.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"two");
        drop(dialler);
        assert_eq!(node.read(&mut heard).await.unwrap(), 0, "the end gets through too");
    }

    #[tokio::test]
    async fn refusing_ends_connections_and_takes_none() {
        let (_tasks, turn, own, behind) = made().await;
        let mut dialler = TcpStream::connect(own).await.unwrap();
        let (_node, _) = behind.accept().await.unwrap();
        turn.send_replace(Passage::Refused);
        let ended = dialler.read(&mut [0; 1]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        while TcpStream::connect(own).await.is_ok() {
            tokio::task::yield_now().await;
        }
        turn.send_replace(Passage::FREE);
        while TcpStream::connect(own).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
