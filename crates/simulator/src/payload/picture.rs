//! Videos and images, which differ in little but the fields that name the media.

use serde_json::{Map, Value, json};

use crate::job::{Asset, Job, Links, Offer, Outcome, Stage, USER, USER_ID};
use replyvault_domain::Kind;

use super::{object, status};

pub(super) fn answer(job: &Job, stage: &Stage, links: &dyn Links) -> Map<String, Value> {
    let mut fields = object(json!({"id": job.own}));
    fields.extend(status(job, stage));
    let id_field = if job.kind() == Kind::Image { "imageId" } else { "videoId" };
    fields.insert(id_field.into(), json!(job.id));
    let (progress, asset) = match (stage, job.outcome(), job.assets.first()) {
        (Stage::Final { .. }, Outcome::Failed, _) => return fields,
        (Stage::Final { .. }, Outcome::Moderated, _) | (Stage::Final { .. }, _, None) => {
            fields.extend(object(json!({
                "desc": job.request.prompt, "coverURL": "", "videoURL": "", "percent": 100, "canAppeal": true,
                "canRetry": false, "message": "The content was held back by moderation",
            })));
            return fields;
        }
        (Stage::Final { .. }, _, Some(asset)) => (None, Some(asset)),
        (Stage::Running(progress), ..) => (Some(progress), None),
    };
    fields.extend(object(json!({"desc": job.request.prompt, "originFiles": [], "canRetry": false})));
    if let Some(progress) = progress {
        fields.insert("message".into(), json!(progress.message));
        fields.insert("percent".into(), json!(progress.percent));
    }
    fields.extend(match job.kind() {
        Kind::Image => image(job, asset, links),
        _ => video(job, asset, links),
    });
    fields
}

fn video(job: &Job, asset: Option<&Asset>, links: &dyn Links) -> Map<String, Value> {
    let Some(asset) = asset else {
        return object(json!({"coverURL": "", "videoURL": "", "width": 0, "height": 0, "canAppeal": false}));
    };
    let clean = if job.plan.offer == Offer::Clean { links.url(&asset.clean) } else { String::new() };
    // The caller's own upload: a picture that is not the job's.
    let input = |id| json!([{"id": id, "url": links.url(&asset.poster), "type": "jpg"}]);
    let inputs = job.request.input.as_ref().map_or_else(|| json!([]), input);
    object(json!({
        "originFiles": inputs, "coverURL": cover(asset, links, "p_50"), "videoURL": links.url(&asset.marked), "downloadURL": clean,
        "percent": 100, "width": 1366, "height": 768, "canAppeal": false,
    }))
}

fn image(job: &Job, asset: Option<&Asset>, links: &dyn Links) -> Map<String, Value> {
    let [cover, plain, clean, marked] = asset.map_or_else(Default::default, |asset| {
        let (plain, clean, marked) = (links.url(&asset.plain), links.url(&asset.clean), links.url(&asset.marked));
        let cover = cover(asset, links, "w_1080");
        match job.plan.offer {
            Offer::Clean => [cover, plain, clean, marked],
            Offer::NoClean => [cover, plain, String::new(), marked],
            Offer::WatermarkOnly => [cover, marked.clone(), marked.clone(), marked],
        }
    });
    let model = job.request.models.first().map_or("image-01", String::as_str);
    object(json!({
        "coverURL": cover, "videoURL": plain, "downloadURL": clean,
        "videoURLs": {"feedURL": "", "downloadURLWithWatermark": marked},
        "width": 0, "height": 0, "canAppeal": false, "hasVoice": false, "useOriginPrompt": false, "isBookmarked": false,
        "disableGenerateSimilar": false, "postStatus": 0, "isVisitor": false, "priority": 0, "generatorType": 1,
        "isInFolder": false, "humanCheckStatus": 0, "modelID": model, "createTime": job.created.millis(),
        "userID": USER_ID, "userIDStr": USER_ID.to_string(), "createType": 4, "promptImgURL": "",
        "extra": {"cameraMotions": [], "promptStruct": ""}, "batchID": job.batch,
        "aspectRatio": job.request.aspect_ratio, "duration": 0, "resolution": 0,
        "fileID": format!("user:{USER}-minimax:{}-file:{}", job.request.account, job.own),
        "tags": [{"type": "normal", "tagIcon": "", "tagText": model}],
    }))
}

/// A rendition, not the media: the CDN is asked to resize it.
fn cover(asset: &Asset, links: &dyn Links, size: &str) -> String {
    let url = links.url(&asset.poster);
    let and = if url.contains('?') { '&' } else { '?' };
    format!("{url}{and}x-oss-process=image/resize,{size}/format,webp")
}
