use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{Data, Payload};
use serde::Deserialize;
use utoipa::ToSchema;

use super::report::Watched;
use super::{TaskView, provider_asker, start};
use crate::api::{Api, ApiError, extract};
use crate::http::ErrorBody;
use crate::reconcile::Progress;

/// Nothing can be chosen.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ReconcileRequest {}

/// Starts asking the provider about every job whose end it has not told, and for jobs nobody has heard of.
#[utoipa::path(
    post, path = "/api/v1/tasks/reconcile", tag = "tasks", request_body = ReconcileRequest,
    responses(
        (status = 202, description = "the task", body = TaskView),
        (status = 400, description = "not JSON", body = ErrorBody),
        (
            status = 409,
            description = "one is running already; or `no_provider_token`: `provider.api_token` is not set",
            body = ErrorBody,
        ),
        (status = 413, description = "more than 64 KiB", body = ErrorBody),
        (status = 422, description = "not what was expected", body = ErrorBody),
        (status = 503, description = "other replicas' tasks cannot be asked for right now", body = ErrorBody),
    )
)]
pub(in crate::api) async fn reconcile(api: Data<Api>, payload: Payload) -> Result<HttpResponse, ApiError> {
    let ReconcileRequest {} = extract::json(payload).await?;
    let reconciler = provider_asker(&api)?;
    let progress = Arc::new(Progress::default());
    let work = {
        let progress = progress.clone();
        async move { reconciler.reconcile(&progress).await.map_err(|error| error.to_string()) }
    };
    start(&api, Watched::Reconcile(progress), work, "a reconciliation").await
}
