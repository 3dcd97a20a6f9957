//! PixVerse: `/v2/pixverse`.

use serde_json::json;

use super::common::{Item, attach, ids_in, observation, status};
use super::{Adapter, List, Paging, is_mail, is_number};
use crate::domain::{JobId, Kind, Observation, Outcome, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;
use crate::provider::{label, truncate_redacted};

pub(super) const PIXVERSE: Adapter = Adapter {
    base: "v2/pixverse",
    hosts: &["media.pixverse.ai"],
    id_fields: &["video_id", "image_id", "audio_id"],
    is_id: |parts| {
        let is_kind = matches!(parts.noun, "video" | "image" | "music" | "speech");
        is_kind && is_mail(parts.account) && is_number(parts.own)
    },
    job_path: |id| Some(format!("{}/{}", collection(id.kind()), id.as_sent())),
    naming: |id| json!({format!("{}_id", prefix(id.kind())): id.as_sent()}),
    // A video that is still being made is not there yet.
    denies: |id| id.kind() != Kind::Video,
    uses_account_default: true,
    endpoints: &[
        Row(
            "POST",
            "videos/create|create-frames|create-transition|create-fusion|motion-control|extend|modify",
            Endpoint::Create(Created::Job),
        ),
        Row("POST", "videos/restyle|upscale|lipsync", Endpoint::Create(Created::Job)),
        Row("POST", "images|music|speech/create", Endpoint::Create(Created::Job)),
        Row("GET", "videos|images|music|speech/*", Endpoint::Job),
        Row("GET", "videos|images|music|speech", Endpoint::List),
    ],
    lists: &["data"],
    // One job for each picture.
    created: |answer| ids_in(answer.get("success_ids"), "pixverse"),
    job_lists: &[list("videos"), list("images"), list("music"), list("speech")],
    ..Adapter::new("pixverse", read)
};

const fn list(name: &'static str) -> List {
    List { name, path: name, rows: &["data"], paging: Paging::Offset("next_offset") }
}

const fn collection(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "images",
        Kind::Music => "music",
        Kind::Speech => "speech",
        Kind::Video | Kind::Agent | Kind::Other => "videos",
    }
}

/// What the names of an answer's fields begin with.
const fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Music | Kind::Speech => "audio",
        Kind::Video | Kind::Agent | Kind::Other => "video",
    }
}

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let kind = job.kind();
    let prefix = prefix(kind);
    let number = object.get(&format!("{prefix}_status"));
    let name = object.text(&format!("{prefix}_status_name"));
    let has_code = object.integer("errCode").is_some_and(|code| code != 0);
    // By name first: the flag of what is queued says that it is final, and it is not.
    let outcome = match (name.as_deref(), number.and_then(|number| number.integer())) {
        (Some("COMPLETED"), _) | (None, Some(1)) => Some(Outcome::Completed),
        (Some("MODERATED"), _) | (None, Some(7)) => Some(Outcome::Moderated),
        (Some("FAILED"), _) | (None, Some(8)) => Some(Outcome::Failed),
        _ => has_code.then_some(Outcome::Failed),
    };
    let mut observation = observation(job, None, outcome, object);
    observation.status = status(number);
    observation.status_label = name.map(label);
    let failure = match (object.text("fail_reason"), object.text("fail_code")) {
        (Some(reason), Some(code)) => Some(format!("{reason} ({code})")),
        (reason, code) => reason.or(code).or_else(|| object.text("errCode").filter(|_| has_code)),
    };
    observation.error = observation.error.or(failure.map(truncate_redacted));
    let marked = match kind {
        Kind::Video => object.integer("remove_watermark").map(|removed| removed != 1),
        Kind::Image => object.boolean("water_mark"),
        _ => None,
    };
    let variant = match marked {
        Some(false) => Variant::Clean,
        Some(true) => Variant::Watermarked,
        None => Variant::Unknown,
    };
    let (url, file) = match kind {
        Kind::Image => ("image_url", "image.webp"),
        Kind::Music | Kind::Speech => ("url", "audio.mp3"),
        _ => ("url", "video.mp4"),
    };
    let url = object.text(url);
    let poster = object.text("img_url").filter(|_| kind == Kind::Video);
    let file_of = |url| Item { slot: "media".to_owned(), urls: vec![(Some(url), variant)], poster, ..Item::default() };
    attach(&mut observation, file, url.map(file_of).into_iter().collect());
    Some(observation)
}
