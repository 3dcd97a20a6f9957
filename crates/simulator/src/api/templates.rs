//! What videos can be made from: templates, and characters that were used before.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::job::{ACCOUNT, USER, USER_ID};

use super::{Answer, ApiError};

const FIRST: u64 = 610_000_000_000_000_001;
const COUNT: u64 = 40;

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/videos/agent-templates", web::get().to(templates))
        .route("/videos/characters", web::get().to(characters));
}

/// One of the templates there are, which have ids in a row.
#[derive(Clone, Copy)]
pub(super) struct Template(u64);

impl Template {
    pub(super) fn find(id: &str) -> Option<Self> {
        let number = id.parse::<u64>().ok()?.checked_sub(FIRST)?;
        (number < COUNT).then_some(Self(number))
    }

    fn id(self) -> String {
        (FIRST + self.0).to_string()
    }

    pub(super) fn model(self) -> String {
        "agent-video".into()
    }

    fn card(self, shared: &Shared) -> Value {
        let (id, name, made) = (self.id(), format!("Template {}", self.0 + 1), shared.clock.started().millis());
        let file = |name: &str| format!("{}/cdn/templates/{id}/{name}", shared.links.base());
        json!({
            "id": id, "createTime": made, "cardType": 1, "tabID": "template",
            "videoAsset": {
                "id": format!("9{id}"), "desc": "A template", "coverURL": file("cover.jpg"),
                "videoURL": file("video.mp4"), "downloadURL": file("download.mp4"), "status": 2, "width": 1280,
                "height": 720, "duration": 10, "resolution": 1, "title": name, "agentTemplateID": id,
                "agentTemplateName": name, "hasVoice": true, "modelID": self.model(), "useOriginPrompt": false,
                "isBookmarked": false, "disableGenerateSimilar": false, "postStatus": 1, "userID": USER_ID,
                "createType": 1, "promptImgURL": "", "aspectRatio": "16:9", "humanCheckStatus": 1,
                "tags": [{"type": "style", "tagIcon": "", "tagText": "Cinematic"}],
                "userIDStr": USER_ID.to_string(),
            },
            "like": {"likes": 42, "likeStatus": 0},
            "author": {"userID": USER, "name": "Author", "avatar": file("avatar.jpg")},
        })
    }

    /// The card with what the template asks for.
    fn details(self, shared: &Shared) -> Value {
        let mut details = self.card(shared);
        details["credits"] = json!(100);
        details["requirePrompt"] = json!(true);
        details["requireImage"] = json!(self.0.is_multiple_of(2));
        details["prompt"] = json!("What the template makes");
        details["inputs"] = json!([{"name": "text_input", "type": "text"}, {"name": "image_input", "type": "image"}]);
        details
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    template_id: Option<String>,
    limit: Option<usize>,
    last_id: Option<String>,
}

async fn templates(query: web::Query<Query>, shared: web::Data<Shared>) -> Answer {
    if let Some(id) = &query.template_id {
        let template = Template::find(id).ok_or(ApiError::NoSuchTemplate)?;
        return Ok(HttpResponse::Ok().json(template.details(&shared)));
    }
    let last = query.last_id.as_deref().and_then(Template::find);
    let from = last.map_or(0, |last| last.0 + 1);
    let to = from.saturating_add(query.limit.unwrap_or(30) as u64).min(COUNT);
    let cards: Vec<_> = (from..to).map(|number| Template(number).card(&shared)).collect();
    Ok(HttpResponse::Ok().json(json!({"videoList": cards, "hasPre": from > 0, "hasNext": to < COUNT})))
}

async fn characters(shared: web::Data<Shared>) -> HttpResponse {
    let file = |name: &str| format!("{}/cdn/characters/{name}", shared.links.base());
    HttpResponse::Ok().json(json!([{
        "characterID": "1234567890", "characterType": 1, "file": {
            "fileID": format!("user:{USER}-minimax:{ACCOUNT}-file:771"), "cdnUrl": file("face.jpeg"),
            "promptImgUrl": file("detected.jpeg"),
        },
    }]))
}
