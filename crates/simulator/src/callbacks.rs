//! The callbacks of one job: which are sent, when, and how often. None is ever retried, as the provider retries none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;

use super::Shared;
use super::cdn::SignedLinks;
use super::faults::Fault;
use super::job::{Job, Outcome};
use super::payload;

/// One POST.
#[derive(Clone, Debug)]
struct Delivery {
    at: Duration,
    body: Bytes,
    is_final: bool,
    is_repeat: bool,
    is_late: bool,
}

/// Sends what is due to the job's `replyUrl`, one after another, until it is over or no longer tracked.
pub(super) async fn run(shared: Arc<Shared>, job: Arc<Job>) {
    let Some(url) = &job.request.reply_url else { return };
    for mut delivery in schedule(&shared, &job) {
        tokio::time::sleep_until(job.at(delivery.at).into()).await;
        if job.was_untracked() {
            return;
        }
        if job.was_cancelled() {
            if !delivery.is_final {
                continue;
            }
            delivery.body = body(&shared, &job, delivery.at, &shared.links);
        }
        send(&shared, &job, url, delivery).await;
    }
}

fn schedule(shared: &Shared, job: &Job) -> Vec<Delivery> {
    let (dice, faults, id) = (shared.dice, &shared.faults, job.id.as_str());
    let happens = |fault: Fault, turn| dice.hits(faults.chance(fault), fault.name(), id, turn);
    let share = |question, turn| dice.share(question, id, turn);

    let mut moments: Vec<_> = job.plan.progress.iter().map(|progress| (progress.at, false)).collect();
    if job.plan.outcome != Outcome::Removed {
        moments.push((job.plan.ends, true));
    }
    let mut deliveries = Vec::new();
    // The plan's own draws take turn 0.
    for (turn, (at, is_final)) in (1..).zip(moments) {
        if happens(Fault::Drop, turn) {
            shared.stats.callbacks_dropped.one();
            continue;
        }
        let stale = happens(Fault::Stale, turn).then(|| shared.links.expired());
        let links = stale.as_ref().unwrap_or(&shared.links);
        let body = body(shared, job, at, links);
        let is_late = !is_final && happens(Fault::Disorder, turn);
        let held = shared.pace.mul_f64(0.1 + 0.4 * share("held", turn));
        let at = if is_late { job.plan.ends + held } else { at };
        let delivery = Delivery { at, body, is_final, is_repeat: false, is_late };
        if happens(Fault::Repeat, turn) {
            let again = at + shared.pace.mul_f64(0.05 + 0.45 * share("again", turn));
            deliveries.push(Delivery { at: again, is_repeat: true, ..delivery.clone() });
        }
        deliveries.push(delivery);
    }
    deliveries.sort_by_key(|delivery| delivery.at);
    deliveries
}

fn body(shared: &Shared, job: &Job, at: Duration, links: &SignedLinks) -> Bytes {
    let body = payload::callback(job, &job.stage_after(at), links);
    let is_odd = shared.dice.hits(shared.faults.chance(Fault::Odd), Fault::Odd.name(), job.id.as_str(), 0);
    if is_odd { shared.odd(job.id.as_str()).write(&body).into() } else { body.to_string().into() }
}

async fn send(shared: &Shared, job: &Job, url: &str, delivery: Delivery) {
    let stats = &shared.stats;
    stats.callbacks_sent.one();
    if delivery.is_repeat {
        stats.callbacks_repeated.one();
    }
    if delivery.is_late {
        stats.callbacks_disordered.one();
    }
    let request = shared.client.post(url).header(CONTENT_TYPE, "application/json").body(delivery.body);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => {
            stats.callbacks_acked.one();
            if delivery.is_final {
                job.set_heard();
            }
        }
        Ok(answer) => {
            tracing::debug!(job = %job.id, status = %answer.status(), "callback refused");
            stats.callbacks_refused.one();
        }
        Err(error) => {
            // The URL carries a signature, which is no one's business.
            tracing::debug!(job = %job.id, error = %error.without_url(), "callback not answered");
            stats.callbacks_failed.one();
        }
    }
}
