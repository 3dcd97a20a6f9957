use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::domain::Kind;
use crate::simulator::Shared;
use crate::simulator::job::{ACCOUNT, Job};

use super::{Answer, Refusal};

const TRACKED: [Kind; 2] = [Kind::Video, Kind::Image];
const MAX_JOBS: usize = 5;

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    for path in ["/scheduler", "/scheduler/"] {
        scope.route(path, web::get().to(list));
    }
    scope.route("/scheduler/available", web::get().to(available)).route("/scheduler/{id}", web::delete().to(forget));
}

/// `mm:ss` since the job was made.
pub(super) fn elapsed(job: &Job) -> String {
    let seconds = job.elapsed().as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

fn executing(shared: &Shared) -> Vec<Value> {
    let entry = |job: &Job| {
        json!({
            // Images, too, stand under this name.
            "videoId": job.id, "started": job.created, "elapsed": elapsed(job),
            "replyUrl": job.request.reply_url.as_deref().unwrap_or_default(),
            "replyRef": job.request.reply_ref.as_deref().unwrap_or_default(),
        })
    };
    shared.store.running(&TRACKED).iter().map(|job| entry(job)).collect()
}

async fn list(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(executing(&shared))
}

async fn available(shared: web::Data<Shared>) -> HttpResponse {
    let mut counts = BTreeMap::from([(ACCOUNT.to_owned(), 0)]);
    for job in shared.store.running(&[Kind::Video]) {
        *counts.entry(job.request.account.clone()).or_insert(0) += 1;
    }
    let available = counts.into_iter().map(|(account, count)| {
        let free = MAX_JOBS.saturating_sub(count);
        json!({"account": account, "maxJobs": MAX_JOBS, "executing": count, "available": free})
    });
    let available = available.collect::<Vec<_>>();
    HttpResponse::Ok().json(json!({"executing": executing(&shared), "available": available}))
}

/// The job goes on, its callbacks don't.
async fn forget(id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    let job = shared.store.get(&id).filter(|job| TRACKED.contains(&job.kind()) && job.untrack());
    job.ok_or_else(|| Refusal::NotRunning(id.into_inner()))?;
    Ok(HttpResponse::NoContent().finish())
}
