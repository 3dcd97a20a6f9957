//! The HTTP side of the remote stores: time limits that follow the work, and answers that can be told apart.

use std::time::Duration;

use bytes::Bytes;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{ClientOptions, RetryConfig};
use reqwest::{Method, StatusCode};

use crate::domain::parse_duration;
use crate::http::{BodyError, read_body};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a remote store may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may be silent: before its answer begins, and between two pieces of a download.
    pub silence: Duration,
    /// How long it may take to put the parts of an upload together.
    pub completion: Duration,
    /// Bytes per second, above zero, below which an upload counts as stalled.
    pub min_speed: u64,
}

impl Default for Limits {
    /// Putting parts together can take S3 minutes
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>); and many share one uplink.
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), completion: Duration::from_secs(5 * 60), min_speed: 16 * 1024 }
    }
}

/// Answers to writes and errors are a few hundred bytes of XML, mostly less.
const MAX_ANSWER: usize = 64 * 1024;
/// A page of a listing has a thousand keys of at most 1,024 bytes, and some hundred bytes with each.
const MAX_LISTING: usize = 16 << 20;

/// The store refused a request for a reason that sending it again does not change. `code` is its own, as listed in
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>; empty when it gave none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("status {status} {code}")]
pub(super) struct S3Error {
    pub(super) status: u16,
    pub(super) code: String,
}

impl S3Error {
    /// Whether it is about who asks, and so about every request.
    pub(super) fn is_about_credentials(&self) -> bool {
        const CODES: [&str; 9] = [
            "AuthorizationHeaderMalformed",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidSecurity",
            "InvalidToken",
            "NotSignedUp",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
        ];
        matches!(self.status, 401 | 403) || CODES.contains(&self.code.as_str())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
struct NoResponse(Duration);

#[derive(Debug, thiserror::Error)]
#[error("an answer of more than {0} bytes")]
struct TooLong(usize);

/// The worker retries for hours by itself; here only what a dropped connection or a full queue costs.
pub(super) fn retries() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}

/// No limit on the whole of a request: the default, 30 s, ends long transfers that move.
pub(super) fn options() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT_TIMEOUT)
}

/// Makes the clients that `object_store` works with.
#[derive(Debug)]
pub(super) struct Connector(pub(super) Limits);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let insecure = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        let connect_timeout = options
            .get_config_value(&ClientConfigKey::ConnectTimeout)
            .and_then(|value| parse_duration(&value).ok())
            .unwrap_or(CONNECT_TIMEOUT);
        // A redirect's target would get a request signed for another host; a proxy is not asked for.
        let client = || {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .http1_only()
                .https_only(!insecure)
                .connect_timeout(connect_timeout)
        };
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| object_store::Error::Generic { store: "HTTP", source: Box::new(error) })
        };
        // reqwest's read timeout runs while a request is being sent, too, whatever moves: only for requests without
        // a body.
        let reads = built(client().read_timeout(self.0.silence))?;
        Ok(HttpClient::new(TimeoutClient { reads, writes: built(client())?, limits: self.0 }))
    }
}

#[derive(Debug)]
struct TimeoutClient {
    reads: reqwest::Client,
    writes: reqwest::Client,
    limits: Limits,
}

#[async_trait::async_trait]
impl HttpService for TimeoutClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let method = request.method().clone();
        if method == Method::GET || method == Method::HEAD {
            // `object_store` holds a listing's page as a whole; an object's bytes pass by.
            let is_listing = request.uri().query().is_some_and(|query| query.contains("list-type="));
            let answer = checked(self.reads.call(request).await?, method == Method::HEAD).await?;
            return if is_listing { page(answer, MAX_LISTING).await } else { Ok(answer) };
        }
        let body = request.body().content_length() as u64;
        let Limits { silence, completion, min_speed } = self.limits;
        let answer = if method == Method::POST && body > 0 { completion } else { silence };
        let limit = answer + Duration::from_secs(body / min_speed.max(1));
        let answered = async {
            let (parts, body) = checked(self.writes.call(request).await?, false).await?.into_parts();
            let (body, is_whole) = read(body, MAX_ANSWER).await?;
            if !is_whole {
                return Err(HttpError::new(HttpErrorKind::Decode, TooLong(MAX_ANSWER)));
            }
            match code(&body) {
                // S3 may find out only after it has sent 200; those two `object_store` tries again by itself.
                Some(code) if code != "InternalError" && code != "SlowDown" => {
                    Err(refused(parts.status, code.to_owned()))
                }
                _ => Ok(HttpResponse::from_parts(parts, body.into())),
            }
        };
        tokio::time::timeout(limit, answered)
            .await
            .unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, NoResponse(limit))))
    }
}

/// Passes on a success, and a failure that `object_store` has an error of its own for or tries again, with its body
/// cut down to the error code; makes a [`S3Error`] of any other.
async fn checked(response: HttpResponse, head: bool) -> Result<HttpResponse, HttpError> {
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let (body, _) = read(body, MAX_ANSWER).await?;
    let code = code(&body).unwrap_or_default().to_owned();
    let passed_on = match status {
        // A 404 that does not speak of the key may mean that the whole bucket is gone, or that this is no store.
        StatusCode::NOT_FOUND => head || code == "NoSuchKey",
        StatusCode::INSUFFICIENT_STORAGE => false,
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::CONFLICT
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS => true,
        _ => status.is_server_error() || status.is_redirection(),
    };
    if passed_on { Ok(HttpResponse::from_parts(parts, code.into())) } else { Err(refused(status, code)) }
}

