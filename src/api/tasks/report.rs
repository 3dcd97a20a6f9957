use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::reconcile::{self, BackfillReport, ReconcileReport};
use crate::repair;

/// What is seen of a task while it runs, by its kind.
pub(super) enum Watched {
    Verify(Arc<repair::Progress>),
    Reconcile(Arc<reconcile::Progress<ReconcileReport>>),
    Backfill(Arc<reconcile::Progress<BackfillReport>>),
}

/// What a task has found so far: the form depends on its kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum TaskReport {
    /// Of `verify`.
    Verify(repair::Report),
    /// Of `reconcile`.
    Reconcile(ReconcileReport),
    /// Of `backfill`.
    Backfill(BackfillReport),
}

impl Watched {
    /// The name in the API.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Verify(_) => "verify",
            Self::Reconcile(_) => "reconcile",
            Self::Backfill(_) => "backfill",
        }
    }

    /// Steps done and steps there will be.
    pub(super) fn position(&self) -> (u64, u64) {
        match self {
            Self::Verify(progress) => progress.position(),
            Self::Reconcile(progress) => progress.position(),
            Self::Backfill(progress) => progress.position(),
        }
    }

    pub(super) fn report(&self) -> TaskReport {
        match self {
            Self::Verify(progress) => TaskReport::Verify(progress.report()),
            Self::Reconcile(progress) => TaskReport::Reconcile(progress.report()),
            Self::Backfill(progress) => TaskReport::Backfill(progress.report()),
        }
    }
}

impl TaskReport {
    /// Leaves out what makes a list of tasks long.
    pub(super) fn shorten(&mut self) {
        match self {
            Self::Verify(report) => report.findings.clear(),
            Self::Reconcile(_) | Self::Backfill(_) => {}
        }
    }
}
