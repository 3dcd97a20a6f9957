//! The way to a running service on this or another machine.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::service::{tls_failure, tls_files};
use super::{Failure, pinned};
use crate::app::own_certificate;
use crate::config::{Config, Credentials};
use crate::http::{BodyError, read_body, retry_after};

/// How long the service may take to say that it is ready.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take for anything else.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer that is read.
const MAX_ANSWER: usize = 8 << 20;

/// Whether the service that runs with this configuration is ready.
pub(super) async fn local_health(config: &Config) -> Result<(), Failure> {
    ready(&config.local_url(), &local(config, HEALTH_TIMEOUT)?).await
}

/// Whether the service at `base` is ready.
pub(super) async fn health(base: &str) -> Result<(), Failure> {
    ready(base, &client(HEALTH_TIMEOUT, None)?).await
}

async fn ready(base: &str, client: &Client) -> Result<(), Failure> {
    let url = format!("{base}/readyz");
    let response = send(&url, client.get(&url)).await?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(());
    }
    let checks = answer(&url, response).await.ok().map(|answer| answer["checks"].clone());
    let checks = checks.filter(Value::is_object).map(|checks| format!(", {checks}")).unwrap_or_default();
    Err(Failure::runtime(format!("{url}: not ready: {status}{checks}")))
}

/// Why something was not found out.
pub(super) enum FindError {
    /// The answer would be the same again.
    Refused(Failure),
    /// There was no answer, or none of ours: the service may be starting anew.
    Away(Failure),
    /// The service is there and cannot answer yet, and says how long to leave it alone, if it does.
    Busy(Failure, Option<Duration>),
}

/// Posts to the API of the service that runs with this configuration.
pub(super) async fn post(
    config: &Config,
    credentials: &Credentials,
    path: &str,
    body: &Value,
) -> Result<Value, Failure> {
    let token = credentials.admin_token().ok_or_else(|| {
        Failure::usage(config.error("auth.tokens", "expected a token with scope = \"admin\" for this command"))
    })?;
    let (url, request) = request(config, token, Method::POST, path)?;
    successful(&url, send(&url, request.json(body)).await?).await
}

/// Gets something from that API.
pub(super) async fn get(config: &Config, credentials: &Credentials, path: &str) -> Result<Value, Failure> {
    let (url, request) = request(config, reading_token(credentials)?, Method::GET, path)?;
    successful(&url, send(&url, request).await?).await
}

/// The same; `None` when there is no such thing.
pub(super) async fn find(config: &Config, credentials: &Credentials, path: &str) -> Result<Option<Value>, FindError> {
    let request = reading_token(credentials).and_then(|token| request(config, token, Method::GET, path));
    let (url, request) = request.map_err(FindError::Refused)?;
    let response = send(&url, request).await.map_err(FindError::Away)?;
    let (status, delay) = (response.status(), retry_after(response.headers(), TIMEOUT));
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    successful(&url, response).await.map(Some).map_err(|failure| match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => FindError::Busy(failure, delay),
        _ if status.is_client_error() => FindError::Refused(failure),
        _ => FindError::Away(failure),
    })
}

/// A token for what only reads: one with scope `read` will do.
fn reading_token(credentials: &Credentials) -> Result<&SecretString, Failure> {
    let first = || credentials.api_tokens.first().map(|token| &token.token);
    credentials.admin_token().or_else(first).ok_or_else(|| Failure::runtime("there is no token for the API"))
}

/// A request to that API, and its URL.
fn request(
    config: &Config,
    token: &SecretString,
    method: Method,
    path: &str,
) -> Result<(String, RequestBuilder), Failure> {
    let url = format!("{}{path}", config.local_url());
    let request = local(config, TIMEOUT)?.request(method, &url).bearer_auth(token.expose_secret());
    Ok((url, request))
}

/// The answer of a call that did what was asked.
async fn successful(url: &str, response: Response) -> Result<Value, Failure> {
    let status = response.status();
    let answer = answer(url, response).await;
    if status.is_success() {
        return answer;
    }
    let said = answer.ok().and_then(|answer| answer["error"]["message"].as_str().map(str::to_owned));
    let message = format!("{url}: {status}: {}", said.unwrap_or_else(|| "no reason given".to_owned()));
    // What the arguments say is wrong, as it is without a running service.
    let is_usage = status == StatusCode::UNPROCESSABLE_ENTITY;
    Err(if is_usage { Failure::usage(message) } else { Failure::runtime(message) })
}

/// Something of that API that may be long, and its URL.
pub(super) async fn stream(
    config: &Config,
    credentials: &Credentials,
    path: &str,
) -> Result<(Response, String), Failure> {
    let url = format!("{}{path}", config.local_url());
    let token = reading_token(credentials)?;
    let client = build(Client::builder().connect_timeout(HEALTH_TIMEOUT).read_timeout(TIMEOUT), pinned_tls(config)?)?;
    let response = send(&url, client.get(&url).bearer_auth(token.expose_secret())).await?;
    match response.status() {
        status if status.is_success() => Ok((response, url)),
        status => Err(Failure::runtime(format!("{url}: {status}"))),
    }
}

/// What to say of an answer that ended too soon.
pub(super) fn broke_off(url: &str, error: reqwest::Error) -> Failure {
    Failure::runtime(format!("{url}: the answer broke off: {}", cause(error)))
}

/// A client of the service on this machine. That one is known by its certificate, if it has one.
fn local(config: &Config, timeout: Duration) -> Result<Client, Failure> {
    client(timeout, pinned_tls(config)?)
}

fn pinned_tls(config: &Config) -> Result<Option<ClientConfig>, Failure> {
    let tls = tls_files(config).map(|files| {
        let certificate = own_certificate(&files.certificate).map_err(|error| tls_failure(config, &error))?;
        pinned::to(certificate).map_err(Failure::runtime)
    });
    tls.transpose()
}

fn client(timeout: Duration, tls: Option<ClientConfig>) -> Result<Client, Failure> {
    build(Client::builder().timeout(timeout), tls)
}

fn build(builder: ClientBuilder, tls: Option<ClientConfig>) -> Result<Client, Failure> {
    let mut builder = builder.no_proxy().redirect(reqwest::redirect::Policy::none());
    if let Some(tls) = tls {
        builder = builder.tls_backend_preconfigured(tls);
    }
    builder.build().map_err(|error| Failure::runtime(format!("no HTTP client can be made: {}", cause(error))))
}

async fn send(url: &str, request: RequestBuilder) -> Result<Response, Failure> {
    request.send().await.map_err(|error| Failure::runtime(format!("{url}: no answer: {}", cause(error))))
}

async fn answer(url: &str, response: Response) -> Result<Value, Failure> {
    let body = read_body(response.bytes_stream(), MAX_ANSWER).await.map_err(|error| match error {
        BodyError::TooLarge(_) => Failure::runtime(format!("{url}: expected an answer of at most {MAX_ANSWER} bytes")),
        BodyError::Broken(error) => broke_off(url, error),
    })?;
    serde_json::from_slice(&body).map_err(|_| Failure::runtime(format!("{url}: expected JSON in the answer")))
}

/// The root of it: reqwest's own messages only say in which phase something happened.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let error = error.without_url();
    let mut root: &dyn Error = &error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
