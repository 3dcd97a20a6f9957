//! The `error` of an answer: a text, or an object `{message, status, details}`, with a `code` beside it.

use super::json::{Object, Value};
use super::truncate_redacted;
use crate::domain::Outcome;

/// What an answer says went wrong.
#[derive(Debug)]
pub(super) struct ErrorReport {
    /// The provider's words, with status and details where it gives them: `Timeout (status 504)`.
    pub(super) text: String,
    /// The HTTP status that the provider names: `error.status`, else `error.code`, else `code`.
    code: Option<i64>,
}

impl ErrorReport {
    /// `None` when the answer has no `error`.
    pub(super) fn read(object: &Object<'_>) -> Option<Self> {
        let value = object.get("error")?;
        let code = object.integer("code");
        let Some(error) = value.object() else {
            let text = value.text().unwrap_or_else(|| value.raw().to_owned());
            return Some(Self { text: truncate_redacted(with(&text, code, None)), code });
        };
        let status = error.integer("status").or_else(|| error.integer("code")).or(code);
        let message = error.text("message").unwrap_or_else(|| value.raw().to_owned());
        let details = error.text("message").and_then(|_| error.get("details"));
        Some(Self { text: truncate_redacted(with(&message, status, details)), code: status })
    }

    /// The HTTP status that the provider names, if it names one.
    pub(super) fn code(&self) -> Option<i64> {
        self.code
    }

    /// Whether the provider refused what was asked for: 422 means a moderated prompt or file.
    pub(super) fn is_moderation(&self) -> bool {
        /// The words its pages and its users' reports have for it, in lower case.
        const WORDS: [&str; 7] =
            ["moderat", "sensitive", "violat", "prohibited", "content policy", "community guidelines", "inappropriate"];
        let text = self.text.to_lowercase();
        self.code == Some(422) && WORDS.iter().any(|word| text.contains(word))
    }

    /// How a job ended of which the answer says nothing but this; `None` where the status says "later" or "not you".
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self.code? {
            401 | 403 | 404 | 408 | 429 | 596 => None,
            422 => Some(Outcome::Moderated),
            400..600 => Some(Outcome::Failed),
            _ => None,
        }
    }
}

fn with(message: &str, status: Option<i64>, details: Option<Value<'_>>) -> String {
    let details = details.map(|details| details.text().unwrap_or_else(|| details.raw().to_owned()));
    match (status, details) {
        (None, None) => message.to_owned(),
        (Some(status), None) => format!("{message} (status {status})"),
        (None, Some(details)) => format!("{message} ({details})"),
        (Some(status), Some(details)) => format!("{message} (status {status}: {details})"),
    }
}
