//! The way to a running service on this or another machine.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::service::{tls_failure, tls_files};
use super::{Failure, pinned};
use crate::app::own_certificate;
use crate::config::{Config, Credentials};
use crate::http::{BodyError, read_body};

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

/// Posts to the API of the service that runs with this configuration.
pub(super) async fn post(
    config: &Config,
    credentials: &Credentials,
    path: &str,
    body: &Value,
) -> Result<Value, Failure> {
    call(config, credentials, path, |client, url| client.post(url).json(body)).await
}

/// Gets something from that API.
pub(super) async fn get(config: &Config, credentials: &Credentials, path: &str) -> Result<Value, Failure> {
    call(config, credentials, path, |client, url| client.get(url)).await
}

/// The same; `None` when there is no such thing.
pub(super) async fn find(config: &Config, credentials: &Credentials, path: &str) -> Result<Option<Value>, Failure> {
    let (url, response) = send_as_admin(config, credentials, path, |client, url| client.get(url)).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    successful(&url, response).await.map(Some)
}

async fn call(
    config: &Config,
    credentials: &Credentials,
    path: &str,
    request: impl FnOnce(&reqwest::Client, &str) -> RequestBuilder,
) -> Result<Value, Failure> {
    let (url, response) = send_as_admin(config, credentials, path, request).await?;
    successful(&url, response).await
}

async fn send_as_admin(
    config: &Config,
    credentials: &Credentials,
    path: &str,
    request: impl FnOnce(&reqwest::Client, &str) -> RequestBuilder,
) -> Result<(String, Response), Failure> {
    let token = credentials.admin_token().ok_or_else(|| {
        Failure::usage(config.error("auth.tokens", "expected a token with scope = \"admin\" for this command"))
    })?;
    let url = format!("{}{path}", config.local_url());
    let request = request(&local(config, TIMEOUT)?, &url).bearer_auth(token.expose_secret());
    let response = send(&url, request).await?;
    Ok((url, response))
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

/// Something of that API that may be long, and its URL. Any token will do.
pub(super) async fn stream(
    config: &Config,
    credentials: &Credentials,
    path: &str,
) -> Result<(Response, String), Failure> {
    let url = format!("{}{path}", config.local_url());
    let token = credentials.api_tokens.first().ok_or_else(|| Failure::runtime("there is no token for the API"))?;
    let client = build(Client::builder().connect_timeout(HEALTH_TIMEOUT).read_timeout(TIMEOUT), pinned_tls(config)?)?;
    let response = send(&url, client.get(&url).bearer_auth(token.token.expose_secret())).await?;
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
