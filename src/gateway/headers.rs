use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap as Incoming;

use crate::egress::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What belongs to one connection (RFC 9110, 7.6.1), and what is made anew for the next.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The cookie that opens replyvault's own pages: none of the provider's business.
const OWN_COOKIE: &str = "replyvault_session";

/// A request's headers as the provider is to see them.
pub(super) fn forwarded(request: &HttpRequest) -> HeaderMap {
    let named = connection_options(request.headers().get_all("connection").filter_map(|value| value.to_str().ok()));
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let name = name.as_str();
        if stays_here(name, &named) {
            continue;
        }
        let value = if name == "cookie" { foreign_cookies(value.as_bytes()) } else { Some(value.as_bytes().to_vec()) };
        append(&mut headers, name, value.as_deref());
    }
    headers
}

/// An answer's headers as the caller is to see them.
pub(super) fn returned(answer: &HeaderMap) -> Incoming {
    let named = connection_options(answer.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok()));
    let mut headers = Incoming::new();
    for (name, value) in answer {
        if stays_here(name.as_str(), &named) {
            continue;
        }
        let name = actix_web::http::header::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = actix_web::http::header::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn append(headers: &mut HeaderMap, name: &str, value: Option<&[u8]>) {
    let Some(value) = value else { return };
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
        headers.append(name, value);
    }
}

/// The headers that `Connection` names: they belong to the connection, too.
fn connection_options<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    values.flat_map(|value| value.split(',')).map(|option| option.trim().to_ascii_lowercase()).collect()
}

fn stays_here(name: &str, named: &[String]) -> bool {
    HOP_BY_HOP.contains(&name) || named.iter().any(|option| option == name && !is_end_to_end(name))
}

/// `Connection` cannot take away what the call is made of.
fn is_end_to_end(name: &str) -> bool {
    matches!(name, "authorization" | "content-length" | "content-type")
}

/// The cookies but for our own; `None` without any.
fn foreign_cookies(value: &[u8]) -> Option<Vec<u8>> {
    let is_own = |pair: &&[u8]| pair.trim_ascii().split(|byte| *byte == b'=').next() == Some(OWN_COOKIE.as_bytes());
    let foreign: Vec<&[u8]> = value.split(|byte| *byte == b';').filter(|pair| !is_own(pair)).collect();
    (!foreign.is_empty()).then(|| foreign.join(&b';').trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn what_belongs_to_the_connection_stays_here() {
        let request = TestRequest::default()
            .insert_header(("Connection", "close, X-Mine, Authorization"))
            .insert_header(("X-Mine", "1"))
            .insert_header(("Authorization", "Bearer t"))
            .insert_header(("Host", "vault"))
            .insert_header(("TE", "trailers"))
            .insert_header(("Expect", "100-continue"))
            .insert_header(("Cookie", "a=1; replyvault_session=secret; b=2"))
            .append_header(("X-Two", "1"))
            .append_header(("X-Two", "2"))
            .to_http_request();
        let headers = forwarded(&request);
        let mut seen: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        seen.sort_unstable();
        let expected = [("authorization", "Bearer t"), ("cookie", "a=1; b=2"), ("x-two", "1"), ("x-two", "2")];
        assert_eq!(seen, expected);
        let only_ours = TestRequest::default().insert_header(("Cookie", "replyvault_session=secret")).to_http_request();
        assert!(forwarded(&only_ours).is_empty());
    }
}
