//! TLS on a connection, within limits.
//!
//! There is no bound on how many clients may be in it but that on connections: a bound of its own would be a pool that the
//! silent could fill while everybody else waits.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::idle_timeout::{HEAD_TIME, Transport};

/// What a client may send before TLS is agreed upon, in bytes. A hello and a finish have two or three thousand.
const MAX_HANDSHAKE_BYTES: usize = 16 << 10;

/// A connection of which only so much is read before TLS is agreed upon.
pub(super) struct Capped {
    stream: TcpStream,
    /// Bytes that may still be read; `None` from then on.
    left: Option<usize>,
}

/// Agrees upon TLS with a client.
///
/// # Errors
/// When the client does not manage to within the limits.
pub(super) async fn secure(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<Capped>> {
    let capped = Capped { stream, left: Some(MAX_HANDSHAKE_BYTES) };
    let mut secured = timeout(HEAD_TIME, acceptor.accept(capped)).await??;
    secured.get_mut().0.left = None;
    Ok(secured)
}

impl Transport for TlsStream<Capped> {
    const HTTPS: bool = true;

    fn tcp(&self) -> &TcpStream {
        &self.get_ref().0.stream
    }
}

impl AsyncRead for Capped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        let read = into.filled().len() - before;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(read).ok_or(io::ErrorKind::InvalidData)?;
        }
        polled
    }
}

impl AsyncWrite for Capped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
