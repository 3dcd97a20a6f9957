//! Uploads. They are counted and hashed as they come, and never held.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::TryStreamExt;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Shared;
use crate::account_data::Upload;
use crate::job::{ACCOUNT, USER};
use replyvault_domain::Digest;

use super::{Answer, ApiError, admit_others, list};

/// The provider's bound.
const MAX_BYTES: u64 = 5 << 30;

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/files", web::get().to(all))
        .route("/files", web::post().to(image))
        .route("/files/{id}", web::delete().to(delete))
        .route("/audio/upload-sample", web::post().to(sample));
}

#[derive(Deserialize)]
struct Query {
    account: Option<String>,
    limit: Option<usize>,
}

async fn image(
    http: HttpRequest,
    query: web::Query<Query>,
    payload: web::Payload,
    shared: web::Data<Shared>,
) -> Answer {
    receive(&http, &query, payload, &shared, &["image/png", "image/jpeg"]).await
}

async fn sample(
    http: HttpRequest,
    query: web::Query<Query>,
    payload: web::Payload,
    shared: web::Data<Shared>,
) -> Answer {
    receive(&http, &query, payload, &shared, &["audio/mpeg", "audio/wav", "audio/wave"]).await
}

async fn receive(
    http: &HttpRequest,
    query: &Query,
    mut payload: web::Payload,
    shared: &Shared,
    accepted: &[&str],
) -> Answer {
    let content_type = http.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.filter(|found| accepted.contains(found));
    let content_type = content_type
        .ok_or_else(|| ApiError::BadRequest(format!("Header Content-Type is one of {}", accepted.join(", "))))?;
    let account = query.account.as_deref().unwrap_or(ACCOUNT);
    admit_others(shared)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    while let Some(chunk) = payload.try_next().await.map_err(|error| ApiError::BadRequest(error.to_string()))? {
        bytes += chunk.len() as u64;
        shared.stats.upload_bytes.add(chunk.len() as u64);
        if bytes > MAX_BYTES {
            return Err(ApiError::BadRequest("The file is larger than 5 GB".into()));
        }
        hash.update(&chunk);
    }
    let upload = shared.belongings.uploads.add(|number| Upload {
        file_id: format!("user:{USER}-minimax:{account}-file:{}", shared.id("file", number)),
        content_type: content_type.into(),
        bytes,
        sha256: Digest::from_bytes(hash.finalize().into()),
    });
    let path = format!("moss/prod/uploads/{}", upload.file_id.rsplit(':').next().unwrap_or_default());
    Ok(HttpResponse::Ok().json(json!({"ossPath": path, "fileID": upload.file_id})))
}

async fn all(query: web::Query<Query>, shared: web::Data<Shared>) -> Answer {
    list::refused(&shared)?;
    let of_account = |upload: &Upload| {
        let account = query.account.as_deref();
        account.is_none_or(|account| upload.file_id.contains(&format!("-minimax:{account}-")))
    };
    let uploads = shared.belongings.uploads.all().into_iter().rev().filter(of_account);
    let shown = uploads.take(query.limit.unwrap_or(10)).map(|upload| {
        let kind = upload.content_type.rsplit('/').next().unwrap_or_default();
        json!({
            "file_id": upload.file_id, "file_name": "", "file_type": kind, "cdn_url": "", "oss_path": "",
            "file_scene": 10, "file_status": 1,
        })
    });
    Ok(HttpResponse::Ok().json(shown.collect::<Vec<_>>()))
}

/// What does not exist counts as deleted.
async fn delete(id: web::Path<String>, shared: web::Data<Shared>) -> HttpResponse {
    shared.belongings.uploads.remove(|upload| upload.file_id == *id);
    HttpResponse::Ok().finish()
}
