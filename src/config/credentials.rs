use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use sha2::Sha256;

use super::{Config, Error, Scope, Secret, Secrets, SecretsError, Wanted};
use crate::intake::{ReplyKeys, ReplyUrls};
use crate::notify::SigningKeys;
use crate::repair::ArchiveKeys;

/// Who may use the API, and what signs reply URLs: as configured, else as made on the first start.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Bearer tokens of the API; at least one.
    pub api_tokens: Vec<ApiToken>,
    /// Makes and checks reply URLs.
    pub reply_urls: ReplyUrls,
    /// What signs events to the `notifyUrl` of a ref.
    pub notify_keys: SigningKeys,
    /// What archived segments of the journal are encrypted with.
    pub journal_keys: ArchiveKeys,
    /// True when something was made just now and nobody has seen it yet.
    pub made: bool,
}

/// A bearer token of the API.
#[derive(Clone)]
pub struct ApiToken {
    /// What it is called in logs.
    pub name: String,
    /// The token.
    pub token: SecretString,
    /// What it is good for.
    pub scope: Scope,
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({:?}, {})", self.name, self.scope)
    }
}

impl Config {
    /// The credentials; those that nobody configured are read from the data directory, or made.
    ///
    /// # Errors
    /// When `secrets.toml` is needed and can't be used: the key is `data.dir`, where it is kept.
    pub fn credentials(&self) -> Result<Credentials, Error> {
        let auth = &self.auth;
        let api_token = auth.api_tokens.is_empty() && auth.tokens.is_empty();
        let notify_secret = self.notify.secret.is_none();
        let (reply_secret, journal_keys) = (auth.reply_secrets.is_empty(), self.cluster.postgres.is_none());
        let wanted = Wanted { api_token, reply_secret, notify_secret, journal_keys };
        let secrets = self.secrets(wanted)?;
        let admin = |name: String, token: &SecretString| ApiToken { name, token: token.clone(), scope: Scope::Admin };
        let unnamed = auth.api_tokens.iter().enumerate();
        let named = auth.tokens.iter().map(|token| ApiToken {
            name: token.name.clone(),
            token: token.token.0.clone(),
            scope: token.scope,
        });
        let made = secrets.api_token.iter().filter(|_| wanted.api_token);
        let api_tokens = made
            .map(|token| admin("secrets.toml".to_owned(), token))
            .chain(unnamed.map(|(place, token)| admin(format!("api_tokens[{place}]"), &token.0)))
            .chain(named)
            .collect();
        let (reply_urls, journal_keys) = (self.urls_with(&secrets)?, self.keys_of(&secrets)?);
        let notify_keys = self.notify_keys_with(&secrets)?;
        Ok(Credentials { api_tokens, reply_urls, notify_keys, journal_keys, made: secrets.made })
    }

    /// Makes and checks reply URLs. The data directory is not touched where `auth.reply_secrets` has a key.
    ///
    /// # Errors
    /// As for [`Config::credentials`].
    pub fn reply_urls(&self) -> Result<ReplyUrls, Error> {
        let reply_secret = self.auth.reply_secrets.is_empty();
        let wanted = Wanted { reply_secret, ..Wanted::NOTHING };
        self.urls_with(&self.secrets(wanted)?)
    }

    /// What archived segments of the journal are encrypted with.
    ///
    /// # Errors
    /// As for [`Config::credentials`].
    pub fn journal_keys(&self) -> Result<ArchiveKeys, Error> {
        let wanted = Wanted { journal_keys: self.cluster.postgres.is_none(), ..Wanted::NOTHING };
        self.keys_of(&self.secrets(wanted)?)
    }

    fn secrets(&self, wanted: Wanted) -> Result<Secrets, Error> {
        Secrets::load_or_create(&self.data.dir, wanted).map_err(|error| self.error("data.dir", error))
    }

    /// What `secrets.toml` has cannot be used.
    fn unusable_secrets(&self) -> Error {
        self.error("data.dir", SecretsError::Content { path: self.data.dir.join("secrets.toml") })
    }

    fn notify_keys_with(&self, secrets: &Secrets) -> Result<SigningKeys, Error> {
        let configured = self.notify.secret.iter().flat_map(|secrets| &secrets.0);
        let made = secrets.notify_secret.iter().filter(|_| self.notify.secret.is_none());
        let keys = SigningKeys::read(made.chain(configured.map(|secret| &secret.0)));
        keys.map_err(|_| self.unusable_secrets())
    }

    fn keys_of(&self, secrets: &Secrets) -> Result<ArchiveKeys, Error> {
        let keys = match self.cluster.postgres {
            None => ArchiveKeys::new(&secrets.journal_keys),
            Some(_) => {
                // What this machine made while it was alone still reads what was archived then.
                let own = Secrets::load(&self.data.dir.join("secrets.toml"));
                let own = own.map_err(|error| self.error("data.dir", error))?.journal_keys;
                let shared: Vec<_> = self.auth.reply_secrets.iter().filter_map(shared_journal_key).collect();
                ArchiveKeys::new(shared.iter().chain(&own))
            }
        };
        keys.ok_or_else(|| self.unusable_secrets())
    }

    fn urls_with(&self, secrets: &Secrets) -> Result<ReplyUrls, Error> {
        let configured = &self.auth.reply_secrets;
        // What was made counts no more once something is configured.
        let made = secrets.reply_secret.iter().filter(|_| configured.is_empty());
        let keys = ReplyKeys::new(made.chain(configured.iter().map(|secret| &secret.0)));
        let keys = keys.ok_or_else(|| self.unusable_secrets())?;
        Ok(ReplyUrls::new(self.server.public_url.url().clone(), keys))
    }
}

/// The key that replicas encrypt archived segments with: each must read what the others archived, so it follows from what
/// they share.
fn shared_journal_key(reply_secret: &Secret) -> Option<SecretString> {
    let mut mac = Hmac::<Sha256>::new_from_slice(reply_secret.expose().as_bytes()).ok()?;
    mac.update(b"replyvault: archived segments of the journal");
    Some(hex::encode(mac.finalize().into_bytes()).into())
}

impl Credentials {
    /// A token that may do everything.
    pub fn admin_token(&self) -> Option<&SecretString> {
        self.api_tokens.iter().find(|token| token.scope == Scope::Admin).map(|token| &token.token)
    }
}
