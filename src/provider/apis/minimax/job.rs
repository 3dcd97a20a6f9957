//! Videos, images, songs and speech: one file each, with `status`, `statusLabel` and `statusFinal`.

use super::{details, media};
use crate::domain::{JobId, Kind, Observation, Outcome, Status};
use crate::provider::apis::common::time;
use crate::provider::error::ErrorReport;
use crate::provider::json::Object;
use crate::provider::{label, truncate_redacted};

pub(super) fn read(job: JobId, object: &Object<'_>) -> Observation {
    let kind = job.kind();
    let assets = media::single(kind, object);
    let status = object
        .get("status")
        .and_then(|value| value.integer().map(Status::Number).or_else(|| value.text().map(label).map(Status::Word)));
    let status_label = object.text("statusLabel").map(label);
    let is_final = object.boolean("statusFinal");
    let error = ErrorReport::read(object);
    let outcome = outcome(kind, status.as_ref(), status_label.as_deref(), is_final, !assets.is_empty());
    let outcome = match (outcome, &error) {
        (None, Some(error)) if status.is_none() && status_label.is_none() && is_final.is_none() => error.outcome(),
        (Some(Outcome::Failed), Some(error)) if error.is_moderation() || refuses(kind, error) => {
            Some(Outcome::Moderated)
        }
        (outcome, _) => outcome,
    };
    let prompt = match kind {
        Kind::Music => object.text("lyrics").or_else(|| object.text("prompt")),
        Kind::Speech => object.text("text"),
        Kind::Video | Kind::Image | Kind::Agent | Kind::Other => object.text("desc"),
    };
    let aliases = if kind == Kind::Speech { other_names(&job, object) } else { Vec::new() };
    Observation {
        aliases,
        outcome,
        status,
        status_label,
        percent: object.integer("percent").map(|percent| percent.clamp(0, 100) as u8),
        message: object.text("message").map(truncate_redacted),
        error: error.map(|error| error.text),
        prompt: prompt.map(truncate_redacted),
        details: details::of_job(object),
        created_at: object.integer("createTime").or_else(|| object.integer("create_time")).and_then(time),
        assets: if outcome == Some(Outcome::Completed) { assets } else { Vec::new() },
        ..Observation::naming(job)
    }
}

/// Speech has the id that its call got, and the one of the list of recordings.
fn other_names(job: &JobId, object: &Object<'_>) -> Vec<JobId> {
    let ids = ["audioId", "audio_id"].into_iter().filter_map(|field| JobId::self_named(&object.text(field)?).ok());
    let is_other = |id: &JobId| id != job && id.kind() == Kind::Speech && crate::provider::apis::of(id).is_some();
    ids.filter(is_other).collect()
}

/// Speech that was refused failed with the code 422, whatever its words; other jobs fail with it for other reasons, too.
fn refuses(kind: Kind, error: &ErrorReport) -> bool {
    kind == Kind::Speech && error.code() == Some(422)
}

/// `statusFinal` decides when it is present; the provider's table of statuses when it is not; what neither knows is
/// not final. What is final without a status anyone knows is completed if there is something to keep.
fn outcome(
    kind: Kind,
    status: Option<&Status>,
    label: Option<&str>,
    is_final: Option<bool>,
    has_media: bool,
) -> Option<Outcome> {
    // The provider writes 0 there, whether speech is finished or not.
    let status = status.filter(|_| kind != Kind::Speech);
    let known = match (status, label) {
        (Some(Status::Number(2)), _) => Some(Outcome::Completed),
        (Some(Status::Number(3)), _) => Some(Outcome::Failed),
        (Some(Status::Number(5 | 7 | 14)), _) => Some(Outcome::Moderated),
        (Some(Status::Number(4)), _) if kind == Kind::Music => Some(Outcome::Moderated),
        (Some(Status::Number(0 | 1 | 11 | 12)), _) => None,
        (Some(Status::Word(word)), _) => word_outcome(word),
        (None, Some(label)) => word_outcome(label),
        // A number nobody knows says nothing, and its label only helps once `statusFinal` says that it is over.
        (Some(Status::Number(_)), Some(label)) if is_final == Some(true) => word_outcome(label),
        (Some(Status::Number(_)), _) => None,
        (None, None) if matches!(kind, Kind::Music | Kind::Speech) && has_media && is_final != Some(false) => {
            return Some(Outcome::Completed);
        }
        (None, None) => None,
    };
    match is_final {
        Some(false) => None,
        Some(true) => known.or(Some(if has_media { Outcome::Completed } else { Outcome::Failed })),
        None => known,
    }
}

fn word_outcome(word: &str) -> Option<Outcome> {
    match word {
        "completed" => Some(Outcome::Completed),
        "failed" => Some(Outcome::Failed),
        "moderated" => Some(Outcome::Moderated),
        _ => None,
    }
}
