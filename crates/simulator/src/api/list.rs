use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::faults::{Fault, ListOrder};
use crate::job::Job;
use crate::payload;
use replyvault_domain::Kind;

use super::{Answer, ApiError};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/videos", web::get().to(videos))
        .route("/images", web::get().to(images))
        .route("/music", web::get().to(music))
        .route("/audio", web::get().to(speech));
}

/// What any list may meet.
pub(super) fn refused(shared: &Shared) -> Result<(), ApiError> {
    match shared.read_fault(&[Fault::List401, Fault::List429, Fault::List500, Fault::List596]) {
        Some(Fault::List401) => Err(ApiError::Unauthorized),
        Some(Fault::List429) => Err(ApiError::TooMany),
        Some(Fault::List500) => Err(ApiError::Internal),
        Some(_) => Err(ApiError::OnHold),
        None => Ok(()),
    }
}

#[derive(Debug, Deserialize)]
struct Query {
    account: Option<String>,
    limit: Option<usize>,
    #[serde(alias = "lastVideoId", alias = "lastImageId", alias = "lastMusicId")]
    last: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pages {
    account: Option<String>,
    page: Option<usize>,
    page_size: Option<usize>,
}

/// The jobs of a kind from `from` on, at most `limit`, in the order that lists have here.
struct Page {
    jobs: Vec<Arc<Job>>,
    has_before: bool,
    has_after: bool,
    processing: bool,
    total: usize,
}

impl Page {
    fn new(jobs: &[Arc<Job>], from: usize, limit: usize) -> Self {
        let from = from.min(jobs.len());
        let to = from.saturating_add(limit).min(jobs.len());
        Self {
            jobs: jobs[from..to].to_vec(),
            has_before: from > 0,
            has_after: to < jobs.len(),
            processing: jobs.iter().any(|job| !job.is_final()),
            total: jobs.len(),
        }
    }

    fn after_last(kind: Kind, query: &Query, default: usize, shared: &Shared) -> Self {
        let jobs = ordered(kind, query.account.as_deref(), shared);
        let is_last = |job: &Arc<Job>| Some(job.id.as_str()) == query.last.as_deref();
        let from = jobs.iter().position(is_last).map_or(0, |place| place + 1);
        Self::new(&jobs, from, query.limit.unwrap_or(default))
    }

    fn answers(&self, shared: &Shared) -> Vec<Value> {
        self.jobs.iter().map(|job| payload::answer(job, &job.stage(), &shared.links)).collect()
    }
}

fn ordered(kind: Kind, account: Option<&str>, shared: &Shared) -> Vec<Arc<Job>> {
    let mut jobs = shared.store.listed(kind, account);
    match shared.faults.list_order() {
        ListOrder::Newest => jobs.reverse(),
        ListOrder::Oldest => {}
        ListOrder::Shuffled => jobs.sort_by_cached_key(|job| shared.dice.number("list", job.id.as_str(), 0)),
    }
    jobs
}

async fn videos(query: web::Query<Query>, shared: web::Data<Shared>) -> Answer {
    refused(&shared)?;
    Ok(HttpResponse::Ok().json(Page::after_last(Kind::Video, &query, 30, &shared).answers(&shared)))
}

async fn images(query: web::Query<Query>, shared: web::Data<Shared>) -> Answer {
    refused(&shared)?;
    let page = Page::after_last(Kind::Image, &query, 30, &shared);
    Ok(HttpResponse::Ok().json(json!({
        "images": page.answers(&shared), "hasPre": page.has_before, "hasNext": page.has_after,
        "processing": page.processing, "total": page.total,
    })))
}

async fn music(query: web::Query<Query>, shared: web::Data<Shared>) -> Answer {
    refused(&shared)?;
    Ok(HttpResponse::Ok().json(Page::after_last(Kind::Music, &query, 20, &shared).answers(&shared)))
}

async fn speech(query: web::Query<Pages>, shared: web::Data<Shared>) -> Answer {
    refused(&shared)?;
    let jobs = ordered(Kind::Speech, query.account.as_deref(), &shared);
    let size = query.page_size.unwrap_or(100);
    let page = Page::new(&jobs, query.page.unwrap_or(1).saturating_sub(1).saturating_mul(size), size);
    let listed: Vec<_> = page.jobs.iter().map(|job| payload::listed(job, &shared.links)).collect();
    Ok(HttpResponse::Ok().json(json!({"audio_list": listed, "total": page.total, "has_more": page.has_after})))
}
