use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::FetchError;
use super::body_hashes::Declared;
use crate::egress::Response;
use crate::egress::header::{self, HeaderMap, HeaderValue};
use crate::http::retry_after;

/// The longest wait a server is obeyed in.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What a server said of the thing under a URL: what its parts are recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) length: Option<u64>,
    pub(super) content_type: Option<String>,
    /// Only a strong one: a weak one (RFC 9110, 8.8.1) does not promise the same bytes.
    pub(super) etag: Option<HeaderValue>,
    pub(super) declared: Declared,
    pub(super) ranges: Option<bool>,
}

impl Entity {
    /// Reads the head of an answer to a request for the whole.
    pub(super) fn whole(response: &Response) -> Result<Self, FetchError> {
        let length = match response.status().as_u16() {
            // A proxy that changes what it passes on, and says so, has 203 for it.
            200 | 203 => response.content_length(),
            // Some answer with a range nobody asked for. It is the whole if it has the first byte and the last.
            206 => match text(response.headers(), "content-range").and_then(ContentRange::parse) {
                Some(range) if range.is_whole() => Some(range.total),
                _ => return Err(status_error(response)),
            },
            _ => return Err(status_error(response)),
        };
        refuse_encoding(response.headers())?;
        Ok(Self::of_headers(response.headers(), length))
    }

    pub(super) fn of_headers(headers: &HeaderMap, length: Option<u64>) -> Self {
        Self {
            length,
            content_type: text(headers, "content-type").map(str::to_owned),
            etag: strong_etag(headers),
            declared: declared(headers),
            ranges: text(headers, "accept-ranges").map(|units| units.trim().eq_ignore_ascii_case("bytes")),
        }
    }

    /// Whether a rest can be asked for and be known to be of the same entity: by its strong ETag, or at the end by
    /// its checksum.
    pub(super) fn is_resumable(&self) -> bool {
        match self.ranges {
            Some(false) => false,
            Some(true) => self.etag.is_some() || self.declared.any(),
            None => self.etag.is_some(),
        }
    }

    /// The headers that ask for what follows `offset`.
    pub(super) fn rest(&self, offset: u64) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(&format!("bytes={offset}-")).ok()?);
        if let Some(etag) = &self.etag {
            headers.insert(header::IF_RANGE, etag.clone());
        }
        Some(headers)
    }

    /// Checks that `response` goes on with this entity at `offset`, and learns its length if it was unknown.
    pub(super) fn continue_at(&mut self, offset: u64, response: &Response) -> Result<(), FetchError> {
        match response.status().as_u16() {
            206 => {}
            // The whole (no longer the same, or ranges are unknown), a failed precondition, a range beyond the end.
            200 | 412 | 416 => return Err(FetchError::Changed),
            _ => return Err(status_error(response)),
        }
        let headers = response.headers();
        refuse_encoding(headers)?;
        let range = text(headers, "content-range").and_then(ContentRange::parse).ok_or(FetchError::Changed)?;
        let same_crc64 = match (declared(headers).crc64, self.declared.crc64) {
            (Some(now), Some(before)) => now == before,
            _ => true,
        };
        let same = range.first == offset
            && self.length.is_none_or(|length| length == range.total)
            && (self.etag.is_none() || self.etag == strong_etag(headers))
            && same_crc64;
        if !same {
            return Err(FetchError::Changed);
        }
        self.length = Some(range.total);
        Ok(())
    }
}

/// `Content-Range: bytes first-last/total`. A range of an unknown total is not read: its end would prove nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte of the part.
    pub first: u64,
    /// The last byte of it.
    pub last: u64,
    /// The bytes of the whole; more than `last`.
    pub total: u64,
}

impl ContentRange {
    /// Reads the header's value. `None` when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, total) = (number(first)?, number(last)?, number(total)?);
        (unit.eq_ignore_ascii_case("bytes") && first <= last && last < total).then_some(Self { first, last, total })
    }

    /// Whether it is no part but all there is.
    pub fn is_whole(&self) -> bool {
        self.first == 0 && self.last + 1 == self.total
    }
}

/// Digits alone: `str::parse` would take a sign too.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(header::ETAG)?;
    let bytes = value.as_bytes();
    (bytes.len() >= 2 && bytes.starts_with(b"\"") && bytes.ends_with(b"\"")).then(|| value.clone())
}

