//! Kling: `/v1/kling`. Its ids are bare numbers.

use serde_json::json;

use super::common::{Item, at_provider, attach, items, observation, status, time};
use super::{Adapter, List, Paging, is_number};
use crate::domain::{Access, JobId, Kind, Observation, Outcome, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;
use crate::provider::truncate_redacted;

pub(super) const KLING: Adapter = Adapter {
    hosts: &["*.klingai.com"],
    id_fields: &[],
    claim: |object| {
        let is_task = object.get("status_final").is_some() || object.get("works").is_some();
        let id = object.object("task").filter(|_| is_task)?.get("id")?;
        // As it stands there: a float would lose digits.
        JobId::prefixed(NAME, Some(id.raw()).filter(|id| is_number(id))?).ok()
    },
    job_path: |id| Some(format!("tasks/{}", Some(id.as_sent()).filter(|id| is_number(id))?)),
    naming: |id| json!({"task": {"id": id.as_sent().parse().map(serde_json::Number::from_u128).ok().flatten()}, "works": []}),
    endpoints: &[
        Row(
            "POST",
            "videos/text2video|image2video-frames|image2video-elements|image2video-effects|extend",
            Endpoint::Create(Created::Job),
        ),
        Row("POST", "videos/lipsync|omni|motion-create|add-sound", Endpoint::Create(Created::Job)),
        Row("POST", "avatars/video", Endpoint::Create(Created::Job)),
        Row("POST", "images/kolors|kolors-elements|omni|upscale|virtual-try-on", Endpoint::Create(Created::Job)),
        Row("GET", "tasks/*", Endpoint::Job),
        Row("GET", "tasks|scheduler", Endpoint::List),
    ],
    lists: &["history"],
    // The answer to a call has nothing of a job but its number.
    created: |answer| {
        let id = answer.object("task").and_then(|task| task.get("id"));
        let id = id.filter(|id| is_number(id.raw())).and_then(|id| JobId::prefixed(NAME, id.raw()).ok());
        id.into_iter().collect()
    },
    job_lists: &[List {
        name: "tasks",
        path: "tasks",
        rows: &["history", ""],
        paging: Paging::Before("createdBefore"),
    }],
    running: &["scheduler"],
    listed: |row| JobId::prefixed(NAME, Some(row.get("id")?.raw()).filter(|id| is_number(id))?).ok(),
    // Its links live for a day.
    rounds: 1,
    ..Adapter::new(NAME, read)
};

const NAME: &str = "kling";

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let task = object.object("task").unwrap_or_default();
    let works = items(object.get("works"), "workId");
    let name = object.text("status_name");
    let outcome = match (object.boolean("status_final"), name.as_deref()) {
        (Some(true), Some("succeed")) => Some(Outcome::Completed),
        (Some(true), _) => Some(Outcome::Failed),
        _ => None,
    };
    let content = works.first().and_then(|(_, work)| work.text("contentType"));
    let kind = match content.as_deref() {
        Some("video") => Some(Kind::Video),
        Some("image") => Some(Kind::Image),
        Some("audio") => Some(Kind::Music),
        Some(_) => return None,
        None => task.text("type").filter(|name| name.contains("video")).map(|_| Kind::Video),
    };
    let mut observation = observation(job, kind, outcome, object);
    observation.status = status(object.get("status"));
    observation.created_at = task.integer("createTime").and_then(time);
    let arguments = task.object("taskInfo").map(|info| items(info.get("arguments"), "name")).unwrap_or_default();
    let prompt = arguments.iter().find(|(name, _)| name == "prompt").and_then(|(_, prompt)| prompt.text("value"));
    observation.prompt = prompt.map(truncate_redacted);
    if outcome == Some(Outcome::Failed) && observation.error.is_none() {
        observation.error = observation.message.clone();
    }
    let files = works.into_iter().map(|(slot, work)| {
        let is_video = work.text("contentType").as_deref() == Some("video");
        let resource = work.object("resource").and_then(|resource| resource.text("resource"));
        // The link of a video is that of the marked file; a call names the clean one.
        let download = format!("v1/kling/assets/download?workIds={slot}&fileTypes=MP4");
        let clean = is_video && is_number(&slot);
        Item {
            urls: vec![(resource, if is_video { Variant::Watermarked } else { Variant::Unknown })],
            others: clean
                .then(|| at_provider(&download, Variant::Clean, Access::Lookup))
                .flatten()
                .into_iter()
                .collect(),
            poster: work.object("cover").and_then(|cover| cover.text("resource")).filter(|_| is_video),
            slot,
            name: None,
        }
    });
    let files = files.collect();
    let file = match kind {
        Some(Kind::Image) => "image.png",
        Some(Kind::Music) => "audio.mp3",
        _ => "video.mp4",
    };
    attach(&mut observation, file, files);
    Some(observation)
}
