//! The path of a call, in the one form in which it is judged and sent on.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::http::ApiError;
use crate::provider::Api;

/// What stands in a path segment as it is (RFC 3986, 3.3), but for `;`.
const AS_IS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The API that a request's path belongs to, and the path behind its base, decoded once and encoded anew; slashes that follow
/// one another are one.
///
/// # Errors
/// When it may mean one thing here and another at the provider: an encoded slash, backslash, percent sign, question or
/// number sign, a semicolon, a control character, `.` or `..`, or what is no UTF-8.
pub(super) fn normal(path: &str) -> Result<(Api, String), ApiError> {
    let (api, rest) = Api::of_path(path).ok_or_else(|| ApiError::not_found("path"))?;
    let mut normal = String::with_capacity(rest.len());
    for segment in rest.split('/').skip(1) {
        if segment.is_empty() {
            continue;
        }
        normal.push('/');
        normal.extend(utf8_percent_encode(&decoded(segment)?, AS_IS));
    }
    if rest.ends_with('/') {
        normal.push('/');
    }
    Ok((api, normal))
}

fn decoded(segment: &str) -> Result<String, ApiError> {
    let refused = |why: &str| Err(ApiError::invalid(format!("the path: expected {why}")));
    let is_whole = |escape: &str| escape.len() >= 2 && escape.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !segment.split('%').skip(1).all(is_whole) {
        return refused("two hexadecimal digits behind every %");
    }
    let Ok(text) = percent_decode_str(segment).decode_utf8() else { return refused("UTF-8") };
    if matches!(&*text, "." | "..") {
        return refused("no . and .. in it");
    }
    if text.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | '%' | '?' | '#' | ';')) {
        return refused("no encoded slash, and none of \\ % ? # ; and control characters, encoded or not");
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_form_and_what_is_ambiguous_has_none() {
        for (path, expected) in [
            ("", ""),
            ("/", "/"),
            ("/vide%6Fs/user:1-minimax:2-video:3", "/videos/user:1-minimax:2-video:3"),
            ("//videos///create", "/videos/create"),
            ("/videos/", "/videos/"),
            ("/%76%69deos/%75ser%3A1", "/videos/user:1"),
            ("/a%20b/\u{e9}/%C3%A9", "/a%20b/%C3%A9/%C3%A9"),
            ("/a..b/...", "/a..b/..."),
        ] {
            assert_eq!(normal(&format!("/v1/minimax{path}")).unwrap().1, expected, "{path}");
        }
        for path in [
            "/videos%2F1",
            "/videos%2f1",
            "/videos%5C1",
            "/videos\\1",
            "/..",
            "/./x",
            "/%2e%2E/x",
            "/.%2e",
            "/a%252fb",
            "/%2576ideos",
            "/videos;x=1/1",
            "/videos%3B",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%3Fb",
            "/a%23b",
            "/%ff",
            "/%C0%AF",
            "/%u0076ideos",
        ] {
            assert!(normal(&format!("/v1/minimax{path}")).is_err(), "{path}");
        }
        for path in ["/v1/minimaxx", "/v1/other", "/V1/minimax/videos", ""] {
            assert!(normal(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(path in "(/|%2F|%25|%6F|[a-z.;:]|\\PC){0,12}") {
            if let Ok((_, form)) = normal(&format!("/v2/pixverse/{path}")) {
                prop_assert_eq!(normal(&format!("/v2/pixverse{form}")).unwrap().1, form);
            }
        }
    }
}
