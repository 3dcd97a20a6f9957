use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use crate::domain::Kind;
use crate::simulator::Shared;
use crate::simulator::job::{Job, Request};

use super::fields::Fields;
use super::{Answer, Refusal, capacity};

pub(super) async fn video(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    if fields.get("prompt").is_none() && fields.get("fileID").is_none() {
        return Err(Refusal::BadRequest("Parameter prompt or fileID is required".into()));
    }
    let prompt = fields.get("prompt").unwrap_or_default();
    let request = fields.request(Kind::Video, prompt, shared.video_bytes)?;
    capacity(&shared)?;
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(Refusal::Busy)?;
    let job = jobs.first().ok_or(Refusal::Internal)?;
    // The bare id is not the one inside `videoId`, as the provider's need not be.
    let mut body = json!({
        "id": job.batch, "videoId": job.id, "task": {"batchID": job.own, "videoIDs": [job.batch]},
    });
    add_reply(&mut body, &job.request);
    Ok(HttpResponse::Ok().json(body))
}

pub(super) async fn images(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    let quantity = fields.get("quantity").unwrap_or("1").parse().ok().filter(|count| (1..=4).contains(count));
    let quantity = quantity.ok_or_else(|| Refusal::BadRequest("Parameter quantity is from 1 to 4".into()))?;
    let request = fields.request(Kind::Image, fields.required("prompt")?, None)?;
    capacity(&shared)?;
    let jobs = shared.clone().into_inner().create(request, quantity).ok_or(Refusal::Busy)?;
    let first = jobs.first().ok_or(Refusal::Internal)?;
    let each = |field: fn(&Job) -> &str| jobs.iter().map(|job| json!(field(job))).collect::<Vec<_>>();
    let mut body = json!({
        "id": first.batch, "task": {"batchID": first.batch, "videoIDs": each(|job| &job.own)},
        "isFirstGenerate": false, "imageIds": each(|job| job.id.as_str()), "code": 200,
    });
    add_reply(&mut body, &first.request);
    Ok(HttpResponse::Ok().json(body))
}

fn add_reply(body: &mut Value, request: &Request) {
    let reply = [("replyUrl", &request.reply_url), ("replyRef", &request.reply_ref)];
    let reply = reply.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
    if let Value::Object(fields) = body {
        fields.extend(reply.collect::<Map<_, _>>());
    }
}
