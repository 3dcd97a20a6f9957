//! The setting of the provider's account: the replyUrl of every call that gives none of its own.

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Client, ProviderError};
use crate::domain::MediaUrl;
use crate::egress::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use crate::egress::{Body, Method};
use crate::http::{BodyError, read_body};
use crate::provider::error::ErrorReport;
use crate::provider::json;

/// Where the setting is read and made: <https://useapi.net/docs/account-management/post-account>.
const PATH: &str = "v2/account";
/// The largest answer taken, in bytes.
const MAX_ANSWER: usize = 256 << 10;
/// The longest text of an answer that is shown, in bytes.
const MAX_SAID: usize = 300;

/// What the account says of its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountDefault {
    /// The URL that is called where a call gives none.
    pub reply_url: Option<String>,
    /// The account's name, which is kept as it is.
    name: Option<String>,
}

/// Why the setting could not be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}", said.as_deref().map(|said| format!(": {said}")).unwrap_or_default())]
pub struct AccountError {
    /// What went wrong.
    pub error: ProviderError,
    /// The provider's words, without secrets.
    said: Option<String>,
}

impl From<ProviderError> for AccountError {
    fn from(error: ProviderError) -> Self {
        Self { error, said: None }
    }
}

impl Client {
    /// Reads the setting.
    ///
    /// # Errors
    /// When the provider does not tell.
    pub async fn account_default(&self) -> Result<AccountDefault, AccountError> {
        let body = self.account_call(Method::GET, None).await?;
        let account = json::parse_object(&body).ok().flatten();
        let account = account.ok_or(ProviderError::Unreadable("expected the account as a JSON object"))?;
        Ok(AccountDefault { reply_url: account.text("replyUrl"), name: account.text("name") })
    }

    /// Makes `reply_url` the default, or none where it is `None`; all else stays as it was in `before`.
    ///
    /// # Errors
    /// When the provider does not take it.
    pub async fn set_account_default(
        &self,
        reply_url: Option<&str>,
        before: &AccountDefault,
    ) -> Result<(), AccountError> {
        // How it is cleared no page says; an empty text is what its other calls take for nothing.
        let mut setting = json!({"replyUrl": reply_url.unwrap_or_default()});
        if let Some(name) = &before.name {
            setting["name"] = json!(name);
        }
        self.account_call(Method::POST, Some(setting)).await.map(drop)
    }

    async fn account_call(&self, method: Method, setting: Option<Value>) -> Result<bytes::Bytes, AccountError> {
        let url = MediaUrl::parse(&format!("{}/{PATH}", self.base));
        let url = url.map_err(|error| ProviderError::Unreachable(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.token.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if setting.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answered = timeout(Self::ANSWER_TIMEOUT, async {
            let body = setting.map(|setting| Body::from(setting.to_string()));
            // No redirect is followed: the token goes to the configured host alone.
            let response = self.http.send(method, &url, headers, body).await.map_err(ProviderError::from)?;
            let status = ProviderError::of_answer(response.status(), response.headers());
            let body = read_body(response.into_stream(), MAX_ANSWER).await.map_err(|error| match error {
                BodyError::TooLarge(_) => ProviderError::Unreadable("it is too large"),
                BodyError::Broken(error) => error.into(),
            })?;
            match status {
                Ok(()) => Ok(body),
                Err(error) => Err(AccountError { error, said: self.said(&body) }),
            }
        });
        let late = || ProviderError::NoAnswer("the answer took too long".to_owned());
        answered.await.unwrap_or_else(|_| Err(late().into()))
    }

    /// The provider's words about an error, unless they repeat our token.
    fn said(&self, body: &[u8]) -> Option<String> {
        let said = ErrorReport::read(&json::parse_object(body).ok()??)?.text;
        let token = self.token.to_str().unwrap_or_default().trim_start_matches("Bearer").trim();
        (token.is_empty() || !said.contains(token)).then(|| super::super::cut(said, MAX_SAID))
    }
}
