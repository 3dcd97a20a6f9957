//! Music and speech. The provider never called back for these; here a `replyUrl` gets one final callback, so that a
//! receiver can be tried with their shapes.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::domain::Kind;
use crate::simulator::Shared;
use crate::simulator::payload;

use super::fields::Fields;
use super::read::{ListQuery, one, page};
use super::{Answer, Refusal, capacity};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/music/create", web::get().to(create_music))
        .route("/music", web::get().to(music))
        .route("/music/{id}", web::get().to(async |id, shared| one(Kind::Music, id, shared)))
        .route("/audio/create-mp3", web::post().to(create_speech))
        .route("/audio", web::get().to(speech))
        .route("/audio/{id}", web::get().to(async |id, shared| one(Kind::Speech, id, shared)));
}

async fn create_music(http: HttpRequest, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::from_pairs(http.query_string().as_bytes());
    create(Kind::Music, &fields, fields.required("prompt")?, &shared)
}

async fn create_speech(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    create(Kind::Speech, &fields, fields.required("text")?, &shared)
}

fn create(kind: Kind, fields: &Fields, prompt: &str, shared: &web::Data<Shared>) -> Answer {
    let request = fields.request(kind, prompt, None)?;
    capacity(shared)?;
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(Refusal::Busy)?;
    let job = jobs.first().ok_or(Refusal::Internal)?;
    Ok(HttpResponse::Ok().json(payload::created(job, &shared.links)))
}

async fn music(query: web::Query<ListQuery>, shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(page(Kind::Music, &query, &shared).items)
}

async fn speech(query: web::Query<ListQuery>, shared: web::Data<Shared>) -> HttpResponse {
    let page = page(Kind::Speech, &query, &shared);
    HttpResponse::Ok().json(json!({"audio_list": page.items, "total": page.total, "has_more": page.has_after}))
}
