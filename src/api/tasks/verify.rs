use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{Data, Payload};
use serde::Deserialize;
use utoipa::ToSchema;

use super::report::Watched;
use super::{TaskView, start};
use crate::api::{Api, ApiError, extract};
use crate::http::ErrorBody;
use crate::repair::{Options, Progress, Sample};

/// How many findings are kept; all are counted. As many as an answer may well hold.
const FINDINGS: usize = 500;

/// What a verification is to do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::api) struct VerifyRequest {
    /// Of how many objects the bytes are hashed; `100%` by default.
    #[schema(example = "5%")]
    sample: Option<String>,
    /// Whether to mend what can be; false by default.
    repair: Option<bool>,
}

/// Starts reading the bucket back.
#[utoipa::path(
    post, path = "/api/v1/tasks/verify", tag = "tasks", request_body = VerifyRequest,
    responses(
        (status = 202, description = "the task", body = TaskView),
        (status = 400, description = "not JSON", body = ErrorBody),
        (status = 409, description = "one is running already", body = ErrorBody),
        (status = 413, description = "more than 64 KiB", body = ErrorBody),
        (status = 422, description = "not what was expected", body = ErrorBody),
        (status = 503, description = "other replicas' tasks cannot be asked for right now", body = ErrorBody),
    )
)]
pub(in crate::api) async fn verify(api: Data<Api>, payload: Payload) -> Result<HttpResponse, ApiError> {
    let request: VerifyRequest = extract::json(payload).await?;
    let sample = request.sample.map_or(Ok(Sample::ALL), |text| text.parse());
    let sample = sample.map_err(|error| extract::unprocessable(&format!("sample: {error}")))?;
    let options = Options { sample, repair: request.repair.unwrap_or(false) };
    let verifier = api.inner.verifier.clone();
    let progress = Arc::new(Progress::new(FINDINGS, |_| {}));
    let work = {
        let progress = progress.clone();
        async move { verifier.run(options, &progress).await.map_err(|error| error.to_string()) }
    };
    start(&api, Watched::Verify(progress), work, "a verification").await
}
