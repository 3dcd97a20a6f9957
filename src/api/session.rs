//! Sessions, for what cannot send headers: pages, players, event streams.
//!
//! A session is all in its cookie: when it ends, its id, and an HMAC of both with a key made of the token it was opened with.
//! So it outlives a restart, and ends at once when its token is taken out of the configuration. Those that are ended before
//! their time are kept until then.

mod ended;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header::{COOKIE, SET_COOKIE};
use actix_web::web::{self, Data};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;

pub(super) use self::ended::EndedSessions;
use super::auth::{Caller, Scope};
use super::{Api, ApiError};
use crate::domain::{Target, Timestamp};
use crate::http::ErrorBody;

/// Where sessions are opened and closed.
pub(super) const SESSION_PATH: &str = "/api/v1/session";

/// The name of their cookie.
pub(super) const NAME: &str = "replyvault_session";
/// Seconds that a session lasts.
const LASTS: u64 = 12 * 60 * 60;

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

/// A session.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// What its token is called.
    token: String,
    /// What its token is good for.
    scope: &'static str,
    /// With this in `X-Replyvault-Csrf`, a page of the same origin may do over the cookie what the token may do.
    csrf_token: String,
}

/// Turns the token into a cookie, good for GET and HEAD for twelve hours; for more together with `csrfToken`.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "session",
    responses((status = 200, description = "the cookie `replyvault_session` is set", body = Session))
)]
pub(super) async fn open(request: HttpRequest, api: Data<Api>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let expires = now() + LASTS;
    let value = api.inner.access.open_session(&caller, expires);
    let session = Cookie::read(&value).and_then(|cookie| session(&api, &cookie));
    let session = session.ok_or_else(|| ApiError::unavailable("the clock cannot be read right now"))?;
    Ok(HttpResponse::Ok().insert_header((SET_COOKIE, set_cookie(&request, &api, &value, LASTS))).json(session))
}

/// Shows the session of the cookie that is sent along.
#[utoipa::path(
    get, path = "/api/v1/session", tag = "session",
    responses(
        (status = 200, description = "the session", body = Session),
        (status = 404, description = "a token was sent and no cookie", body = ErrorBody),
    )
)]
pub(super) async fn show(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let found = cookies(&request).filter_map(Cookie::read).find_map(|cookie| session(&api, &cookie));
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| ApiError::not_found("session"))?))
}

fn session(api: &Api, cookie: &Cookie) -> Option<Session> {
    let (token, scope, csrf_token) = api.inner.access.session_of(cookie)?;
    let scope = match scope {
        Scope::Admin => "admin",
        Scope::Read => "read",
    };
    let expires_at = Timestamp::from_millis_clamped(cookie.expires * 1000);
    Some(Session { expires_at, token: token.to_string(), scope, csrf_token })
}

/// Ends the session: its cookie is good for nothing from then on.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "session",
    responses(
        (status = 204, description = "the session is over and the cookie is gone"),
        (status = 503, description = "the session is over until the next start", body = ErrorBody),
    )
)]
pub(super) async fn close(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    for cookie in cookies(&request).filter_map(Cookie::read) {
        let Some(token) = api.inner.access.token_of(&cookie) else { continue };
        let ending = api.clone();
        let ended =
            web::block(move || ending.inner.access.ended.end(&token, &cookie.id(), cookie.expires, now())).await;
        if let Err(error) = ended.map_err(std::io::Error::other).flatten() {
            tracing::error!(%error, "that a session was ended cannot be written down");
            return Err(ApiError::unavailable("the session is over, and that cannot be written down right now"));
        }
    }
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, set_cookie(&request, &api, "", 0))).finish())
}

fn set_cookie(request: &HttpRequest, api: &Api, value: &str, max_age: u64) -> String {
    let public = api.intake().urls().reply_url(&Target::Channel);
    let https = request.connection_info().scheme() == "https" || public.starts_with("https:");
    let secure = if https { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}

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
}
