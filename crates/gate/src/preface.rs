//! The first bytes of a connection: whether the caller speaks HTTP/2 or HTTP/1.1.
//!
//! Comes after admission and under the same deadline, because the HTTP/2 library waits for them
//! without one: a caller that says nothing would keep its connection for ever. What was read is
//! given back to the library. Here HTTP/1.1, for those without gRPC, parts from everything else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::error::Refusal;

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http2,
    Http1,
}

/// A connection whose first bytes were read and will be read once more by the HTTP library.
pub(crate) struct Prefaced<Io> {
    /// The other end is the caller.
    io: Io,
    /// What was read.
    read: [u8; PREFACE.len()],
    /// How much of it is to be given back, and how much was.
    length: usize,
    returned: usize,
    pub(crate) speaks: Speaks,
}

/// Reads as much of the preface as it takes to know, and never more than the preface. HTTP/1.1
/// begins with a method in capitals; anything else is refused at its first wrong byte.
pub(crate) async fn expect<Io>(mut io: Io) -> Result<Prefaced<Io>, Refusal>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() {
        let count = io
            .read(read.get_mut(length..).unwrap_or_default())
            .await
            .map_err(|error| Refusal::while_reading(error, Refusal::Handshake))?;
        if count == 0 {
            return Err(Refusal::Gone);
        }
        length += count;
        let (said, _) = read.split_at(length);
        if PREFACE.starts_with(said) {
            continue;
        }
        if !said.first().is_some_and(u8::is_ascii_uppercase) {
            return Err(Refusal::NotHttp);
        }
        return Ok(Prefaced { io, read, length, returned: 0, speaks: Speaks::Http1 });
    }
    Ok(Prefaced { io, read, length, returned: 0, speaks: Speaks::Http2 })
}

impl<Io: AsyncRead + Unpin> AsyncRead for Prefaced<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let kept = self.read.get(self.returned..self.length).unwrap_or_default();
        if kept.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let (now, _) = kept.split_at(kept.len().min(buffer.remaining()));
        buffer.put_slice(now);
        let now = now.len();
        self.returned += now;
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Prefaced<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_preface_is_given_back_before_what_follows() {
        // Seven bytes of buffer: it arrives in pieces.
        let (mut caller, here) = tokio::io::duplex(7);
        let said = tokio::spawn(async move {
            caller.write_all(&PREFACE).await.unwrap();
            caller.write_all(b"and more").await.unwrap();
        });
        let mut prefaced = expect(here).await.unwrap();
        let mut all = String::new();
        prefaced.read_to_string(&mut all).await.unwrap();
        assert_eq!(all.as_bytes(), [PREFACE.as_slice(), b"and more"].concat());
        said.await.unwrap();
    }

    #[tokio::test]
    async fn another_protocol_is_refused_at_its_first_wrong_byte() {
        for other in [b"\x16\x03".as_slice(), b"get / ", b"\0"] {
            let (mut caller, here) = tokio::io::duplex(64);
            caller.write_all(other).await.unwrap();
            assert!(matches!(expect(here).await, Err(Refusal::NotHttp)), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_method_is_given_back_whole() {
        for said in ["PROPFIND / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/1.1\r\n"]
        {
            let (mut caller, here) = tokio::io::duplex(64);
            caller.write_all(said.as_bytes()).await.unwrap();
            drop(caller);
            let mut prefaced = expect(here).await.unwrap();
            assert_eq!(prefaced.speaks, Speaks::Http1);
            let mut all = String::new();
            prefaced.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, said);
        }
    }

    #[tokio::test]
    async fn a_caller_that_leaves_is_nobodys_fault() {
        let (mut caller, here) = tokio::io::duplex(64);
        caller.write_all(b"PRI").await.unwrap();
        drop(caller);
        assert!(matches!(expect(here).await, Err(Refusal::Gone)));
    }
}
