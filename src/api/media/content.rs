use std::ops::Range;
use std::time::{Duration, SystemTime};

use actix_web::body::SizedStream;
use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, HttpDate, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, LOCATION, RANGE,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::auth::Caller;
use super::super::places::in_pieces;
use super::super::{Api, ApiError, extract};
use super::digest;
use super::range::{self, RequestedRange};
use crate::bucket::{BucketError, ObjectKey};
use crate::http::ErrorBody;
use crate::state::MediaRecord;

/// How long a link into the storage is good.
const LINK: Duration = Duration::from_secs(15 * 60);

/// How the bytes are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ContentQuery {
    /// Whether a link into the storage will do, where it has such.
    #[param(value_type = Option<bool>)]
    redirect: Option<String>,
}

/// The bytes with a digest.
///
/// HEAD answers the same without them. A single `Range` is understood, with `If-Range`; so are `If-Match`, `If-None-Match`,
/// `If-Modified-Since` and `If-Unmodified-Since`.
#[utoipa::path(
    get, path = "/api/v1/media/{sha256}/content", tag = "media", params(("sha256" = String, Path), ContentQuery),
    responses(
        (status = 200, description = "all of them, under their real type", body = [u8], content_type = "*/*"),
        (status = 206, description = "the range asked for", body = [u8], content_type = "*/*"),
        (status = 304, description = "the caller has them"),
        (status = 307, description = "where the storage gives them, for 15 minutes"),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 404, description = "no such media, or the object is gone", body = ErrorBody),
        (status = 412, description = "the caller wants other bytes, or older ones", body = ErrorBody),
        (status = 416, description = "the range begins behind the end", body = ErrorBody),
        (status = 503, description = "the storage cannot be read", body = ErrorBody),
    )
)]
pub(in crate::api) async fn content(
    request: HttpRequest,
    api: Data<Api>,
    caller: Caller,
    sha256: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let redirect = wants_redirect(&request)?;
    let sha256 = digest(&sha256)?;
    let media = api.read(move |state| state.media(&sha256)).await?.ok_or_else(|| ApiError::not_found("media"))?;
    let key: ObjectKey = media.key.parse().map_err(|_| gone(&media.key))?;
    let disposition = disposition(&media, &key);
    let is_head = request.method() == Method::HEAD;
    let file = File { etag: format!("\"{sha256}\""), disposition, media, key };
    if !file.is_wanted(&request) {
        return Err(ApiError::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition_failed",
            "the bytes are not those wanted",
        ));
    }
    // A link is signed for GET.
    if redirect && !is_head {
        let link = api.inner.bucket.presign(&file.key, LINK, Some(&file.disposition)).await;
        if let Some(link) = link.map_err(|error| unread(&error))? {
            return Ok(HttpResponse::TemporaryRedirect().insert_header((LOCATION, link.as_str())).finish());
        }
    }
    if file.is_had(&request) {
        return Ok(file.head(StatusCode::NOT_MODIFIED).finish());
    }
    if is_head { file.described(&api, &caller).await } else { file.sent(&api, &caller, &request).await }
}

fn wants_redirect(request: &HttpRequest) -> Result<bool, ApiError> {
    let ContentQuery { redirect } = extract::query(request)?;
    match extract::non_empty(redirect.as_deref()) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ApiError::invalid("redirect: expected true or false")),
    }
}

/// What is sent, and how it is described.
struct File {
    /// Its digest in quotes: strong, since no other bytes have it.
    etag: String,
    disposition: String,
    media: MediaRecord,
    key: ObjectKey,
}

impl File {
    /// Whether the caller has them, as its conditions tell.
    fn is_had(&self, request: &HttpRequest) -> bool {
        match header(request, &IF_NONE_MATCH) {
            Some(tags) => self.is_among(tags),
            None => date(request, &IF_MODIFIED_SINCE).is_some_and(|date| self.stored_at() <= date),
        }
    }

    /// Whether the caller would have them, as its conditions tell.
    fn is_wanted(&self, request: &HttpRequest) -> bool {
        match header(request, &IF_MATCH) {
            Some(tags) => tags.trim() == "*" || tags.split(',').any(|tag| tag.trim() == self.etag),
            None => date(request, &IF_UNMODIFIED_SINCE).is_none_or(|date| self.stored_at() <= date),
        }
    }

