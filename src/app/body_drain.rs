//! Bodies that nobody read when the answer was sent: a bounded rest is read and dropped, then the connection is closed.
//!
//! actix-web itself reads on without end when the handler has dropped a chunked body. So the body is kept here until
//! the answer's own body has ended; a body that is still held then makes actix-web close the connection. In between,
//! with the answer already sent, some of the rest is taken in, so that a polite client gets to read the answer
//! before the connection ends under its hands.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PayloadError};
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::{Error, HttpMessage};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Sleep, sleep};

use super::idle_timeout::Usage;

/// The most that is read of a body after the answer, in bytes.
const MAX_DRAIN_BYTES: usize = 512 << 10;
/// The longest that is waited for it.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(2);

/// A request's body, held while it is answered; nothing when it has none.
pub(super) struct HeldBody(Option<Rc<Body>>);

impl HeldBody {
    /// That of a request, which gets to read it.
    pub(super) fn of(request: &mut ServiceRequest) -> Self {
        let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let payload = request.take_payload();
        if matches!(payload, Payload::None) {
            return Self(None);
        }
        let usage = Usage::of(request);
        let body = Rc::new(Body { payload: RefCell::new(payload), ended: Cell::new(false), is_chunked, usage });
        request.set_payload(Payload::Stream { payload: Box::pin(Reader(body.clone())) });
        Self(Some(body))
    }

    /// The answer, which ends when the rest of the body is done with.
    pub(super) async fn answer(self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let Some(body) = self.unread() else { return response };
        let mut rest = Drain::new(body);
        // An empty answer has no end to wait for: the connection is dealt with as soon as its head is sent.
        if matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0)) {
            (&mut rest).await;
        }
        response.map_body(|_, answer| BoxBody::new(Answer::new(answer, rest)))
    }

    /// The error, whose answer ends when the rest of the body is done with.
    pub(super) fn fail(self, error: Error) -> Error {
        let Some(body) = self.unread() else { return error };
        let response = error.error_response();
        let response = response.map_body(|_, answer| BoxBody::new(Answer::new(answer, Drain::new(body))));
        InternalError::from_response(error, response).into()
    }

    fn unread(self) -> Option<Rc<Body>> {
        self.0.filter(|body| !body.ended.get())
    }
}

/// A request's body, for the handler and for whoever reads the rest.
struct Body {
    payload: RefCell<Payload>,
    ended: Cell<bool>,
    /// Whether more than its pieces is sent.
    is_chunked: bool,
    usage: Usage,
}

impl Body {
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.ended.get() {
            return Poll::Ready(None);
        }
        let polled = self.payload.borrow_mut().poll_next_unpin(cx);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => self.usage.took(Some(chunk.len())),
            // What is not a whole piece of it stays unused.
            Poll::Pending => self.usage.took(None),
            Poll::Ready(_) => {
                if self.is_chunked {
                    // What stands around the pieces is none of the next head.
                    self.usage.took(None);
                }
                self.ended.set(true);
            }
        }
        polled
    }
}

/// The body as the handler reads it.
struct Reader(Rc<Body>);

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}

/// What is left of a body. Resolves when it has ended, or enough of it was read.
struct Drain {
    body: Rc<Body>,
    read: usize,
    late: Option<Pin<Box<Sleep>>>,
}

impl Drain {
    fn new(body: Rc<Body>) -> Self {
        Self { body, read: 0, late: None }
    }
}

impl Future for Drain {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(MAX_DRAIN_TIME)));
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while self.read < MAX_DRAIN_BYTES {
            match ready!(self.body.poll_next(cx)) {
                Some(Ok(chunk)) => self.read += chunk.len(),
                Some(Err(_)) | None => break,
            }
        }
        Poll::Ready(())
    }
}

/// An answer's body, which ends when the rest of the request's body is done with.
struct Answer {
    answer: BoxBody,
    sent: bool,
    rest: Drain,
}

impl Answer {
    fn new(answer: impl MessageBody + 'static, rest: Drain) -> Self {
        Self { answer: BoxBody::new(answer), sent: false, rest }
    }
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if !self.sent {
            let chunk = ready!(Pin::new(&mut self.answer).poll_next(cx));
            if chunk.is_some() {
                return Poll::Ready(chunk);
            }
            self.sent = true;
        }
        ready!(Pin::new(&mut self.rest).poll(cx));
        Poll::Ready(None)
    }
}
