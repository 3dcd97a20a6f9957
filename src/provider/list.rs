//! Answers of the provider that are about any number of jobs, or only name them.
//!
//! What an answer *shows* says how far a job is and is as good as a callback. What it only *tells of* is an id, and the
//! reply fields of the call that made the job: the answers to calls that make jobs, the scheduler, the running agent jobs.

use std::borrow::Cow;

use bytes::Bytes;

use super::json::{Object, Value};
use super::{Answer, Unrecognised, apis, json, observe};
use crate::domain::{JobId, Observation, ReplyRef};

/// The most jobs taken from one answer; the provider's lists have 30 unless asked for more.
pub const MAX_JOBS: usize = 1000;

/// A job that an answer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobMention {
    /// The job.
    pub job: JobId,
    /// The reference that the call which made it gave.
    pub reply_ref: Option<ReplyRef>,
    /// The `replyUrl` that the call which made it gave, as it stands there.
    pub reply_url: Option<String>,
}

/// Every job that an answer shows, in its order, at most [`MAX_JOBS`]: the answer about one job, or a list of any kind. Each
/// has its own part of the body, which shares the body's memory. What is no JSON or shows no job is empty.
pub fn parse_jobs(body: &Bytes) -> Vec<Answer> {
    let Ok(value) = json::parse(body) else { return Vec::new() };
    entries(value).into_iter().filter_map(|entry| shown(entry, body)).take(MAX_JOBS).collect()
}

/// The job that a part of `body` shows.
pub(super) fn shown(entry: Value<'_>, body: &Bytes) -> Option<Answer> {
    let observation = Box::new(observe(&entry.object()?).ok().filter(has_status)?);
    Some(Answer { observation, body: body.slice_ref(entry.raw().as_bytes()) })
}

/// Every job that an answer names, shown or not, in its order, at most [`MAX_JOBS`]. What is no JSON names none.
pub fn mentioned_jobs(body: &[u8]) -> Vec<JobMention> {
    json::parse(body).map_or_else(|_| Vec::new(), |value| named_in(entries(value), |row| job_of(row).ok()))
}

/// The jobs that an answer itself is about, and not what it lists, as [`mentioned_jobs`].
pub fn made_by(body: &[u8]) -> Vec<JobMention> {
    json::parse(body).map_or_else(|_| Vec::new(), |value| named_in(vec![value], |row| job_of(row).ok()))
}

/// The job that an object names.
pub(super) fn job_of(object: &Object<'_>) -> Result<JobId, Unrecognised> {
    super::job_id(object)
}

/// The jobs that values name, with `job` to say which one's.
pub(super) fn named_in(values: Vec<Value<'_>>, job: impl Fn(&Object<'_>) -> Option<JobId>) -> Vec<JobMention> {
    let mut told = Vec::new();
    for object in values.into_iter().filter_map(Value::object) {
        let request = object.object("request").unwrap_or_default();
        let reply = |name| object.text(name).or_else(|| request.text(name));
        let reply_ref = reply("replyRef").and_then(|text| ReplyRef::new(&text).ok());
        let reply_url = reply("replyUrl");
        let ids = object.get("imageIds").and_then(|ids| ids.items_up_to(MAX_JOBS)).unwrap_or_default();
        let ids = ids.into_iter().filter_map(|id| id.text()?.parse().ok());
        for job in job(&object).into_iter().chain(ids) {
            told.push(JobMention { job, reply_ref: reply_ref.clone(), reply_url: reply_url.clone() });
        }
        if told.len() >= MAX_JOBS {
            break;
        }
    }
    told.truncate(MAX_JOBS);
    told
}

/// The accounts whose capacity an answer shows.
pub(super) fn accounts(body: &[u8]) -> Result<Vec<String>, &'static str> {
    let value = json::parse(body).map_err(|_| "it is not JSON")?;
    let shown = value.object().and_then(|object| object.get("available")?.items_up_to(MAX_JOBS));
    let accounts = shown.ok_or("it shows no accounts")?.into_iter().filter_map(|shown| shown.object()?.text("account"));
    Ok(accounts.filter(|text| is_account(text)).collect())
}

/// Whether a text is an account's number, as in the ids of jobs; anything else would be a query of its own.
pub(super) fn is_account(text: &str) -> bool {
    (1..=JobId::MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The picture that stands in a body itself, at `place` of its list of media, counted from 0: the base64 text of it.
pub(super) fn inline_text(body: &[u8], place: usize) -> Option<Cow<'_, [u8]>> {
    let whole = json::parse_object(body).ok()??;
    // The answer to a call that waits has them at the top.
    let media = whole.object("response").and_then(|response| response.get("media")).or_else(|| whole.get("media"))?;
    let media = media.items_up_to(place.checked_add(1)?)?;
    let image = media.get(place)?.object()?.object("image")?.object("generatedImage")?;
    image.get("encodedImage")?.bytes()
}

/// What may be about one job: the whole, its items, or those of the lists in it.
fn entries(value: Value<'_>) -> Vec<Value<'_>> {
    if let Some(items) = value.items_up_to(MAX_JOBS) {
        return items;
    }
    let Some(object) = value.object() else { return Vec::new() };
    let mut entries = vec![value];
    for list in apis::list_fields().filter_map(|field| object.get(field)) {
        match (list.items_up_to(MAX_JOBS), list.object()) {
            (Some(items), _) => entries.extend(items),
            (None, Some(accounts)) => add_each(&mut entries, &accounts),
            (None, None) => {}
        }
    }
    entries
}

fn add_each<'a>(entries: &mut Vec<Value<'a>>, accounts: &Object<'a>) {
    for jobs in accounts.values() {
        if entries.len() > MAX_JOBS {
            return;
        }
        entries.extend(jobs.items_up_to(MAX_JOBS).unwrap_or_default());
    }
}

/// Entries of the scheduler and answers to calls that make a job have its id and nothing of these.
fn has_status(observation: &Observation) -> bool {
    let Observation { outcome, status, status_label, percent, .. } = observation;
    outcome.is_some() || status.is_some() || status_label.is_some() || percent.is_some()
}

#[cfg(test)]
mod tests;
