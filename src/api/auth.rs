//! Who is asking, decided in one place for everything under `/api`.

use std::path::Path;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError};
use hmac::{Hmac, KeyInit};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tracing::Instrument;

use super::cookie::{self, Cookie, SESSION_PATH};
use super::ended_sessions::{self, EndedSessions};
use super::{Api, ApiError, places, wait};

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// GET and HEAD; reply URLs are not shown.
    Read,
    /// Everything.
    Admin,
}

/// A bearer token.
#[derive(Clone, Debug)]
pub struct Token {
    /// What logs call it.
    pub name: String,
    /// The token itself; an empty one lets nobody in.
    pub token: SecretString,
    /// What it is good for.
    pub scope: Scope,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The token's name.
    pub(super) name: Arc<str>,
    /// The token's place in the configuration.
    token: usize,
    /// What may be done: of a session, reading alone, unless the page shows that it is one of ours.
    pub(super) scope: Scope,
    /// True for a session over which a page of ours asks.
    shows_origin: bool,
    /// The session that it is.
    pub(super) session: Option<SessionId>,
}

/// A session among all that were opened.
#[derive(Clone, Debug)]
pub(super) struct SessionId {
    /// The key of the token that it was opened with, see [`cookie::token_key`].
    pub(super) token: Arc<str>,
    /// The name of that token.
    pub(super) name: Arc<str>,
    pub(super) id: String,
    /// When it ends by itself, in seconds since 1970 UTC.
    pub(super) expires: u64,
}

/// The tokens, in the forms that they are compared in.
pub(super) struct Access {
    tokens: Vec<KnownToken>,
    pub(super) ended: EndedSessions,
}

struct KnownToken {
    name: Arc<str>,
    key: Arc<str>,
    scope: Scope,
    /// Digests are of one length, so that comparing them tells nothing about the token's.
    digest: [u8; 32],
    sessions: Hmac<Sha256>,
}

impl Access {
    /// Keeps in `dir` which sessions were ended.
    pub(super) fn new(tokens: &[Token], dir: &Path) -> Self {
        let known = |token: &Token| {
            let secret = token.token.expose_secret().as_bytes();
            let sessions: Hmac<Sha256> = Hmac::new_from_slice(secret).ok().filter(|_| !secret.is_empty())?;
            Some(KnownToken {
                name: token.name.as_str().into(),
                key: cookie::token_key(&sessions).into(),
                scope: token.scope,
                digest: Sha256::digest(secret).into(),
                sessions,
            })
        };
        let tokens: Vec<_> = tokens.iter().filter_map(known).collect();
        let keys = tokens.iter().map(|known| known.key.to_string());
        let ended = EndedSessions::open(dir, keys, cookie::now());
        Self { tokens, ended }
    }

    /// Whose token this is. Looks at all of them, whichever matches.
    fn bearer(&self, presented: &str) -> Option<Caller> {
        let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        let matches = |known: &KnownToken| known.digest.ct_eq(&digest).into();
        let found: Option<usize> = self.first(matches);
        found.map(|token| self.caller(token, self.tokens[token].scope))
    }

    /// Whose session the cookie's value is. With the right `csrf` token it may do what its token may.
    fn session(&self, cookie: &str, csrf: Option<&[u8]>) -> Option<Caller> {
        let cookie = Cookie::read(cookie)?;
        let token = self.open_session_of(&cookie)?;
        let known = &self.tokens[token];
        let is_ours = |csrf: &[u8]| cookie::csrf_token(&known.sessions, &cookie).as_bytes().ct_eq(csrf).into();
        let scope = if csrf.is_some_and(is_ours) { known.scope } else { Scope::Read };
        let session = session_id(known, &cookie);
        let shows_origin = csrf.is_some_and(is_ours);
        Some(Caller { shows_origin, session: Some(session), ..self.caller(token, scope) })
    }

