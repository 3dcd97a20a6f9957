//! The lists of the APIs: those of jobs, which can be walked page by page, and those of what runs.

use std::fmt;

use bytes::Bytes;

use super::{APIS, Adapter, encoded, is_same};
use crate::domain::{JobId, Timestamp};
use crate::provider::json::{self, Object, Value};
use crate::provider::list::{self, JobMention, MAX_JOBS};

/// A list that shows jobs with how far they are.
pub(in crate::provider) struct List {
    /// As in commands.
    pub(super) name: &'static str,
    /// Below the API's base, with the part of the query that is always the same.
    pub(super) path: &'static str,
    /// The members that may hold the rows; an empty one for an answer that is the list itself.
    pub(super) rows: &'static [&'static str],
    pub(super) paging: Paging,
}

/// How the page behind one is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paging {
    /// There is only one.
    One,
    /// By the id of the last job.
    After(&'static str),
    /// By how many jobs are in front of it; the answer says it in this member, where it has one.
    Offset(&'static str),
    /// By the time at which the last job was made, in milliseconds.
    Before(&'static str),
    /// By what the answer has in the member of the same name.
    Cursor(&'static str),
    /// By its number, from 1.
    Page(&'static str),
}

/// One of the provider's lists of jobs.
#[derive(Clone, Copy)]
pub struct JobList {
    api: &'static Adapter,
    list: &'static List,
}

/// Where a page of a list begins, as the list itself says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPosition(String);

/// One of the provider's lists of what runs.
#[derive(Clone, Copy)]
pub struct RunningList {
    api: &'static Adapter,
    path: &'static str,
}

impl JobList {
    /// Every list of an API, by its name.
    pub fn of(provider: &str) -> Vec<Self> {
        let api = APIS.into_iter().find(|api| api.name == provider);
        api.into_iter().flat_map(|api| api.job_lists.iter().map(move |list| Self { api, list })).collect()
    }

    /// Every list there is.
    pub fn all() -> impl Iterator<Item = Self> {
        APIS.into_iter().flat_map(|api| api.job_lists.iter().map(move |list| Self { api, list }))
    }

    /// The name used in commands and in the API, which is mostly the provider's.
    pub fn as_str(self) -> &'static str {
        self.list.name
    }

    /// The API whose list it is.
    pub fn provider(self) -> &'static str {
        self.api.name
    }

    /// Whether it can be asked for account by account.
    pub fn has_accounts(self) -> bool {
        self.api.name == JobId::FIRST_API
    }

    pub(in crate::provider) fn path(self, account: Option<&str>, after: Option<&ListPosition>) -> String {
        let account = account.map(|account| format!("account={account}"));
        let position = match (self.list.paging, after) {
            (Paging::Offset(_), None) => Some("offset=0".to_owned()),
            (Paging::One, _) | (_, None) => None,
            (Paging::Offset(_), Some(ListPosition(text))) => Some(format!("offset={text}")),
            // Ids of the first API stand there as they are.
            (Paging::After(name), Some(ListPosition(text))) => Some(format!("{name}={text}")),
            (Paging::Before(name) | Paging::Cursor(name) | Paging::Page(name), Some(ListPosition(text))) => {
                Some(format!("{name}={}", encoded(text)))
            }
        };
        let query = account.into_iter().chain(position).collect::<Vec<_>>().join("&");
        let path = self.api.path(self.list.path);
        match (query.is_empty(), path.contains('?')) {
            (true, _) => path,
            (false, true) => format!("{path}&{query}"),
            (false, false) => format!("{path}?{query}"),
        }
    }

    /// A page that begins `after`.
    pub(in crate::provider) fn page(
        self,
        after: Option<&ListPosition>,
        body: &Bytes,
    ) -> Result<crate::provider::ListPage, &'static str> {
        let value = json::parse(body).map_err(|_| "it is not JSON")?;
        let object = value.object().unwrap_or_default();
        let rows = |name: &&str| if name.is_empty() { Some(value) } else { object.get(name) }?.items_up_to(MAX_JOBS);
        let rows = self.list.rows.iter().find_map(rows).ok_or("it is no list")?;
        let jobs = rows.iter().filter_map(|row| list::shown(*row, body));
        let jobs: Vec<_> = jobs.filter(|answer| is_same(self.api.name, answer.observation.job.parts().api)).collect();
        let number = || after.and_then(|ListPosition(text)| text.parse::<u64>().ok());
        let text = |name: &str| object.text(name).filter(|text| !text.is_empty());
        let (next, has_next) = match self.list.paging {
            Paging::One => (None, None),
            Paging::After(_) => (jobs.last().map(|last| last.observation.job.to_string()), object.boolean("hasNext")),
            Paging::Offset(name) if object.get(name).is_some() => (text(name), None),
            Paging::Offset(name) if !name.is_empty() => (None, None),
            Paging::Offset(_) => (next_offset(number(), rows.len()), None),
            // Others may have been made in the same millisecond.
            Paging::Before(_) => {
                let made = jobs.iter().filter_map(|job| job.observation.created_at).map(Timestamp::millis).min();
                (made.map(|made| (made + 1).to_string()), None)
            }
            Paging::Cursor(name) => (text(name), None),
            Paging::Page(_) => (Some((number().unwrap_or(1) + 1).to_string()), object.boolean("has_more")),
        };
        Ok(crate::provider::ListPage { jobs, next: next.map(ListPosition), has_next })
    }
}

fn next_offset(offset: Option<u64>, rows: usize) -> Option<String> {
    (rows > 0).then(|| (offset.unwrap_or(0) + rows as u64).to_string())
}

impl PartialEq for JobList {
    fn eq(&self, other: &Self) -> bool {
        (self.api.name, self.list.name) == (other.api.name, other.list.name)
    }
}

impl Eq for JobList {}

impl fmt::Debug for JobList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api.name, self.list.name)
    }
}

