//! Whether everything that was acknowledged is in the bucket, once and whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use replyvault::domain::Digest;
use replyvault::simulator::Expected;

use super::apis;
use super::child::Process;
use super::media::mp4;
use super::vault::{PATIENCE, video_id};

/// Which file each job wants: the seed and size of its [`mp4`].
pub(crate) type Wanted = BTreeMap<u64, (u64, usize)>;

/// What is printed; all numbers but the first two must be zero.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) acknowledged: usize,
    pub(crate) archived: usize,
    pub(crate) lost: usize,
    pub(crate) duplicates: usize,
    pub(crate) wrong: usize,
    pub(crate) leftovers: usize,
    /// How many of the simulator's jobs there were of each API.
    pub(crate) apis: BTreeMap<String, usize>,
}

impl Figures {
    pub(crate) fn check(&self) {
        assert!(self.acknowledged > 0, "nothing was acknowledged");
        assert_eq!(self.archived, self.acknowledged);
        assert_eq!((self.lost, self.duplicates, self.wrong, self.leftovers), (0, 0, 0, 0), "{self:?}");
    }
}

/// Waits for what `process` has to do, and ends it; then looks at the bucket, whose objects are files below `bucket`.
pub(crate) async fn audit(process: Process, wanted: &Wanted, bucket: &Path) -> Figures {
    audit_with(process, wanted, &[], bucket).await
}

/// The same with jobs of the simulator: those whose end was acknowledged.
pub(crate) async fn audit_with(process: Process, wanted: &Wanted, truth: &[Expected], bucket: &Path) -> Figures {
    let mut figures = Figures { acknowledged: wanted.len(), ..Figures::default() };
    finish(&process).await;
    let (counts, faults) = apis::faults(&process, truth, bucket).await;
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    let made: usize = counts.values().sum();
    figures.acknowledged += made;
    figures.archived += made - faults.len();
    figures.lost += faults.len();
    figures.apis = counts.into_iter().collect();
    let mut digests = HashMap::new();
    let mut digest_of = |key: &str| {
        *digests.entry(key.to_owned()).or_insert_with(|| std::fs::read(bucket.join(key)).ok().map(|it| Digest::of(&it)))
    };
    let mut right = HashMap::new();
    for (number, (seed, size)) in wanted {
        let Some(job) = process.get(&format!("/api/v1/jobs/{}", video_id(*number))).await else {
            figures.lost += 1;
            continue;
        };
        if job["state"] != "archived" {
            figures.lost += 1;
            continue;
        }
        figures.archived += 1;
        let asset = &job["assets"][0];
        let right = *right.entry((*seed, *size)).or_insert_with(|| Digest::of(&mp4(*seed, *size)));
        let stored = digest_of(asset["key"].as_str().unwrap());
        let manifest = bucket.join(job["manifestKey"].as_str().unwrap());
        let whole = asset["sha256"] == right.to_string() && stored == Some(right) && manifest.is_file();
        figures.wrong += usize::from(!whole);
    }
    assert_eq!(process.terminate().await, Some(0));
    let mut different = BTreeSet::new();
    for path in files(bucket) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains('#') {
            eprintln!("left over: {}", path.display());
            figures.leftovers += 1;
        } else if name != "manifest.json" && !different.insert(Digest::of(&std::fs::read(&path).unwrap()).to_string()) {
            eprintln!("a second object: {}", path.display());
            figures.duplicates += 1;
        }
    }
    figures
}

/// Waits until nothing is due any more. However much there is to do, it must go on.
pub(crate) async fn finish(process: &Process) {
    let mut last = (None, Instant::now());
    loop {
        // Nothing is answered while the state is brought up to date.
        let stats = process.get("/api/v1/stats").await;
        if stats.as_ref().is_some_and(|stats| stats["queueDepth"] == 0) {
            return;
        }
        let archived = stats.and_then(|stats| stats["jobs"]["archived"].as_u64());
        if archived != last.0 {
            last = (archived, Instant::now());
        }
        assert!(last.1.elapsed() < PATIENCE, "it does not go on:\n{}", process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
