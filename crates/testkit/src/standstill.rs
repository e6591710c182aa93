//! A machine that stands still, as it looks from outside: nothing is read from its connections and
//! nothing is written to them, and none ends, until it goes on.
//!
//! Its clock goes on, and so do its timers. What a stopped process does besides, which is to find
//! all its timers late, is tried with real processes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

    /// Waits until it goes on.
    pub async fn over(&self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.still {
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
    /// `None` only while it is dropped.
    io: Option<TcpStream>,
    machine: Standstill,
}

impl Connection {
    pub(crate) const fn new(io: TcpStream, machine: Standstill) -> Self {
        Self { io: Some(io), machine }
    }

    fn io(&mut self, cx: &Context<'_>) -> Poll<io::Result<Pin<&mut TcpStream>>> {
        if self.machine.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let io = self.io.as_mut().map(Pin::new);
        Poll::Ready(io.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.machine.state();
        if state.still {
            state.dropped.extend(self.io.take());
        }
    }
}

macro_rules! ready_io {
    ($self:ident, $cx:ident) => {
        match $self.get_mut().io($cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(io)) => io,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready_io!(self, cx).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready_io!(self, cx).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready_io!(self, cx).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready_io!(self, cx).poll_shutdown(cx)
    }
}
