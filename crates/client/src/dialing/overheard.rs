//! A TLS connection that notes with which alert the node ended it.
//!
//! In TLS 1.3 a client counts as connected before the node has looked at its certificate; the
//! refusal arrives as an alert at the first read, where HTTP/2 makes "connection closed" of it.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls;

use super::Line;

/// What is read of a connection that is over, at once and at most: an alert is the first thing or
/// comes after a few frames.
const SCRATCH_BYTES: usize = 1024;
const READS_MAX: usize = 16;

/// The node is at the other end of the stream.
pub(super) struct Overheard {
    stream: TlsStream<TcpStream>,
    line: Arc<Line>,
    /// Something was read: the node has accepted the certificate.
    welcome: bool,
    /// A write failed; the alert may not have been read yet.
    failed: Option<io::ErrorKind>,
}

impl Overheard {
    pub(super) const fn new(stream: TlsStream<TcpStream>, line: Arc<Line>) -> Self {
        Self { stream, line, welcome: false, failed: None }
    }

    /// What a write came to. One that failed because the node closed is told only after the alert,
    /// which came before the closing, was read: then the transport reads no more.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
                self.failed = Some(error.kind());
                // Never for long: a closed connection ends what is read of it, too.
                ready!(self.last_words(cx));
                Poll::Ready(Err(error))
            }
            done => done,
        }
    }

    /// Reads until the end, and notes an alert.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; SCRATCH_BYTES];
        for _ in 0..READS_MAX {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if buf.filled().is_empty() => break,
                Ok(()) => {}
                Err(error) => {
                    self.note(&error);
                    break;
                }
            }
        }
        Poll::Ready(())
    }

    /// The error of a write that failed before.
    fn failed<T>(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<T>>> {
        let error = self.failed?.into();
        Some(self.last_words(cx).map(|()| Err(error)))
    }

    fn note(&self, error: &io::Error) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner {
            self.line.set_alert(Some(format!("{alert:?}")));
        }
    }
}

impl AsyncRead for Overheard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        match &read {
            Ok(()) if !this.welcome && buf.filled().len() > before => {
                this.welcome = true;
                this.line.set_alert(None);
            }
            Ok(()) => {}
            Err(error) => this.note(error),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(failed) = this.failed(cx) {
            return failed;
        }
        let done = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, done)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(failed) = this.failed(cx) {
            return failed;
        }
        let done = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(failed) = this.failed(cx) {
            return failed;
        }
        let done = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, done)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(failed) = this.failed(cx) {
            return failed;
        }
        let done = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(cx, done)
    }
}
