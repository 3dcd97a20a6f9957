use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodyStream, SizedStream};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, ETAG, HeaderName};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, unfold};
use futures_util::{Stream, StreamExt};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::aside::aside;
use super::ask::Questions;
use super::body::{BodyForwarder, poll_forward};
use super::forward::{Exchange, upstream_error};
use super::headers;
use super::observe::{Caller, CallerKey, Creation, Observer};
use super::restore_callback::restored_text;
use super::veil::{Unclear, Veil};
use crate::egress::header::{self, HeaderMap};
use crate::egress::{EgressError, Response};
use crate::http::ApiError;
use crate::intake::{Intake, Slot, Slots, TooMany};
use crate::provider::{Created, Endpoint};

/// Answers of up to this many bytes are held without asking.
const STREAM_ABOVE_BYTES: usize = 256 << 10;
/// The largest answer that is held, in bytes.
const MAX_BUFFERED_BYTES: usize = 16 << 20;
/// How many of more than [`STREAM_ABOVE_BYTES`] are held at once, until their callers have taken them; three for one caller.
const MAX_LARGE_BUFFERED: usize = 4;
/// How many may wait to be one of those; half of them for one caller.
const MAX_WAITING: usize = 32;
/// How long one may wait for that.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// What is sent at a time of an answer that is held, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// For how long a stream is looked through before the others of its thread have their turn.
const TURN: Duration = Duration::from_millis(1);
/// What is looked through of it between two looks at the clock, in bytes.
const TURN_BYTES: usize = 64 << 10;

pub(super) type Pieces = BoxStream<'static, Result<Bytes, EgressError>>;

/// The body of an answer that was to be read. With leave to hold what is in memory of it, where that is large.
enum Buffered {
    Whole(Bytes, Option<Slot<CallerKey>>),
    /// Not to be held whole, and `why`: what was read of it, the rest, and what of the request's body is not sent yet.
    Begun {
        bytes: Bytes,
        slot: Option<Slot<CallerKey>>,
        rest: Box<Response>,
        forwarder: Option<BodyForwarder>,
        why: &'static str,
    },
}

/// Hands answers on, and learns from them.
pub(super) struct Answers {
    pub(super) intake: Intake,
    pub(super) observer: Arc<Observer>,
    pub(super) questions: Arc<Questions>,
    /// Leave to hold large answers.
    large: Slots<CallerKey>,
}

impl Answers {
    pub(super) fn new(intake: Intake, observer: Arc<Observer>, questions: Arc<Questions>) -> Self {
        Self { intake, observer, questions, large: Slots::new(MAX_LARGE_BUFFERED, MAX_WAITING) }
    }

    /// Hands the provider's answer on, without any signature of ours. `creation` is known of calls that create jobs.
    ///
    /// # Errors
    /// When the provider breaks off an answer that is read first, or sends one that cannot be looked through.
    pub(super) async fn answer(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        creation: Option<Creation>,
        exchange: Exchange,
    ) -> Result<HttpResponse, ApiError> {
        let Exchange { response, forwarder } = exchange;
        let status = response.status();
        // Nobody asked for another protocol, or for part of an answer, in which half a signature could stand.
        if status.is_informational() || status.as_u16() == 206 {
            return Err(unreadable(&format!("it has the status {}", status.as_u16())));
        }
        if let Some(coding) = coding(response.headers()) {
            return Err(unreadable(&format!("it is encoded as {coding}, which was not asked for")));
        }
        let head = self.builder(&response);
        let length = response.content_length();
        if !caller.is_head && is_held(endpoint, response.headers()) {
            let head_of = response.headers().clone();
            return match self.hold(caller.key, response, forwarder).await? {
                Buffered::Whole(body, slot) => {
                    self.observer.observe(endpoint, caller, creation.as_ref(), status, &body).await;
                    self.shown(endpoint, head, &head_of, body, slot).await
                }
                Buffered::Begun { bytes, slot, rest, forwarder, why } => {
                    tracing::warn!(?endpoint, bytes = bytes.len(), why, "an answer is not read for jobs");
                    let pieces = slices(bytes, slot).chain(rest.into_stream()).boxed();
                    Ok(streamed(head, length, self.veiled(pieces), forwarder))
                }
            };
        }
        if let (Endpoint::Create(Created::Events), true) = (endpoint, status.is_success()) {
            let events = self.events(creation.unwrap_or_default(), caller.clone(), response.into_stream().boxed());
            return Ok(streamed(head, None, self.veiled(events), forwarder));
        }
        self.observer.observe(endpoint, caller, creation.as_ref(), status, &Bytes::new()).await;
        Ok(streamed(head, length, self.veiled(response.into_stream().boxed()), forwarder))
    }

