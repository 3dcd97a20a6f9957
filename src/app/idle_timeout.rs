//! What a connection may cost while it waits for a request, sends one, or does not read the answer.
//!
//! actix-web times the first head only, and refuses one that came in time when the thread was held up meanwhile. It takes
//! whatever arrives later for the end of waiting, and buffers 128 KiB and more of what it cannot use yet. So its connections
//! come through here, fail when their time is over and there is nothing to read, and are read only as far as there is use for it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_server::GracefulShutdownSignal;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::rt::net::TcpStream;
use bytes::Bytes;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may take for a head, from its first byte on.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);
/// The largest head, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// What is read of a request and not taken by whoever answers it, in bytes.
const MAX_UNUSED_BYTES: usize = 32 << 10;
/// Bytes of a half head that every connection may have.
const FREE_HEAD_BYTES: usize = 4 << 10;
/// Bytes of half heads beyond that, all connections together.
const MAX_HEADS_BYTES: usize = 32 << 20;

/// What connections of one service have in common. Cheap to clone.
#[derive(Clone)]
pub(super) struct Limits {
    /// How long a connection may wait for a request.
    pub(super) idle_timeout: Duration,
    /// How long a client may leave what is sent to it unread.
    pub(super) longest_unread: Duration,
    /// Tells of a stop.
    pub(super) stop: GracefulShutdownSignal,
    /// Bytes of half heads beyond what is free.
    pub(super) heads: Arc<AtomicUsize>,
}

/// A connection within its limits.
pub(super) struct IdleTimeoutStream<S> {
    stream: S,
    waits: Rc<IdleClock>,
    limits: Limits,
    timer: Pin<Box<Sleep>>,
    stop: Pin<Box<dyn Future<Output = ()>>>,
    stopping: bool,
    /// Something was written, and not seen to be sent.
    unsent: bool,
    /// Since when nothing more can be sent.
    blocked: Option<Instant>,
    /// There was a chance to use what is read.
    has_yielded: bool,
    /// Something was read that there was no such chance for.
    is_fresh: bool,
}

/// How far a connection is with its request.
struct IdleClock {
    /// Since when it waits for one; `None` while one is being answered.
    since: Cell<Option<Instant>>,
    /// Since when a part of its head is there.
    head_since: Cell<Option<Instant>>,
    /// Bytes that were read and not used, as far as that is known.
    unused: Cell<usize>,
    /// Of those, what is counted in `heads`.
    counted: Cell<usize>,
    heads: Arc<AtomicUsize>,
    /// Whoever is to read on when something was used.
    reader: RefCell<Option<Waker>>,
    https: bool,
}

impl IdleClock {
    fn begin(&self) {
        self.since.set(None);
        self.head_since.set(None);
        self.count(0);
        self.use_up(usize::MAX);
    }

    fn end(&self) {
        let now = Instant::now();
        self.since.set(Some(now));
        self.head_since.set((self.unused.get() > 0).then_some(now));
    }

    fn use_up(&self, bytes: usize) {
        self.unused.set(self.unused.get().saturating_sub(bytes));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Counts the bytes of a half head; false when there are too many of them.
    fn count(&self, bytes: usize) -> bool {
        let counted = bytes.saturating_sub(FREE_HEAD_BYTES);
        let before = self.counted.replace(counted);
        self.heads.fetch_sub(before, Ordering::Relaxed);
        counted == 0 || self.heads.fetch_add(counted, Ordering::Relaxed) + counted <= MAX_HEADS_BYTES
    }
}

impl Drop for IdleClock {
    fn drop(&mut self) {
        self.heads.fetch_sub(self.counted.get(), Ordering::Relaxed);
    }
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

/// Why a connection is ended, for a client that still listens.
enum Refusal {
    HeadTooLarge,
    HeadTooSlow,
    TooManyHeads,
}

impl Refusal {
    fn answer(&self) -> String {
        let (status, code, message) = match self {
            Self::HeadTooLarge => {
                ("431 Request Header Fields Too Large", "head_too_large", "the request's head has more than 16 KiB")
            }
            Self::HeadTooSlow => {
                ("408 Request Timeout", "head_too_slow", "the request's head was not whole within 5 seconds")
            }
            Self::TooManyHeads => ("503 Service Unavailable", "unavailable", "too many requests come in at once"),
        };
        let body = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}");
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        )
    }
}

