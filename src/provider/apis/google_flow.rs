//! Google Flow (Veo, Imagen, Nano Banana): `/v1/google-flow`.

use super::common::{Item, attach, error_code, items, observation, word_outcome};
use super::{Adapter, is_mail, letter};
use crate::domain::{JobId, JobIdParts, Kind, Observation, Outcome, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const GOOGLE_FLOW: Adapter = Adapter {
    hosts: &["flow-content.google", "storage.googleapis.com", "lh3.googleusercontent.com"],
    is_id,
    reply_ref_in: "request",
    // Raw: an encoded id is refused.
    job_path: |id| Some(format!("jobs/{}", id.as_sent())),
    kept_days: 7,
    // As many images as a callback may have.
    max_answer: 32 << 20,
    endpoints: &[
        Row("POST", "videos|images", Endpoint::Create(Created::Job)),
        Row("POST", "videos/extend|upscale", Endpoint::Create(Created::Job)),
        Row("GET", "jobs/*", Endpoint::Job),
    ],
    ..Adapter::new("google-flow", read)
};

/// `j<digits><v|i>-u<user>-email:<e-mail>-bot:google-flow`
fn is_id(parts: &JobIdParts<'_>) -> bool {
    kind(parts.own).is_some() && parts.account.strip_prefix("email:").is_some_and(is_mail)
}

fn kind(own: &str) -> Option<Kind> {
    match letter(own)? {
        'v' => Some(Kind::Video),
        'i' => Some(Kind::Image),
        _ => None,
    }
}

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let kind = match object.text("type").as_deref() {
        Some("video") => Some(Kind::Video),
        Some("image") => Some(Kind::Image),
        Some(_) => return None,
        None => kind(job.parts().own),
    };
    // The answer to a call that waits has the media and no status.
    let is_waited_for = object.get("status").is_none() && object.get("media").is_some();
    let outcome = match word_outcome(object.text("status").as_deref()) {
        Some(Outcome::Failed) if is_refusal(object) => Some(Outcome::Moderated),
        outcome => outcome,
    };
    let mut observation = observation(job, kind, outcome, object);
    let response = object.object("response").unwrap_or_default();
    let media = if is_waited_for { object.get("media") } else { response.get("media") };
    let files: Vec<Item> = match items(media, "name") {
        media if media.is_empty() => items(response.get("operations"), "sceneId").iter().map(of_2025).collect(),
        media => media.iter().enumerate().filter_map(|(place, (slot, item))| file(slot, item, place)).collect(),
    };
    if is_waited_for && !files.is_empty() && observation.error.is_none() {
        observation.outcome = Some(Outcome::Completed);
    }
    attach(&mut observation, if kind == Some(Kind::Image) { "image.png" } else { "video.mp4" }, files);
    Some(observation)
}

/// Of several files asked for some may have failed.
fn file(slot: &str, item: &Object<'_>, place: usize) -> Option<Item> {
    let status = item.object("mediaMetadata").and_then(|metadata| metadata.object("mediaStatus"));
    if status.and_then(|status| status.text("mediaGenerationStatus")).is_some_and(|status| status.ends_with("_FAILED"))
    {
        return None;
    }
    let image = item.object("image").and_then(|image| image.object("generatedImage")).unwrap_or_default();
    let inline = image.get("encodedImage").and_then(|_| super::common::inline(place));
    Some(Item {
        slot: slot.to_owned(),
        urls: vec![(item.text("videoUrl"), Variant::Unknown), (image.text("fifeUrl"), Variant::Unknown)],
        others: inline.into_iter().collect(),
        poster: item.text("thumbnailUrl"),
        name: None,
    })
}

fn of_2025((slot, item): &(String, Object<'_>)) -> Item {
    let metadata = item.object("operation").and_then(|operation| operation.object("metadata")).unwrap_or_default();
    let video = item.object("video").or_else(|| metadata.object("video")).unwrap_or_default();
    let urls = ["fifeUrl", "uri", "servingBaseUri"].map(|name| (video.text(name), Variant::Unknown));
    Item { slot: slot.clone(), urls: urls.into(), ..Item::default() }
}

/// Reasons that are about load say nothing of what was asked for.
fn is_refusal(object: &Object<'_>) -> bool {
    const REASON: &str = "PUBLIC_ERROR_";
    const OF_LOAD: [&str; 4] =
        ["TOO_MUCH_TRAFFIC", "USER_REQUESTS_THROTTLED", "PER_MODEL_DAILY_QUOTA_REACHED", "USER_QUOTA_REACHED"];
    if error_code(object) == Some(422) {
        return true;
    }
    let reasons = ["error", "errorDetails"].into_iter().filter_map(|name| object.get(name));
    let texts: Vec<&str> = reasons.map(|value| value.raw()).collect();
    let names = |text: &&str| text.contains(REASON);
    texts.iter().any(names) && !texts.iter().any(|text| OF_LOAD.iter().any(|load| text.contains(load)))
}
