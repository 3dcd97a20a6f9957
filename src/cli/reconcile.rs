use std::sync::Arc;

use serde_json::{Value, json};

use super::Failure;
use super::asking::{self, Work};
use crate::config::Config;
use crate::reconcile::{EndedEarly, Progress, ReconcileReport, Reconciler};

/// Asks the provider about every job whose end it has not told.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    asking::run(config, &Reconcile).await
}

struct Reconcile;

impl Work for Reconcile {
    type Report = ReconcileReport;
    const KIND: &'static str = "reconcile";

    fn body(&self) -> Value {
        json!({})
    }

    fn counted(_: &ReconcileReport) -> String {
        "asked about".to_owned()
    }

    fn objection(report: &ReconcileReport) -> Option<&'static str> {
        (report.on_hold > 0).then_some("the provider has put an account on hold: not every job was asked about")
    }

    async fn run(&self, reconciler: Reconciler, progress: Arc<Progress<ReconcileReport>>) -> Result<(), EndedEarly> {
        reconciler.reconcile(&progress).await
    }
}
