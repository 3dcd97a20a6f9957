use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use crate::domain::Kind;
use crate::simulator::Shared;
use crate::simulator::payload;

use super::fields::Fields;
use super::{Answer, Refusal, capacity};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/agent", web::post().to(create))
        .route("/agent/jobs", web::get().to(running))
        .route("/agent/{id}", web::get().to(one));
}

async fn create(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    fields.required("models")?;
    let request = fields.request(Kind::Agent, fields.required("prompt")?, shared.video_bytes)?;
    capacity(&shared)?;
    let waits = request.background != Some(true);
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(Refusal::Busy)?;
    let job = jobs.first().ok_or(Refusal::Internal)?;
    if !waits {
        let started = payload::answer(job, &job.stage_after(Duration::ZERO), &shared.links);
        return Ok(HttpResponse::Created().json(started));
    }
    tokio::time::sleep_until(job.at(job.plan.settles).into()).await;
    let status = StatusCode::from_u16(payload::http_status(job)).unwrap_or(StatusCode::OK);
    Ok(HttpResponse::build(status).json(payload::answer(job, &job.stage(), &shared.links)))
}

async fn one(id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    let job = shared.store.get(&id).filter(|job| job.kind() == Kind::Agent && !job.is_gone());
    super::read::answer(job, Refusal::NoSuchJob, &shared)
}

async fn running(shared: web::Data<Shared>) -> HttpResponse {
    let mut executing: Map<String, Value> = Map::new();
    for job in shared.store.running(&[Kind::Agent]) {
        let entry = json!({"jobId": job.id, "elapsed": super::scheduler::elapsed(&job)});
        match executing.entry(&job.request.account).or_insert_with(|| json!([])) {
            Value::Array(jobs) => jobs.push(entry),
            other => *other = json!([entry]),
        }
    }
    let count = |jobs: &Value| json!({"executing": jobs.as_array().map_or(0, Vec::len)});
    let summary: Map<_, _> = executing.iter().map(|(account, jobs)| (account.clone(), count(jobs))).collect();
    let accounts: Vec<_> = executing.keys().collect();
    HttpResponse::Ok().json(json!({"accounts": accounts, "summary": summary, "executing": executing}))
}
