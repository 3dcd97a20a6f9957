//! The provider's APIs: an adapter for each, in a file of its own, and the one table of them.
//!
//! Callbacks of all APIs come to one URL, and none says which API it comes from. What tells is the form of the job's id, in the
//! fields where each API puts it; for those whose ids do not name them, what else only their bodies have. A body that fits none
//! is quarantined whole.

pub(super) mod common;
mod dreamina;
mod faceswap;
mod flowmusic;
mod gemini_notebook;
mod google_flow;
mod google_vids;
mod kling;
mod lists;
pub(super) mod minimax;
mod mureka;
mod pixverse;
mod runwayml;
mod tempolor;

use serde_json::{Value, json};

use super::Unrecognised;
use super::endpoint::Row;
use super::json::Object;
use crate::domain::{JobId, JobIdParts, Observation};
pub(super) use lists::List;
use lists::Paging;
pub use lists::{JobList, ListPosition, RunningList, rounds};

/// Every API. Nothing outside of its adapter knows a name of one.
const APIS: [&Adapter; 12] = [
    &minimax::MINIMAX,
    &google_flow::GOOGLE_FLOW,
    &flowmusic::FLOWMUSIC,
    &dreamina::DREAMINA,
    &kling::KLING,
    &runwayml::RUNWAYML,
    &pixverse::PIXVERSE,
    &mureka::MUREKA,
    &tempolor::TEMPOLOR,
    &faceswap::FACESWAP,
    &google_vids::GOOGLE_VIDS,
    &gemini_notebook::GEMINI_NOTEBOOK,
];

/// What the paths of the first API begin with: the one whose lists, accounts and scheduler are read.
pub const FIRST_API_PATH: &str = "v1/minimax";

/// Every field that holds a job's id in some API, in the order in which they count.
const ID_FIELDS: [&str; 11] = [
    "videoId", "imageId", "jobId", "musicId", "audioId", "audio_id", "jobid", "video_id", "image_id", "taskId",
    "job_id",
];

/// What is particular to one API.
pub(super) struct Adapter {
    /// As in its paths, and as jobs' `provider`.
    name: &'static str,
    /// What its paths begin with.
    base: &'static str,
    /// Where its media are: patterns of hosts.
    hosts: &'static [&'static str],
    /// Which of [`ID_FIELDS`] hold its ids.
    id_fields: &'static [&'static str],
    /// Whether an id that names this API is one of its jobs'.
    is_id: fn(&JobIdParts<'_>) -> bool,
    /// The job of a body whose id does not name the API, if the body is this API's.
    claim: fn(&Object<'_>) -> Option<JobId>,
    /// The member that the caller's reference stands in; empty for the top level.
    reply_ref_in: &'static str,
    /// What a body says of its job; `None` for one of a type that is not known.
    read: fn(JobId, &Object<'_>) -> Option<Observation>,
    /// Where to ask for a job, below the base.
    job_path: fn(&JobId) -> Option<String>,
    /// A body that names a job and says nothing else.
    naming: fn(&JobId) -> Value,
    /// The account that a job runs on, where its id says it.
    account: fn(&JobId) -> &str,
    /// Where the answer about a job has its two ids, if it may have either of them or none: the one that counts stands in the
    /// first.
    names_of: fn(&JobId) -> Option<[&'static str; 2]>,
    /// Whether "there is no such job" means that there is none any more.
    denies: fn(&JobId) -> bool,
    /// For how many days the provider knows a job.
    kept_days: u16,
    /// What its calls are to the gateway, the first row that fits; a call without one is passed as it is.
    endpoints: &'static [Row],
    /// Members of its answers that hold a list of jobs, or perhaps one list for each account.
    lists: &'static [&'static str],
    /// Jobs that the answer to a call that creates them names in a form of its own.
    created: fn(&Object<'_>) -> Vec<JobId>,
    /// Whether its pages say that calls without a replyUrl use the account's.
    uses_account_default: bool,
    /// Whether its calls name the provider's accounts as its jobs' ids do, in `account`.
    names_accounts: bool,
    /// Whether it wants ids in its paths percent-encoded; others refuse that.
    encodes_ids: bool,
    /// Its lists of jobs.
    job_lists: &'static [List],
    /// Its lists of what runs, below the base.
    running: &'static [&'static str],
    /// The job of a row of those that says nothing of its API.
    listed: fn(&Object<'_>) -> Option<JobId>,
    /// The lists are looked at once in so many rounds of ten minutes.
    rounds: u32,
    /// The largest answer about a job, in bytes, where that has files in it; else 0.
    max_answer: usize,
}

impl Adapter {
    /// An API whose ids stand in `jobid` and name it, which keeps its jobs for a month and says 404 of what is gone.
    const fn new(name: &'static str, read: fn(JobId, &Object<'_>) -> Option<Observation>) -> Self {
        Self {
            name,
            base: "",
            hosts: &[],
            id_fields: &["jobid", "jobId"],
            is_id: |_| false,
            claim: |_| None,
            reply_ref_in: "",
            read,
            job_path: |_| None,
            naming: |id| json!({"jobid": id.as_sent()}),
            account: JobId::account,
            names_of: |_| None,
            denies: |_| true,
            kept_days: 31,
            endpoints: &[],
            lists: &[],
            created: |_| Vec::new(),
            uses_account_default: false,
            names_accounts: false,
            encodes_ids: false,
            job_lists: &[],
            running: &[],
            listed: |_| None,
            rounds: 3,
            max_answer: 0,
        }
    }

    fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.base())
    }

    /// What its paths begin with, without slashes around.
    pub(super) fn base(&self) -> String {
        if self.base.is_empty() { format!("v1/{}", self.name) } else { self.base.to_owned() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn endpoints(&self) -> &'static [Row] {
        self.endpoints
    }

    pub(super) fn uses_account_default(&self) -> bool {
        self.uses_account_default
    }

    pub(super) fn names_accounts(&self) -> bool {
        self.names_accounts
    }

    pub(super) fn encodes_ids(&self) -> bool {
        self.encodes_ids
    }

    pub(super) fn created_in(&self, answer: &Object<'_>) -> Vec<JobId> {
        (self.created)(answer)
    }
}

/// The adapter of a job's API, if the id is of the form that it gives its jobs.
pub(super) fn of(id: &JobId) -> Option<&'static Adapter> {
    let parts = id.parts();
    let adapter = APIS.into_iter().find(|api| is_same(api.name, parts.api))?;
    // Ids that have the API's name in front were made by its adapter.
    (parts.noun.is_empty() || (adapter.is_id)(&parts)).then_some(adapter)
}

