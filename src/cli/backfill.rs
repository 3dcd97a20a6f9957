use std::sync::Arc;

use serde_json::{Value, json};

use super::Failure;
use super::asking::{self, Work};
use crate::config::Config;
use crate::reconcile::{Backfill, BackfillReport, EndedEarly, Progress, Reconciler};

/// Imports finished jobs from one of the provider's lists.
pub(super) async fn run(config: &Config, what: Backfill) -> Result<(), Failure> {
    asking::run(config, &what).await
}

impl Work for Backfill {
    type Report = BackfillReport;
    const KIND: &'static str = "backfill";

    fn body(&self) -> Value {
        let Self { list, limit, all } = self;
        json!({"kind": list, "limit": limit, "all": all})
    }

    fn counted(report: &BackfillReport) -> String {
        format!("imported ({} listed)", report.listed)
    }

    fn objection(_: &BackfillReport) -> Option<&'static str> {
        None
    }

    async fn run(&self, reconciler: Reconciler, progress: Arc<Progress<BackfillReport>>) -> Result<(), EndedEarly> {
        reconciler.backfill(*self, &progress).await
    }
}
