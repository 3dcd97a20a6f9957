use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, ContentType};
use actix_web::web::{Data, Path};

use super::auth::Caller;
use super::jobs::job_id;
use super::{Api, ApiError};
use crate::bucket::{BucketError, Manifest, ObjectKey};
use crate::http::ErrorBody;

/// Shows a job's manifest as it is in the bucket, with the final callback in it.
#[utoipa::path(
    get, path = "/api/v1/jobs/{jobId}/manifest", tag = "jobs", operation_id = "manifest",
    params(("jobId" = String, Path, description = "percent-encoded")),
    responses(
        (status = 200, description = "the manifest", body = Object),
        (status = 404, description = "no such job, or it has no manifest yet", body = ErrorBody),
        (status = 503, description = "the storage cannot be read", body = ErrorBody),
    )
)]
pub(super) async fn show(api: Data<Api>, caller: Caller, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let id = job_id(&id)?;
    let record = api.read(move |state| state.job(&id)).await?.ok_or_else(|| ApiError::not_found("job"))?;
    let key = record.job.manifest_key.ok_or_else(|| ApiError::not_found("manifest"))?;
    let key: ObjectKey = key.parse().map_err(|_| ApiError::not_found("manifest"))?;
    let _place = api.inner.places.read(&caller.name).await?;
    let bytes = match api.inner.bucket.read_whole(&key, Manifest::MAX_BYTES).await {
        Ok(bytes) => bytes,
        Err(BucketError::NotFound(_)) => return Err(ApiError::not_found("manifest")),
        Err(error) => {
            tracing::warn!(%key, %error, "a manifest cannot be read");
            return Err(ApiError::unavailable("the storage cannot be read right now"));
        }
    };
    Ok(HttpResponse::Ok()
        .insert_header(ContentType::json())
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .body(bytes))
}
