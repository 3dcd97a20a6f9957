use serde_json::{Map, Value, json};

use crate::job::{Asset, Form, Job, Links, Offer, Outcome, Stage};

use super::object;

pub(super) fn answer(job: &Job, stage: &Stage, links: &dyn Links) -> Value {
    let mut fields = started(job);
    let Stage::Final { whole } = *stage else { return Value::Object(fields) };
    match job.outcome() {
        Outcome::Failed => {
            let status = job.plan.failure_status;
            let timed_out = status == 504;
            let message = if timed_out { "Timeout waiting for assistant response" } else { "Agent connection error" };
            fields.remove("response");
            fields.insert("status".into(), json!("failed"));
            fields.insert("error".into(), json!({"message": message, "status": status}));
        }
        Outcome::Moderated => {
            fields.remove("response");
            fields.insert("status".into(), json!("failed"));
            fields.insert("error".into(), json!("The prompt was refused by moderation"));
        }
        Outcome::Completed | Outcome::Removed => {
            let seconds = job.plan.ends.as_secs();
            let attachments = job.assets.iter().enumerate().map(|(place, asset)| {
                if place == 0 && !whole { unfinished(asset) } else { attachment(job, place, asset, links) }
            });
            let more = object(json!({
                "msg_content": "Here is what you asked for.",
                "timestamp": job.created.after(job.plan.ends).millis(),
                "elapsedTime": format!("{:02}:{:02}", seconds / 60, seconds % 60),
                "attachments": attachments.collect::<Vec<_>>(),
            }));
            fields.insert("status".into(), json!("completed"));
            if let Some(Value::Object(response)) = fields.get_mut("response") {
                response.extend(more);
            }
        }
    }
    Value::Object(fields)
}

/// The job as it is told of when it begins.
fn started(job: &Job) -> Map<String, Value> {
    let asked = &job.request;
    let mut request = object(json!({"account": asked.account, "prompt": asked.prompt, "models": asked.models}));
    let optional =
        [("async", asked.background.map(Value::from)), ("file", (!asked.files.is_empty()).then(|| json!(asked.files)))];
    request.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    request.extend(asked.reply());
    object(json!({
        "jobId": job.id, "status": "started", "created": job.created, "request": request,
        "response": {"projectID": job.own, "sectionID": "3", "chatID": "7"},
    }))
}

fn attachment(job: &Job, place: usize, asset: &Asset, links: &dyn Links) -> Value {
    let offer = job.plan.offer;
    let best = links.url(if offer == Offer::NoClean { &asset.plain } else { &asset.marked });
    let mut attachment = match asset.form {
        Form::Mp4 if asset.is_node => node(asset, offer, links),
        Form::Mp4 => json!({"type": 1, "file": {
            "fileName": asset.name, "fileUrl": best, "type": "video/mp4",
            "extra": {
                "width": "1280", "height": "720", "duration": "6.0", "fps": "24",
                "watermark_url": links.url(&asset.marked), "thumbnail_url": links.url(&asset.poster),
            },
        }}),
        Form::Mp3 => json!({"file": {
            "fileName": asset.name, "fileUrl": links.url(&asset.plain), "extra": {"format": "mp3", "type": "audio"},
        }}),
        // No agent makes anything else.
        _ => json!({"type": 2, "file": {
            "fileName": asset.name, "fileUrl": links.url(&asset.plain), "type": "image/png",
            "extra": {"model_name": "banana_2", "model_aspect_ratio": "16:9", "model_resolution": "2K"},
        }}),
    };
    if asset.form == Form::Mp4 && !asset.is_node && offer == Offer::Clean {
        attachment["file"]["extra"]["no_watermark_url"] = json!(links.url(&asset.clean));
    }
    attachment["attachmentID"] = json!(format!("att_{}", place + 1));
    attachment["status"] = json!(3);
    attachment
}

/// A clip whose URLs stand at the board's node, with none at the file.
fn node(asset: &Asset, offer: Offer, links: &dyn Links) -> Value {
    let mut file = object(json!({
        "id": "f1", "name": asset.name, "coverInfo": {"coverURL": links.url(&asset.poster)},
        "url": links.url(if offer == Offer::Clean { &asset.marked } else { &asset.plain }),
    }));
    if offer == Offer::Clean {
        file.insert("noWatermarkUrl".into(), json!(links.url(&asset.clean)));
    }
    json!({"type": 1, "file": {"fileName": asset.name, "fileUrl": ""}, "node": {
        "nodeID": "n1", "nodeType": 2, "agentFile": file, "status": 3, "playWidth": 1280, "playHeight": 720,
        "logoType": 0,
    }})
}

fn unfinished(asset: &Asset) -> Value {
    json!({"attachmentID": "att_1", "type": 1, "status": 2, "file": {"fileName": asset.name, "fileUrl": ""}})
}

/// The HTTP status of a finished job's answer to a caller who waited.
pub(crate) fn http_status(job: &Job) -> u16 {
    match job.outcome() {
        Outcome::Failed => job.plan.failure_status,
        Outcome::Moderated => 422,
        Outcome::Completed | Outcome::Removed => 200,
    }
}
