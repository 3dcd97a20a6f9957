//! Runway: `/v1/runwayml`.

use serde_json::json;

use super::common::{Item, attach, items, observation};
use super::{Adapter, List, Paging, is_mail, is_uuid};
use crate::domain::{JobId, Kind, Observation, Outcome, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;
use crate::provider::truncate_redacted;

pub(super) const RUNWAYML: Adapter = Adapter {
    // Two distributions of a CDN that others use, too.
    hosts: &["dnznrvs05pmza.cloudfront.net", "d2jqrm6oza8nb6.cloudfront.net"],
    id_fields: &["taskId"],
    is_id: |parts| parts.noun == "task" && is_mail(parts.account) && is_uuid(parts.own),
    job_path: |id| Some(format!("tasks/{}", id.as_sent())),
    naming: |id| json!({"taskId": id.as_sent()}),
    uses_account_default: true,
    endpoints: &[
        Row("POST", "videos/create|upscale", Endpoint::Create(Created::Job)),
        Row("POST", "images|frames|lipsync/create", Endpoint::Create(Created::Job)),
        Row("POST", "super_slow_motion", Endpoint::Create(Created::Job)),
        Row("POST", "gen2*|gen3*|gen4*/*", Endpoint::Create(Created::Job)),
        Row("GET", "tasks/*", Endpoint::Job),
        Row("GET", "tasks|scheduler", Endpoint::List),
    ],
    lists: &["tasks"],
    job_lists: &[List {
        name: "tasks",
        path: "tasks?limit=20",
        rows: &["tasks", "data", ""],
        paging: Paging::Offset(""),
    }],
    ..Adapter::new("runwayml", read)
};

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let outcome = match object.text("status").as_deref() {
        Some("SUCCEEDED") => Some(Outcome::Completed),
        Some("FAILED") => Some(Outcome::Failed),
        _ => None,
    };
    let options = object.object("options").unwrap_or_default();
    let artifacts = items(object.get("artifacts"), "id");
    let mut observation = observation(job, kind(&artifacts), outcome, object);
    observation.prompt = options.text("text_prompt").map(truncate_redacted);
    observation.message = object.text("progressText").map(truncate_redacted);
    // A text between 0 and 1.
    let ratio = object.text("progressRatio").and_then(|ratio| ratio.parse::<f64>().ok());
    observation.percent = ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).map(|ratio| (ratio * 100.0).round() as u8);
    let variant = match options.boolean("watermark") {
        Some(false) => Variant::Clean,
        Some(true) => Variant::Watermarked,
        None => Variant::Unknown,
    };
    let there = artifacts.into_iter().filter(|(_, artifact)| artifact.boolean("deleted") != Some(true));
    let files = there.map(|(slot, artifact)| {
        let previews = artifact.get("previewUrls").and_then(|urls| urls.items_up_to(1)).unwrap_or_default();
        let poster = previews.first().and_then(|url| url.text());
        Item { slot, urls: vec![(artifact.text("url"), variant)], poster, ..Item::default() }
    });
    let files = files.collect();
    let name = if observation.kind == Some(Kind::Image) { "image.png" } else { "video.mp4" };
    attach(&mut observation, name, files);
    Some(observation)
}

/// What lasts is a video.
fn kind(artifacts: &[(String, Object<'_>)]) -> Option<Kind> {
    const IMAGES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
    let (_, artifact) = artifacts.first()?;
    let url = artifact.text("url").unwrap_or_default();
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let extension = path.rsplit('.').next().unwrap_or_default();
    match artifact.object("metadata").and_then(|metadata| metadata.get("duration")) {
        Some(_) => Some(Kind::Video),
        None if IMAGES.contains(&extension) => Some(Kind::Image),
        None => (extension == "mp4").then_some(Kind::Video),
    }
}
