//! Thumbnails: made when they are first asked for, one at a time, and kept in the bucket. Whoever removes them only has them
//! made again. Archiving knows nothing of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::error::BlockingError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use actix_web::web::{self, Data, Path, Payload};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::auth::Caller;
use super::super::{Api, ApiError};
use super::digest;
use crate::bucket::{BucketError, ObjectKey};
use crate::domain::Digest;
use crate::http::{BodyError, ErrorBody, read_body};
use crate::state::MediaRecord;
use crate::thumbnail::{self, MAX_SOURCE_BYTES};

/// The largest thumbnail, in bytes.
const MAX_BYTES: u64 = 256 << 10;
/// How long one may wait for others to be made.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same as [`thumbnail::make`] makes.
const CONTENT_TYPE: &str = "image/jpeg";

/// What is being made, and of what nothing can be.
pub(in crate::api) struct Thumbnails {
    /// One at a time: so its memory is bounded.
    turn: Arc<Semaphore>,
    impossible: Mutex<HashSet<Digest>>,
}

impl Default for Thumbnails {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), impossible: Mutex::default() }
    }
}

impl Thumbnails {
    /// So many are remembered; then all are forgotten.
    const MAX_IMPOSSIBLE: usize = 4096;

    fn set_impossible(&self, sha256: Digest) {
        let mut impossible = self.impossible.lock();
        if impossible.len() >= Self::MAX_IMPOSSIBLE {
            impossible.clear();
        }
        impossible.insert(sha256);
    }

    fn is_impossible(&self, sha256: &Digest) -> bool {
        self.impossible.lock().contains(sha256)
    }
}

/// A small JPEG of an image, or of a video where a page has kept one.
#[utoipa::path(
    get, path = "/api/v1/media/{sha256}/thumbnail", tag = "media", params(("sha256" = String, Path)),
    operation_id = "show_thumbnail",
    responses(
        (status = 200, description = "at most 480 pixels across and down", body = [u8], content_type = "image/jpeg"),
        (status = 204, description = "there is none of these bytes, or not now"),
        (status = 404, description = "no such media", body = ErrorBody),
        (status = 503, description = "the storage cannot be read", body = ErrorBody),
    )
)]
pub(in crate::api) async fn show(
    api: Data<Api>,
    caller: Caller,
    sha256: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let sha256 = digest(&sha256)?;
    let media = api.read(move |state| state.media(&sha256)).await?.ok_or_else(|| ApiError::not_found("media"))?;
    Ok(match find_or_make(&api, &caller, sha256, &media).await? {
        Some(jpeg) => HttpResponse::Ok()
            .content_type(CONTENT_TYPE)
            .insert_header((CACHE_CONTROL, "private, max-age=86400"))
            .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
            .body(jpeg),
        None => HttpResponse::NoContent().insert_header((CACHE_CONTROL, "private, max-age=10")).finish(),
    })
}