    /// The token of a session that is not over.
    fn open_session_of(&self, cookie: &Cookie) -> Option<usize> {
        let token = self.first(|known| cookie.is_of(&known.sessions))?;
        let is_ended = self.ended.contain(&session_id(&self.tokens[token], cookie));
        (!is_ended).then_some(token)
    }

    /// Name and scope of the token that a session was opened with, and what a page of ours shows to act over it.
    pub(super) fn session_of(&self, cookie: &Cookie) -> Option<(Arc<str>, Scope, String)> {
        let known = &self.tokens[self.open_session_of(cookie)?];
        Some((known.name.clone(), known.scope, cookie::csrf_token(&known.sessions, cookie)))
    }

    /// The session of a cookie of ours, also of one that was ended.
    pub(super) fn id_of(&self, cookie: &Cookie) -> Option<SessionId> {
        let token = self.first(|known| cookie.is_of(&known.sessions))?;
        Some(session_id(&self.tokens[token], cookie))
    }

    /// The value of a session cookie for `caller`, good until `expires`, in seconds since 1970 UTC.
    pub(super) fn open_session(&self, caller: &Caller, expires: u64) -> String {
        Cookie::make(&self.tokens[caller.token].sessions, expires)
    }

    fn first(&self, matches: impl Fn(&KnownToken) -> bool) -> Option<usize> {
        self.tokens.iter().map(matches).enumerate().fold(None, |found, (index, is_it)| match found {
            None if is_it => Some(index),
            found => found,
        })
    }

    fn caller(&self, token: usize, scope: Scope) -> Caller {
        Caller { name: self.tokens[token].name.clone(), token, scope, shows_origin: false, session: None }
    }
}

fn session_id(known: &KnownToken, cookie: &Cookie) -> SessionId {
    SessionId { token: known.key.clone(), name: known.name.clone(), id: cookie.id(), expires: cookie.expires }
}

/// Lets through who may do what is asked; the rest gets 401 or 403, whether or not there is such a path.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut admitted = admit(request.request());
    if let Ok(Caller { session: Some(session), .. }) = &admitted
        && is_ended_elsewhere(&request, session).await
    {
        admitted = Err(unauthorized("this session was ended"));
    }
    let mut response = match admitted {
        Ok(caller) => {
            let (method, token) = (request.method().clone(), caller.name.clone());
            let span = tracing::info_span!("api", token = &*caller.name, %method, route = tracing::field::Empty);
            request.extensions_mut().insert(caller);
            wait::drop_headers(&mut request);
            let is_stale = is_stale(&request).await;
            let mut response = next.call(request).instrument(span.clone()).await?;
            if is_stale {
                let name = HeaderName::from_static("replyvault-stale");
                response.headers_mut().insert(name, HeaderValue::from_static("true"));
            }
            let status = response.status().as_u16();
            // Not free to know, and look-ups usually leave no line.
            if !method.is_safe() || tracing::enabled!(tracing::Level::DEBUG) {
                // Never the path: what is in it is the caller's.
                span.record("route", response.request().match_pattern());
            }
            if method.is_safe() {
                tracing::debug!(parent: &span, status, "answered");
            } else {
                tracing::info!(parent: &span, status, "answered");
            }
            places::place_if_large(response.map_into_boxed_body(), &token).await
        }
        Err(problem) => {
            let response = refusal(&problem);
            request.into_response(response)
        }
    };
    if !response.headers().contains_key(CACHE_CONTROL) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Waits until what other replicas have answered can be read here. True when that cannot be had right now.
async fn is_stale(request: &ServiceRequest) -> bool {
    let Some(api) = request.app_data::<Data<Api>>() else { return false };
    match api.intake().log().cluster() {
        Some(cluster) => !cluster.caught_up().await,
        None => false,
    }
}

