use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::intake::IntakeError;
use crate::provider::ProviderError;
use crate::state::StateError;

/// What asking about every job came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileReport {
    /// Whether it got to its end.
    pub complete: bool,
    /// Jobs that were asked about.
    pub asked: u64,
    /// Of these, those the provider said something new of.
    pub changed: u64,
    /// Of these, those it no longer knows.
    pub removed: u64,
    /// Jobs asked about that run on.
    pub running: u64,
    /// Jobs it gave no usable answer about.
    pub unanswered: u64,
    /// Jobs not asked about because their account is on hold.
    pub on_hold: u64,
    /// Jobs nobody had heard of, taken in.
    pub discovered: u64,
}

impl fmt::Display for ReconcileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { complete, asked, changed, removed, running, unanswered, on_hold, discovered } = self;
        writeln!(f, "jobs asked about {asked}: {changed} changed, {removed} removed, {running} still running")?;
        let end = if *complete { "" } else { "; stopped before the end" };
        writeln!(f, "unanswered {unanswered}, not asked because of a hold {on_hold}, discovered {discovered}{end}")
    }
}

/// What walking a list came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillReport {
    /// Whether it got to its end.
    pub complete: bool,
    /// Jobs that the provider listed.
    pub listed: u64,
    /// Of these, those that are here with their end.
    pub known: u64,
    /// Of these, those that have not ended.
    pub running: u64,
    /// Of these, finished and not here: what there was to import.
    pub missing: u64,
    /// Jobs imported; their media are archived from then on.
    pub imported: u64,
    /// Jobs asked for by their id that the provider does not show.
    #[serde(default)]
    pub unanswered: u64,
}

impl fmt::Display for BackfillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { complete, listed, known, running, missing, imported, unanswered } = self;
        writeln!(f, "jobs listed {listed}: {known} known, {running} still running, {missing} to import")?;
        let end = if *complete { "" } else { "; stopped before the end" };
        let unanswered =
            if *unanswered == 0 { String::new() } else { format!(", not shown by the provider {unanswered}") };
        writeln!(f, "imported {imported}{unanswered}{end}")
    }
}

/// How far long work is. Shared by who does it and who watches.
#[derive(Debug, Default)]
pub struct Progress<R> {
    done: AtomicU64,
    total: AtomicU64,
    report: Mutex<R>,
}

impl<R: Clone> Progress<R> {
    /// Steps done, and how many there will be, as far as can be told.
    pub fn position(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.total.load(Ordering::Relaxed).max(done))
    }

    /// The report so far.
    pub fn report(&self) -> R {
        self.report.lock().clone()
    }

    pub(super) fn expect(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut R)) {
        count(&mut self.report.lock());
    }

    pub(super) fn complete(&self, complete: impl FnOnce(&mut R)) {
        self.total.store(self.done.load(Ordering::Relaxed), Ordering::Relaxed);
        self.count(complete);
    }
}

/// Why long work ended before its end. All that it did until then is kept.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Asking on would be to no purpose.
    #[error("the provider refuses provider.api_token")]
    TokenRefused,
    /// For hours.
    #[error("the provider has put the account on hold; it wants to be left alone for some hours")]
    OnHold,
    /// It does not answer, or not with what was asked for.
    #[error("the provider does not say it: {0}")]
    Provider(ProviderError),
    /// What it says cannot be recorded.
    #[error(transparent)]
    Refused(#[from] IntakeError),
    /// What is known cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A list that goes on and on.
    #[error("the list has more than {0} jobs")]
    Endless(usize),
}

impl From<ProviderError> for SyncError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::TokenRefused => Self::TokenRefused,
            ProviderError::OnHold => Self::OnHold,
            other => Self::Provider(other),
        }
    }
}