    /// An answer as the caller is to see it.
    async fn shown(
        &self,
        endpoint: Endpoint,
        mut head: HttpResponseBuilder,
        headers: &HeaderMap,
        body: Bytes,
        slot: Option<Slot<CallerKey>>,
    ) -> Result<HttpResponse, ApiError> {
        let (intake, whole) = (self.intake.clone(), body.clone());
        let changed = aside(body.len(), move || changed(&intake, endpoint, &whole)).await.unwrap_or(Err(Unclear));
        let changed = changed.map_err(|error| unreadable(&error.to_string()))?;
        let is_changed = changed.is_some();
        let body = changed.unwrap_or(body);
        let mut answer = match slot {
            None => head.body(body),
            slot => head.body(SizedStream::new(body.len() as u64, slices(body, slot))),
        };
        if is_changed {
            // They are about the body as it was.
            for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
                if headers.contains_key(name) {
                    answer.headers_mut().remove(HeaderName::from_static(name));
                }
            }
            answer.headers_mut().remove(ETAG);
        }
        Ok(answer)
    }

    /// Reads an answer to `caller` to its end, or as far as it may be held.
    ///
    /// # Errors
    /// When the provider breaks it off.
    async fn hold(
        &self,
        caller: CallerKey,
        mut response: Response,
        mut forwarder: Option<BodyForwarder>,
    ) -> Result<Buffered, ApiError> {
        let mut body = BytesMut::new();
        let mut slot = None;
        let why = loop {
            let chunk =
                drive_while_waiting(&mut forwarder, response.chunk()).await.map_err(|error| upstream_error(&error))?;
            let Some(chunk) = chunk else { return Ok(Buffered::Whole(body.freeze(), slot)) };
            body.extend_from_slice(&chunk);
            if body.len() > STREAM_ABOVE_BYTES && slot.is_none() {
                let free = timeout(MAX_WAIT, self.large.acquire(caller));
                match drive_while_waiting(&mut forwarder, free).await {
                    Ok(Ok(free)) => slot = Some(free),
                    Ok(Err(TooMany)) | Err(_) => break "too many large ones are held",
                }
            }
            if body.len() > MAX_BUFFERED_BYTES {
                break "it is too large";
            }
        };
        Ok(Buffered::Begun { bytes: body.freeze(), slot, rest: Box::new(response), forwarder, why })
    }

    /// The same with our signatures hidden.
    fn veiled(&self, pieces: Pieces) -> Pieces {
        let begin = (Some(pieces), Veil::new(self.intake.urls()));
        let veiled = unfold(begin, |(pieces, mut veil)| async move {
            let mut pieces = pieces?;
            loop {
                let passed = match pieces.next().await {
                    Some(Ok(piece)) => feed_in_turns(&mut veil, &piece).await,
                    Some(Err(error)) => return Some((Err(error), (None, veil))),
                    None => {
                        let rest = veil.finish();
                        return (!rest.is_empty()).then(|| (Ok(rest), (None, veil)));
                    }
                };
                match passed {
                    Ok(passed) if passed.is_empty() => {}
                    Ok(passed) => return Some((Ok(passed), (Some(pieces), veil))),
                    Err(Unclear) => return Some((Err(EgressError::Broken(Unclear.to_string())), (None, veil))),
                }
            }
        });
        veiled.boxed()
    }

    /// The head of an answer, without its length.
    pub(super) fn builder(&self, response: &Response) -> HttpResponseBuilder {
        let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut head = HttpResponse::build(status);
        for (name, value) in headers::returned(response.headers(), self.intake.urls()) {
            if name != CONTENT_LENGTH {
                head.append_header((name, value));
            }
        }
        head
    }
}

