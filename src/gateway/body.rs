//! A request's body on its way to the provider.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use crate::egress;
use crate::http::{ApiError, BodyError, read_body};

/// How long a caller may send nothing of a body.
const SILENCE: Duration = Duration::from_secs(60);
/// Pieces of a body between the caller's connection and the provider's, each up to some 64 KiB.
const PIECES: usize = 4;

/// What carries a body over. It has to be polled for the body to move.
pub(super) type BodyForwarder = Pin<Box<dyn Future<Output = ()>>>;

/// Carries on, if there is anything left to carry.
pub(super) fn poll_forward(forwarder: &mut Option<BodyForwarder>, cx: &mut Context<'_>) {
    if forwarder.as_mut().is_some_and(|carrying| carrying.as_mut().poll(cx).is_ready()) {
        *forwarder = None;
    }
}

/// A body to send, and what carries it over.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) body: Option<egress::Body>,
    pub(super) forwarder: Option<BodyForwarder>,
    /// Whether its length is another than the request's head says.
    pub(super) length_changed: bool,
}

impl Outgoing {
    /// A body that is held whole, of another length than the one that came.
    pub(super) fn whole(body: impl Into<egress::Body>) -> Self {
        Self { body: Some(body.into()), forwarder: None, length_changed: true }
    }

    /// A body that comes piece by piece, as `fill` sends it. An error cuts the request off, and so does it to be dropped
    /// before the end: the provider must not take half a body for a whole one.
    pub(super) fn streamed<F>(fill: impl FnOnce(BodySender) -> F) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (sender, receiver) = channel(PIECES);
        let pieces = unfold(receiver, |mut receiver: Receiver<Piece>| async {
            let piece = receiver.recv().await.unwrap_or_else(|| Some(Err(io::ErrorKind::BrokenPipe.into())))?;
            Some((piece, receiver))
        });
        let body = Some(egress::Body::wrap_stream(pieces));
        Self { body, forwarder: Some(Box::pin(fill(BodySender(sender)))), length_changed: true }
    }
}

/// `None` at the end.
type Piece = Option<io::Result<Bytes>>;

/// The near end of a body that comes piece by piece.
pub(super) struct BodySender(Sender<Piece>);

impl BodySender {
    /// Sends the next piece, or why there is none; `None` ends the body. False when nothing more is wanted.
    pub(super) async fn send(&self, piece: Piece) -> bool {
        let goes_on = matches!(piece, Some(Ok(_)));
        self.0.send(piece).await.is_ok() && goes_on
    }
}

/// Whether a request has a body.
pub(super) fn has_body(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// A request's body as it is.
pub(super) fn forward_body(request: &HttpRequest, payload: Payload) -> Outgoing {
    if !has_body(request) {
        return Outgoing::default();
    }
    let outgoing = Outgoing::streamed(|filling| async move {
        let mut payload = payload;
        while filling.send(next(&mut payload).await).await {}
    });
    Outgoing { length_changed: false, ..outgoing }
}

/// The next piece of a body.
pub(super) async fn next(payload: &mut Payload) -> Option<io::Result<Bytes>> {
    match timeout(SILENCE, payload.next()).await {
        Ok(piece) => piece.map(|piece| piece.map_err(io::Error::other)),
        Err(_) => Some(Err(io::ErrorKind::TimedOut.into())),
    }
}

/// The whole of a body that is known to be small.
///
/// # Errors
/// When it has more than `limit` bytes, or does not arrive whole.
pub(super) async fn whole(payload: &mut Payload, limit: usize) -> Result<Bytes, ApiError> {
    let pieces = unfold(payload, |payload| async move { Some((next(payload).await?, payload)) });
    read_body(pieces, limit).await.map_err(|error| match error {
        BodyError::TooLarge(_) => {
            ApiError::too_large(format!("expected a body of at most {limit} bytes that creates jobs"))
        }
        BodyError::Broken(error) => ApiError::incomplete(error),
    })
}
