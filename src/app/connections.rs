//! Ends connections that wait for a request longer than they may.
//!
//! actix-web times the first head only, and takes whatever arrives later for the end of waiting: half a second head
//! would hold a connection for ever. So its connections come through here, and fail when their time is over.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_server::GracefulShutdownSignal;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::rt::net::TcpStream;
use bytes::Bytes;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may leave what was sent to it unread, in milliseconds.
const UNREAD_TIME: u32 = 120_000;

/// A connection that fails once it has waited for a request longer than it may, or while the service stops.
pub(super) struct Bounded<S> {
    stream: S,
    waits: Rc<Waits>,
    longest: Duration,
    timer: Pin<Box<Sleep>>,
    stop: Pin<Box<dyn Future<Output = ()>>>,
    stopping: bool,
    /// Something was written, and not seen to be sent.
    unsent: bool,
}

/// Since when a connection waits.
struct Waits {
    /// `None` while a request is being answered.
    since: Cell<Option<Instant>>,
    https: bool,
}

/// What a connection is of.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    const HTTPS: bool;
    fn tcp(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    const HTTPS: bool = false;

    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Transport for TlsStream<TcpStream> {
    const HTTPS: bool = true;

    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl<S: Transport> Bounded<S> {
    pub(super) fn new(stream: S, longest: Duration, stop: GracefulShutdownSignal) -> Self {
        // Where the system does not know it, only memory and one connection are lost to such a client.
        let _ = sockopt::set_tcp_user_timeout(stream.tcp(), UNREAD_TIME);
        let waits = Rc::new(Waits { since: Cell::new(Some(Instant::now())), https: S::HTTPS });
        let stop = Box::pin(async move { stop.notified().await });
        Self { stream, waits, longest, timer: Box::pin(sleep(longest)), stop, stopping: false, unsent: false }
    }

    /// Makes the connection known to [`Busy::with`] and [`is_https`].
    pub(super) fn describe(&self, data: &mut Extensions) {
        data.insert(self.waits.clone());
    }

    /// Fails when the time is over. The timer runs always, because nobody comes by here when an answer has ended.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.stopping = self.stopping || self.stop.as_mut().poll(cx).is_ready();
        if self.stopping && !self.unsent && self.waits.since.get().is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let end = self.waits.since.get().unwrap_or(now) + self.longest;
            if end <= now {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(end);
        }
        Ok(())
    }

    fn or_over<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => self.check(cx).map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending),
            ready => ready,
        }
    }
}

impl<S: Transport> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        self.or_over(cx, polled)
    }
}

impl<S: Transport> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.unsent = true;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.or_over(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            self.unsent = false;
            if self.stopping {
                // Nobody reads any more after the last answer.
                self.check(cx)?;
            }
        }
        self.or_over(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_over(cx, polled)
    }
}

/// True for a request that came over TLS.
pub(super) fn is_https(request: &ServiceRequest) -> bool {
    request.conn_data::<Rc<Waits>>().is_some_and(|waits| waits.https)
}

/// While it lives, its connection's request is being answered.
pub(super) struct Busy(Rc<Waits>);

impl Busy {
    /// That of the request's connection, if it is one of ours.
    pub(super) fn with(request: &ServiceRequest) -> Option<Self> {
        let waits = request.conn_data::<Rc<Waits>>()?.clone();
        waits.since.set(None);
        Some(Self(waits))
    }

    /// An answer's body with which it lives until all of that is handed over.
    pub(super) fn until_sent(busy: Option<Self>, answer: BoxBody) -> BoxBody {
        match (busy, answer.size()) {
            // Handed over as soon as the request is answered.
            (None, _) | (_, BodySize::None) => answer,
            (busy, _) => BoxBody::new(Answer { answer, _busy: busy }),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.since.set(Some(Instant::now()));
    }
}

/// An answer's body, with which its connection is busy.
struct Answer {
    answer: BoxBody,
    _busy: Option<Busy>,
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.answer).poll_next(cx)
    }
}