impl<S: Transport> IdleTimeoutStream<S> {
    pub(super) fn new(stream: S, limits: &Limits) -> Self {
        // Where the system does not know it, the timer here has to do.
        let unread = u32::try_from(limits.longest_unread.as_millis()).unwrap_or(u32::MAX);
        let _ = sockopt::set_tcp_user_timeout(stream.tcp(), unread);
        // An answer in pieces would wait 40 ms for the client to acknowledge the first.
        let _ = stream.tcp().set_nodelay(true);
        let waits = Rc::new(IdleClock {
            since: Cell::new(Some(Instant::now())),
            head_since: Cell::default(),
            unused: Cell::default(),
            counted: Cell::default(),
            heads: limits.heads.clone(),
            reader: RefCell::default(),
            https: S::HTTPS,
        });
        let stop = limits.stop.clone();
        Self {
            stream,
            waits,
            limits: limits.clone(),
            timer: Box::pin(sleep(limits.idle_timeout)),
            stop: Box::pin(async move { stop.notified().await }),
            stopping: false,
            unsent: false,
            blocked: None,
            has_yielded: false,
            is_fresh: false,
        }
    }

    /// Makes the connection known to [`RequestGuard::with`], [`Usage::of`] and [`is_https`].
    pub(super) fn describe(&self, data: &mut Extensions) {
        data.insert(self.waits.clone());
    }

    /// When it fails unless something happens until then.
    fn deadline(&self) -> Option<Instant> {
        let wait = self.waits.since.get().map(|since| since + self.limits.idle_timeout);
        let head = self.waits.head_since.get().map(|since| since + HEAD_TIME);
        let unread = self.blocked.map(|since| since + self.limits.longest_unread);
        [wait, head, unread].into_iter().flatten().min()
    }

    /// Fails when the time is over. The timer runs always, because nobody comes by here when an answer has ended.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.stopping = self.stopping || self.stop.as_mut().poll(cx).is_ready();
        if self.stopping && !self.unsent && self.waits.since.get().is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            let deadline = self.deadline();
            if deadline.is_some_and(|deadline| deadline < self.timer.deadline()) {
                self.timer.as_mut().reset(deadline.unwrap_or_else(Instant::now));
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            match deadline {
                Some(deadline) if deadline <= now => {
                    let is_head = self.blocked.is_none() && self.waits.head_since.get().is_some();
                    if is_head && std::mem::take(&mut self.is_fresh) {
                        // It may make the head whole, and is looked at first.
                        cx.waker().wake_by_ref();
                        return Ok(());
                    }
                    if self.blocked.is_some() {
                        // The system would go on offering megabytes to a client who takes none.
                        let _ = sockopt::set_socket_linger(self.stream.tcp(), Some(Duration::ZERO));
                    } else if self.waits.head_since.get().is_some() {
                        self.refuse(cx, &Refusal::HeadTooSlow);
                    }
                    return Err(io::ErrorKind::TimedOut.into());
                }
                deadline => self.timer.as_mut().reset(deadline.unwrap_or(now + self.limits.idle_timeout)),
            }
        }
    }

    fn or_timeout<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => self.check(cx).map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending),
            ready => ready,
        }
    }

    /// Says why the connection ends, as far as that can be said at once.
    fn refuse(&mut self, cx: &mut Context<'_>, refusal: &Refusal) {
        if !self.unsent {
            let _ = Pin::new(&mut self.stream).poll_write(cx, refusal.answer().as_bytes());
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
        }
    }

    /// Whether more may be read: `Pending` when what was read has to be used first.
    fn may_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let unused = self.waits.unused.get();
        let is_head = self.waits.since.get().is_some();
        if unused < if is_head { MAX_HEAD_BYTES } else { MAX_UNUSED_BYTES } {
            self.has_yielded = false;
            return Poll::Ready(Ok(()));
        }
        if !is_head {
            *self.waits.reader.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !self.has_yielded {
            // A whole head is found by whoever reads now, and then this is no head any more.
            self.has_yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.refuse(cx, &Refusal::HeadTooLarge);
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }

    /// Notes how it went with sending.
    fn note_sending<T>(&mut self, polled: &Poll<io::Result<T>>) {
        match polled {
            Poll::Pending => self.blocked = self.blocked.or_else(|| Some(Instant::now())),
            Poll::Ready(_) => self.blocked = None,
        }
    }
}

