//! What all calls that make jobs have in common.

use std::str::FromStr;

use bytesize::ByteSize;
use replyvault_domain::{JobId, Kind};

use super::fields::{Fields, MAX_ITEMS};
use super::{ApiError, rules};
use crate::apis::Form;
use crate::job::{ACCOUNT, Request};

/// The provider's longest bound for a prompt, in characters.
const MAX_PROMPT: usize = 5000;
/// The provider's bound for `replyUrl` and `replyRef`, in characters.
const MAX_REPLY: usize = 1024;

impl Fields {
    fn reply(&self, name: &str) -> Result<Option<String>, ApiError> {
        let value = self.get(name);
        if value.is_some_and(|value| value.chars().nth(MAX_REPLY).is_some()) {
            return Err(ApiError::BadRequest(format!("Parameter {name} is longer than {MAX_REPLY} characters")));
        }
        Ok(value.map(str::to_owned))
    }

    /// What all kinds of jobs have in common.
    pub(super) fn request(&self, kind: Kind, prompt: &str, video_bytes: Option<u64>) -> Result<Request, ApiError> {
        let account = self.get("account").unwrap_or(ACCOUNT);
        if account.len() > JobId::MAX_DIGITS || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::BadRequest("Parameter account is a number".into()));
        }
        let models = self.get("models").or(self.get("model")).unwrap_or_default();
        let models: Vec<String> =
            models.split(',').map(str::trim).filter(|model| !model.is_empty()).map(Into::into).collect();
        if models.len() > MAX_ITEMS {
            return Err(ApiError::BadRequest(format!("More than {MAX_ITEMS} models")));
        }
        if prompt.chars().nth(MAX_PROMPT).is_some() {
            return Err(ApiError::BadRequest(format!("A prompt of more than {MAX_PROMPT} characters")));
        }
        rules::check(kind, self)?;
        let background = self.get("async").map(str::parse).transpose();
        let max_jobs = self.get("maxJobs").map(|text| text.parse().ok().filter(|number| (1..=10).contains(number)));
        if max_jobs == Some(None) {
            return Err(ApiError::BadRequest("Parameter maxJobs is from 1 to 10".into()));
        }
        Ok(Request {
            form: None,
            kind,
            account: account.into(),
            prompt: prompt.into(),
            models,
            title: self.get("title").unwrap_or_default().into(),
            aspect_ratio: self.get("aspectRatio").unwrap_or("16:9").into(),
            reply_url: self.reply("replyUrl")?,
            reply_ref: self.reply("replyRef")?,
            background: background.map_err(|_| ApiError::BadRequest("Parameter async is true or false".into()))?,
            files: self.files().to_vec(),
            input: self.get("fileID").map(Into::into),
            size: size(prompt).or(video_bytes),
            max_jobs: max_jobs.flatten(),
            fails_with: None,
        })
    }
}

impl Fields {
    /// What a call asks for whose form is in the table.
    pub(super) fn by_table(&self, form: &'static Form, video_bytes: Option<u64>) -> Result<Request, ApiError> {
        let prompt = self.get("prompt").or(self.get("text")).unwrap_or_default();
        if prompt.chars().nth(MAX_PROMPT).is_some() {
            return Err(ApiError::BadRequest(format!("A prompt of more than {MAX_PROMPT} characters")));
        }
        Ok(Request {
            form: Some(form),
            kind: form.kind,
            account: self.get("email").unwrap_or_default().into(),
            prompt: prompt.into(),
            models: Vec::new(),
            title: String::new(),
            aspect_ratio: String::new(),
            reply_url: self.reply("replyUrl")?,
            reply_ref: self.reply("replyRef")?,
            background: None,
            files: self.files().to_vec(),
            input: None,
            size: size(prompt).or(video_bytes),
            max_jobs: None,
            fails_with: None,
        })
    }
}

/// The `size=20MiB` that a prompt may hold.
fn size(prompt: &str) -> Option<u64> {
    let sizes = prompt.split_whitespace().filter_map(|word| word.strip_prefix("size="));
    sizes.filter_map(|size| ByteSize::from_str(size).ok()).map(|size| size.0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_can_ask_for_a_size() {
        assert_eq!(size("a boat size=20MiB at sea"), Some(20 << 20));
        assert_eq!(size("size=x size=3GiB"), Some(3 << 30));
        assert_eq!(size("oversize=1MB"), None);
    }

    #[test]
    fn replies_are_bounded_in_characters() {
        let fields = |name: &str, length| Fields::from_pairs(format!("{name}={}", "✓".repeat(length)).as_bytes());
        for name in ["replyUrl", "replyRef"] {
            assert!(fields(name, 1024).request(Kind::Video, "", None).is_ok());
            assert!(fields(name, 1025).request(Kind::Video, "", None).is_err());
        }
    }
}
