use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::egress::header::{self, HeaderMap, HeaderValue};
use crate::http::ApiError;

/// Whose tokens may pass.
pub(super) struct Access {
    /// Digests are of one length, so that comparing them tells nothing about a token's.
    ours: Vec<[u8; 32]>,
    theirs: Vec<[u8; 32]>,
    /// What is sent on for ours.
    provider: Option<HeaderValue>,
}

/// Leave to pass.
pub(super) enum Admission {
    /// With one of our tokens: the provider gets the one that is configured for it.
    Vault(HeaderValue),
    /// With a token of the provider's own: it gets that.
    Provider,
    /// With a speech stream's token, in the query.
    Stream,
}

impl Access {
    pub(super) fn new(ours: &[SecretString], provider: Option<SecretString>, theirs: &[SecretString]) -> Self {
        let digests = |tokens: &[SecretString]| {
            // An empty token would let everybody in who sends one.
            let tokens = tokens.iter().map(|token| token.expose_secret()).filter(|token| !token.is_empty());
            tokens.map(|token| Sha256::digest(token.as_bytes()).into()).collect()
        };
        let bearer = |token: SecretString| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Self { ours: digests(ours), theirs: digests(theirs), provider: provider.and_then(bearer) }
    }

    /// What is sent on for the vault's own tokens.
    pub(super) fn provider(&self) -> Option<&HeaderValue> {
        self.provider.as_ref()
    }

    /// Whether the request's token may pass. Looks at all tokens, whichever matches.
    pub(super) fn admit(&self, request: &HttpRequest) -> Option<Admission> {
        let digest = token_digest(request)?;
        let is_among =
            |known: &[[u8; 32]]| known.iter().fold(false, |any, known| any | bool::from(known.ct_eq(&digest)));
        match (is_among(&self.ours), is_among(&self.theirs)) {
            (_, true) => Some(Admission::Provider),
            (true, false) => self.provider.clone().map(Admission::Vault),
            (false, false) => None,
        }
    }
}

impl Admission {
    /// Puts the token that the provider is to see into `headers`.
    pub(super) fn authorize(&self, headers: &mut HeaderMap) {
        match self {
            Self::Vault(provider) => {
                headers.insert(header::AUTHORIZATION, provider.clone());
            }
            Self::Provider => {
                if let Some(own) = headers.get_mut(header::AUTHORIZATION) {
                    own.set_sensitive(true);
                }
            }
            Self::Stream => {
                headers.remove(header::AUTHORIZATION);
            }
        }
    }

    /// Whether the provider sees the vault's own token.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Vault(_))
    }
}

/// The SHA-256 of the request's token; `None` without one, and with several.
pub(super) fn token_digest(request: &HttpRequest) -> Option<[u8; 32]> {
    let mut presented = request.headers().get_all(AUTHORIZATION);
    // Of two it could not be said which one the provider gets to see.
    let (first, None) = (presented.next()?, presented.next()) else { return None };
    let (scheme, token) = first.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Sha256::digest(token.trim().as_bytes()).into())
}

/// What everybody else gets.
pub(super) fn unauthorized() -> ApiError {
    let message = "expected Authorization: Bearer with a replyvault token of scope admin (and provider.api_token \
                   configured), or with a provider token of gateway.provider_tokens";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}
