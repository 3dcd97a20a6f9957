use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, Session};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::api::fields::Fields;
use crate::api::{Answer, ApiError};
use crate::job::Job;
use replyvault_domain::Kind;

/// How long a token opens the WebSocket.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long a connection may be silent, and how many texts it may send.
const IDLE: Duration = Duration::from_secs(120);
const MAX_TEXTS: usize = 100;
const MAX_MESSAGE: usize = 256 << 10;
/// How much sound one frame holds.
const FRAME: usize = 4 << 10;

#[derive(Deserialize)]
pub(super) struct Query {
    token: Option<String>,
}

/// Opens the WebSocket for a token of `create-stream`. Each text that comes is spoken in frames.
pub(super) async fn open(
    http: HttpRequest,
    query: web::Query<Query>,
    body: web::Payload,
    shared: web::Data<Shared>,
) -> Answer {
    let known = |token: &String| {
        let streams = &shared.belongings.streams;
        streams.find(|stream| stream.token == *token && stream.made.elapsed() < LIFE)
    };
    let stream = query.token.as_ref().and_then(known);
    let stream = stream.ok_or_else(|| ApiError::BadRequest("Parameter token is not good".into()))?;
    if !http.headers().contains_key(header::UPGRADE) {
        return Err(ApiError::BadRequest("This is a WebSocket".into()));
    }
    let handled = actix_ws::handle(&http, body);
    let (answer, session, messages) = handled.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let messages = messages.max_frame_size(MAX_MESSAGE).aggregate_continuations().max_continuation_size(MAX_MESSAGE);
    actix_web::rt::spawn(converse(shared.into_inner(), stream.account, session, messages));
    Ok(answer)
}

async fn converse(shared: Arc<Shared>, account: String, mut session: Session, mut messages: AggregatedMessageStream) {
    let mut texts = 0;
    while let Ok(Some(Ok(message))) = tokio::time::timeout(IDLE, messages.recv()).await {
        let done = match message {
            AggregatedMessage::Text(text) if texts < MAX_TEXTS => {
                texts += 1;
                speak(&shared, &account, &text, &mut session).await
            }
            AggregatedMessage::Ping(data) => session.pong(&data).await,
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Text(_) | AggregatedMessage::Binary(_) | AggregatedMessage::Close(_) => break,
        };
        if done.is_err() {
            return;
        }
    }
    let _ = session.close(Some(CloseCode::Normal.into())).await;
}

async fn speak(
    shared: &Arc<Shared>,
    account: &str,
    message: &str,
    session: &mut Session,
) -> Result<(), actix_ws::Closed> {
    let Some(job) = make(shared, account, message) else {
        let refused = json!({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}});
        return session.text(refused.to_string()).await;
    };
    let Some(asset) = job.assets.first() else { return Ok(()) };
    let (file, mut range) = (&asset.plain.file, 0..asset.plain.file.len());
    while !range.is_empty() {
        let sound = file.read(&range, FRAME);
        range.start += sound.len() as u64;
        session.text(frame(&job, &hex::encode(&sound), None).to_string()).await?;
        tokio::time::sleep(shared.pace / 20).await;
    }
    session.text(frame(&job, "", Some(file.len())).to_string()).await
}

fn make(shared: &Arc<Shared>, account: &str, message: &str) -> Option<Arc<Job>> {
    let message: Value = serde_json::from_str(message).ok()?;
    let text = message["payload"]["text"].as_str().filter(|text| !text.is_empty())?;
    let mut request = Fields::default().request(Kind::Speech, text, None).ok()?;
    request.account = account.into();
    Arc::clone(shared).create(request, 1)?.into_iter().next()
}

/// One message; the last has the size of the whole, and no sound.
fn frame(job: &Job, sound: &str, whole: Option<u64>) -> Value {
    let status = if whole.is_some() { 2 } else { 1 };
    let mut frame = json!({
        "data": {"audio": sound, "status": status, "ced": ""}, "input_sensitive": false, "trace_id": job.batch,
        "base_resp": {"status_code": 0, "status_msg": "success"},
    });
    if let Some(size) = whole {
        frame["extra_info"] = json!({
            "audio_length": 1800, "audio_sample_rate": 22_050, "audio_size": size, "bitrate": 48_000, "word_count": 0,
            "invisible_character_ratio": 0, "usage_characters": job.request.prompt.chars().count(),
            "audio_format": "mp3", "audio_channel": 1,
        });
    }
    frame
}
