use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::Shared;
use crate::job::{Job, Request};
use replyvault_domain::Kind;

use super::fields::Fields;
use super::{Answer, ApiError, admit, rules};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/videos/create", web::post().to(video))
        .route("/videos/cancel", web::post().to(cancel))
        .route("/images/create", web::post().to(images));
}

async fn video(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    if fields.get("prompt").is_none() && fields.get("fileID").is_none() {
        return Err(ApiError::BadRequest("Parameter prompt or fileID is required".into()));
    }
    let prompt = fields.get("prompt").unwrap_or_default();
    let mut request = fields.request(Kind::Video, prompt, shared.video_bytes)?;
    admit(&shared, &mut request, 1)?;
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(ApiError::Busy(Kind::Video))?;
    let job = jobs.first().ok_or(ApiError::Internal)?;
    // The bare id is not the one inside `videoId`, as the provider's need not be.
    let body = json!({
        "id": job.batch, "videoId": job.id, "task": {"batchID": job.own, "videoIDs": [job.batch]},
    });
    Ok(HttpResponse::Ok().json(with_reply(body, &job.request)))
}

async fn images(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    let quantity = fields.get("quantity").unwrap_or("1").parse().ok().filter(|count| (1..=4).contains(count));
    let quantity = quantity.ok_or_else(|| ApiError::BadRequest("Parameter quantity is from 1 to 4".into()))?;
    rules::account(&shared, fields.get("account"))?;
    let mut request = fields.request(Kind::Image, fields.required("prompt")?, None)?;
    admit(&shared, &mut request, quantity)?;
    let jobs = shared.clone().into_inner().create(request, quantity).ok_or(ApiError::Busy(Kind::Image))?;
    let first = jobs.first().ok_or(ApiError::Internal)?;
    let each = |field: fn(&Job) -> &str| jobs.iter().map(|job| json!(field(job))).collect::<Vec<_>>();
    let body = json!({
        "id": first.batch, "task": {"batchID": first.batch, "videoIDs": each(|job| &job.own)},
        "isFirstGenerate": false, "imageIds": each(|job| job.id.as_str()), "code": 200,
    });
    Ok(HttpResponse::Ok().json(with_reply(body, &first.request)))
}

fn with_reply(mut body: Value, request: &Request) -> Value {
    if let Value::Object(fields) = &mut body {
        fields.extend(request.reply());
    }
    body
}

/// A job that still runs ends as failed. What does not exist counts as given up.
async fn cancel(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    if let Some(job) = shared.store.get(fields.required("videoId")?).filter(|job| job.kind() == Kind::Video) {
        job.cancel();
    }
    Ok(HttpResponse::Ok().finish())
}
