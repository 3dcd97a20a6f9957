//! Ends connections that wait for a request longer than they may.
//!
//! actix-web times the first head only, and takes whatever arrives later for the end of waiting: half a second head
//! would hold a connection for ever. So every connection's socket is kept once more here, to shut it down.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use bytes::Bytes;
use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::time::Instant;

/// How long a client may leave what was sent to it unread, in milliseconds.
const UNREAD_TIME: u32 = 120_000;
/// How often waiting connections are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// All open connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Vec<Weak<Connection>>>>);

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// `None` while a request is being answered.
    waits_since: Mutex<Option<Instant>>,
}

impl Connections {
    /// Takes up a new connection.
    pub(super) fn add(&self, stream: &dyn Any, data: &mut Extensions) {
        let tls = || stream.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
        let Some(stream) = stream.downcast_ref::<TcpStream>().or_else(tls) else { return };
        // Without a descriptor to spare it goes on unwatched.
        let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
        // Where the system does not know it, only memory and one connection are lost to such a client.
        let _ = sockopt::set_tcp_user_timeout(&socket, UNREAD_TIME);
        let connection = Arc::new(Connection { socket, waits_since: Mutex::new(Some(Instant::now())) });
        lock(&self.0).push(Arc::downgrade(&connection));
        data.insert(connection);
    }

    /// Shuts connections down that have waited for a request longer than `longest`; goes on until dropped.
    pub(super) async fn watch(self, longest: Duration) {
        loop {
            tokio::time::sleep(LOOK.min(longest)).await;
            lock(&self.0).retain(|connection| {
                let Some(connection) = connection.upgrade() else { return false };
                let waits = *lock(&connection.waits_since);
                if waits.is_some_and(|since| since.elapsed() > longest) {
                    // It may just have ended by itself.
                    let _ = shutdown(&connection.socket, Shutdown::Both);
                    return false;
                }
                true
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes when a connection's request is being answered. Belongs around the whole app.
pub(super) async fn note<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let busy = request.conn_data::<Arc<Connection>>().cloned().map(Busy::new);
    let response = next.call(request).await?;
    Ok(response.map_body(|_, answer| BoxBody::new(Answer { answer: BoxBody::new(answer), _busy: busy })))
}

struct Busy(Arc<Connection>);

impl Busy {
    fn new(connection: Arc<Connection>) -> Self {
        *lock(&connection.waits_since) = None;
        Self(connection)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.waits_since) = Some(Instant::now());
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
