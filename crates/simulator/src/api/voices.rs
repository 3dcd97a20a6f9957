//! Voices for speech: those there are, and those cloned from samples. Retired.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::job::{ACCOUNT, USER};

use super::fields::Fields;
use super::{Answer, ApiError, admit_others, list, rules};

/// The provider's bounds.
const MAX_NAME: usize = 30;
const MAX_SAMPLES: usize = 10;

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/audio/config", web::get().to(config))
        .route("/audio/voices", web::get().to(voices))
        .route("/audio/clone-voice", web::post().to(clone))
        .route("/audio/delete-voice", web::post().to(delete));
}

async fn config() -> HttpResponse {
    let tags = |names: &[&str]| names.iter().map(|name| json!({"tag_name": name})).collect::<Vec<_>>();
    let emotion = |label: &str| json!({"label": label, "value": label.to_lowercase()});
    HttpResponse::Ok().json(json!({
        "t2a_emotion": [emotion("Happy"), emotion("Calm"), emotion("Sad")],
        "voice_tag_accent": [{"language": "English", "tag_name": "US (General)"}],
        "voice_tag_age": tags(&["Young Adult", "Adult"]),
        "voice_tag_gender": tags(&["Male", "Female"]),
        "voice_tag_language": tags(&["English", "Italian", "German"]),
    }))
}

fn voice(id: &str, name: &str, tags: &[&str], file: &str, shared: &Shared) -> Value {
    let (base, made) = (shared.links.base(), shared.clock.started().millis());
    json!({
        "voice_id": id, "parent_voice_id": "0", "voice_name": name, "tag_list": tags, "file_id": file,
        "cover_url": format!("{base}/cdn/voices/cover.png?x-oss-process=image/resize,p_50/format,webp"),
        "create_time": made, "update_time": made, "collected": false, "voice_status": 2,
        "sample_audio": format!("{base}/cdn/voices/sample.mp3"), "uniq_id": name.replace(' ', ""), "group_id": "0",
    })
}

#[derive(Deserialize)]
struct Query {
    tag_list: Option<String>,
    page: Option<usize>,
    page_size: Option<usize>,
    is_system: Option<bool>,
}

async fn voices(query: web::Query<Query>, shared: web::Data<Shared>) -> Answer {
    list::refused(&shared)?;
    if query.is_system == Some(false) {
        let cloned = shared.belongings.voices.all();
        return Ok(HttpResponse::Ok().json(json!({"total": cloned.len(), "voice_list": cloned, "has_more": false})));
    }
    let system = [
        voice("209533299589001", "Calm Woman", &["English", "Female", "Adult", "Calm"], "", &shared),
        voice("209533299589002", "Diligent Leader", &["Italian", "Female", "Adult", "Calm"], "", &shared),
        voice("209533299589003", "Old Sailor", &["English", "Male", "Senior"], "", &shared),
    ];
    let wanted = query.tag_list.as_deref().unwrap_or_default();
    let has = |voice: &Value, tag: &str| {
        let tags = voice["tag_list"].as_array();
        tags.is_some_and(|tags| tags.iter().any(|found| found == tag))
    };
    let mut found: Vec<_> = system.into_iter().collect();
    found.retain(|voice| wanted.split(',').filter(|tag| !tag.is_empty()).all(|tag| has(voice, tag)));
    let size = query.page_size.unwrap_or(500);
    let from = query.page.unwrap_or(1).saturating_sub(1).saturating_mul(size).min(found.len());
    let to = from.saturating_add(size).min(found.len());
    let page = json!({"voice_list": found[from..to], "total": found.len(), "has_more": to < found.len()});
    Ok(HttpResponse::Ok().json(page))
}

async fn clone(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    let (name, language) = (fields.required("voice_name")?, fields.required("language_tag")?);
    if name.chars().nth(MAX_NAME).is_some() {
        return Err(ApiError::BadRequest(format!("A name of more than {MAX_NAME} characters")));
    }
    let samples: Vec<_> = fields.required("files")?.split(',').collect();
    if samples.len() > MAX_SAMPLES {
        return Err(ApiError::BadRequest(format!("More than {MAX_SAMPLES} samples")));
    }
    admit_others(&shared)?;
    let made = shared.belongings.voices.add(|number| {
        // A trap: the id of a voice has the form of a speech's.
        let id = format!("user:{USER}-minimax:{ACCOUNT}-audio:{}", shared.id("voice", number));
        voice(&id, name, &[language], &shared.id("sample", number), &shared)
    });
    Ok(HttpResponse::Ok().json(made))
}

/// What does not exist counts as deleted.
async fn delete(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    let id = fields.required("voice_id")?;
    rules::account(&shared, fields.get("account"))?;
    shared.belongings.voices.remove(|voice| voice["voice_id"] == id);
    Ok(HttpResponse::Ok().finish())
}
