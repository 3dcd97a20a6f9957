//! MiniMax (Hailuo): `/v1/minimax`.

mod agent;
mod details;
mod job;
mod media;

use serde_json::json;

use super::{Adapter, is_number};
use crate::domain::{JobId, JobIdParts, Kind, Observation};
use crate::provider::json::Object;

pub(super) const MINIMAX: Adapter = Adapter {
    hosts: &["*.hailuoai.video", "*.hailuoai.com", "minimax-public-cdn.com"],
    id_fields: &["videoId", "imageId", "jobId", "musicId", "audioId", "audio_id"],
    is_id,
    job_path: |id| Some(format!("{}/{id}", collection(id.kind()))),
    naming: |id| json!({naming(id.kind()): id.as_sent()}),
    answers_by_alias: |id| id.kind() == Kind::Speech,
    ..Adapter::new("minimax", read)
};

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    Some(match job.kind() {
        Kind::Agent => agent::read(job, object, &object.object("request").unwrap_or_default()),
        _ => job::read(job, object),
    })
}

/// All numbers are decimal; the own part of speech need not be one.
fn is_id(parts: &JobIdParts<'_>) -> bool {
    let own = match parts.noun {
        "audio" => parts.own,
        "bot" => return parts.own.strip_prefix('p').is_some_and(is_number) && is_number(parts.account),
        "video" | "image" | "music" => return is_number(parts.own) && is_number(parts.account),
        _ => return false,
    };
    is_number(parts.account) && own.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

const fn collection(kind: Kind) -> &'static str {
    match kind {
        Kind::Video | Kind::Other => "videos",
        Kind::Image => "images",
        Kind::Agent => "agent",
        Kind::Music => "music",
        Kind::Speech => "speech",
    }
}

const fn naming(kind: Kind) -> &'static str {
    match kind {
        Kind::Video | Kind::Other => "videoId",
        Kind::Image => "imageId",
        Kind::Agent => "jobId",
        Kind::Music => "musicId",
        Kind::Speech => "audioId",
    }
}
