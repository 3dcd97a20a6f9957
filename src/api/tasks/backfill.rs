use std::num::NonZeroU64;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{Data, Payload};
use serde::Deserialize;
use utoipa::ToSchema;

use super::report::Watched;
use super::{TaskView, provider_asker, start};
use crate::api::{Api, ApiError, extract};
use crate::http::ErrorBody;
use crate::reconcile::{Backfill, ListBackfill, Progress};

/// What to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::api) struct BackfillRequest {
    /// A list of the API, or `jobs` for those named in `ids`; by default every list of the API. The lists: `videos`, `images`
    /// and `speech` of `minimax`; `tasks` of `kling` and `runwayml`; `videos`, `images`, `music` and `speech` of `pixverse`;
    /// `songs` and `instrumentals` of `tempolor`; `swaps` of `faceswap`.
    #[schema(example = "videos")]
    kind: Option<String>,
    /// The API whose lists are meant, as in jobs' `provider`; by default `minimax`.
    #[schema(example = "kling")]
    provider: Option<String>,
    /// With `jobs`: the ids of the jobs, at most 1,000. Agent jobs and those of APIs without a list can be had by this alone.
    #[schema(max_items = 1000)]
    ids: Option<Vec<String>>,
    /// How many jobs at most; by default all there are.
    #[schema(value_type = Option<u64>, minimum = 1)]
    limit: Option<NonZeroU64>,
    /// Whether to walk the whole list, also past a page of known jobs; false by default.
    all: Option<bool>,
}

impl BackfillRequest {
    fn check(self) -> Result<Backfill, ApiError> {
        if self.kind.as_deref() == Some(Backfill::BY_ID) {
            if self.provider.is_some() {
                return Err(extract::unprocessable("provider: expected only with a list; ids name their APIs"));
            }
            return Self::jobs(self.ids, self.limit.is_some() || self.all.is_some());
        }
        if self.ids.is_some() {
            return Err(extract::unprocessable("ids: expected only with the kind jobs"));
        }
        let lists = Backfill::lists(self.provider.as_deref(), self.kind.as_deref());
        let lists = lists.map_err(|problem| extract::unprocessable(&problem))?;
        let (limit, all) = (self.limit.map(NonZeroU64::get), self.all.unwrap_or(false));
        Ok(Backfill::List(ListBackfill { lists, limit, all }))
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
pub(in crate::api) async fn backfill(api: Data<Api>, payload: Payload) -> Result<HttpResponse, ApiError> {
    let request: BackfillRequest = extract::json(payload).await?;
    let what = request.check()?;
    let reconciler = provider_asker(&api)?;
    let progress = Arc::new(Progress::default());
    let work = {
        let progress = progress.clone();
        async move { reconciler.backfill(&what, &progress).await.map_err(|error| error.to_string()) }
    };
    start(&api, Watched::Backfill(progress), work, "a backfill").await
}
