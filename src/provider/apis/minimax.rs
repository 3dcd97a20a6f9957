//! MiniMax (Hailuo): `/v1/minimax`.

mod agent;
mod details;
mod job;
mod media;

use serde_json::json;

use super::{Adapter, List, Paging, is_number};
use crate::domain::{JobId, JobIdParts, Kind, Observation};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const MINIMAX: Adapter = Adapter {
    hosts: &["*.hailuoai.video", "*.hailuoai.com", "minimax-public-cdn.com"],
    id_fields: &["videoId", "imageId", "jobId", "musicId", "audioId", "audio_id"],
    is_id,
    job_path: |id| Some(format!("{}/{id}", collection(id.kind()))),
    naming: |id| json!({naming(id.kind()): id.as_sent()}),
    names_of: |id| (id.kind() == Kind::Speech).then_some(["audioId", "audio_id"]),
    uses_account_default: true,
    endpoints: &[
        Row("POST", "videos|images|speech|music/create", Endpoint::Create(Created::Ids)),
        Row("POST", "videos/agent-create", Endpoint::Create(Created::Events)),
        Row("POST", "agent", Endpoint::Create(Created::Job)),
        Row("POST", "audio/create-stream", Endpoint::SpeechToken),
        Row("POST", "audio/create-mp3", Endpoint::Job),
        Row("GET", "music/create", Endpoint::Job),
        Row("WSS", "audio/wss", Endpoint::WebSocket),
        Row("GET", "scheduler", Endpoint::MentionsJobs),
        Row("GET", "scheduler/available", Endpoint::MentionsJobs),
        Row("GET", "agent/jobs", Endpoint::MentionsJobs),
        Row("GET", "videos/agent-templates|characters", Endpoint::Other),
        Row("GET", "music/styles", Endpoint::Other),
        Row("GET", "audio/config|voices|wss", Endpoint::Other),
        Row("GET", "videos|images|agent|music|audio|speech/*", Endpoint::Job),
        Row("GET", "videos|images|music|audio|speech", Endpoint::List),
    ],
    lists: &["images", "audio_list", "executing", "executingAudio", "runningVideos"],
    names_accounts: true,
    job_lists: &[
        List { name: "videos", path: "videos/", rows: &[""], paging: Paging::After("lastVideoId") },
        List { name: "images", path: "images/", rows: &["images", ""], paging: Paging::After("lastImageId") },
        List { name: "speech", path: "speech", rows: &["audio_list", ""], paging: Paging::Page("page") },
    ],
    // The second also has the speech that runs.
    running: &["scheduler/", "scheduler/available", "agent/jobs"],
    rounds: 1,
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