/// Whether another replica has ended the session. False while that cannot be asked.
async fn is_ended_elsewhere(request: &ServiceRequest, session: &SessionId) -> bool {
    let api = request.app_data::<Data<Api>>();
    let Some(cluster) = api.and_then(|api| api.intake().log().cluster()) else { return false };
    ended_sessions::is_ended_elsewhere(cluster, session).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "it is not known whether another replica has ended a session");
        false
    })
}

fn admit(request: &HttpRequest) -> Result<Caller, ApiError> {
    let api = request.app_data::<Data<Api>>();
    let access = &api.ok_or_else(|| ApiError::unavailable("the API is not set up"))?.inner.access;
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // Routes are matched with the decoded path, and `path()` is not that.
    let is_session = request.match_info().as_str() == SESSION_PATH;
    if let Some(header) = request.headers().get(AUTHORIZATION) {
        let presented = header.to_str().ok().and_then(bearer_token);
        let caller = presented.and_then(|token| access.bearer(token));
        let caller = caller.ok_or_else(|| unauthorized("expected a bearer token that is known here"))?;
        // Whoever may read may also open a session, which is for reading.
        if caller.scope == Scope::Admin || only_reads || is_session {
            return Ok(caller);
        }
        let message = "this token is for reading: expected one of scope admin";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    let csrf = request.headers().get(cookie::CSRF_HEADER).filter(|_| is_same_origin(request));
    let csrf = csrf.map(HeaderValue::as_bytes);
    let caller = cookie::cookies(request).find_map(|cookie| access.session(cookie, csrf));
    // A cookie comes along with whatever page asks, and alone proves nothing about who wants it.
    let may_end = is_session && request.method() == Method::DELETE;
    // No session opens the next: it would never end.
    let may_act = |caller: &Caller| only_reads || may_end || (caller.shows_origin && !is_session);
    let message = "expected Authorization: Bearer, or a session's cookie: for GET and HEAD, or with its csrfToken";
    let caller = caller.filter(may_act).ok_or_else(|| unauthorized(message))?;
    if caller.scope == Scope::Admin || only_reads || may_end {
        return Ok(caller);
    }
    let message = "this session is for reading: expected one of an admin token";
    Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message))
}

/// Whether a browser says that a page of ours asks. Other programs say nothing, and need no protection from pages.
fn is_same_origin(request: &HttpRequest) -> bool {
    let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let is_same_site = header("sec-fetch-site").is_none_or(|site| site == b"same-origin");
    let host = request.connection_info().host().to_owned();
    let is_host = |origin: &[u8]| {
        let origin = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, of)| of.eq_ignore_ascii_case(&host))
    };
    is_same_site && header("origin").is_none_or(is_host)
}

fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

fn refusal(problem: &ApiError) -> HttpResponse {
    let mut response = problem.error_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Only there behind [`guard`].
impl FromRequest for Caller {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        std::future::ready(caller.ok_or_else(|| unauthorized("expected a bearer token")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_stays_ended_when_its_token_gets_another_place_or_name() {
        let dir = tempfile::tempdir().unwrap();
        let token = |name: &str, token: &str| Token { name: name.to_owned(), token: token.into(), scope: Scope::Read };
        let access = Access::new(&[token("api_tokens[0]", "old"), token("api_tokens[1]", "new")], dir.path());
        let opened = || {
            let value = access.open_session(&access.bearer("new").unwrap(), cookie::now() + 60);
            (access.id_of(&Cookie::read(&value).unwrap()).unwrap(), value)
        };
        let ((id, ended), (_, other)) = (opened(), opened());
        access.ended.end(&[id], cookie::now()).await.unwrap();
        assert!(access.session(&ended, None).is_none() && access.session(&other, None).is_some());
        for name in ["api_tokens[0]", "ops"] {
            let access = Access::new(&[token(name, "new")], dir.path());
            assert!(access.session(&ended, None).is_none() && access.session(&other, None).is_some(), "{name}");
        }
    }
}
