use std::collections::HashMap;

use std::time::Instant;

use actix_web::HttpRequest;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use url::form_urlencoded;

use super::aside::aside;
use super::observe::Caller;
use crate::domain::Digest;
use crate::egress::header::HeaderValue;
use crate::intake::Intake;
use crate::provider::Api;
use crate::state::{StateError, StreamTokenRecord};

/// What callers with provider tokens of their own are asked for again with, once their streams are over: by the digest of a
/// stream's token, and in memory alone. The tokens of streams themselves outlive a restart, as digests.
#[derive(Default)]
struct StreamOwners(Mutex<HashMap<Digest, (Instant, HeaderValue)>>);

impl StreamOwners {
    /// Of more, those that were given first are forgotten.
    const MAX: usize = 10_000;

    fn insert(&self, token: Digest, authorization: HeaderValue) {
        let mut known = self.0.lock();
        if known.len() >= Self::MAX {
            known.retain(|_, (given, _)| given.elapsed() < StreamTokenRecord::LIVES);
        }
        if known.len() >= Self::MAX
            && let Some(oldest) = known.iter().min_by_key(|(_, (given, _))| *given).map(|(token, _)| *token)
        {
            known.remove(&oldest);
        }
        known.insert(token, (Instant::now(), authorization));
    }

    fn get(&self, token: &Digest) -> Option<HeaderValue> {
        let known = self.0.lock();
        let (given, authorization) = known.get(token)?;
        (given.elapsed() < StreamTokenRecord::LIVES).then(|| authorization.clone())
    }
}

/// A speech stream whose token was given here.
#[derive(Clone)]
pub(super) struct Stream {
    /// Who asked for it; without a token when that is not known any more.
    pub(super) caller: Caller,
    /// The provider's account, where the call named one.
    pub(super) account: Option<String>,
}

/// The speech streams whose tokens were given here.
pub(super) struct Streams {
    intake: Intake,
    owners: StreamOwners,
    /// What the vault's own calls are made with.
    own: Option<HeaderValue>,
}

impl Streams {
    pub(super) fn new(intake: Intake, own: Option<HeaderValue>) -> Self {
        Self { intake, owners: StreamOwners::default(), own }
    }

    /// Remembers the token in an answer of `create-stream`.
    pub(super) async fn observe_token(&self, body: &Bytes, caller: &Caller, account: Option<String>) {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let whole = body.clone();
        let digest = aside(body.len(), move || {
            let Answer { token } = serde_json::from_slice(&whole).ok()?;
            (!token.is_empty()).then(|| Digest::of(token.as_bytes()))
        });
        let Some(digest) = digest.await.flatten() else { return };
        if let Some(authorization) = caller.authorization.clone().filter(|_| !caller.is_ours) {
            self.owners.insert(digest, authorization);
        }
        if let Err(error) = self.intake.stream_token_given(digest, caller.is_ours, account).await {
            tracing::warn!(%error, "the token of a speech stream cannot be recorded, and will not open it");
        }
    }

    /// The stream whose token a request's query has.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(super) fn stream_of(&self, api: Api, request: &HttpRequest) -> Result<Option<Stream>, StateError> {
        let mut pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let Some((_, token)) = pairs.find(|(name, _)| name == "token") else { return Ok(None) };
        let digest = Digest::of(token.as_bytes());
        let known = self.intake.log().state().stream_token(&digest)?;
        Ok(known.map(|StreamTokenRecord { ours, account, .. }| {
            let own = || self.owners.get(&digest);
            let authorization = if ours { self.own.clone() } else { own() };
            Stream { caller: Caller { key: None, api, authorization, is_ours: ours, is_head: false }, account }
        }))
    }
}
