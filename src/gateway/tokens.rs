use std::time::Duration;

use actix_web::HttpRequest;
use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::learn::Caller;

/// The tokens of speech streams that answers gave here, as digests, for as long as the provider takes them.
pub(super) struct StreamTokens(Cache<[u8; 32], Stream>);

/// What is known of a speech stream.
#[derive(Clone)]
pub(super) struct Stream {
    /// Who asked for it.
    pub(super) caller: Caller,
    /// The provider's account, where the call named one.
    pub(super) account: Option<String>,
}

impl Default for StreamTokens {
    fn default() -> Self {
        const LIVES: Duration = Duration::from_secs(24 * 60 * 60);
        const MOST: u64 = 100_000;
        Self(Cache::builder().max_capacity(MOST).time_to_live(LIVES).build())
    }
}

impl StreamTokens {
    /// Remembers the token in an answer of `create-stream`.
    pub(super) fn learn(&self, body: &[u8], caller: &Caller, account: Option<String>) {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        if let Ok(Answer { token }) = serde_json::from_slice(body)
            && !token.is_empty()
        {
            self.0.insert(Sha256::digest(token.as_bytes()).into(), Stream { caller: caller.clone(), account });
        }
    }

    /// The stream whose token a request's query has.
    pub(super) fn of(&self, request: &HttpRequest) -> Option<Stream> {
        let mut pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let (_, token) = pairs.find(|(name, _)| name == "token")?;
        self.0.get(&<[u8; 32]>::from(Sha256::digest(token.as_bytes())))
    }
}
