use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap as Incoming;

use super::veil::Veil;
use crate::egress::header::{self, HeaderMap, HeaderName, HeaderValue};
use crate::intake::ReplyUrls;

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

/// What would make of a call another one, or of its answer one that cannot be looked through: another method or path, a
/// part of it, a compressed form.
const NOT_SENT: [&str; 11] = [
    "a-im",
    "accept-encoding",
    "if-range",
    "range",
    "sec-websocket-extensions",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
];

/// What is said to a proxy in front of us, which would act on it as if we had said it.
const FOR_PROXIES: [&str; 5] = ["edge-control", "x-original-url", "x-rewrite-url", "x-sendfile", "x-sendfile2"];
const FOR_PROXIES_BEGIN: [&str; 7] =
    ["surrogate-", "x-accel-", "x-envoy-", "x-lighttpd-", "x-litespeed-", "x-reproxy-", "x-varnish-"];
const FOR_PROXIES_END: [&str; 2] = ["cache-tag", "cdn-cache-control"];

/// What is said to a browser of a whole origin, which is ours and not the provider's.
const FOR_ORIGIN: [&str; 17] = [
    "accept-ch",
    "alt-svc",
    "clear-site-data",
    "critical-ch",
    "expect-ct",
    "nel",
    "origin-agent-cluster",
    "public-key-pins",
    "public-key-pins-report-only",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie2",
    "speculation-rules",
    "strict-transport-security",
    "use-as-dictionary",
];

/// What the name of every cookie of ours has in it: none of the provider's business.
const OWN_COOKIE: &[u8] = b"replyvault";

/// A request's headers as the provider is to see them. Its answer is asked for as it is: what is compressed could not be
/// looked through.
pub(super) fn forwarded(request: &HttpRequest) -> HeaderMap {
    let named = connection_options(request.headers().get_all("connection").filter_map(|value| value.to_str().ok()));
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let name = name.as_str();
        if is_hop_by_hop(name, &named) || NOT_SENT.contains(&name) {
            continue;
        }
        let value = if name == "cookie" { foreign_cookies(value.as_bytes()) } else { Some(value.as_bytes().to_vec()) };
        append(&mut headers, name, value.as_deref());
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// An answer's headers as the caller is to see them, without any signature of ours.
pub(super) fn returned(answer: &HeaderMap, urls: &ReplyUrls) -> Incoming {
    let named = connection_options(answer.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok()));
    let mut headers = Incoming::new();
    for (name, value) in answer {
        if is_hop_by_hop(name.as_str(), &named) || is_not_passed(name.as_str(), value.as_bytes()) {
            continue;
        }
        let Ok(hidden) = Veil::over(urls, value.as_bytes()) else { continue };
        let name = actix_web::http::header::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = actix_web::http::header::HeaderValue::from_bytes(hidden.as_deref().unwrap_or(value.as_bytes()));
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

fn is_hop_by_hop(name: &str, named: &[String]) -> bool {
    HOP_BY_HOP.contains(&name) || named.iter().any(|option| option == name && !is_end_to_end(name))
}

/// `Connection` cannot take away what the call is made of.
fn is_end_to_end(name: &str) -> bool {
    matches!(name, "authorization" | "content-length" | "content-type")
}

/// Whether a header of an answer is meant for somebody who would take it for ours.
fn is_not_passed(name: &str, value: &[u8]) -> bool {
    FOR_PROXIES.contains(&name)
        || FOR_PROXIES_BEGIN.iter().any(|beginning| name.starts_with(beginning))
        || FOR_PROXIES_END.iter().any(|end| name.ends_with(end))
        || FOR_ORIGIN.contains(&name)
        || (name == "set-cookie" && !is_foreign(value))
}

/// Whether a cookie has a name, and that is none of ours. Without a name, browsers take its value for one.
fn is_foreign(pair: &[u8]) -> bool {
    let Some(end) = pair.iter().position(|byte| matches!(byte, b'=' | b';')) else { return false };
    let name = pair[..end].trim_ascii().to_ascii_lowercase();
    pair[end] == b'=' && !name.is_empty() && memchr::memmem::find(&name, OWN_COOKIE).is_none()
}

/// The cookies but for our own; `None` without any.
fn foreign_cookies(value: &[u8]) -> Option<Vec<u8>> {
    let foreign: Vec<&[u8]> = value.split(|byte| *byte == b';').filter(|pair| is_foreign(pair)).collect();
    (!foreign.is_empty()).then(|| foreign.join(&b';').trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn hop_by_hop_headers_are_not_forwarded() {
        let request = TestRequest::default()
            .insert_header(("Connection", "close, X-Mine, Authorization"))
            .insert_header(("X-Mine", "1"))
            .insert_header(("Authorization", "Bearer t"))
            .insert_header(("Host", "vault"))
            .insert_header(("TE", "trailers"))
            .insert_header(("Expect", "100-continue"))
            .insert_header(("Range", "bytes=40-"))
            .insert_header(("Accept-Encoding", "gzip"))
            .insert_header(("X-HTTP-Method-Override", "DELETE"))
            .insert_header(("Cookie", "a=1; replyvault_session=secret; b=2"))
            .append_header(("X-Two", "1"))
            .append_header(("X-Two", "2"))
            .to_http_request();
        let headers = forwarded(&request);
        let mut seen: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        seen.sort_unstable();
        let expected = [
            ("accept-encoding", "identity"),
            ("authorization", "Bearer t"),
            ("cookie", "a=1; b=2"),
            ("x-two", "1"),
            ("x-two", "2"),
        ];
        assert_eq!(seen, expected);
        let only_ours = TestRequest::default().insert_header(("Cookie", "replyvault_session=secret")).to_http_request();
        assert!(!forwarded(&only_ours).contains_key("cookie"));
    }

    #[test]
    fn headers_that_act_in_our_name_are_not_passed() {
        for (name, value) in [
            ("x-accel-redirect", "/private"),
            ("x-accel-buffering", "no"),
            ("x-sendfile", "/etc/passwd"),
            ("x-lighttpd-send-file", "/x"),
            ("x-litespeed-location", "/x"),
            ("x-reproxy-url", "http://127.0.0.1"),
            ("x-envoy-upstream-rq-timeout-ms", "1"),
            ("x-envoy-ratelimited", "true"),
            ("surrogate-key", "all"),
            ("surrogate-control", "max-age=9"),
            ("surrogate-capability", "a=\"Surrogate/1.0\""),
            ("cdn-cache-control", "max-age=9"),
            ("cloudflare-cdn-cache-control", "max-age=9"),
            ("cache-tag", "all"),
            ("edge-cache-tag", "all"),
            ("clear-site-data", "\"cookies\""),
            ("alt-svc", "h3=\":443\""),
            ("strict-transport-security", "max-age=9"),
            ("service-worker-allowed", "/"),
            ("refresh", "0;url=https://h"),
            ("set-cookie", "replyvault_session=x; Path=/"),
            ("set-cookie", " REPLYVAULT_session =x"),
            ("set-cookie", "__Host-replyvault_session=x"),
            ("set-cookie", "=replyvault_session=x"),
            ("set-cookie", "replyvault_session"),
            ("set-cookie", ";a=b"),
        ] {
            assert!(is_not_passed(name, value.as_bytes()), "{name}: {value}");
        }
        for (name, value) in [
            ("set-cookie", "__cf_bm=x; Path=/"),
            ("x-ratelimit-limit", "9"),
            ("location", "/x"),
            ("cache-control", "no-store"),
        ] {
            assert!(!is_not_passed(name, value.as_bytes()), "{name}: {value}");
        }
    }
}
