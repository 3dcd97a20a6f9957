use std::sync::Arc;

use serde_json::{Value, json};

use super::Failure;
use super::provider_task::{self, ProviderTask};
use crate::config::Config;
use crate::reconcile::{Progress, ReconcileReport, Reconciler, SyncError};

/// Asks the provider about every job whose end it has not told.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    provider_task::run(config, &Reconcile).await
}

struct Reconcile;

impl ProviderTask for Reconcile {
    type Report = ReconcileReport;
    const KIND: &'static str = "reconcile";

    fn body(&self) -> Value {
        json!({})
    }

    fn counted(_: &ReconcileReport) -> String {
        "asked about".to_owned()
    }

    fn failure_reason(report: &ReconcileReport) -> Option<&'static str> {
        (report.on_hold > 0).then_some("the provider has put an account on hold: not every job was asked about")
    }

    async fn run(&self, reconciler: Reconciler, progress: Arc<Progress<ReconcileReport>>) -> Result<(), SyncError> {
        reconciler.reconcile(&progress).await
    }
}
