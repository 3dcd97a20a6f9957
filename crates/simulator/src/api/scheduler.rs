use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::Shared;
use crate::apis;
use crate::job::Job;
use replyvault_domain::Kind;

use super::{Answer, ApiError, list};

const TRACKED: [Kind; 2] = [Kind::Video, Kind::Image];

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/scheduler", web::get().to(all))
        .route("/scheduler/available", web::get().to(available))
        .route("/scheduler/{id}", web::delete().to(forget));
}

fn executing(shared: &Shared) -> Vec<Value> {
    let entry = |job: &Job| {
        json!({
            // Images, too, stand under this name.
            "videoId": job.id, "started": job.created, "elapsed": shared.elapsed(job),
            // What was not given is empty here, and left out everywhere else.
            "replyUrl": job.request.reply_url.as_deref().unwrap_or_default(),
            "replyRef": job.request.reply_ref.as_deref().unwrap_or_default(),
        })
    };
    shared.store.running(&TRACKED).iter().map(|job| entry(job)).collect()
}

async fn all(shared: web::Data<Shared>) -> Answer {
    list::refused(&shared)?;
    Ok(HttpResponse::Ok().json(executing(&shared)))
}

async fn available(shared: web::Data<Shared>) -> Answer {
    list::refused(&shared)?;
    let accounts = shared.belongings.accounts.all().into_iter();
    let mut counts: BTreeMap<_, _> = accounts.map(|account| (account.account, (account.max_jobs, 0))).collect();
    for job in shared.store.running(&[Kind::Video]) {
        counts.entry(job.request.account.clone()).or_insert((1, 0)).1 += 1;
    }
    let available = counts.into_iter().map(|(account, (most, count))| {
        json!({"account": account, "maxJobs": most, "executing": count, "available": most.saturating_sub(count)})
    });
    let available = available.collect::<Vec<_>>();
    let speech = shared.store.running(&[Kind::Speech]);
    let speech: Vec<_> = speech.iter().map(|job| apis::mention(job, "audioId")).collect();
    let mut body = json!({"executing": executing(&shared), "available": available});
    if !speech.is_empty() {
        body["executingAudio"] = speech.into();
    }
    Ok(HttpResponse::Ok().json(body))
}

/// The job goes on, its callbacks don't.
async fn forget(id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    let job = shared.store.get(&id).filter(|job| TRACKED.contains(&job.kind()) && job.untrack());
    job.ok_or_else(|| ApiError::NotRunning(id.into_inner()))?;
    Ok(HttpResponse::NoContent().finish())
}
