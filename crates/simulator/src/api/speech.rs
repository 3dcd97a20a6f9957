//! Speech: made at once, or spoken over a WebSocket. Retired, and never called back for, as songs.

mod socket;

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::Shared;
use crate::account_data::StreamToken;
use crate::job::ACCOUNT;
use crate::payload;
use replyvault_domain::Kind;

use super::fields::Fields;
use super::{Answer, ApiError, admit, admit_others, rules};

/// Where the WebSocket is, which takes no API token.
pub(super) const WEB_SOCKET: &str = "/v1/minimax/audio/wss";
/// The provider's bounds, in characters.
const MAX_TEXT: usize = 500;
const MAX_STREAM: usize = 5000;

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/audio/create-mp3", web::post().to(create))
        .route("/audio/create-stream", web::post().to(prepare))
        .route("/audio/wss", web::get().to(socket::open));
}

fn spoken(fields: &Fields, most: usize) -> Result<&str, ApiError> {
    fields.required("voice_id")?;
    let text = fields.required("text")?;
    if text.chars().nth(most).is_some() {
        return Err(ApiError::BadRequest(format!("A text of more than {most} characters")));
    }
    Ok(text)
}

async fn create(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    rules::account(&shared, fields.get("account"))?;
    let mut request = fields.request(Kind::Speech, spoken(&fields, MAX_TEXT)?, None)?;
    admit(&shared, &mut request, 1)?;
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(ApiError::Busy(Kind::Speech))?;
    let job = jobs.first().ok_or(ApiError::Internal)?;
    Ok(HttpResponse::Ok().json(payload::created(job, shared.first_links(job).as_ref())))
}

/// Gives a token, and what is to be said over the WebSocket that it opens.
async fn prepare(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    let text = spoken(&fields, MAX_STREAM)?;
    rules::account(&shared, fields.get("account"))?;
    rules::check(Kind::Speech, &fields)?;
    admit_others(&shared)?;
    let account = fields.get("account").unwrap_or(ACCOUNT);
    let stream = shared.belongings.streams.add(|number| StreamToken {
        token: (0..4).map(|part| format!("{:016x}", shared.dice.number("token", account, number * 4 + part))).collect(),
        account: account.into(),
        made: Instant::now(),
    });
    Ok(HttpResponse::Ok().json(json!({"token": stream.token, "payload": message(&fields, text, &stream.token)})))
}

fn message(fields: &Fields, text: &str, token: &str) -> Value {
    let number = |name: &str, default: f64| fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let flag = |name: &str| fields.get(name) == Some("true");
    json!({
        "msg_id": &token[..16],
        "payload": {
            "model": fields.get("model").unwrap_or("speech-02-hd"), "text": text, "stream": true, "er_weights": [],
            "audio_setting": {}, "language_boost": fields.get("language_boost").unwrap_or("Auto"),
            "voice_setting": {
                "speed": number("speed", 1.0), "vol": number("vol", 1.0), "pitch": number("pitch", 0.0),
                "voice_id": fields.get("voice_id"), "emotion": fields.get("emotion").unwrap_or("Auto"),
            },
            "effects": {
                "deepen_lighten": number("deepen_lighten", 0.0), "stronger_softer": number("stronger_softer", 0.0),
                "nasal_crisp": number("nasal_crisp", 0.0), "spacious_echo": flag("spacious_echo"),
                "lofi_telephone": flag("lofi_telephone"), "robotic": flag("robotic"),
                "auditorium_echo": flag("auditorium_echo"),
            },
        },
    })
}
