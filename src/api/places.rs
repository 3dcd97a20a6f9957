//! How many answers may be under way that cost more than their connection: an open object, much memory, time without an
//! end. Each token has its share of them, so that one whose answers are read slowly, or not at all, uses up neither the
//! descriptors nor the memory that others need.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_web::ResponseError;
use actix_web::body::{BodySize, BoxBody, MessageBody, SizedStream};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use rustix::process::{Resource, getrlimit};
use tokio::time::timeout;

use super::{Api, ApiError};
use crate::intake::{Slot, Slots};

/// The most objects that are sent at a time; where there are few descriptors, a quarter of them.
const MAX_SENT: u64 = 256;
/// The most objects that are looked at, or read as a whole, at a time.
const MAX_READ: usize = 32;
/// The most large answers that are in memory at a time.
const MAX_LARGE: usize = 256;
/// The most event streams.
const MAX_STREAMS: usize = 256;
/// How many may wait for a place of one kind; half of them with one token.
const MAX_WAITING: usize = 1024;
/// How long one may wait.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// When it is worth asking again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// An answer in memory of so many bytes is a large one.
const LARGE_BYTES: u64 = 64 << 10;
/// The most that is handed over at a time, in bytes: actix-web copies whatever it is handed, and sends that later.
const MAX_PIECE_BYTES: usize = 32 << 10;

/// A place among the answers of a kind, until it is dropped.
pub(super) type Place = Slot<Arc<str>>;

/// The places of each kind, by the name of the token.
pub(super) struct Places {
    sent: Slots<Arc<str>>,
    read: Slots<Arc<str>>,
    large: Slots<Arc<str>>,
    streams: Slots<Arc<str>>,
}

impl Default for Places {
    fn default() -> Self {
        // The service raises its limit to the highest that it may have.
        let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        Self {
            sent: Slots::new((descriptors / 4).min(MAX_SENT) as usize, MAX_WAITING),
            read: Slots::new(MAX_READ, MAX_WAITING),
            large: Slots::new(MAX_LARGE, MAX_WAITING),
            // None ends soon, so nobody waits for one.
            streams: Slots::new(MAX_STREAMS, 0),
        }
    }
}

impl Places {
    /// A place for sending objects, one after the other, as fast as they are taken.
    pub(super) async fn send(&self, token: &Arc<str>) -> Result<Place, ApiError> {
        take(&self.sent, token, "files are being sent").await
    }

    /// A place for looking at an object, or reading it as a whole, as fast as the storage gives it: when none becomes free, that
    /// is slow.
    pub(super) async fn read(&self, token: &Arc<str>) -> Result<Place, ApiError> {
        match timeout(MAX_WAIT, self.read.acquire(token.clone())).await {
            Ok(place) => place.map_err(|_| too_many("files are being read")),
            Err(_) => Err(ApiError::unavailable("the storage cannot be read right now")),
        }
    }

    /// A place for an event stream.
    pub(super) async fn stream(&self, token: &Arc<str>) -> Result<Place, ApiError> {
        take(&self.streams, token, "event streams are open").await
    }
}

async fn take(slots: &Slots<Arc<str>>, token: &Arc<str>, what: &str) -> Result<Place, ApiError> {
    if let Ok(Ok(place)) = timeout(MAX_WAIT, slots.acquire(token.clone())).await {
        return Ok(place);
    }
    Err(too_many(what))
}

fn too_many(what: &str) -> ApiError {
    let message = format!("too many {what} for this token already");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_answers", message).with_retry_after(RETRY_AFTER)
}