async fn find_or_make(
    api: &Api,
    caller: &Caller,
    sha256: Digest,
    media: &MediaRecord,
) -> Result<Option<Bytes>, ApiError> {
    let key = ObjectKey::thumbnail(&sha256);
    if let Some(kept) = find(api, caller, &key).await? {
        return Ok(Some(kept));
    }
    let thumbnails = &api.inner.thumbnails;
    if !thumbnail::is_possible(&media.content_type)
        || media.bytes > MAX_SOURCE_BYTES
        || thumbnails.is_impossible(&sha256)
    {
        return Ok(None);
    }
    let turn = tokio::time::timeout(PATIENCE, thumbnails.turn.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Ok(None) };
    // Somebody else may have asked for it, too.
    if let Some(kept) = find(api, caller, &key).await? {
        return Ok(Some(kept));
    }
    let Ok(object) = media.key.parse::<ObjectKey>() else { return Ok(None) };
    let source = match api.inner.bucket.read_whole(&object, MAX_SOURCE_BYTES).await {
        Ok(source) => source,
        Err(BucketError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(unread(&error)),
    };
    keep_made(api, sha256, &key, source, turn).await
}

async fn find(api: &Api, caller: &Caller, key: &ObjectKey) -> Result<Option<Bytes>, ApiError> {
    let _place = api.inner.places.read(&caller.name).await?;
    match api.inner.bucket.read_whole(key, MAX_BYTES).await {
        Ok(kept) => Ok(Some(kept)),
        Err(BucketError::NotFound(_) | BucketError::TooLarge(..)) => Ok(None),
        Err(error) => Err(unread(&error)),
    }
}

/// Makes a thumbnail of `source` and keeps it, in its turn.
async fn keep_made(
    api: &Api,
    sha256: Digest,
    key: &ObjectKey,
    source: Bytes,
    turn: OwnedSemaphorePermit,
) -> Result<Option<Bytes>, ApiError> {
    // Whatever the decoder does, it does to a thread that only this request waits for.
    let (jpeg, _turn) = match block_in_turn(turn, move || thumbnail::make(&source)).await {
        Ok((Ok(jpeg), turn)) => (Bytes::from(jpeg), turn),
        Ok((Err(error), _)) => {
            tracing::debug!(%sha256, %error, "no thumbnail can be made");
            api.inner.thumbnails.set_impossible(sha256);
            return Ok(None);
        }
        Err(_) => {
            tracing::warn!(%sha256, "making a thumbnail came upon a defect");
            api.inner.thumbnails.set_impossible(sha256);
            return Ok(None);
        }
    };
    // Who cannot write can still look.
    if let Err(error) = api.inner.bucket.put(key, vec![jpeg.clone()], CONTENT_TYPE).await {
        tracing::warn!(%key, %error, "a thumbnail could not be kept");
    }
    Ok(Some(jpeg))
}

/// Does `work` on a thread that may block. That goes on when the request is gone, and its turn with it.
async fn block_in_turn<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit), BlockingError> {
    web::block(move || (work(), turn)).await
}

fn unread(error: &BucketError) -> ApiError {
    tracing::warn!(%error, "a thumbnail cannot be read");
    ApiError::unavailable("the storage cannot be read right now")
}

/// Keeps a still of a video, such as a page shows of it, where there is none. It is decoded and written anew.
#[utoipa::path(
    post, path = "/api/v1/media/{sha256}/thumbnail", tag = "media", params(("sha256" = String, Path)),
    operation_id = "keep_thumbnail",
    request_body(content = Vec<u8>, content_type = "image/jpeg", description = "at most 256 KiB"),
    responses(
        (status = 204, description = "kept, or there is one"),
        (status = 404, description = "no such video", body = ErrorBody),
        (status = 400, description = "the body did not arrive whole", body = ErrorBody),
        (status = 413, description = "more than 256 KiB", body = ErrorBody),
        (status = 422, description = "no image", body = ErrorBody),
        (status = 503, description = "the storage cannot be read", body = ErrorBody),
    )
)]
pub(in crate::api) async fn keep(
    api: Data<Api>,
    caller: Caller,
    sha256: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let sha256 = digest(&sha256)?;
    let media = api.read(move |state| state.media(&sha256)).await?;
    let is_video = media.is_some_and(|media| media.content_type.starts_with("video/"));
    if !is_video {
        return Err(ApiError::not_found("video"));
    }
    let source = tokio::time::timeout(PATIENCE, read(payload)).await;
    let source = source.map_err(|_| ApiError::invalid("the body did not arrive within ten seconds"))??;
    let key = ObjectKey::thumbnail(&sha256);
    let turn = tokio::time::timeout(PATIENCE, api.inner.thumbnails.turn.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(ApiError::unavailable("other thumbnails are being made")) };
    if find(&api, &caller, &key).await?.is_none() && keep_made(&api, sha256, &key, source, turn).await?.is_none() {
        let message = "expected a JPEG, PNG or WebP image";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message));
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn read(payload: Payload) -> Result<Bytes, ApiError> {
    read_body(payload, MAX_BYTES as usize).await.map_err(|error| match error {
        BodyError::TooLarge(_) => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "a still has at most 256 KiB")
        }
        BodyError::Broken(error) => ApiError::invalid(format!("the body did not arrive whole: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_lasts_until_the_work_ends_although_its_request_is_gone() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = turns.clone().acquire_owned().await.unwrap();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel();
        let work = move || {
            begin.send(()).unwrap();
            ended.recv().unwrap();
        };
        tokio::select! {
            _ = block_in_turn(turn, work) => panic!("it has not ended"),
            begun = begun => begun.unwrap(),
        }
        assert_eq!(turns.available_permits(), 0);
        end.send(()).unwrap();
        drop(turns.acquire().await.unwrap());
    }
}
