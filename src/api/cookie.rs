//! Sessions, for what cannot send headers: pages, players, event streams.
//!
//! A session is all in its cookie: when it ends, its id, and an HMAC of both with a key made of the token it was opened with.
//! So it outlives a restart, and ends at once when its token is taken out of the configuration. Those that are ended before
//! their time are kept until then.

use actix_web::HttpRequest;
use actix_web::http::header::COOKIE;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::domain::Timestamp;

/// Where sessions are opened and closed.
pub(super) const SESSION_PATH: &str = "/api/v1/session";

/// The name of the cookie.
pub(super) const NAME: &str = "replyvault_session";
/// Seconds that a session lasts.
pub(super) const LASTS: u64 = 12 * 60 * 60;

/// Bytes of a session's id.
const ID_BYTES: usize = 12;

/// The value of a session's cookie.
pub(super) struct Cookie {
    /// In seconds since 1970 UTC.
    pub(super) expires: u64,
    id: [u8; ID_BYTES],
    mac: Vec<u8>,
}

impl Cookie {
    /// Reads a value; `None` when it has not the form of one or is over.
    pub(super) fn read(value: &str) -> Option<Self> {
        let (expires, rest) = value.split_once('.')?;
        // One that ends later than any made now was made by a clock that was ahead.
        let expires = expires.parse().ok().filter(|expires| (now() + 1..=now() + LASTS).contains(expires))?;
        let rest = BASE64_URL_SAFE_NO_PAD.decode(rest).ok()?;
        let (id, mac) = rest.split_first_chunk()?;
        Some(Self { expires, id: *id, mac: mac.to_vec() })
    }

    /// What the session is called.
    pub(super) fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// Whether it was made with this key. Compares in constant time.
    pub(super) fn is_of(&self, key: &Hmac<Sha256>) -> bool {
        mac(key, self.expires, &self.id).verify_slice(&self.mac).is_ok()
    }

    /// A value that is good until `expires`, in seconds since 1970 UTC.
    pub(super) fn make(key: &Hmac<Sha256>, expires: u64) -> String {
        let id: [u8; ID_BYTES] = rand::random();
        let rest = [&id[..], &mac(key, expires, &id).finalize().into_bytes()].concat();
        format!("{expires}.{}", BASE64_URL_SAFE_NO_PAD.encode(rest))
    }
}

/// What a page of ours says when it acts over a session, and no other page can know: it is told by GET, which other origins
/// cannot read. Behind the cookie's own form, so that neither can stand in for the other.
pub(super) fn csrf_token(key: &Hmac<Sha256>, cookie: &Cookie) -> String {
    let mac = key.clone().chain_update(b"replyvault:csrf:v1:").chain_update(cookie.expires.to_be_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(mac.chain_update(cookie.id).finalize().into_bytes())
}

/// What a token is called where its ended sessions are kept: the same wherever it stands in the configuration. It tells
/// no more of the token than a cookie does.
pub(super) fn token_key(key: &Hmac<Sha256>) -> String {
    let mac = key.clone().chain_update(b"replyvault:token:v1:").finalize().into_bytes();
    hex::encode(&mac[..8])
}

fn mac(key: &Hmac<Sha256>, expires: u64, id: &[u8; ID_BYTES]) -> Hmac<Sha256> {
    key.clone().chain_update(b"replyvault:session:v2:").chain_update(expires.to_be_bytes()).chain_update(id)
}

/// Seconds since 1970 UTC.
pub(super) fn now() -> u64 {
    Timestamp::now().millis() / 1000
}

/// The values of every session cookie that came with the request.
pub(super) fn cookies(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let headers = request.headers().get_all(COOKIE).filter_map(|header| header.to_str().ok());
    let pairs = headers.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == NAME).map(|(_, value)| value)
}

/// The header that a page acts with.
pub(super) const CSRF_HEADER: &str = "x-replyvault-csrf";

#[cfg(test)]
mod tests {
    use hmac::KeyInit;

    use super::*;

    #[test]
    fn a_cookie_is_good_until_it_ends_and_with_its_key() {
        let key = |secret: &str| Hmac::new_from_slice(secret.as_bytes()).unwrap();
        let good = Cookie::read(&Cookie::make(&key("one"), now() + 60)).unwrap();
        assert!(good.is_of(&key("one")) && !good.is_of(&key("two")));
        for expires in [0, now() - 1, now()] {
            assert!(Cookie::read(&Cookie::make(&key("one"), expires)).is_none(), "{expires}");
        }
    }

    #[test]
    fn a_session_that_ends_further_ahead_than_any_made_now_is_none() {
        let key = Hmac::new_from_slice(b"one").unwrap();
        for (expires, is_session) in [(now() + LASTS - 60, true), (now() + LASTS + 60, false), (u64::MAX, false)] {
            assert_eq!(Cookie::read(&Cookie::make(&key, expires)).is_some(), is_session, "{expires}");
        }
    }
}
