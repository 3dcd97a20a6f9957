//! The provider's JSON for a job at a stage: what GET answers, and what a callback says.

mod agent;
mod picture;
mod retired;

use serde_json::{Map, Value, json};

use replyvault_domain::Kind;

use super::apis;
use super::job::{Job, Links, Outcome, Stage};
pub(super) use agent::http_status;
pub(super) use retired::{created, listed};

/// What GET answers. The caller's `replyUrl` and `replyRef` stand only in an agent's `request`.
pub(super) fn answer(job: &Job, stage: &Stage, links: &dyn Links) -> Value {
    if let Some(form) = job.request.form {
        return apis::body(job, form, stage, links, false);
    }
    match job.kind() {
        Kind::Video | Kind::Image | Kind::Other => Value::Object(picture::answer(job, stage, links)),
        Kind::Agent => agent::answer(job, stage, links),
        Kind::Music => retired::music(job, links),
        Kind::Speech => retired::speech(job, links),
    }
}

/// What a callback says: the same, with the caller's `replyUrl` and `replyRef`. The provider's pages do not show one.
pub(super) fn callback(job: &Job, stage: &Stage, links: &dyn Links) -> Value {
    if let Some(form) = job.request.form {
        return apis::body(job, form, stage, links, true);
    }
    let mut body = answer(job, stage, links);
    let Value::Object(fields) = &mut body else { return body };
    match job.kind() {
        // It stands inside `request`.
        Kind::Agent => {}
        Kind::Image if job.request.reply_ref.is_none() => {
            fields.extend(job.request.reply());
            fields.insert("replyRef".into(), Value::Null);
        }
        Kind::Video | Kind::Image | Kind::Music | Kind::Speech | Kind::Other => fields.extend(job.request.reply()),
    }
    body
}

/// What GET would answer had the job failed.
pub(super) fn failed(job: &Job, links: &dyn Links) -> Value {
    if let Some(form) = job.request.form {
        return apis::written(job, form, &form.failed, links, false);
    }
    match job.kind() {
        Kind::Agent => json!({"jobId": job.id, "status": "failed", "error": "Agent connection error"}),
        Kind::Image => json!({"imageId": job.id, "status": 3, "statusLabel": "failed", "statusFinal": true}),
        _ => json!({"videoId": job.id, "status": 3, "statusLabel": "failed", "statusFinal": true}),
    }
}

/// The three fields that say how a job stands.
fn status(job: &Job, stage: &Stage) -> Map<String, Value> {
    let (number, label) = match (stage, job.outcome()) {
        (Stage::Running(progress), _) => match progress.status {
            0 => (0, "pending"),
            11 => (11, "queued"),
            other => (other, "processing"),
        },
        (Stage::Final { .. }, Outcome::Failed) => (3, "failed"),
        (Stage::Final { .. }, Outcome::Moderated) => (job.plan.moderated_status, "moderated"),
        (Stage::Final { .. }, Outcome::Completed | Outcome::Removed) => (2, "completed"),
    };
    let is_final = matches!(stage, Stage::Final { .. });
    object(json!({"status": number, "statusLabel": label, "statusFinal": is_final}))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
