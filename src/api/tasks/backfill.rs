use std::num::NonZeroU64;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{Data, Payload};
use serde::Deserialize;
use utoipa::ToSchema;

use super::report::Watched;
use super::{TaskView, provider_asker, started};
use crate::api::{Api, ApiError, extract};
use crate::http::ErrorBody;
use crate::reconcile::{Backfill, JobList, ListBackfill, Progress};

/// What to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::api) struct BackfillRequest {
    /// The provider's list, or `jobs` for those named in `ids`.
    kind: BackfillKind,
    /// With `jobs`: the ids of the jobs, at most 1,000. Songs, speech and agent jobs are in no list.
    #[schema(max_items = 1000)]
    ids: Option<Vec<String>>,
    /// How many jobs at most; by default all there are.
    #[schema(value_type = Option<u64>, minimum = 1)]
    limit: Option<NonZeroU64>,
    /// Whether to walk the whole list, also past a page of known jobs; false by default.
    all: Option<bool>,
}

/// From where to import.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum BackfillKind {
    /// The list of videos.
    Videos,
    /// The list of images.
    Images,
    /// The jobs in `ids`.
    Jobs,
}

impl BackfillRequest {
    fn check(self) -> Result<Backfill, ApiError> {
        let list = match self.kind {
            BackfillKind::Videos => JobList::Videos,
            BackfillKind::Images => JobList::Images,
            BackfillKind::Jobs => return Self::jobs(self.ids, self.limit.is_some() || self.all.is_some()),
        };
        if self.ids.is_some() {
            return Err(extract::unprocessable("ids: expected only with the kind jobs"));
        }
        let (limit, all) = (self.limit.map(NonZeroU64::get), self.all.unwrap_or(false));
        Ok(Backfill::List(ListBackfill { list, limit, all }))
    }

    fn jobs(ids: Option<Vec<String>>, has_others: bool) -> Result<Backfill, ApiError> {
        if has_others {
            return Err(extract::unprocessable("limit, all: expected only with a list"));
        }
        let ids = ids.filter(|ids| (1..=Backfill::MAX_IDS).contains(&ids.len()));
        let ids = ids.ok_or_else(|| extract::unprocessable("ids: expected 1 to 1,000 ids of jobs"))?;
        let ids = ids.iter().map(|id| id.parse()).collect::<Result<_, _>>();
        ids.map(Backfill::Jobs).map_err(|_| extract::unprocessable("ids: expected the provider's ids of jobs"))
    }
}

/// Starts importing finished jobs from the provider's lists, or jobs by their ids.
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
pub(in crate::api) async fn backfill(api: Data<Api>, payload: Payload) -> Result<HttpResponse, ApiError> {
    let request: BackfillRequest = extract::json(payload).await?;
    let what = request.check()?;
    let reconciler = provider_asker(&api)?;
    let progress = Arc::new(Progress::default());
    let work = {
        let progress = progress.clone();
        async move { reconciler.backfill(&what, &progress).await.map_err(|error| error.to_string()) }
    };
    started(api.inner.tasks.start(Watched::Backfill(progress), work), "a backfill")
}
