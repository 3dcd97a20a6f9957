use std::num::NonZeroU64;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{Data, Payload};
use serde::Deserialize;
use utoipa::ToSchema;

use super::report::Watched;
use super::{TaskView, provider_asker, started};
use crate::api::{Api, Problem, input};
use crate::intake::ErrorBody;
use crate::reconcile::{Backfill, JobList, Progress};

/// What to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::api) struct BackfillRequest {
    /// The provider's list.
    kind: JobList,
    /// How many jobs at most; by default all there are.
    #[schema(value_type = Option<u64>, minimum = 1)]
    limit: Option<NonZeroU64>,
    /// Whether to walk the whole list, also past a page of known jobs; false by default.
    all: Option<bool>,
}

/// Starts importing finished jobs from the provider's lists.
#[utoipa::path(
    post, path = "/api/v1/tasks/backfill", tag = "tasks", request_body = BackfillRequest,
    responses(
        (status = 202, description = "the task", body = TaskView),
        (
            status = 409,
            description = "one is running already; or `no_provider_token`: `provider.api_token` is not set",
            body = ErrorBody,
        ),
        (status = 422, description = "not what was expected", body = ErrorBody),
    )
)]
pub(in crate::api) async fn backfill(api: Data<Api>, payload: Payload) -> Result<HttpResponse, Problem> {
    let BackfillRequest { kind: list, limit, all } = input::json(payload).await?;
    let reconciler = provider_asker(&api)?;
    let what = Backfill { list, limit: limit.map(NonZeroU64::get), all: all.unwrap_or(false) };
    let progress = Arc::new(Progress::default());
    let work = {
        let progress = progress.clone();
        async move { reconciler.backfill(what, &progress).await.map_err(|error| error.to_string()) }
    };
    started(api.inner.tasks.start(Watched::Backfill(progress), work), "a backfill")
}