fn refused(status: StatusCode, code: String) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, S3Error { status: status.as_u16(), code })
}

/// A page of a listing with its body read, which is an error above `most` bytes.
async fn page(answer: HttpResponse, most: usize) -> Result<HttpResponse, HttpError> {
    let (parts, body) = answer.into_parts();
    match read(body, most).await? {
        (page, true) => Ok(HttpResponse::from_parts(parts, without_odd_keys(&page).into())),
        (_, false) => Err(HttpError::new(HttpErrorKind::Decode, TooLong(most))),
    }
}

/// The body, and whether that is all of it; reading stops at `most` bytes.
async fn read(body: HttpResponseBody, most: usize) -> Result<(Bytes, bool), HttpError> {
    match read_body(body.bytes_stream(), most).await {
        Ok(whole) => Ok((whole, true)),
        Err(BodyError::TooLarge(begun)) => Ok((begun, false)),
        Err(BodyError::Broken(error)) => Err(error),
    }
}

/// A page of a listing without the objects whose keys `object_store` knows no path for, such as `a//b`: it would give the
/// whole listing up for one of them.
fn without_odd_keys(page: &Bytes) -> Bytes {
    const ENTRY: &str = "<Contents>";
    const END: &str = "</Contents>";
    let Ok(text) = std::str::from_utf8(page) else { return page.clone() };
    let is_odd = |entry: &str| {
        let key = entry.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>"));
        key.is_some_and(|(key, _)| object_store::path::Path::parse(unescaped(key)).is_err())
    };
    let mut entries = text.split(ENTRY);
    let mut kept = entries.next().unwrap_or_default().to_owned();
    for entry in entries {
        match entry.split_once(END) {
            Some((object, rest)) if is_odd(object) => kept.push_str(rest),
            _ => {
                kept.push_str(ENTRY);
                kept.push_str(entry);
            }
        }
    }
    if kept.len() == text.len() { page.clone() } else { kept.into() }
}

/// A text of XML without its escapes, as far as they matter: what else is escaped stays so, and is odd in either form or none.
fn unescaped(text: &str) -> String {
    let numbered = |number: u8| [format!("&#{number};"), format!("&#x{number:x};"), format!("&#x{number:X};")];
    let controls = (0..32).chain([127]).map(|number| (numbered(number), char::from(number)));
    let mut text = text.to_owned();
    if text.contains("&#") {
        for (forms, char) in controls.chain([(numbered(b'/'), '/'), (numbered(b'.'), '.')]) {
            for form in forms {
                text = text.replace(&form, &char.to_string());
            }
        }
    }
    text
}

/// The error code in an answer of S3's or GCS's XML API.
fn code(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_an_answer_is_taken() {
        let answer = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>secret</Message></Error>";
        assert_eq!(code(answer), Some("NoSuchKey"));
        for other in ["", "<html>404</html>", "<Code>", "<Code>a b</Code>", "<Code>\u{1b}[31m</Code>"] {
            assert_eq!(code(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn objects_with_odd_keys_are_left_out_of_a_listing() {
        let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>3</Size></Contents>");
        let page = |keys: &[&str]| {
            let entries: String = keys.iter().map(|key| entry(key)).collect();
            Bytes::from(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"))
        };
        let good = ["a/b", "_journal/", "a&amp;b", "a b", "ä"];
        assert_eq!(without_odd_keys(&page(&good)), page(&good));
        let odd = ["a//b", "a/./b", "..", "a&#xA;b", "a&#10;b", "a/&#x2E;/b"];
        let mixed: Vec<_> = good.iter().chain(&odd).copied().collect();
        assert_eq!(without_odd_keys(&page(&mixed)), page(&good));
        for other in ["", "<Contents>", "<Contents><Key>a//b", "no xml \u{1}"] {
            assert_eq!(without_odd_keys(&Bytes::from(other)), other.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_missing_object_is_told_from_a_missing_bucket() {
        let answer = |status: StatusCode, body: &str| {
            let (mut parts, body) = HttpResponse::new(body.to_owned().into()).into_parts();
            parts.status = status;
            HttpResponse::from_parts(parts, body)
        };
        let missing = "<Error><Code>NoSuchKey</Code></Error>";
        assert!(checked(answer(StatusCode::NOT_FOUND, missing), false).await.is_ok());
        assert!(checked(answer(StatusCode::NOT_FOUND, ""), true).await.is_ok());
        for other in ["<Error><Code>NoSuchBucket</Code></Error>", "<html>nothing here</html>", ""] {
            assert!(checked(answer(StatusCode::NOT_FOUND, other), false).await.is_err(), "{other}");
        }
        assert!(checked(answer(StatusCode::BAD_REQUEST, missing), false).await.is_err());
        assert!(checked(answer(StatusCode::SERVICE_UNAVAILABLE, missing), false).await.is_ok());
    }
}
