//! Looks for links that die within the hour while their files are not stored. One that dies while attempts at its file fail is
//! noticed by the attempt; here are those that nobody tries in time. A file that is being fetched is tried.

use std::time::Duration;

use tokio::time::sleep;

use super::Notifier;
use crate::cluster::Share;
use crate::domain::{EventType, Job, JobId, JobState, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{State, StateError};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A job that moved so lately is being worked on.
const UNTOUCHED: Duration = Duration::from_secs(60);
/// Jobs of the queue that are looked at in one go.
const PAGE: usize = 256;

impl Notifier {
    /// Never ends; dropping it is fine at any time.
    pub(super) async fn watch_expiry(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            if let Err(error) = self.tell_of_expiring().await {
                tracing::debug!(%error, "links that die soon cannot be looked for right now");
            }
        }
    }

    async fn tell_of_expiring(&self) -> Result<(), StateError> {
        let mut after = None;
        loop {
            let (state, from) = (self.state().clone(), after.take());
            let page = tokio::task::spawn_blocking(move || expiring(&state, Timestamp::now(), from));
            let (jobs, next) = page.await.unwrap_or(Err(StateError::Rebuilding))?;
            for (sequence, job) in jobs {
                // The replica that works on it tells: it knows what is being fetched.
                let Some(share) = self.state().share(sequence) else { continue };
                let log = self.inner.log.fenced(share.as_ref().map(Share::fence));
                let event = Event::LinksExpiring { at: Timestamp::now(), job };
                if log.record(event, Durability::Buffered).await.is_err() {
                    return Ok(());
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// Jobs by their numbers, and where the next page of the queue begins.
type Found = (Vec<(u64, JobId)>, Option<Vec<u8>>);

/// Jobs of one page of the queue whose links die soon, which nobody was told yet, and where the next page begins.
fn expiring(state: &State, now: Timestamp, after: Option<Vec<u8>>) -> Result<Found, StateError> {
    if after.is_none() && state.expiring(now, now.after(EventType::EXPIRES_WITHIN))? == 0 {
        return Ok((Vec::new(), None));
    }
    let anybody = state.notify_routes()?.iter().any(|route| route.events.contains(&EventType::Expiring));
    let is_told = |job: &Job| -> Result<bool, StateError> {
        let Some(id) = job.ref_id.as_ref().filter(|_| !anybody) else { return Ok(anybody) };
        Ok(state.reply_ref(id)?.is_some_and(|known| known.notify_url.is_some()))
    };
    let (sequences, next) = state.due_page(PAGE, after)?;
    let mut jobs = Vec::new();
    for sequence in sequences {
        let Some(record) = state.job_at(sequence)? else { continue };
        let job = record.job;
        let dies_at = job.link_expires_at().filter(|dies_at| *dies_at <= now.after(EventType::EXPIRES_WITHIN));
        let is_news = dies_at.is_some() && job.expiry_told < dies_at;
        let is_left = job.state == JobState::Archiving && now.since(job.updated_at) >= UNTOUCHED;
        let is_fetched = state.is_fetching_any(sequence);
        if is_news && is_left && !is_fetched && is_told(&job)? {
            jobs.push((sequence, job.id));
        }
    }
    Ok((jobs, next))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::domain::{AssetId, QuarantineReason, Route, Target};
    use crate::journal::{CallbackEntry, Entry, Journal};
    use crate::provider::{self, Parsed};
    use crate::state::{EventLog, ParsedCallback};

    fn parse(body: &[u8]) -> ParsedCallback {
        match provider::read(body) {
            Ok(Parsed::Job(observation)) => ParsedCallback::Job(observation),
            _ => ParsedCallback::Unrecognised(QuarantineReason::UnknownShape),
        }
    }

    async fn complete(log: &EventLog, number: u64, expires: Timestamp) {
        let id = format!("user:1-minimax:2-video:{number}");
        let link = format!("https://h/{number}.mp4?Expires={}", expires.millis() / 1000);
        let body = Bytes::from(json!({"videoId": id, "status": 2, "downloadURL": link}).to_string());
        let parsed = parse(&body);
        let (at, target) = (Timestamp::now(), Target::UseApi);
        let (adopt, sidecars, confirm, asked) = (true, false, false, false);
        let foreign = false;
        let entry = CallbackEntry { at, target, adopt, sidecars, confirm, asked, foreign, replay_of: None, body };
        log.record_callback(Entry::Callback(entry), parsed).await.unwrap();
    }

    #[tokio::test]
    async fn links_that_nobody_tries_in_time_are_found_once_before_they_die() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let log = EventLog::open(journal, &dir.path().join("state"), parse).unwrap();
        log.recovered().await.unwrap();
        let now = Timestamp::now();
        let later = |minutes: u64| now.after(Duration::from_secs(60 * minutes));
        complete(&log, 1, later(30)).await;
        complete(&log, 2, later(180)).await;
        let numbers = |at: Timestamp| {
            let (jobs, _) = expiring(log.state(), at, None).unwrap();
            jobs.iter().map(|(_, id)| id.as_str().rsplit(':').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(later(5)), [""; 0], "nobody wants to be told");
        let events = vec![EventType::Expiring];
        let route =
            Route { endpoint: "a".into(), events, providers: vec![], kinds: vec![], labels: Default::default() };
        log.record(Event::NotifyRoutes { routes: vec![route] }, Durability::Buffered).await.unwrap();
        assert_eq!(numbers(now), [""; 0], "it is being worked on");
        assert_eq!(numbers(later(5)), ["1"]);
        let (found, _) = expiring(log.state(), later(5), None).unwrap();
        let fetching = log.state().fetching(found[0].0, &AssetId::media());
        assert_eq!(numbers(later(5)), [""; 0], "it is being fetched");
        drop(fetching);
        let job = "user:1-minimax:2-video:1".parse().unwrap();
        log.record(Event::LinksExpiring { at: later(5), job }, Durability::Buffered).await.unwrap();
        assert_eq!(numbers(later(6)), [""; 0], "it was told");
        assert_eq!(numbers(later(125)), ["2"]);
    }
}
