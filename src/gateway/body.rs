//! A request's body on its way to the provider.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{once, unfold};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout, timeout_at};

use super::observe::CallerKey;
use crate::egress;
use crate::http::ApiError;
use crate::intake::{self, Held, Memory, Pace, bytes_holding};

/// How long a caller may send nothing of a body.
const SILENCE: Duration = Duration::from_secs(60);
/// The largest body that is held whole, in bytes: the provider's prompts have a few thousand characters.
pub(super) const MAX_HELD_BYTES: usize = 1 << 20;
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
    /// Its length, where that is known.
    pub(super) length: Option<usize>,
}

impl Outgoing {
    /// A body that is held whole, of another length than the one that came.
    pub(super) fn whole(body: Bytes) -> Self {
        let length = Some(body.len());
        // Of one that can be sent twice a copy is kept until the answer is there, and with it the memory that is held for it.
        let body = Some(egress::Body::wrap_stream(once(ready(io::Result::Ok(body)))));
        Self { body, forwarder: None, length_changed: true, length }
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
        Self { body, forwarder: Some(Box::pin(fill(BodySender(sender)))), length_changed: true, length: None }
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

/// A body on its way into memory, within its caller's share of that, and no slower than a callback's.
pub(super) struct HeldBody {
    memory: Arc<Memory<CallerKey>>,
    caller: CallerKey,
    /// Whether it will take more memory than it has bytes.
    expands: bool,
    held: Held<CallerKey>,
    bytes: usize,
    pace: Pace,
    ends: Instant,
}

impl HeldBody {
    /// How long it may take.
    const TIME: Duration = intake::Config::BODY_TIME;

    /// For a body that begins to come now.
    pub(super) fn new(memory: Arc<Memory<CallerKey>>, caller: CallerKey, expands: bool) -> Self {
        let (held, pace, ends) = (Held::Nothing, Pace::new(), Instant::now() + Self::TIME);
        Self { memory, caller, expands, held, bytes: 0, pace, ends }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When it is too slow or broken off, or there is no room for it.
    pub(super) async fn next(&mut self, payload: &mut Payload) -> Result<Option<Bytes>, ApiError> {
        let Self { memory, caller, held, pace, ends, .. } = self;
        let Ok(piece) = timeout_at(*ends, pace.next(payload, || memory.is_wanted(held, caller))).await else {
            return Err(ApiError::incomplete(format!("not within {} seconds", Self::TIME.as_secs())));
        };
        let Some(piece) = piece? else { return Ok(None) };
        let began = Instant::now();
        self.bytes += piece.len();
        self.memory.hold(&mut self.held, &self.caller, self.bytes, self.expands).await?;
        self.pace.grew_by(piece.len(), began.elapsed());
        Ok(Some(piece))
    }

    /// All of it.
    ///
    /// # Errors
    /// As for [`HeldBody::next`], and when it has more than [`MAX_HELD_BYTES`].
    pub(super) async fn whole(&mut self, payload: &mut Payload) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(piece) = self.next(payload).await? {
            if piece.len() > MAX_HELD_BYTES - body.len() {
                let message = format!("expected a body of at most {MAX_HELD_BYTES} bytes that creates jobs");
                return Err(ApiError::too_large(message));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The body as it is sent on. Its memory is given back when it is sent.
    pub(super) fn into_bytes(self, body: Vec<u8>) -> Bytes {
        bytes_holding(body, self.held)
    }
}