impl<S: Transport> AsyncRead for IdleTimeoutStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.may_read(cx) {
            Poll::Ready(Ok(())) => {}
            other => return self.or_timeout(cx, other),
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        let read = into.filled().len() - before;
        self.waits.unused.set(self.waits.unused.get() + read);
        if self.waits.since.get().is_some() {
            if read > 0 && self.waits.head_since.get().is_none() {
                self.waits.head_since.set(Some(Instant::now()));
            }
            // Nothing more comes for now, so this is a half head, or whoever reads makes a request of it at once.
            if polled.is_pending() && !self.waits.count(self.waits.unused.get()) {
                self.refuse(cx, &Refusal::TooManyHeads);
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
        }
        self.is_fresh |= read > 0;
        let polled = self.or_timeout(cx, polled);
        self.is_fresh &= polled.is_ready();
        polled
    }
}

impl<S: Transport> AsyncWrite for IdleTimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.unsent = true;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_sending(&polled);
        self.or_timeout(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_sending(&polled);
        if polled.is_ready() {
            self.unsent = false;
            if self.stopping {
                // Nobody reads any more after the last answer.
                self.check(cx)?;
            }
        }
        self.or_timeout(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note_sending(&polled);
        self.or_timeout(cx, polled)
    }
}

/// True for a request that came over TLS.
pub(super) fn is_https(request: &ServiceRequest) -> bool {
    request.conn_data::<Rc<IdleClock>>().is_some_and(|waits| waits.https)
}

/// What is used of a request's body, for its connection to read on.
pub(super) struct Usage(Option<Rc<IdleClock>>);

impl Usage {
    /// That of the request's connection, if it is one of ours.
    pub(super) fn of(request: &ServiceRequest) -> Self {
        Self(request.conn_data::<Rc<IdleClock>>().cloned())
    }

    /// A piece of the body was taken; `None`: all there is.
    pub(super) fn took(&self, bytes: Option<usize>) {
        if let Some(waits) = &self.0 {
            waits.use_up(bytes.unwrap_or(usize::MAX));
        }
    }
}

/// While it lives, its connection's request is being answered.
pub(super) struct RequestGuard(Rc<IdleClock>);

impl RequestGuard {
    /// That of the request's connection, if it is one of ours.
    pub(super) fn with(request: &ServiceRequest) -> Option<Self> {
        let waits = request.conn_data::<Rc<IdleClock>>()?.clone();
        waits.begin();
        Some(Self(waits))
    }

    /// An answer's body with which it lives until all of that is handed over.
    pub(super) fn attach_to_body(busy: Option<Self>, answer: BoxBody) -> BoxBody {
        match (busy, answer.size()) {
            // Handed over as soon as the request is answered.
            (None, _) | (_, BodySize::None) => answer,
            (busy, _) => BoxBody::new(Answer { answer, _busy: busy }),
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An answer's body, with which its connection is busy.
struct Answer {
    answer: BoxBody,
    _busy: Option<RequestGuard>,
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

#[cfg(test)]
mod tests;
