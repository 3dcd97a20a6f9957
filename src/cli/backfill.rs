use std::sync::Arc;

use serde_json::{Value, json};

use super::Failure;
use super::provider_task::{self, ProviderTask};
use crate::config::Config;
use crate::domain::JobId;
use crate::reconcile::{Backfill, BackfillReport, ListBackfill, Progress, Reconciler, SyncError};

/// Imports finished jobs from one of the provider's lists, or jobs by their ids.
pub(super) async fn run(config: &Config, what: Backfill) -> Result<(), Failure> {
    provider_task::run(config, &what).await
}

impl ProviderTask for Backfill {
    type Report = BackfillReport;
    const KIND: &'static str = "backfill";

    fn body(&self) -> Value {
        match self {
            Self::List(ListBackfill { lists, limit, all }) => {
                // One alone, or all of an API.
                let kind = (lists.len() == 1).then(|| lists.first().map(|list| list.as_str())).flatten();
                let provider = lists.first().map(|list| list.provider());
                json!({"kind": kind, "provider": provider, "limit": limit, "all": all})
            }
            Self::Jobs(ids) => {
                let ids: Vec<_> = ids.iter().map(JobId::as_str).collect();
                json!({"kind": "jobs", "ids": ids})
            }
        }
    }

    fn counted(report: &BackfillReport) -> String {
        format!("imported ({} listed)", report.listed)
    }

    fn failure_reason(report: &BackfillReport) -> Option<&'static str> {
        (report.unanswered > 0).then_some("the provider does not show some of the jobs")
    }

    async fn run(&self, reconciler: Reconciler, progress: Arc<Progress<BackfillReport>>) -> Result<(), SyncError> {
        reconciler.backfill(self, &progress).await
    }
}
