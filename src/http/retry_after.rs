use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::domain::Timestamp;

/// How long a server asks to be left alone, at most `longest`. `None` when it does not say, or not legibly.
pub fn retry_after(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    retry_after_at(headers, longest, Timestamp::now())
}

fn retry_after_at(headers: &HeaderMap, longest: Duration, now: Timestamp) -> Option<Duration> {
    parse(headers.get(RETRY_AFTER)?.to_str().ok()?, now).map(|delay| delay.min(longest))
}

/// Seconds or an HTTP date (RFC 9110, 10.2.3).
fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
    } else {
        let date = chrono::DateTime::parse_from_rfc2822(value).ok()?;
        Some(Timestamp::from_millis_clamped(date.timestamp_millis().try_into().unwrap_or(0)).since(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = Timestamp::parse_rfc3339("2026-11-20T11:04:10Z").unwrap();
        for (value, expected) in [
            ("0", Some(0)),
            ("17", Some(17)),
            (" 17 ", Some(17)),
            ("3601", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Fri, 20 Nov 2026 11:05:00 GMT", Some(50)),
            ("Fri, 20 Nov 2026 11:00:00 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(
                retry_after_at(&headers, Duration::from_secs(3600), now),
                expected.map(Duration::from_secs),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn texts_of_any_content_never_panic(value in "\\PC{0,60}") {
            let _ = parse(&value, Timestamp::default());
        }
    }
}
