use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::Shared;
use crate::payload;
use replyvault_domain::Kind;

use super::fields::Fields;
use super::{Answer, ApiError, admit, list, rules};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/agent", web::post().to(create))
        .route("/agent/jobs", web::get().to(running))
        .route("/agent/{id}", web::get().to(one));
}

async fn create(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    fields.required("models")?;
    rules::account(&shared, fields.get("account"))?;
    let mut request = fields.request(Kind::Agent, fields.required("prompt")?, shared.video_bytes)?;
    admit(&shared, &mut request, 1)?;
    let waits = request.background != Some(true);
    let jobs = shared.clone().into_inner().create(request, 1).ok_or(ApiError::Busy(Kind::Agent))?;
    let job = jobs.first().ok_or(ApiError::Internal)?;
    if !waits {
        let started = payload::answer(job, &job.stage_after(Duration::ZERO), &shared.links);
        return Ok(HttpResponse::Created().json(started));
    }
    tokio::time::sleep_until(job.at(job.plan.settles).into()).await;
    let status = StatusCode::from_u16(payload::http_status(job)).unwrap_or(StatusCode::OK);
    let links = shared.first_links(job);
    Ok(HttpResponse::build(status).json(payload::answer(job, &job.stage(), links.as_ref())))
}

async fn one(id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    let job = shared.store.get(&id).filter(|job| job.kind() == Kind::Agent && !job.is_gone());
    super::read::answer(job, ApiError::NoSuchJob, &shared)
}

async fn running(shared: web::Data<Shared>) -> Answer {
    list::refused(&shared)?;
    let mut executing: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for job in shared.store.running(&[Kind::Agent]) {
        let entry = json!({"jobId": job.id, "elapsed": shared.elapsed(&job)});
        executing.entry(job.request.account.clone()).or_default().push(entry);
    }
    let count = |jobs: &Vec<Value>| json!({"executing": jobs.len()});
    let summary: BTreeMap<_, _> = executing.iter().map(|(account, jobs)| (account, count(jobs))).collect();
    let mut accounts: BTreeSet<_> = executing.keys().cloned().collect();
    accounts.extend(shared.belongings.accounts.all().into_iter().map(|account| account.account));
    Ok(HttpResponse::Ok().json(json!({"accounts": accounts, "summary": summary, "executing": executing})))
}