/// Ids have an underscore where paths have a hyphen.
fn is_same(name: &str, in_id: &str) -> bool {
    name.len() == in_id.len()
        && name.bytes().zip(in_id.bytes()).all(|(one, other)| one == other || (one == b'-' && other == b'_'))
}

/// The job that a body is about, and its API.
pub(super) fn recognise(object: &Object<'_>) -> Result<(JobId, &'static Adapter), Unrecognised> {
    let mut verdict = Unrecognised::UnknownShape;
    for field in ID_FIELDS {
        let Some(text) = object.text(field) else { continue };
        if let Ok(id) = JobId::self_named(&text)
            && let Some(adapter) = of(&id).filter(|adapter| adapter.id_fields.contains(&field))
        {
            return Ok((id, adapter));
        }
        verdict = Unrecognised::UnknownId;
    }
    let claimed = APIS.into_iter().find_map(|adapter| (adapter.claim)(object).map(|id| (id, adapter)));
    claimed.ok_or(verdict)
}

impl Adapter {
    /// What `object`, which is about `id`, says.
    pub(super) fn observe(&self, id: JobId, object: &Object<'_>) -> Result<Observation, Unrecognised> {
        (self.read)(id, object).ok_or(Unrecognised::UnknownShape)
    }

    pub(super) fn reply_ref_in(&self) -> &'static str {
        self.reply_ref_in
    }

    /// Where to ask for a job, below the provider's base URL.
    pub(super) fn job_path(&self, id: &JobId) -> Option<String> {
        (self.job_path)(id).map(|below| self.path(&below))
    }

    pub(super) fn max_answer(&self) -> usize {
        self.max_answer
    }

    pub(super) fn naming(&self, id: &JobId) -> Value {
        (self.naming)(id)
    }

    pub(super) fn account<'a>(&self, id: &'a JobId) -> &'a str {
        (self.account)(id)
    }

    pub(super) fn names_of(&self, id: &JobId) -> Option<[&'static str; 2]> {
        (self.names_of)(id)
    }
}

/// The names of all APIs, as jobs' `provider` has them.
pub fn names() -> impl Iterator<Item = &'static str> {
    APIS.into_iter().map(|adapter| adapter.name)
}

/// Every API.
pub(super) fn all() -> impl Iterator<Item = &'static Adapter> {
    APIS.into_iter()
}

/// Members of the APIs' answers that hold a list of jobs.
pub(super) fn list_fields() -> impl Iterator<Item = &'static str> {
    APIS.into_iter().flat_map(|adapter| adapter.lists.iter().copied())
}

/// Where to ask for a job, below the provider's base URL; `None` where its API cannot be asked about it.
pub fn job_path(id: &JobId) -> Option<String> {
    of(id)?.job_path(id)
}

/// Patterns of all hosts that the APIs' media are known to be at.
pub fn media_hosts() -> impl Iterator<Item = &'static str> {
    APIS.into_iter().flat_map(|adapter| adapter.hosts.iter().copied())
}

/// Whether "there is no such job", said of this one, means that there is none any more.
pub fn denies(id: &JobId) -> bool {
    of(id).is_some_and(|adapter| (adapter.denies)(id))
}

/// For how many days the provider knows a job.
pub fn kept_days(id: &JobId) -> u16 {
    of(id).map_or(31, |adapter| adapter.kept_days)
}

fn is_number(text: &str) -> bool {
    (1..=JobId::MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An account as the provider's ids have it, which may be masked.
fn is_mail(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !text.contains(':'))
}

fn is_uuid(text: &str) -> bool {
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// The letter behind the number in an own part such as `j1795172650120v`.
fn letter(own: &str) -> Option<char> {
    let number = own.strip_prefix('j')?.strip_suffix(|last: char| last.is_ascii_alphabetic())?;
    if is_number(number) { own.chars().last() } else { None }
}

/// A text as it stands in one segment of a path, or in a query.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests;
