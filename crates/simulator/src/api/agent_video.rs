//! A video made from a template: the answer is a stream that tells of the job while it runs. The pictures and clips in it
//! are steps on the way; the result is the video, which is made and told of like any other.

use actix_web::{HttpRequest, web};
use serde_json::{Value, json};

use crate::Shared;
use crate::job::{Job, Links, Outcome};
use replyvault_domain::Kind;

use super::events::{self, Event};
use super::fields::Fields;
use super::templates::Template;
use super::{Answer, ApiError, admit};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope.route("/videos/agent-create", web::post().to(create));
}

async fn create(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    let template = Template::find(fields.required("templateId")?).ok_or(ApiError::NoSuchTemplate)?;
    if fields.get("fileID").is_some() != fields.get("ossPath").is_some() {
        return Err(ApiError::BadRequest("Parameters fileID and ossPath are given together".into()));
    }
    let mut request = fields.request(Kind::Video, fields.get("prompt").unwrap_or_default(), shared.video_bytes)?;
    request.models = vec![template.model()];
    admit(&shared, &mut request, 1)?;
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(ApiError::Busy(Kind::Video))?;
    let job = jobs.first().ok_or(ApiError::Internal)?;
    let gap = shared.faults.stream_gap();
    let events = script(job, &shared.links).into_iter().filter(|step| gap.is_none() || !step.is_heartbeat());
    let events = events.map(|step| {
        let late = gap.filter(|_| step.share >= 0.4).unwrap_or_default();
        let offset = job.plan.ends.mul_f64(step.share) + late;
        Event { at: job.at(offset), name: None, data: step.stamped(job.created.after(offset).millis()) }
    });
    Ok(events::answer(&http, &shared, events.collect()))
}

/// What is told when this share of the job's time has passed.
struct Step {
    share: f64,
    data: Value,
}

impl Step {
    fn is_heartbeat(&self) -> bool {
        self.data["status"] == "heartbeat"
    }

    fn stamped(mut self, millis: u64) -> Value {
        self.data["timestamp"] = json!(millis);
        self.data
    }
}

fn script(job: &Job, links: &dyn Links) -> Vec<Step> {
    let about = |status| {
        json!({
            "status": status, "videoId": job.id, "projectID": job.batch, "sectionID": "3", "chatID": "7", "code": 200,
            "message": {"msgId": "1", "msgType": 1, "msgContent": job.request.prompt},
        })
    };
    let mut finished = about("finished");
    if job.outcome() != Outcome::Completed {
        finished["errCode"] = json!(1);
        finished["errMsg"] = json!("The video could not be made");
    }
    let says = |text| json!({"status": "progress", "type": 1, "message": {"msgType": 2, "msgContent": text}});
    let shows = |kind: u8, file: Value, status: u8| {
        let attachment = json!({"attachmentID": format!("att_{kind}"), "file": file, "status": status});
        let info = json!({"attachmentInfoID": "5", "type": kind, "attachments": [attachment]});
        json!({"status": "progress", "type": 2, "message": {"msgId": "2", "msgType": 2, "attachmentInfo": info}})
    };
    let working = || json!({"fileName": "processing"});
    // Neither file is the job's result, though the second is a clip like it.
    let [picture, clip] = match job.assets.first() {
        Some(asset) => [links.url(&asset.poster), links.url(&asset.plain)],
        None => Default::default(),
    };
    let templates = json!([{"id": "t1", "name": "Vlog"}, {"id": "t2", "name": "Postcard"}]);
    let heartbeat = || json!({"status": "heartbeat"});
    let steps = [
        (0.0, about("created")),
        (0.02, about("connected")),
        (0.1, heartbeat()),
        (0.2, says("Drawing the first frame")),
        (0.25, shows(1, working(), 2)),
        (0.3, heartbeat()),
        (0.4, shows(1, json!({"fileName": "frame.png", "fileUrl": picture, "type": "image/png"}), 3)),
        (0.45, says("Animating")),
        (0.5, shows(3, working(), 2)),
        (0.6, heartbeat()),
        (0.8, shows(3, json!({"fileName": "final_video.mp4", "fileUrl": clip, "type": "video/mp4"}), 3)),
        (0.9, json!({"status": "progress", "type": 3, "isFinished": true, "recTemplateList": templates})),
        (1.0, finished),
    ];
    steps.into_iter().map(|(share, data)| Step { share, data }).collect()
}