/// What is no checksum by its form declares none.
fn declared(headers: &HeaderMap) -> Declared {
    let md5 = text(headers, "content-md5").and_then(|value| STANDARD.decode(value.trim()).ok()?.try_into().ok());
    Declared { md5, crc64: text(headers, "x-oss-hash-crc64ecma").and_then(|value| number(value.trim())) }
}

/// Refuses what would have to be decoded. Many servers write there what is no encoding of the content: a character set, the
/// framing of an upload, a word for none.
fn refuse_encoding(headers: &HeaderMap) -> Result<(), FetchError> {
    const REAL: [&str; 13] = [
        "gzip",
        "x-gzip",
        "deflate",
        "br",
        "zstd",
        "compress",
        "x-compress",
        "dcb",
        "dcz",
        "exi",
        "pack200-gzip",
        "bzip2",
        "xz",
    ];
    let is_real = |value: &HeaderValue| {
        let mut encodings = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        encodings.any(|encoding| REAL.iter().any(|real| encoding.eq_ignore_ascii_case(real.as_bytes())))
    };
    if headers.get_all(header::CONTENT_ENCODING).iter().any(is_real) {
        Err(FetchError::ContentEncoding)
    } else {
        Ok(())
    }
}

fn status_error(response: &Response) -> FetchError {
    FetchError::Status { status: response.status(), retry_after: retry_after(response.headers(), MAX_RETRY_AFTER) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(ContentRange::parse("bytes 5-9/10"), Some(ContentRange { first: 5, last: 9, total: 10 }));
        for bad in ["", "bytes", "bytes 5-9", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "5-9/10"] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
        for bad in ["bytes +5-9/10", "bytes -5-9/10", "items 5-9/10", "bytes 5-9/99999999999999999999", "bytes -/"] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_encodings_that_encode_something_are_refused() {
        for (value, is_refused) in [
            ("", false),
            ("identity", false),
            ("Identity", false),
            ("utf-8", false),
            ("UTF8", false),
            ("aws-chunked", false),
            ("binary", false),
            ("none", false),
            ("null", false),
            ("8bit", false),
            ("video/mp4", false),
            ("iso-8859-1", false),
            ("gzip", true),
            ("x-gzip", true),
            ("GZIP", true),
            ("aws-chunked, gzip", true),
            ("aws-chunked,br", true),
            ("deflate", true),
            ("zstd", true),
            ("compress", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(refuse_encoding(&headers).is_err(), is_refused, "{value:?}");
        }
    }

    #[test]
    fn a_rest_is_only_asked_for_where_it_can_be_proven() {
        let entity = |etag: bool, declared: bool, ranges| Entity {
            length: Some(1),
            content_type: None,
            etag: etag.then(|| HeaderValue::from_static("\"a\"")),
            declared: Declared { md5: None, crc64: declared.then_some(1) },
            ranges,
        };
        assert!(entity(true, false, None).is_resumable());
        assert!(entity(true, false, Some(true)).is_resumable());
        assert!(entity(false, true, Some(true)).is_resumable());
        assert!(!entity(true, true, Some(false)).is_resumable());
        assert!(!entity(false, false, Some(true)).is_resumable());
        assert!(!entity(false, true, None).is_resumable());
    }

    #[test]
    fn weak_etags_and_false_checksums_do_not_count() {
        let mut headers = HeaderMap::new();
        for (etag, strong) in [("\"a\"", true), ("\"\"", true), ("W/\"a\"", false), ("a", false), ("\"", false)] {
            headers.insert(header::ETAG, HeaderValue::from_static(etag));
            assert_eq!(strong_etag(&headers).is_some(), strong, "{etag}");
        }
        headers.insert("content-md5", HeaderValue::from_static("not base64"));
        headers.insert("x-oss-hash-crc64ecma", HeaderValue::from_static("0x12"));
        assert_eq!(declared(&headers), Declared::default());
        headers.insert("content-md5", HeaderValue::from_static("JfnnlDI7RTiF9RgfG2JNCw=="));
        headers.insert("x-oss-hash-crc64ecma", HeaderValue::from_static("18446744073709551615"));
        assert!(declared(&headers).md5.is_some() && declared(&headers).crc64 == Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn headers_of_any_content_never_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                for name in ["etag", "content-md5", "x-oss-hash-crc64ecma", "content-encoding", "content-range"] {
                    headers.insert(name, value.clone());
                }
                let _ = (strong_etag(&headers), declared(&headers), refuse_encoding(&headers));
            }
        }

        #[test]
        fn texts_of_any_content_never_panic(value in "\\PC{0,60}") {
            let _ = ContentRange::parse(&value);
        }
    }
}
