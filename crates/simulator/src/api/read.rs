use std::future::ready;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use crate::Shared;
use crate::faults::Fault;
use crate::job::{Job, Links, Published};
use crate::payload;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use replyvault_domain::Kind;

use super::{Answer, ApiError};

/// Kinds, where they are, and whether they can be deleted.
const PLACES: [(Kind, &str, bool); 5] = [
    (Kind::Video, "/videos/{id}", true),
    (Kind::Image, "/images/{id}", true),
    (Kind::Music, "/music/{id}", false),
    (Kind::Speech, "/audio/{id}", true),
    (Kind::Speech, "/speech/{id}", true),
];

/// Has to come after whatever has a name of its own beside the ids.
pub(super) fn configure(scope: &mut web::ServiceConfig) {
    for (kind, path, deletes) in PLACES {
        scope.route(path, web::get().to(move |id, shared| ready(one(kind, id, shared))));
        if deletes {
            scope.route(path, web::delete().to(move |id, shared| ready(delete(kind, id, shared))));
        }
    }
}

fn one(kind: Kind, id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    answer(shared.store.get(&id).filter(|job| job.kind() == kind && !job.is_gone()), ApiError::NotFound, &shared)
}

/// What GET answers, unless it goes wrong.
pub(super) fn answer(job: Option<Arc<Job>>, gone: ApiError, shared: &Shared) -> Answer {
    shared.stats.reads.one();
    let fault = shared.read_fault(&[
        Fault::Get500,
        Fault::Get401,
        Fault::Get402,
        Fault::Get404,
        Fault::Get429,
        Fault::Get596,
        Fault::GetReset,
        Fault::GetRunning,
        Fault::GetFailed,
        Fault::GetHost,
    ]);
    match fault {
        Some(Fault::Get500) => return Err(ApiError::Internal),
        Some(Fault::Get401) => return Err(ApiError::Unauthorized),
        Some(Fault::Get402) => return Err(ApiError::NoSubscription),
        Some(Fault::Get404) => return Err(gone),
        Some(Fault::Get429) => return Err(ApiError::TooMany),
        Some(Fault::Get596) => return Err(ApiError::OnHold),
        Some(Fault::GetReset) => {
            let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::from(ErrorKind::ConnectionReset)) });
            return Ok(HttpResponse::Ok().streaming(broken));
        }
        _ => {}
    }
    let job = job.ok_or(gone)?;
    let stage = if fault == Some(Fault::GetRunning) { job.stage_after(Duration::ZERO) } else { job.stage() };
    Ok(HttpResponse::Ok().json(match fault {
        Some(Fault::GetFailed) => payload::failed(&job, &shared.links),
        Some(Fault::GetHost) => payload::answer(&job, &stage, &Elsewhere(&shared.links)),
        _ => payload::answer(&job, &stage, &shared.links),
    }))
}

/// The same links at a host that is not the CDN.
struct Elsewhere<'a>(&'a dyn Links);

impl Links for Elsewhere<'_> {
    fn base(&self) -> &str {
        self.0.base()
    }

    fn url(&self, published: &Published) -> String {
        let url = self.0.url(published);
        let path = url.find("/cdn/").map_or("", |start| &url[start..]);
        format!("https://elsewhere.example{path}")
    }
}

/// The job leaves the lists; an image can still be read by its id. What does not exist counts as deleted.
fn delete(kind: Kind, id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    if let Some(job) = shared.store.get(&id).filter(|job| job.kind() == kind) {
        job.delete();
    }
    Ok(HttpResponse::Ok().finish())
}
