//! Lists of jobs: what the index finds, read from the state.

use crate::api::ApiError;
use crate::api::list::bad_cursor;
use crate::domain::{Job, Timestamp};
use crate::search::{Incomplete, Place, Query, Search};
use crate::state::{JobBatch, JobFilter, JobRecord, State, StateError};

/// Where a page ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) enum JobsCursor {
    /// In the order in which jobs were first heard of, which needs no index.
    Heard(u64),
    /// In the order in which they were made, with how many of those behind it are still to be skipped.
    Made { after: Place, skip: usize },
}

/// Where a page begins, in the order in which jobs were made.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::api) struct Start {
    pub(in crate::api) after: Option<Place>,
    pub(in crate::api) skip: usize,
}

impl JobsCursor {
    pub(in crate::api) fn read(cursor: Option<&str>) -> Result<Option<Self>, ApiError> {
        let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
        let is_hex = cursor.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| bad_cursor());
        Ok(Some(match cursor.len() {
            16 if is_hex => Self::Heard(number(cursor)?),
            28 | 44 if is_hex => {
                let made = Timestamp::from_millis(number(&cursor[..12])?).ok_or_else(bad_cursor)?;
                let after = Place { made, sequence: number(&cursor[12..28])? };
                let skip = match &cursor[28..] {
                    "" => 0,
                    skip => usize::try_from(number(skip)?).map_err(|_| bad_cursor())?,
                };
                Self::Made { after, skip }
            }
            _ => return Err(bad_cursor()),
        }))
    }

    pub(in crate::api) fn write(self) -> String {
        match self {
            Self::Heard(before) => format!("{before:016x}"),
            Self::Made { after: Place { made, sequence }, skip } => {
                let place = format!("{:012x}{sequence:016x}", made.millis());
                if skip == 0 { place } else { format!("{place}{skip:016x}") }
            }
        }
    }
}

/// The most jobs one page reads: what has to be looked at must not hold a request up without limit.
pub(in crate::api) const MAX_LOOKED_AT: usize = 4000;
/// The most bytes that the jobs on one page have together, unless there is one alone.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// So many are asked of the index at a time.
const BATCH: usize = 250;

/// What was found, and where to go on if there may be more.
pub(in crate::api) struct Found {
    pub(in crate::api) jobs: Vec<(Place, Option<JobRecord>)>,
    pub(in crate::api) next: Option<JobsCursor>,
}

/// Whether the index alone cannot tell how many match.
pub(in crate::api) fn must_be_read(filter: &JobFilter, query: &Query) -> bool {
    query.text.is_vague() || filter.resolution.is_some() || filter.duration.is_some()
}

/// A job that was read.
enum Read {
    WithoutFiles(Job),
    Whole(JobRecord, usize),
}

impl Read {
    fn without_files(jobs: &JobBatch<'_>, sequence: u64) -> Result<Option<Self>, StateError> {
        Ok(jobs.without_files(sequence)?.map(Self::WithoutFiles))
    }

    fn with_files(jobs: &JobBatch<'_>, sequence: u64) -> Result<Option<Self>, StateError> {
        Ok(jobs.weighed(sequence)?.map(|(record, size)| Self::Whole(record, size)))
    }

    fn get(&self) -> &Job {
        match self {
            Self::WithoutFiles(job) | Self::Whole(JobRecord { job, .. }, _) => job,
        }
    }

    /// All of it, and about how many bytes it has.
    fn whole(self, jobs: &JobBatch<'_>, sequence: u64) -> Result<Option<(JobRecord, usize)>, StateError> {
        match self {
            Self::WithoutFiles(_) => jobs.weighed(sequence),
            Self::Whole(record, size) => Ok(Some((record, size))),
        }
    }
}

type Page = (Vec<JobRecord>, Option<String>);

/// A page of jobs in the order in which they were first heard of.
pub(in crate::api) fn in_order_heard(
    state: &State,
    filter: &JobFilter,
    limit: usize,
    before: Option<u64>,
) -> Result<Page, StateError> {
    let page = state.jobs(filter, limit, before)?;
    Ok((page.items, page.next.map(|number| JobsCursor::Heard(number).write())))
}

/// A page of jobs in the order in which they were made.
pub(in crate::api) fn find(
    state: &State,
    search: &Search,
    filter: &JobFilter,
    query: &Query,
    start: Start,
    limit: usize,
) -> Result<Result<Page, Incomplete>, StateError> {
    let found = look(state, search, filter, query, start, limit, MAX_LOOKED_AT)?;
    Ok(found.map(|Found { jobs, next }| {
        let records = jobs.into_iter().filter_map(|(_, record)| record).collect();
        (records, next.map(JobsCursor::write))
    }))
}