    /// To the second, as dates are in headers.
    fn stored_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.media.first_stored_at.millis() / 1000)
    }

    fn is_among(&self, tags: &str) -> bool {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/") == self.etag;
        tags.trim() == "*" || tags.split(',').any(weak)
    }

    fn head(&self, status: StatusCode) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(status);
        response
            .insert_header((ETAG, self.etag.as_str()))
            .insert_header((LAST_MODIFIED, HttpDate::from(self.stored_at())))
            .insert_header((ACCEPT_RANGES, "bytes"))
            // To be kept, and asked for again each time: the token may have been taken away.
            .insert_header((CACHE_CONTROL, "private, no-cache"))
            .insert_header((CONTENT_DISPOSITION, self.disposition.as_str()))
            .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"));
        if status != StatusCode::NOT_MODIFIED {
            let octets = HeaderValue::from_static("application/octet-stream");
            let content_type = HeaderValue::from_str(&self.media.content_type).unwrap_or(octets);
            response.insert_header((CONTENT_TYPE, content_type));
        }
        response
    }

    /// The answer to HEAD.
    async fn described(&self, api: &Api, caller: &Caller) -> Result<HttpResponse, ApiError> {
        let _place = api.inner.places.read(&caller.name).await?;
        let found = api.inner.bucket.size(&self.key).await.map_err(|error| unread(&error))?;
        found.ok_or_else(|| gone(&self.media.key))?;
        let nothing = stream::empty::<Result<bytes::Bytes, BucketError>>();
        Ok(self.head(StatusCode::OK).body(SizedStream::new(self.media.bytes, nothing)))
    }

    /// The answer to GET.
    async fn sent(&self, api: &Api, caller: &Caller, request: &HttpRequest) -> Result<HttpResponse, ApiError> {
        let length = self.media.bytes;
        // A date never matches: seconds are no proof.
        let is_same = header(request, &IF_RANGE).is_none_or(|tag| tag.trim() == self.etag);
        let asked = header(request, &RANGE).filter(|_| is_same);
        let (status, part) = match asked.map_or(RequestedRange::Whole, |asked| range::read(asked, length)) {
            RequestedRange::Whole => (StatusCode::OK, 0..length),
            RequestedRange::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
            RequestedRange::Unsatisfiable => return Ok(unsatisfiable(length)),
        };
        let mut response = self.head(status);
        if status == StatusCode::PARTIAL_CONTENT {
            response.insert_header((CONTENT_RANGE, format!("bytes {}-{}/{length}", part.start, part.end - 1)));
        }
        Ok(response.body(self.read(api, caller, part).await?))
    }

    /// Reads as fast as the caller takes it. What ends too early ends the connection: the length is promised.
    async fn read(
        &self,
        api: &Api,
        caller: &Caller,
        part: Range<u64>,
    ) -> Result<SizedStream<impl futures_util::Stream<Item = Result<bytes::Bytes, BucketError>> + 'static>, ApiError>
    {
        let place = api.inner.places.send(&caller.name).await?;
        let length = part.end - part.start;
        let bytes = match part.is_empty() {
            true => stream::empty().boxed(),
            false => match api.inner.bucket.read(&self.key, Some(part)).await {
                Ok(bytes) => bytes,
                Err(BucketError::NotFound(_) | BucketError::InvalidRange(_)) => return Err(gone(&self.media.key)),
                Err(error) => return Err(unread(&error)),
            },
        };
        let key = self.key.clone();
        let told = bytes.inspect_err(move |error| tracing::warn!(%key, %error, "an object could not be sent whole"));
        Ok(SizedStream::new(length, in_pieces(told, place)))
    }
}

fn header<'a>(request: &'a HttpRequest, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// A date that is none is no condition.
fn date(request: &HttpRequest, name: &HeaderName) -> Option<SystemTime> {
    Some(header(request, name)?.parse::<HttpDate>().ok()?.into())
}

/// The types that a browser may show in its own window, because none of them can hold a script. Any other is only saved.
const SHOWN: [&str; 42] = [
    "audio/3gpp",
    "audio/aac",
    "audio/aiff",
    "audio/amr",
    "audio/basic",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "audio/vnd.wave",
    "audio/wav",
    "audio/wave",
    "audio/webm",
    "audio/x-aiff",
    "audio/x-flac",
    "audio/x-m4a",
    "audio/x-matroska",
    "audio/x-wav",
    "image/apng",
    "image/avif",
    "image/avif-sequence",
    "image/bmp",
    "image/gif",
    "image/heic",
    "image/heic-sequence",
    "image/heif",
    "image/heif-sequence",
    "image/jp2",
    "image/jpeg",
    "image/jxl",
    "image/png",
    "image/tiff",
    "image/vnd.microsoft.icon",
    "image/webp",
    "image/x-icon",
    "video/3gpp",
    "video/mp4",
    "video/ogg",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
];

/// How a browser shows it. What can hold a script is only ever saved.
fn disposition(media: &MediaRecord, key: &ObjectKey) -> String {
    let essence = media.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let shown = SHOWN.contains(&essence.as_str());
    // A key has no character that would need escaping here.
    format!("{}; filename=\"{}\"", if shown { "inline" } else { "attachment" }, key.file_name())
}

fn unsatisfiable(length: u64) -> HttpResponse {
    let message = format!("expected a range that begins before byte {length}");
    let problem = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message);
    let mut response = problem.error_response();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

fn gone(key: &str) -> ApiError {
    tracing::error!(key, "an object that the index names is not in the bucket");
    ApiError::new(StatusCode::NOT_FOUND, "object_missing", "the object is not in the bucket any more, or is damaged")
}

fn unread(error: &BucketError) -> ApiError {
    tracing::warn!(%error, "the storage cannot be read");
    ApiError::unavailable("the storage cannot be read right now")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn only_what_holds_no_script_is_shown() {
        let of = |content_type: &str| {
            let key = "a/b/clip(1).x";
            let (content_type, first_stored_at) = (content_type.to_owned(), Timestamp::default());
            let media = MediaRecord { bytes: 1, content_type, key: key.to_owned(), first_stored_at, position: 0 };
            disposition(&media, &key.parse().unwrap())
        };
        for shown in ["video/mp4", "image/png", "audio/mpeg", "IMAGE/JPEG; q=1"] {
            assert_eq!(of(shown), "inline; filename=\"clip(1).x\"", "{shown}");
        }
        for saved in [
            "image/svg+xml",
            "Image/SVG+xml; charset=utf-8",
            "image/x+xml",
            "video/foo+xml",
            "audio/xml",
            "image/svg",
            "text/html",
            "application/pdf",
            "",
            "video",
        ] {
            assert!(of(saved).starts_with("attachment"), "{saved}");
        }
    }
}
