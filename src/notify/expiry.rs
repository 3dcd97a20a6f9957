//! Looks for links that die within the hour while their files are not stored. One that dies while attempts at its file fail is
//! noticed by the attempt; here are those that nobody tries in time.

use std::time::Duration;

use tokio::time::sleep;

use super::Notifier;
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
            let page = tokio::task::spawn_blocking(move || expiring(&state, from));
            let (jobs, next) = page.await.unwrap_or(Err(StateError::Rebuilding))?;
            for job in jobs {
                let event = Event::LinksExpiring { at: Timestamp::now(), job };
                if self.inner.log.record(event, Durability::Buffered).await.is_err() {
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

/// Jobs of one page of the queue whose links die soon and that are not known to, and where the next page begins.
fn expiring(state: &State, after: Option<Vec<u8>>) -> Result<(Vec<JobId>, Option<Vec<u8>>), StateError> {
    let now = Timestamp::now();
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
        if is_news && is_left && is_told(&job)? {
            jobs.push(job.id);
        }
    }
    Ok((jobs, next))
}