/// Reads at most `max_looked_at` jobs that the index finds and keeps what matches. Where nobody wants more of them than how many
/// they are, `limit` is [`usize::MAX`] and the jobs themselves are left out.
pub(in crate::api) fn look(
    state: &State,
    search: &Search,
    filter: &JobFilter,
    query: &Query,
    start: Start,
    limit: usize,
    max_looked_at: usize,
) -> Result<Result<Found, Incomplete>, StateError> {
    let counts = limit == usize::MAX;
    let mut found = Found { jobs: Vec::new(), next: None };
    let Start { mut after, mut skip } = start;
    let mut bytes = 0;
    let mut looked_at = 0;
    // Of what has to be read, what is passed over has to be read, too.
    let must_be_read = must_be_read(filter, query);
    let mut to_pass_over = if must_be_read { std::mem::take(&mut skip) } else { 0 };
    // What most likely is on the page is read once.
    let read = if counts || must_be_read { Read::without_files } else { Read::with_files };
    loop {
        let wanted = BATCH.min(limit.saturating_sub(found.jobs.len()).saturating_add(1));
        let places = match search.find(query, after, std::mem::take(&mut skip), wanted) {
            Ok(places) => places,
            Err(incomplete) => return Ok(Err(incomplete)),
        };
        let is_last = places.len() < wanted;
        let jobs = state.job_batch(places.iter().map(|place| place.sequence))?;
        for place in places {
            if found.jobs.len() == limit || looked_at == max_looked_at {
                found.next = after.map(|after| JobsCursor::Made { after, skip: to_pass_over });
                return Ok(Ok(found));
            }
            looked_at += 1;
            let Some(job) = read(&jobs, place.sequence)? else { continue };
            if filter.takes(job.get()) && query.text.is_in(job.get()) {
                if to_pass_over > 0 {
                    to_pass_over -= 1;
                } else if counts {
                    found.jobs.push((place, None));
                } else if let Some((record, size)) = job.whole(&jobs, place.sequence)? {
                    bytes += size;
                    if !found.jobs.is_empty() && bytes > MAX_PAGE_BYTES {
                        found.next = after.map(|after| JobsCursor::Made { after, skip: 0 });
                        return Ok(Ok(found));
                    }
                    found.jobs.push((place, Some(record)));
                }
            }
            after = Some(place);
        }
        if is_last {
            return Ok(Ok(found));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::domain::Target;
    use crate::intake::Intake;
    use crate::journal::{CallbackEntry, Entry, Journal};
    use crate::search::Text;
    use crate::state::EventLog;

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn record_job(log: &EventLog, number: u64) {
        let job = serde_json::json!({
            "videoId": format!("user:1-minimax:2-video:{number}"),
            "status": 1,
            "desc": "a paper boat",
        });
        let body = Bytes::from(job.to_string());
        let parsed = Intake::parse_callback(&body);
        let entry = CallbackEntry {
            at: Timestamp::now(),
            target: Target::Channel,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: false,
            foreign: false,
            replay_of: None,
            body,
        };
        log.record_callback(Entry::Callback(entry), parsed).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_bounded_page_has_not_skipped_the_next_one_skips() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let log = EventLog::open(journal, &dir.path().join("state"), Intake::parse_callback).unwrap();
        log.recovered().await.unwrap();
        for number in 1..=9 {
            record_job(&log, number).await;
        }
        let search = Search::start(log.state().clone(), log.supervisor()).unwrap();
        let (filter, query) = (JobFilter::default(), Query { text: Text::read("boat*").unwrap(), ..Query::default() });
        let indexed = async {
            while search.find(&query, None, 0, 1).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, indexed).await.unwrap();

        let places = search.find(&query, None, 0, 100).unwrap();
        assert_eq!(places.len(), 9);
        for skip in 0..=10 {
            let (mut start, mut found) = (Start { after: None, skip }, Vec::new());
            loop {
                let page = look(log.state(), &search, &filter, &query, start, 2, 3).unwrap().unwrap();
                found.extend(page.jobs.into_iter().map(|(place, _)| place));
                let Some(next) = page.next else { break };
                match JobsCursor::read(Some(&next.write())).unwrap() {
                    Some(JobsCursor::Made { after, skip }) => start = Start { after: Some(after), skip },
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(found, places[skip.min(places.len())..], "{skip}");
        }
    }
}
