use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::JobId;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The index names an object that is not there.
    MissingObject,
    /// An object has not as many bytes as were stored.
    WrongSize,
    /// An object's bytes are not those that were stored.
    WrongDigest,
    /// A job's file is stored and its digest not in the index.
    MissingIndexEntry,
    /// A job has ended and has no manifest.
    MissingManifest,
    /// A manifest is not one, is not as it was written, or does not say what the job's record says.
    DamagedManifest,
    /// Nothing names the object.
    OrphanObject,
    /// No job of this vault has the manifest's folder.
    OrphanManifest,
    /// A segment of the journal cannot be read as it was written.
    DamagedSegment,
    /// A stretch of the journal is neither here nor in the bucket.
    MissingSegment,
    /// Nobody knows: the store failed when it was asked.
    Unreadable,
}

impl FindingKind {
    /// The name used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingObject => "missing_object",
            Self::WrongSize => "wrong_size",
            Self::WrongDigest => "wrong_digest",
            Self::MissingIndexEntry => "missing_index_entry",
            Self::MissingManifest => "missing_manifest",
            Self::DamagedManifest => "damaged_manifest",
            Self::OrphanObject => "orphan_object",
            Self::OrphanManifest => "orphan_manifest",
            Self::DamagedSegment => "damaged_segment",
            Self::MissingSegment => "missing_segment",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The object's key.
    pub key: String,
    /// A job that it belongs to, if one does.
    pub job_id: Option<String>,
    /// For people: what was found.
    pub detail: String,
    /// Whether it is mended now; null when that was not asked for, or is nothing that could be mended.
    pub repaired: Option<bool>,
    /// Why it cannot be repaired.
    pub reason: Option<String>,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, key: &str, job: Option<&JobId>, detail: impl Into<String>) -> Self {
        let job_id = job.map(|job| job.as_str().to_owned());
        Self { kind, key: key.to_owned(), job_id, detail: detail.into(), repaired: None, reason: None }
    }

    pub(super) fn with_repair(self, mended: Result<(), String>) -> Self {
        Self { repaired: Some(mended.is_ok()), reason: mended.err(), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, job_id, detail, repaired, reason } = self;
        write!(f, "{} {key} {}: {detail}", kind.as_str(), job_id.as_deref().unwrap_or("-"))?;
        match (repaired, reason) {
            (Some(true), _) => f.write_str("; repaired"),
            (_, Some(reason)) => write!(f, "; cannot be repaired: {reason}"),
            _ => Ok(()),
        }
    }
}

/// What a verification looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether it got to its end.
    pub complete: bool,
    /// Index entries looked at.
    pub index_entries: u64,
    /// Objects whose bytes were read and hashed.
    pub objects_hashed: u64,
    /// Their bytes.
    pub bytes_hashed: u64,
    /// Jobs looked at.
    pub jobs: u64,
    /// Manifests read.
    pub manifests: u64,
    /// Archived segments of the journal that were read.
    #[serde(default)]
    pub segments: u64,
    /// Entries in the journal's segments, here and in the bucket.
    #[serde(default)]
    pub journal_entries: u64,
    /// Objects in the bucket's listing.
    pub objects_listed: u64,
    /// Findings that are damage, mended or not.
    pub damage: u64,
    /// Of these, those that are mended now.
    pub repaired: u64,
    /// Objects of which nothing is known because the store failed.
    pub unreadable: u64,
    /// Findings of each kind.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub by_kind: BTreeMap<FindingKind, u64>,
    /// The first findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong with what was looked at.
    pub fn is_clean(&self) -> bool {
        self.damage == 0 && self.unreadable == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} index entries ({} objects read back, {}), {} jobs, {} manifests, {} objects listed",
            self.index_entries,
            self.objects_hashed,
            bytesize::ByteSize(self.bytes_hashed),
            self.jobs,
            self.manifests,
            self.objects_listed
        )?;
        if self.segments > 0 {
            writeln!(f, "{} archived segments of the journal, {} entries in all", self.segments, self.journal_entries)?;
        }
        for (kind, count) in &self.by_kind {
            writeln!(f, "{count} {}", kind.as_str())?;
        }
        let end = if self.complete { "" } else { "; stopped before the end" };
        writeln!(f, "damage {}, repaired {}, could not be read {}{end}", self.damage, self.repaired, self.unreadable)
    }
}

/// How far a verification is. Shared by who runs it and who watches.
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    report: Mutex<Report>,
    keep: usize,
    tell: Box<dyn Fn(&Finding) + Send + Sync>,
}

impl Progress {
    /// Keeps the first `keep` findings; all are counted, and told to `tell` as they are made.
    pub fn new(keep: usize, tell: impl Fn(&Finding) + Send + Sync + 'static) -> Self {
        let (done, total) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { done, total, report: Mutex::default(), keep, tell: Box::new(tell) }
    }

    /// What was looked at, and what there will be, as far as can be told.
    pub fn position(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.total.load(Ordering::Relaxed).max(done))
    }

    /// The report so far.
    pub fn report(&self) -> Report {
        self.report.lock().clone()
    }

    pub(super) fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Report)) {
        count(&mut self.report.lock());
    }

    pub(super) fn complete(&self) {
        self.total.store(self.done.load(Ordering::Relaxed), Ordering::Relaxed);
        self.count(|report| report.complete = true);
    }

    pub(super) fn found(&self, finding: Finding) {
        (self.tell)(&finding);
        self.count(|report| {
            *report.by_kind.entry(finding.kind).or_default() += 1;
            match finding.kind {
                FindingKind::Unreadable => report.unreadable += 1,
                _ => report.damage += 1,
            }
            report.repaired += u64::from(finding.repaired == Some(true));
            if report.findings.len() < self.keep {
                report.findings.push(finding);
            }
        });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("position", &self.position()).finish_non_exhaustive()
    }
}
