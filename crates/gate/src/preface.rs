//! The first bytes of a connection: proof that the caller speaks HTTP/2.
//!
//! Comes after admission and under the same deadline, because the HTTP/2 library waits for them
//! without one: a caller that says nothing would keep its connection for ever. What was read is
//! given back to the library. This is also where a page for HTTP/1.1 will part from gRPC.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::error::Refusal;

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose preface was read and will be read once more by the HTTP/2 library.
pub(crate) struct Prefaced<Io> {
    /// The other end is the caller.
    io: Io,
    /// How much of the preface has been given back.
    returned: usize,
}

/// Reads the preface, not a byte more, and refuses at the first wrong byte.
pub(crate) async fn expect<Io>(mut io: Io) -> Result<Prefaced<Io>, Refusal>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = [0; PREFACE.len()];
    let mut unread = buffer.as_mut_slice();
    let mut wanted = PREFACE.as_slice();
    while !wanted.is_empty() {
        let count = io
            .read(unread)
            .await
            .map_err(|error| Refusal::while_reading(error, Refusal::Handshake))?;
        if count == 0 {
            return Err(Refusal::Gone);
        }
        let (read, rest) = unread.split_at_mut(count);
        let (right, missing) = wanted.split_at(count);
        if read != right {
            return Err(Refusal::NotHttp2);
        }
        (unread, wanted) = (rest, missing);
    }
    Ok(Prefaced { io, returned: 0 })
}

impl<Io: AsyncRead + Unpin> AsyncRead for Prefaced<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let kept = PREFACE.get(self.returned..).unwrap_or_default();
        if kept.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let (now, _) = kept.split_at(kept.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.returned += now.len();
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
        let (mut caller, here) = tokio::io::duplex(64);
        caller.write_all(b"PRO").await.unwrap();
        assert!(matches!(expect(here).await, Err(Refusal::NotHttp2)));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_is_nobodys_fault() {
        let (mut caller, here) = tokio::io::duplex(64);
        caller.write_all(b"PRI").await.unwrap();
        drop(caller);
        assert!(matches!(expect(here).await, Err(Refusal::Gone)));
    }
}