impl RunningList {
    /// Those of an API, by its name.
    pub fn of(provider: &str) -> impl Iterator<Item = Self> {
        let api = APIS.into_iter().find(|api| api.name == provider);
        api.into_iter().flat_map(|api| api.running.iter().map(move |path| Self { api, path }))
    }

    /// The API whose list it is.
    pub fn provider(self) -> &'static str {
        self.api.name
    }

    pub(in crate::provider) fn path(self) -> String {
        self.api.path(self.path)
    }

    /// The jobs that an answer names, wherever in it a list stands.
    pub(in crate::provider) fn mentions(self, body: &[u8]) -> Vec<JobMention> {
        let Ok(value) = json::parse(body) else { return Vec::new() };
        list::named_in(rows(value), |row| {
            let known = list::job_of(row).ok().filter(|job| is_same(self.api.name, job.parts().api));
            known.or_else(|| (self.api.listed)(row))
        })
    }
}

/// The items of an answer that is a list, else of the lists in it, which may be one for each account.
fn rows(value: Value<'_>) -> Vec<Value<'_>> {
    if let Some(items) = value.items_up_to(MAX_JOBS) {
        return items;
    }
    let mut rows = Vec::new();
    for member in value.object().map(members).unwrap_or_default() {
        match member.items_up_to(MAX_JOBS) {
            Some(items) => rows.extend(items),
            None => {
                let inner = member.object().map(members).unwrap_or_default();
                rows.extend(inner.into_iter().filter_map(|list| list.items_up_to(MAX_JOBS)).flatten());
            }
        }
        if rows.len() >= MAX_JOBS {
            break;
        }
    }
    rows
}

fn members(object: Object<'_>) -> Vec<Value<'_>> {
    object.values().collect()
}

/// How often an API's lists are looked at: in so many rounds of ten minutes.
pub fn rounds(provider: &str) -> u32 {
    APIS.into_iter().find(|api| api.name == provider).map_or(1, |api| api.rounds)
}
