//! Calls of browsers from other origins. Tokens come in a header that a page has to set by itself, so any page may call.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use actix_web::http::{Method, header::HeaderMap};
use actix_web::{HttpRequest, HttpResponse};

/// How long a browser may remember the answer, in seconds.
const MAX_AGE: &str = "86400";

/// The answer to a browser's question whether it may call; `None` when the request is no such question. It comes without a
/// token, and is answered here as the provider's API does.
pub(super) fn preflight(request: &HttpRequest) -> Option<HttpResponse> {
    let headers = request.headers();
    if request.method() != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = HttpResponse::NoContent();
    response
        .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
        .insert_header((ACCESS_CONTROL_MAX_AGE, MAX_AGE))
        .insert_header((VARY, "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"));
    // `*` does not cover Authorization.
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|asked| is_list_of_names(asked));
    let allowed = asked.cloned().unwrap_or(HeaderValue::from_static("authorization, content-type"));
    response.insert_header((ACCESS_CONTROL_ALLOW_HEADERS, allowed));
    Some(response.finish())
}

/// Lets the page that made a request read its answer.
pub(super) fn allow(request: &HttpRequest, answer: &mut HeaderMap) {
    if !request.headers().contains_key(ORIGIN) {
        return;
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    // What a browser holds of ours opens nothing here.
    answer.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    if !answer.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS) {
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    }
}

fn is_list_of_names(value: &HeaderValue) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ');
    value.as_bytes().iter().all(is_part)
}
