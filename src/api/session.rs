//! Opening, showing and closing a session.

use std::collections::HashSet;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use actix_web::web::Data;
use serde::Serialize;

use super::auth::{Caller, Scope, SessionId};
use super::cookie::{Cookie, LASTS, NAME, cookies, now};
use super::ended_sessions::end_elsewhere;
use super::{Api, ApiError};
use crate::domain::{Target, Timestamp};
use crate::http::ErrorBody;

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
    responses(
        (status = 200, description = "the cookie `replyvault_session` is set", body = Session),
        (status = 403, description = "a session opens no other", body = ErrorBody),
        (status = 503, description = "the clock cannot be read", body = ErrorBody),
    )
)]
pub(super) async fn open(request: HttpRequest, api: Data<Api>, caller: Caller) -> Result<HttpResponse, ApiError> {
    // What it opens would outlive it, and could open the next.
    if caller.session.is_some() {
        let message = "a session opens no other: expected a token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
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
        (
            status = 503,
            description = "the session is over until the next start, or on this replica alone",
            body = ErrorBody,
        ),
    )
)]
pub(super) async fn close(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let access = &api.inner.access;
    let mut seen = HashSet::new();
    let ids = cookies(&request).filter_map(Cookie::read).filter_map(|cookie| access.id_of(&cookie));
    let sessions: Vec<SessionId> = ids.filter(|session| seen.insert(session.id.clone())).collect();
    if let Err(error) = access.ended.end(&sessions, now()).await {
        tracing::error!(%error, "that a session was ended cannot be written down");
        return Err(ApiError::unavailable("the session is over, and that cannot be written down right now"));
    }
    for session in &sessions {
        if let Some(cluster) = api.intake().log().cluster()
            && let Err(error) = end_elsewhere(&access.ended, cluster, session).await
        {
            tracing::error!(%error, "other replicas cannot be told that a session was ended");
            return Err(ApiError::unavailable("the session is over here, and other replicas cannot be told right now"));
        }
    }
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, set_cookie(&request, &api, "", 0))).finish())
}

fn set_cookie(request: &HttpRequest, api: &Api, value: &str, max_age: u64) -> String {
    let public = api.intake().urls().reply_url(&Target::UseApi);
    let https = request.connection_info().scheme() == "https" || public.starts_with("https:");
    let secure = if https { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}
