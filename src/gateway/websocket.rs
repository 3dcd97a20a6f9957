//! Speech over a WebSocket, which carries no header but a token in its query.

use std::io;
use std::sync::Arc;

use actix_web::body::BodyStream;
use actix_web::http::header::{CONNECTION, UPGRADE};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::Instant;

use super::Gateway;
use super::answer::unreadable;
use super::ask::Questions;
use super::body::{BodyForwarder, Outgoing};
use super::forward::{Onward, upstream_error};
use super::frames::FrameVeil;
use super::observe::Caller;
use super::tokens::Stream;
use crate::egress::header::{self, HeaderValue};
use crate::egress::{StatusCode, Upgraded};
use crate::http::ApiError;
use crate::provider::Endpoint;

/// What is read of the provider's side at a time, in bytes.
const PIECE: usize = 16 << 10;

/// Whether a request asks to go on as a WebSocket.
pub(super) fn is_upgrade(request: &HttpRequest) -> bool {
    let has = |name, wanted: &str| {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

impl Gateway {
    /// Connects the caller's WebSocket with the provider's: once both have agreed, every byte passes as it is, but for our
    /// signatures in what the provider says. When it is over, the recording of what was said is looked for.
    ///
    /// # Errors
    /// When the provider cannot be reached, or does not answer.
    pub(super) async fn proxy_websocket(
        &self,
        request: &HttpRequest,
        payload: Payload,
        mut onward: Onward,
        caller: &Caller,
    ) -> Result<HttpResponse, ApiError> {
        onward.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        onward.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let exchange = self.inner.upstream.forward(onward, Outgoing::default()).await?;
        if exchange.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.inner.answers.answer(Endpoint::Other, caller, None, exchange).await;
        }
        let headers = exchange.response.headers();
        let is_websocket =
            headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !is_websocket || headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(unreadable("it goes on as something that was not asked for"));
        }
        let mut head = self.inner.answers.builder(&exchange.response);
        let stream = self.inner.streams.stream_of(caller.api, request)?;
        let questions = &self.inner.questions;
        let spoken = stream.map(|stream| Spoken { questions: Arc::clone(questions), stream, begun: Instant::now() });
        let (read, write) = split(exchange.response.upgraded().await.map_err(|error| upstream_error(&error))?);
        let veil = FrameVeil::new(self.inner.intake.urls());
        let back = WebSocketStream {
            read: Some(read),
            forwarder: Some(Box::pin(poll_forward(payload, write))),
            veil,
            _spoken: spoken,
        };
        Ok(head.upgrade("websocket").body(BodyStream::new(unfold(back, WebSocketStream::next).boxed_local())))
    }
}

/// A stream that was opened. However it ends, what was spoken over it is looked for then.
struct Spoken {
    questions: Arc<Questions>,
    stream: Stream,
    begun: Instant,
}

impl Drop for Spoken {
    fn drop(&mut self) {
        let Stream { caller, account } = self.stream.clone();
        tokio::spawn(Arc::clone(&self.questions).ask_spoken(caller, account, self.begun));
    }
}

/// What the provider says, while what the caller says is carried over.
struct WebSocketStream {
    /// `None` when it is at its end.
    read: Option<ReadHalf<Upgraded>>,
    forwarder: Option<BodyForwarder>,
    veil: FrameVeil,
    _spoken: Option<Spoken>,
}

impl WebSocketStream {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let mut piece = vec![0; PIECE];
        loop {
            let source = self.read.as_mut()?;
            let read = match &mut self.forwarder {
                Some(forwarder) => tokio::select! {
                    read = source.read(&mut piece) => read,
                    () = forwarder => {
                        self.forwarder = None;
                        continue;
                    }
                },
                None => source.read(&mut piece).await,
            };
            let passed = match read {
                Ok(0) => {
                    self.read = None;
                    Ok(self.veil.finish())
                }
                Ok(length) => self.veil.feed(&piece[..length]).map_err(io::Error::other),
                Err(error) => Err(error),
            };
            match passed {
                Ok(passed) if passed.is_empty() => {}
                Ok(passed) => return Some((Ok(passed), self)),
                Err(error) => {
                    self.read = None;
                    return Some((Err(error), self));
                }
            }
        }
    }
}

async fn poll_forward(mut payload: Payload, mut write: WriteHalf<Upgraded>) {
    while let Some(Ok(piece)) = payload.next().await {
        if write.write_all(&piece).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
    // The provider is told, and ends its side.
    let _ = write.shutdown().await;
}
