//! When a signed link stops working, as far as the link itself says so.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::MediaUrl;
use crate::Timestamp;

/// How long after its time a link signed the way of Alibaba's CDN works, unless the CDN is set otherwise:
/// <https://www.alibabacloud.com/help/en/cdn/user-guide/type-a-signing>.
const AUTH_KEY_VALIDITY: Duration = Duration::from_secs(1800);

/// Parameters that hold when the link was signed and for how many seconds: OSS
/// (<https://www.alibabacloud.com/help/en/oss/developer-reference/ddd-signatures-to-urls>), S3
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>), Google
/// (<https://cloud.google.com/storage/docs/authentication/canonical-requests>).
const SIGNED_FOR: [(&str, &str); 3] =
    [("x-oss-date", "x-oss-expires"), ("x-amz-date", "x-amz-expires"), ("x-goog-date", "x-goog-expires")];

impl MediaUrl {
    /// From when on the link no longer works; `None` when it does not say. Of several times the earliest.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let query = self.expose().query()?;
        if query.len() < "Expires=".len() {
            return None;
        }
        let pairs: Vec<_> = self.expose().query_pairs().map(|(name, value)| (name.to_lowercase(), value)).collect();
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_ref());
        let expires = ["expires", "x-expires"].into_iter().filter_map(|name| unix_time(value(name)?));
        // A hexadecimal number that anything may be called, unless Discord's signature is beside it.
        let discord = value("ex").filter(|_| value("is").is_some() && value("hm").is_some());
        let discord = discord.and_then(|at| unix_time_of(u64::from_str_radix(at, 16).ok()?));
        let token = value("_jwt").and_then(token_expiry);
        let auth_key = value("auth_key").and_then(|key| unix_time(key.split_once('-')?.0));
        let signed = SIGNED_FOR.iter().filter_map(|(date, seconds)| {
            let date = Timestamp::parse_iso_basic(value(date)?)?;
            Some(date.after(Duration::from_secs(value(seconds)?.parse().ok()?)))
        });
        let auth_key = auth_key.map(|at| at.after(AUTH_KEY_VALIDITY));
        signed.chain(expires).chain(discord).chain(token).chain(auth_key).min()
    }
}

/// The `exp` of a JSON Web Token (<https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4>), whose signature is not looked at.
fn token_expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    unix_time_of(serde_json::from_slice::<Claims>(&claims).ok()?.exp)
}

/// Seconds since 1970, or milliseconds, which some write. What is neither is no time: `Expires=3600` says for how long,
/// and not from when.
fn unix_time(text: &str) -> Option<Timestamp> {
    unix_time_of(text.parse().ok()?)
}

/// The same of a number.
fn unix_time_of(number: u64) -> Option<Timestamp> {
    /// 2001-09-09, the first second with ten digits.
    const TEN_DIGITS: u64 = 1_000_000_000;
    let millis = match number / TEN_DIGITS {
        0 => return None,
        1..=9 => number * 1000,
        _ => number,
    };
    Timestamp::from_millis(millis).filter(|at| at.millis() >= TEN_DIGITS * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_says_when_it_dies_is_understood() {
        for (query, expected) in [
            ("", None),
            ("?Signature=x", None),
            ("?Expires=1795172334&OSSAccessKeyId=k&Signature=s", Some("2026-11-20T10:58:54.000Z")),
            ("?Expires=1795172334234", Some("2026-11-20T10:58:54.234Z")),
            ("?Expires=3600", None),
            ("?Expires=soon", None),
            ("?Expires=99999999999999999999", None),
            ("?x-oss-date=20261120T105854Z&x-oss-expires=3600", Some("2026-11-20T11:58:54.000Z")),
            ("?x-oss-expires=3600", None),
            ("?X-Amz-Date=20261120T105854Z&X-Amz-Expires=60", Some("2026-11-20T10:59:54.000Z")),
            ("?X-Goog-Date=20261120T105854Z&X-Goog-Expires=60", Some("2026-11-20T10:59:54.000Z")),
            ("?X-Amz-Date=20261120&X-Amz-Expires=60", None),
            ("?X-Amz-Date=20261120T105854Z&X-Amz-Expires=99999999999999999999", None),
            ("?auth_key=1795172334-0-0-0123456789abcdef", Some("2026-11-20T11:28:54.000Z")),
            ("?auth_key=1795172334", None),
            ("?x-expires=1795777451&x-signature=Yw%3D%3D", Some("2026-11-27T11:04:11.000Z")),
            ("?ex=6b015c4b&is=6b000acb&hm=3b8f0c7e2f4c4c2e&", Some("2026-11-21T08:54:35.000Z")),
            ("?ex=6b015c4b", None),
            ("?ex=soon&is=6b000acb&hm=3b8f", None),
            ("?_jwt=eyJhbGciOiJIUzI1NiJ9.eyJleHAiOiAxNzk1MTk0MjUxfQ.c2ln", Some("2026-11-20T17:04:11.000Z")),
            ("?_jwt=eyJhbGciOiJIUzI1NiJ9", None),
            ("?_jwt=e30.e30.c2ln", None),
            ("?_jwt=a.%25.c", None),
            ("?Expires=1795172400&X-Amz-Date=20261120T105854Z&X-Amz-Expires=60", Some("2026-11-20T10:59:54.000Z")),
        ] {
            let url = MediaUrl::parse(&format!("https://cdn.example.com/v.mp4{query}")).unwrap();
            assert_eq!(url.expires_at(), expected.and_then(Timestamp::parse_rfc3339), "{query}");
        }
    }
}