/// A body as the caller is to see it; `None` when it is that already.
fn changed(intake: &Intake, endpoint: Endpoint, body: &Bytes) -> Result<Option<Bytes>, Unclear> {
    let text = std::str::from_utf8(body).ok();
    let own = text.and_then(|text| restored_text(intake, endpoint, text)).map(Bytes::from);
    Ok(Veil::over(intake.urls(), own.as_ref().unwrap_or(body))?.or(own))
}

/// Looks through a piece of a stream, however large it is, while others have their turns.
async fn feed_in_turns(veil: &mut Veil, piece: &[u8]) -> Result<Bytes, Unclear> {
    if piece.len() <= TURN_BYTES {
        return veil.feed(piece);
    }
    let (mut passed, mut began) = (Vec::with_capacity(piece.len()), Instant::now());
    for part in piece.chunks(TURN_BYTES) {
        veil.feed_to(part, &mut passed)?;
        if began.elapsed() >= TURN {
            yield_now().await;
            began = Instant::now();
        }
    }
    Ok(passed.into())
}

/// Waits for one thing while a request's body goes on being sent.
async fn drive_while_waiting<T>(forwarder: &mut Option<BodyForwarder>, wanted: impl Future<Output = T>) -> T {
    let mut wanted = std::pin::pin!(wanted);
    std::future::poll_fn(|cx| {
        poll_forward(forwarder, cx);
        wanted.as_mut().poll(cx)
    })
    .await
}

/// An answer that is handed on as it comes.
fn streamed(
    mut head: HttpResponseBuilder,
    length: Option<u64>,
    pieces: Pieces,
    forwarder: Option<BodyForwarder>,
) -> HttpResponse {
    let body = ProxyBody { pieces, forwarder };
    match length {
        Some(0) => head.finish(),
        Some(length) => head.body(SizedStream::new(length, body)),
        // `streaming` would add a content type where the provider gave none.
        None => head.body(BodyStream::new(body)),
    }
}

/// A body that is held, with leave to do so until the last of it is sent.
fn slices(body: Bytes, slot: Option<Slot<CallerKey>>) -> Pieces {
    unfold((body, slot), |(mut body, slot)| async {
        let next = body.split_to(CHUNK_BYTES.min(body.len()));
        (!next.is_empty()).then(|| (Ok(next), (body, slot)))
    })
    .boxed()
}

/// An answer's body, which carries the request's over as well.
struct ProxyBody {
    pieces: Pieces,
    forwarder: Option<BodyForwarder>,
}

impl Stream for ProxyBody {
    type Item = Result<Bytes, EgressError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        poll_forward(&mut self.forwarder, cx);
        self.pieces.as_mut().poll_next(cx)
    }
}

/// 502: the provider's answer cannot be looked through, and may show what it must not.
pub(super) fn unreadable(why: &str) -> ApiError {
    tracing::warn!(why, "an answer of the provider is not passed on");
    let message = format!("the provider's answer cannot be passed on: {why}");
    ApiError::new(StatusCode::BAD_GATEWAY, "provider_unreadable", message)
}

/// What an answer's body is encoded as, if it is. Of transfer codings, `chunked` is undone where it is the last.
fn coding(headers: &HeaderMap) -> Option<String> {
    let mut codings = listed(headers, header::TRANSFER_ENCODING);
    codings.pop_if(|last| last == "chunked");
    codings.extend(listed(headers, header::CONTENT_ENCODING));
    codings.into_iter().find(|coding| !matches!(&**coding, "" | "identity"))
}

/// The items of a header that is a list, in lower case.
fn listed(headers: &HeaderMap, name: header::HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter();
    let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    values.flat_map(|value| value.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>()).collect()
}

/// Whether an answer is held: what says that it is JSON, and where jobs are told of, all that may be.
fn is_held(endpoint: Endpoint, headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence.ends_with("/json") || essence.ends_with("+json") {
        return true;
    }
    let length_changed =
        essence == "text/event-stream" || ["image/", "video/", "audio/"].iter().any(|of| essence.starts_with(of));
    endpoint.is_read() && endpoint != Endpoint::Create(Created::Events) && !length_changed
}