/// The answer; when it is large and in memory, it has a place until all of it is handed over. What is read while it is
/// sent took one before.
pub(super) async fn place_if_large(response: ServiceResponse<BoxBody>, token: &Arc<str>) -> ServiceResponse<BoxBody> {
    if !matches!(response.response().body().size(), BodySize::Sized(LARGE_BYTES..)) {
        return response;
    }
    let Some(api) = response.request().app_data::<Data<Api>>().cloned() else { return response };
    let (request, response) = response.into_parts();
    let (head, body) = response.into_parts();
    let body = match body.try_into_bytes() {
        Err(stream) => stream,
        Ok(bytes) => match take(&api.inner.places.large, token, "large answers are being sent").await {
            Ok(place) => {
                let (length, whole) = (bytes.len() as u64, stream::once(ready(Ok::<_, Infallible>(bytes))));
                BoxBody::new(SizedStream::new(length, in_pieces(whole, place)))
            }
            Err(refused) => return ServiceResponse::new(request, refused.error_response()),
        },
    };
    ServiceResponse::new(request, head.set_body(body))
}

/// The same bytes, in pieces that cost little while nobody takes them. They keep their place until they are dropped.
pub(super) fn in_pieces<E>(
    chunks: impl Stream<Item = Result<Bytes, E>>,
    place: Place,
) -> impl Stream<Item = Result<Bytes, E>> {
    let cut = move |chunk: Bytes| {
        let _ = &place;
        stream::iter(pieces(chunk).map(Ok::<Bytes, E>))
    };
    chunks.map_ok(cut).try_flatten()
}

fn pieces(mut chunk: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = chunk.len().min(MAX_PIECE_BYTES);
        (length > 0).then(|| chunk.split_to(length))
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn tokens() -> (Arc<str>, Arc<str>) {
        ("one".into(), "other".into())
    }

    #[tokio::test]
    async fn the_event_streams_of_one_token_leave_some_to_others() {
        let (places, (one, other)) = (Places::default(), tokens());
        let mut open = Vec::new();
        while let Ok(place) = places.stream(&one).await {
            open.push(place);
        }
        assert_eq!(open.len(), MAX_STREAMS * 3 / 4);
        places.stream(&other).await.unwrap();
        open.pop();
        places.stream(&one).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn more_files_than_may_be_open_are_waited_for_and_those_of_others_are_not() {
        let (places, (one, other)) = (Places::default(), tokens());
        let mut open = Vec::new();
        while let Some(place) = places.send(&one).now_or_never() {
            open.push(place.unwrap());
        }
        assert!(open.len() <= MAX_SENT as usize * 3 / 4, "{}", open.len());
        places.send(&other).await.unwrap();
        let refused = places.send(&one).await.unwrap_err();
        assert_eq!(refused.status_code(), StatusCode::TOO_MANY_REQUESTS);
        let (place, ()) = tokio::join!(places.send(&one), async { drop(open.pop()) });
        place.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_storage_gives_nothing_whoever_reads_is_told_so() {
        let (places, (one, _)) = (Places::default(), tokens());
        let _held: Vec<_> = std::iter::from_fn(|| places.read(&one).now_or_never()?.ok()).collect();
        let refused = places.read(&one).await.unwrap_err();
        assert_eq!(refused.status_code(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn bytes_come_whole_in_small_pieces_and_keep_their_place_until_the_last() {
        let (places, (one, _)) = (Places::default(), tokens());
        let place = places.stream(&one).await.unwrap();
        let held = std::iter::from_fn(|| places.stream(&one).now_or_never()?.ok()).collect::<Vec<_>>();
        let chunk = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        let chunks = [Bytes::from_static(b"first"), Bytes::new(), chunk.clone()];
        let chunks = stream::iter(chunks.map(Ok::<_, Infallible>));
        let mut cut = Box::pin(in_pieces(chunks, place));
        let mut whole = Vec::new();
        while let Some(piece) = cut.try_next().await.unwrap() {
            assert!(piece.len() <= MAX_PIECE_BYTES, "{}", piece.len());
            whole.extend_from_slice(&piece);
        }
        assert!(whole == [&b"first"[..], &chunk[..]].concat());
        assert!(places.stream(&one).await.is_err());
        drop(cut);
        places.stream(&one).await.unwrap();
        drop(held);
    }
}
