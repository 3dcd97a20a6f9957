use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodyStream, SizedStream};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, ETAG, HeaderName};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::{BoxStream, once, unfold};
use futures_util::{StreamExt, future};

use super::body::{Pump, carry};
use super::call::{Call, Created};
use super::forward::{Exchange, unanswered};
use super::{Gateway, headers};
use crate::domain::RefId;
use crate::egress::header::{self, HeaderMap};
use crate::egress::{EgressError, Response};
use crate::intake::Problem;

/// Answers of up to this many bytes are held without asking.
pub(super) const SMALL: usize = 256 << 10;
/// The largest answer that is held, in bytes.
const LARGEST: usize = 16 << 20;
/// How many of more than [`SMALL`] are held at once.
pub(super) const LARGE_AT_ONCE: usize = 4;

type Pieces = BoxStream<'static, Result<Bytes, EgressError>>;

/// The body of an answer that was to be read.
enum Held {
    Whole(Bytes),
    /// Too much: what was read of it, and the rest.
    TooLarge(Bytes, Box<Response>),
}

impl Gateway {
    /// Hands the provider's answer on. `reference` is the ref that was made for the call.
    ///
    /// # Errors
    /// When the provider breaks off an answer that is read first.
    pub(super) async fn answer(
        &self,
        call: Call,
        reference: Option<RefId>,
        exchange: Exchange,
    ) -> Result<HttpResponse, Problem> {
        let Exchange { response, pump } = exchange;
        let head = builder(&response);
        let length = response.content_length();
        if call.is_read() && is_of_type(response.headers(), "application/json") {
            let (status, head_of) = (response.status(), response.headers().clone());
            return match self.hold(response, pump).await? {
                Held::Whole(body) => {
                    self.learn(call, status, reference.as_ref(), &body).await;
                    Ok(self.shown(call, head, &head_of, body))
                }
                Held::TooLarge(begun, rest) => {
                    tracing::warn!(
                        ?call,
                        bytes = begun.len(),
                        "an answer is too large to be read, and passes as it is"
                    );
                    let begun = once(future::ready(Ok(begun)));
                    Ok(streamed(head, length, begun.chain(pieces(*rest)).boxed(), None))
                }
            };
        }
        if let (Call::Create(Created::Events), Some(reference)) = (call, reference)
            && is_of_type(response.headers(), "text/event-stream")
        {
            return Ok(streamed(head, None, self.events(reference, pieces(response)), pump));
        }
        Ok(streamed(head, length, pieces(response), pump))
    }

    /// An answer as the caller is to see it.
    fn shown(&self, call: Call, mut head: HttpResponseBuilder, headers: &HeaderMap, body: Bytes) -> HttpResponse {
        let changed = std::str::from_utf8(&body).ok().and_then(|text| self.shown_text(call, text));
        let Some(changed) = changed else { return head.body(body) };
        let mut answer = head.body(changed);
        // They are about the body as it was.
        for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
            if headers.contains_key(name) {
                answer.headers_mut().remove(HeaderName::from_static(name));
            }
        }
        answer.headers_mut().remove(ETAG);
        answer
    }

    async fn hold(&self, mut response: Response, mut pump: Option<Pump>) -> Result<Held, Problem> {
        let mut body = BytesMut::new();
        let mut permit = None;
        loop {
            let chunk = beside(&mut pump, response.chunk()).await.map_err(|error| unanswered(&error))?;
            let Some(chunk) = chunk else { return Ok(Held::Whole(body.freeze())) };
            body.extend_from_slice(&chunk);
            if body.len() > SMALL && permit.is_none() {
                permit = self.inner.large_answers.acquire().await.ok();
            }
            if body.len() > LARGEST {
                return Ok(Held::TooLarge(body.freeze(), Box::new(response)));
            }
        }
    }
}

/// Waits for one thing while a request's body goes on being sent.
async fn beside<T>(pump: &mut Option<Pump>, wanted: impl Future<Output = T>) -> T {
    let mut wanted = std::pin::pin!(wanted);
    std::future::poll_fn(|cx| {
        carry(pump, cx);
        wanted.as_mut().poll(cx)
    })
    .await
}

/// The head of an answer, without its length.
pub(super) fn builder(response: &Response) -> HttpResponseBuilder {
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut head = HttpResponse::build(status);
    for (name, value) in headers::returned(response.headers()) {
        if name != CONTENT_LENGTH {
            head.append_header((name, value));
        }
    }
    head
}

/// An answer that is handed on as it comes.
fn streamed(mut head: HttpResponseBuilder, length: Option<u64>, pieces: Pieces, pump: Option<Pump>) -> HttpResponse {
    let body = Passing { pieces, pump };
    match length {
        Some(0) => head.finish(),
        Some(length) => head.body(SizedStream::new(length, body)),
        // `streaming` would add a content type where the provider gave none.
        None => head.body(BodyStream::new(body)),
    }
}

fn pieces(response: Response) -> Pieces {
    unfold(Some(response), |response| async {
        let mut response = response?;
        match response.chunk().await.transpose()? {
            Ok(chunk) => Some((Ok(chunk), Some(response))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// An answer's body, which carries the request's over as well.
struct Passing {
    pieces: Pieces,
    pump: Option<Pump>,
}

impl Stream for Passing {
    type Item = Result<Bytes, EgressError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        carry(&mut self.pump, cx);
        self.pieces.as_mut().poll_next(cx)
    }
}

fn is_of_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(expected)
}
