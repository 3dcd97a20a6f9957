use std::time::Duration;

use bytes::Bytes;

use super::entity::Entity;
use super::{Download, FetchError};
use crate::domain::MediaUrl;
use crate::egress::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use crate::egress::{self, Client, ClientConfig, ClientSetupError, Method, Policy, Response};

/// For a connection, TLS included. Far above what a CDN in reach takes, far below what would block a slot for long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What `min_speed` is measured over.
const SPEED_WINDOW: Duration = Duration::from_secs(60);

/// Before the first reopening; the n-th waits n times as long.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// What the operator allows a download to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where downloads may come from.
    pub egress: egress::Config,
    /// The most bytes of one download.
    pub max_size: u64,
    /// How long a server may keep silent, before the response's head and between two chunks of the body.
    pub idle_timeout: Duration,
    /// In bytes per second, over a minute of waiting for the server. Slower counts as a stall; 0 allows any speed.
    pub min_speed: u64,
}

/// Opens downloads. Clones share their connections.
#[derive(Clone)]
pub struct Fetcher {
    pub(super) client: Client,
    pub(super) max_size: u64,
    pub(super) min_speed: u64,
    pub(super) speed_window: Duration,
    pub(super) reopen_pause: Duration,
    /// What every request carries, where all go to the one host that may have it.
    pub(super) authorization: Option<HeaderValue>,
}

impl Fetcher {
    /// A fetcher that obeys `config`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &Config) -> Result<Self, ClientSetupError> {
        let timeouts = ClientConfig::new(CONNECT_TIMEOUT, config.idle_timeout);
        Ok(Self {
            client: Client::new(Policy::new(config.egress.clone()), timeouts)?,
            max_size: config.max_size,
            min_speed: config.min_speed,
            speed_window: SPEED_WINDOW,
            reopen_pause: REOPEN_PAUSE,
            authorization: None,
        })
    }

    /// The same with a token in every request. `config` must allow the token's own host alone; no redirect is followed.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_authorization(config: &Config, authorization: HeaderValue) -> Result<Self, ClientSetupError> {
        Ok(Self { authorization: Some(authorization), ..Self::new(config)? })
    }

    /// What is at hand already, as a download.
    ///
    /// # Errors
    /// When it is too large.
    pub fn at_hand(&self, url: &MediaUrl, bytes: Bytes) -> Result<Download, FetchError> {
        self.check_size(bytes.len() as u64)?;
        let entity = Entity::of_headers(&HeaderMap::new(), Some(bytes.len() as u64));
        Ok(Download::of_bytes(self.clone(), url.clone(), entity, bytes))
    }

    /// Asks for a URL and reads the response's head. Does not try again by itself.
    ///
    /// # Errors
    /// When the policy refuses the URL, when nobody answers, and when the answer is no body of a permitted size.
    pub async fn open(&self, url: &MediaUrl) -> Result<Download, FetchError> {
        let response = self.request(url, HeaderMap::new()).await?;
        let entity = Entity::whole(&response)?;
        self.check_size(entity.length.unwrap_or(0))?;
        Ok(Download::new(self.clone(), url.clone(), entity, response))
    }

    pub(super) async fn request(&self, url: &MediaUrl, mut headers: HeaderMap) -> Result<Response, FetchError> {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match &self.authorization {
            None => Ok(self.client.get(url, headers).await?),
            Some(authorization) => {
                headers.insert(AUTHORIZATION, authorization.clone());
                Ok(self.client.send(Method::GET, url, headers, None).await?)
            }
        }
    }

    pub(super) fn check_size(&self, bytes: u64) -> Result<(), FetchError> {
        if bytes > self.max_size { Err(FetchError::TooLarge { limit: self.max_size }) } else { Ok(()) }
    }
}
