//! The provider's JSON, read into [`Observation`]s: which job, how far, which URL is the media and whether it is clean.
//!
//! The provider documents all fields as optional and its callbacks hardly at all, so reading is tolerant: fields that
//! are not known are ignored, numbers may come as text, nulls and empty strings are absent, nesting and number sizes
//! have no limit. Nothing that is JSON is an error here; what cannot be understood says why, and is kept aside.

mod account;
mod apis;
mod budget;
mod client;
mod endpoint;
mod error;
mod json;
pub mod json_patch;
mod list;
mod media;
mod redact;

use crate::domain::redact::redacted_up_to;
use crate::domain::{JobId, MediaUrl, Observation, ReplyRef, Timestamp};

pub use account::AccountLogin;
pub use apis::{
    FIRST_API_PATH, JobList, ListPosition, RunningList, denies, job_path, kept_days, media_hosts, names, rounds,
};
pub use client::{AccountDefault, AccountError, Answer, CircuitBreaker, Client, ClientConfig, ListPage, ProviderError};
pub(crate) use client::{account_of, turn_of};
pub use endpoint::{Api, Created, Endpoint};
pub use json::NotJson;
use json::Object;
pub use list::{JobMention, MAX_JOBS, made_by, mentioned_jobs, parse_jobs};
pub use redact::redacted;

/// What a body turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// About a job.
    Job(Box<Observation>),
    /// JSON that says nothing replyvault can act on.
    Unrecognised(Unrecognised),
}

/// Why a body says nothing replyvault can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecognised {
    /// It is not an object with an id in a place where the provider puts one.
    UnknownShape,
    /// The id has none of the known forms.
    UnknownId,
    /// Its replyRef is longer than the provider allows, or an object or array.
    InvalidReplyRef,
}

impl Unrecognised {
    /// The name used in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownShape => "unknown_shape",
            Self::UnknownId => "unknown_id",
            Self::InvalidReplyRef => "invalid_reply_ref",
        }
    }
}

/// Reads a callback's body, or any other answer about one job.
///
/// # Errors
/// When it is not JSON by the grammar of RFC 8259, byte order marks aside.
pub fn read(body: &[u8]) -> Result<Parsed, NotJson> {
    let object = json::parse_object(body)?;
    Ok(match object.ok_or(Unrecognised::UnknownShape).and_then(|object| observe(&object)) {
        Ok(observation) => Parsed::Job(Box::new(observation)),
        Err(unclear) => Parsed::Unrecognised(unclear),
    })
}

fn observe(object: &Object<'_>) -> Result<Observation, Unrecognised> {
    let (id, api) = apis::recognise(object)?;
    let reply_ref = find_reply_ref(object, api.reply_ref_in())?;
    Ok(Observation { reply_ref, ..api.observe(id, object)? })
}

/// Where the API puts it; else wherever one of them might.
fn find_reply_ref(object: &Object<'_>, usual: &str) -> Result<Option<ReplyRef>, Unrecognised> {
    if let Some(found) = object.object(usual).map(|usual| reply_ref(&usual)).transpose()?.flatten() {
        return Ok(Some(found));
    }
    if let Some(found) = reply_ref(object)? {
        return Ok(Some(found));
    }
    for place in ["request", "response", "task"] {
        if let Some(found) = object.object(place).map(|place| reply_ref(&place)).transpose()?.flatten() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The bytes of a picture that stands in a body itself, at `place` of its list of media.
pub fn inline_media(body: &[u8], place: &MediaUrl) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let place = place.file_name().parse().ok().filter(|place| *place < Observation::MAX_ASSETS)?;
    let text = list::inline_text(body, place)?;
    base64::engine::general_purpose::STANDARD.decode(text.trim_ascii()).ok()
}

/// The caller's reference: a text, or a number or boolean as it is written.
fn reply_ref(object: &Object<'_>) -> Result<Option<ReplyRef>, Unrecognised> {
    let Some(value) = object.get("replyRef") else { return Ok(None) };
    let text = match value.raw().as_bytes().first() {
        Some(b'{' | b'[') => return Err(Unrecognised::InvalidReplyRef),
        Some(b't' | b'f') => Some(value.raw().to_owned()),
        _ => value.text(),
    };
    text.map(|text| ReplyRef::new(&text).map_err(|_| Unrecognised::InvalidReplyRef)).transpose()
}

fn job_id(object: &Object<'_>) -> Result<JobId, Unrecognised> {
    apis::recognise(object).map(|(id, _)| id)
}

/// The longest text of the provider's that a job's record holds, in bytes.
const MAX_TEXT_BYTES: usize = 8192;
/// The same for what is a word or two: a status and its label.
const MAX_LABEL_BYTES: usize = 256;

/// What the provider says in words, without secrets and cut to what a job's record should hold; the whole stays in the
/// journal.
fn truncate_redacted(text: String) -> String {
    cut(redacted_beginning(&text, MAX_TEXT_BYTES), MAX_TEXT_BYTES)
}

fn label(text: String) -> String {
    cut(redacted_beginning(&text, MAX_LABEL_BYTES), MAX_LABEL_BYTES)
}

/// A text without secrets, as far as any of its first `kept_bytes` may be kept.
fn redacted_beginning(text: &str, kept_bytes: usize) -> String {
    let (searched, end) = searched(text, kept_bytes);
    redacted_up_to(searched, end)
}

/// What of a text is searched for secrets, and up to where that may be shown. A body has a dozen texts, which cost the more
/// the deeper they are escaped, so of none much more is searched than is kept.
fn searched(text: &str, kept_bytes: usize) -> (&str, usize) {
    /// As much is looked at behind what is shown, so that of a secret that begins there the end is seen, too. A signature of
    /// ours is known by some sixty characters, which are no longer with each of them percent-encoded eight times.
    const LEAST_SHOWN_BYTES: usize = 2 << 10;
    let shown = kept_bytes.max(LEAST_SHOWN_BYTES);
    let searched = &text[..text.floor_char_boundary(2 * shown)];
    let is_cut = searched.len() < text.len();
    let end = if is_cut { searched.floor_char_boundary(shown) } else { searched.len() };
    (searched, end)
}

fn cut(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
    text
}

/// A time that the provider may mean. Zero, and what is before it made anything or far ahead, is a default or a defect.
fn believable(at: Timestamp) -> Option<Timestamp> {
    const YEAR_2015: u64 = 1_420_070_400_000;
    const YEAR_2100: u64 = 4_102_444_800_000;
    (YEAR_2015..YEAR_2100).contains(&at.millis()).then_some(at)
}

#[cfg(test)]
mod tests;
