//! A machine that stands still, as it looks from outside: nothing is read from its connections and
//! nothing is written to them, and none ends, until it goes on.
//!
//! Its clock goes on, and so do its timers. What a stopped process does besides, which is to find
//! all its timers late, is tried with real processes.
//!
//! A machine also knows its connections, so that they end in their order when its process does: a
//! runtime drops its tasks in an order that no seed decides.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

/// Whether a machine stands still. Clones are the same machine.
#[derive(Clone, Debug, Default)]
pub struct Standstill(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    still: bool,
    waiting: Vec<Waker>,
    /// Connections that were dropped meanwhile: the other end hears of it later.
    dropped: Vec<TcpStream>,
    /// Its process has ended: there are no connections any more.
    severed: bool,
    open: Vec<Weak<Socket>>,
}

/// `None`: dropped, or severed.
type Socket = Mutex<Option<TcpStream>>;

fn socket(socket: &Socket) -> MutexGuard<'_, Option<TcpStream>> {
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Standstill {
    /// Stands still from now on.
    pub fn begin(&self) {
        self.state().still = true;
    }

    /// Goes on; what was dropped meanwhile is for the caller to drop, on its host.
    pub fn end(&self) {
        let mut state = self.state();
        state.still = false;
        let waiting = std::mem::take(&mut state.waiting);
        let dropped = std::mem::take(&mut state.dropped);
        drop(state);
        drop(dropped);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends all connections, in the order in which they were made, and takes no others.
    pub fn sever(&self) {
        let mut state = self.state();
        state.severed = true;
        let open = std::mem::take(&mut state.open);
        drop(state);
        for connection in open.iter().filter_map(Weak::upgrade) {
            let stream = socket(&connection).take();
            drop(stream);
        }
    }

    /// A new process begins.
    pub fn renew(&self) {
        self.end();
        self.state().severed = false;
    }

    /// Waits until it goes on.
    pub async fn over(&self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.still && !state.severed {
            return Poll::Ready(());
        }
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of a machine that may stand still.
#[derive(Debug)]
pub struct Connection {
    io: Arc<Socket>,
    machine: Standstill,
}

impl Connection {
    pub(crate) fn new(io: TcpStream, machine: Standstill) -> Self {
        let io = Arc::new(Mutex::new(Some(io)));
        let mut state = machine.state();
        state.open.retain(|connection| connection.strong_count() > 0);
        state.open.push(Arc::downgrade(&io));
        drop(state);
        Self { io, machine }
    }

    /// Does something with the connection, once the machine goes on.
    fn with<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.machine.poll(cx).is_pending() {
            return Poll::Pending;
        }
        match socket(&self.io).as_mut() {
            Some(io) => act(Pin::new(io), cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.machine.state();
        if state.still {
            state.dropped.extend(socket(&self.io).take());
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(cx, |io, cx| io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |io, cx| io.poll_shutdown(cx))
    }
}
