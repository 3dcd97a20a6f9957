use actix_web::HttpRequest;
use moka::sync::Cache;
use serde::Deserialize;
use url::form_urlencoded;

use super::Gateway;
use super::observe::Caller;
use crate::domain::Digest;
use crate::egress::header::HeaderValue;
use crate::state::{StateError, StreamTokenRecord};

/// What callers with provider tokens of their own are asked for again with, once their streams are over: by the digest of a
/// stream's token, and in memory alone. The tokens of streams themselves outlive a restart, as digests.
pub(super) struct StreamOwners(Cache<Digest, HeaderValue>);

/// A speech stream whose token was given here.
#[derive(Clone)]
pub(super) struct Stream {
    /// Who asked for it; without a token when that is not known any more.
    pub(super) caller: Caller,
    /// The provider's account, where the call named one.
    pub(super) account: Option<String>,
}

impl Default for StreamOwners {
    fn default() -> Self {
        const MAX_STREAM_TOKENS: u64 = 10_000;
        Self(Cache::builder().max_capacity(MAX_STREAM_TOKENS).time_to_live(StreamTokenRecord::LIVES).build())
    }
}

impl Gateway {
    /// Remembers the token in an answer of `create-stream`.
    pub(super) async fn observe_stream_token(&self, body: &[u8], caller: &Caller, account: Option<String>) {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let Ok(Answer { token }) = serde_json::from_slice(body) else { return };
        if token.is_empty() {
            return;
        }
        let digest = Digest::of(token.as_bytes());
        if let Some(authorization) = caller.authorization.clone().filter(|_| !caller.is_ours) {
            self.inner.stream_owners.0.insert(digest, authorization);
        }
        if let Err(error) = self.intake().stream_token_given(digest, caller.is_ours, account).await {
            tracing::warn!(%error, "the token of a speech stream cannot be recorded, and will not open it");
        }
    }

    /// The stream whose token a request's query has.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(super) fn stream_of(&self, request: &HttpRequest) -> Result<Option<Stream>, StateError> {
        let mut pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let Some((_, token)) = pairs.find(|(name, _)| name == "token") else { return Ok(None) };
        let digest = Digest::of(token.as_bytes());
        let known = self.intake().log().state().stream_token(&digest)?;
        Ok(known.map(|StreamTokenRecord { ours, account, .. }| {
            let own = || self.inner.stream_owners.0.get(&digest);
            let authorization = if ours { self.inner.access.provider().cloned() } else { own() };
            Stream { caller: Caller { authorization, is_ours: ours, is_head: false }, account }
        }))
    }
}
