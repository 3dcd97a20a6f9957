use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::Kind;
use crate::simulator::Shared;
use crate::simulator::faults::Fault;
use crate::simulator::job::{Job, Links, Published};
use crate::simulator::payload;

use super::{Answer, Refusal};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    for path in ["/videos", "/videos/"] {
        scope.route(path, web::get().to(videos));
    }
    for path in ["/images", "/images/"] {
        scope.route(path, web::get().to(images));
    }
    scope
        .route("/videos/{id}", web::get().to(async |id, shared| one(Kind::Video, id, shared)))
        .route("/videos/{id}", web::delete().to(async |id, shared| delete(Kind::Video, id, shared)))
        .route("/images/{id}", web::get().to(async |id, shared| one(Kind::Image, id, shared)))
        .route("/images/{id}", web::delete().to(async |id, shared| delete(Kind::Image, id, shared)));
}

pub(super) fn one(kind: Kind, id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    answer(shared.store.get(&id).filter(|job| job.kind() == kind && !job.is_gone()), Refusal::NotFound, &shared)
}

/// What GET answers, unless it goes wrong.
pub(super) fn answer(job: Option<Arc<Job>>, gone: Refusal, shared: &Shared) -> Answer {
    shared.stats.reads.one();
    let fault = shared.read_fault(&[
        Fault::Get500,
        Fault::Get401,
        Fault::Get404,
        Fault::Get429,
        Fault::Get596,
        Fault::GetReset,
        Fault::GetRunning,
        Fault::GetFailed,
        Fault::GetHost,
    ]);
    match fault {
        Some(Fault::Get500) => return Err(Refusal::Internal),
        Some(Fault::Get401) => return Err(Refusal::Unauthorized),
        Some(Fault::Get404) => return Err(gone),
        Some(Fault::Get429) => return Err(Refusal::TooMany),
        Some(Fault::Get596) => return Err(Refusal::OnHold),
        Some(Fault::GetReset) => {
            let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::from(ErrorKind::ConnectionReset)) });
            return Ok(HttpResponse::Ok().streaming(broken));
        }
        _ => {}
    }
    let job = job.ok_or(gone)?;
    let stage = if fault == Some(Fault::GetRunning) { job.stage_after(Duration::ZERO) } else { job.stage() };
    Ok(HttpResponse::Ok().json(match fault {
        Some(Fault::GetFailed) => payload::failed(&job),
        Some(Fault::GetHost) => payload::answer(&job, &stage, &Elsewhere(&shared.links)),
        _ => payload::answer(&job, &stage, &shared.links),
    }))
}

/// The same links at a host that is not the CDN.
struct Elsewhere<'a>(&'a dyn Links);

impl Links for Elsewhere<'_> {
    fn url(&self, published: &Published) -> String {
        let url = self.0.url(published);
        let path = url.find("/cdn/").map_or("", |start| &url[start..]);
        format!("https://elsewhere.example{path}")
    }
}

/// Soft: the job leaves the lists and can still be read by its id. What does not exist counts as deleted.
fn delete(kind: Kind, id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    if let Some(job) = shared.store.get(&id).filter(|job| job.kind() == kind) {
        job.delete();
    }
    Ok(HttpResponse::Ok().finish())
}

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    account: Option<String>,
    limit: Option<usize>,
    #[serde(alias = "lastVideoId", alias = "lastImageId", alias = "lastMusicId")]
    last: Option<String>,
}

/// One page of a list, newest first.
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    has_before: bool,
    pub(super) has_after: bool,
    processing: bool,
    pub(super) total: usize,
}

pub(super) fn page(kind: Kind, query: &ListQuery, shared: &Shared) -> Page {
    let all = shared.store.listed(kind, query.account.as_deref());
    let is_last = |job: &Arc<Job>| Some(job.id.as_str()) == query.last.as_deref();
    let from = all.iter().position(is_last).map_or(0, |place| place + 1);
    let to = from.saturating_add(query.limit.unwrap_or(30)).min(all.len());
    let items = all[from..to].iter().map(|job| payload::answer(job, &job.stage(), &shared.links));
    Page {
        items: items.collect(),
        has_before: from > 0,
        has_after: to < all.len(),
        processing: all.iter().any(|job| !job.is_final()),
        total: all.len(),
    }
}

async fn videos(query: web::Query<ListQuery>, shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(page(Kind::Video, &query, &shared).items)
}

async fn images(query: web::Query<ListQuery>, shared: web::Data<Shared>) -> HttpResponse {
    let page = page(Kind::Image, &query, &shared);
    HttpResponse::Ok().json(json!({
        "images": page.items, "hasPre": page.has_before, "hasNext": page.has_after, "processing": page.processing,
        "total": page.total,
    }))
}
