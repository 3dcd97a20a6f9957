//! What the gateway asks by itself, with the token of the caller on whose account it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::aside::aside;
use super::forward::Upstream;
use super::observe::{Caller, Observer, Owner, jobs_in};
use crate::domain::{JobId, MediaUrl, Timestamp};
use crate::egress::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, DATE, HeaderMap, HeaderValue};
use crate::egress::{Method, StatusCode};
use crate::http::read_body;
use crate::intake::UnknownJobPolicy;
use crate::provider::{Answer, job_path, parse_jobs};

/// When to ask, after the one before.
const DELAYS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(5), Duration::from_secs(30)];
/// For a whole answer.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The largest answer taken, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// Questions at a time; the rest waits.
const ASKED_AT_ONCE: usize = 4;
/// Recordings on the page that is looked at.
const PAGE: usize = 20;
/// How much earlier than the stream a recording of it may be dated.
const SLACK: Duration = Duration::from_secs(5);

/// Asks the provider.
pub(super) struct Questions {
    upstream: Arc<Upstream>,
    observer: Arc<Observer>,
    turns: Semaphore,
}

impl Questions {
    pub(super) fn new(upstream: Arc<Upstream>, observer: Arc<Observer>) -> Self {
        Self { upstream, observer, turns: Semaphore::new(ASKED_AT_ONCE) }
    }

    /// Asks for a video whose stream says that it is finished: the stream does not say where it is.
    pub(super) async fn ask_finished(self: Arc<Self>, owner: Owner, caller: Caller, job: JobId) {
        let Some(path) = job_path(&job) else { return };
        for delay in DELAYS {
            sleep(delay).await;
            let Some((_, body)) = self.get(&caller, &path).await else { continue };
            let found = jobs_in(&body).await.into_iter().find(|found| found.observation.job == job);
            let is_over = found.as_ref().is_some_and(|found| found.observation.outcome.is_some());
            if let Some(found) = found {
                self.observer.observe_own(&caller, &owner, found).await;
            }
            if is_over {
                return;
            }
        }
    }

    /// Looks for what was spoken over a WebSocket that was opened at `begun`: the socket does not name it, but the list of
    /// recordings shows it, and says when each was made.
    pub(super) async fn ask_spoken(self: Arc<Self>, caller: Caller, account: Option<String>, begun: Instant) {
        for delay in DELAYS {
            sleep(delay).await;
            let account = account.as_deref().filter(|account| account.bytes().all(|byte| byte.is_ascii_digit()));
            let account = account.map(|account| format!("&account={account}")).unwrap_or_default();
            let path = format!("{}/audio/?page=1&page_size={PAGE}{account}", caller.api.base());
            let Some((now, body)) = self.get(&caller, &path).await else { continue };
            let elapsed = u64::try_from((begun.elapsed() + SLACK).as_millis()).unwrap_or(u64::MAX);
            let spoken = aside(body.len(), move || spoken_since(&body, now.saturating_sub(elapsed)));
            let spoken = spoken.await.unwrap_or_default();
            if !spoken.is_empty() {
                return self.observer.observe_jobs(&caller, spoken, UnknownJobPolicy::Adopt).await;
            }
        }
    }

    /// The time by the provider's clock and the body of an answer to what is asked below the provider's base URL; `None`
    /// without a good one.
    async fn get(&self, caller: &Caller, path: &str) -> Option<(u64, Bytes)> {
        let _turn = self.turns.acquire().await.ok()?;
        let url = MediaUrl::parse(&format!("{}/{path}", self.upstream.base)).ok()?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, caller.authorization.clone()?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answered = timeout(ANSWER_TIME, async {
            let response = self.upstream.http.send(Method::GET, &url, headers, None).await.ok()?;
            let (status, now) = (response.status(), clock(response.headers()));
            let body = read_body(response.into_stream(), MAX_ANSWER).await.ok()?;
            (status == StatusCode::OK).then_some((now, body))
        });
        answered.await.ok().flatten()
    }
}

/// The recordings of a list that were made since `since`, in milliseconds; where none says when, the last.
fn spoken_since(body: &Bytes, since: u64) -> Vec<Answer> {
    #[derive(Deserialize)]
    struct Row {
        update_time: Option<u64>,
    }
    let time = |row: &Answer| serde_json::from_slice::<Row>(&row.body).ok().and_then(|row| row.update_time);
    let mut rows = parse_jobs(body);
    if rows.iter().all(|row| time(row).is_none()) {
        return rows.pop().into_iter().collect();
    }
    rows.retain(|row| time(row).is_some_and(|time| time >= since));
    rows
}

/// What the provider's clock says, in milliseconds since 1970 UTC; ours where it does not.
fn clock(headers: &HeaderMap) -> u64 {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
    date.and_then(|date| u64::try_from(date.timestamp_millis()).ok()).unwrap_or_else(|| Timestamp::now().millis())
}
