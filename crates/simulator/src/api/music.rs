//! Songs. Retired. The provider never called back for them; here a `replyUrl` gets one final callback, so that a receiver
//! can be tried with their shape.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::Shared;
use crate::payload;
use replyvault_domain::Kind;

use super::fields::Fields;
use super::{Answer, ApiError, admit};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope.route("/music/create", web::get().to(create)).route("/music/styles", web::get().to(styles));
}

async fn create(http: HttpRequest, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::from_pairs(http.query_string().as_bytes());
    fields.required("styleId")?;
    let mut request = fields.request(Kind::Music, fields.required("prompt")?, None)?;
    admit(&shared, &mut request, 1)?;
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(ApiError::Busy(Kind::Music))?;
    let job = jobs.first().ok_or(ApiError::Internal)?;
    Ok(HttpResponse::Ok().json(payload::created(job, shared.first_links(job).as_ref())))
}

async fn styles(shared: web::Data<Shared>) -> HttpResponse {
    let style = |id: u32, name: &str| json!({"url": format!("{}/cdn/styles/{id}.mp3", shared.links.base()), "styleId": id.to_string(), "name": name});
    HttpResponse::Ok().json(json!([
        {"name": "Classical", "styles": [style(11, "Chamber")]},
        {"name": "World", "styles": [style(21, "Fado"), style(22, "Cumbia")]},
    ]))
}
