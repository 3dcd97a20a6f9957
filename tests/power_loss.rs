//! What a power cut leaves: the files as they were when they were last synced. In a program of its own, because failure
//! points are shared by all of a process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not inside a #[test] themselves")]
#![allow(dead_code, reason = "the helpers serve another suite, too")]

#[path = "it/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use replyvault::bucket::{self, StorageUrl};
use replyvault::domain::Digest;
use tokio::task::JoinSet;

use support::media::{MediaServer, mp4};
use support::vault::{Vault, completed, video_id};

const SENDERS: usize = 4;
const CUTS: usize = 8;

/// A disk that only keeps what was synced: each sync copies what it covers from `live` to `kept`.
struct Disk {
    live: PathBuf,
    kept: PathBuf,
    /// What was acknowledged, and how the disk is cut off: both only when nothing is being copied.
    acknowledged: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Disk {
    /// What was appended to the journal before the sync: its one writer waits meanwhile.
    fn journal_synced(&self) {
        let _alone = self.acknowledged.lock().unwrap();
        copy(&self.live.join("data/journal"), &self.kept.join("data/journal"));
    }

    /// Of the bucket, what is visible: with one job at a time, nothing else is on its way to become so.
    fn bucket_synced(&self) {
        let _alone = self.acknowledged.lock().unwrap();
        copy(&self.live.join("bucket"), &self.kept.join("bucket"));
    }

    /// The power goes: what was kept, into `to`, and what had been acknowledged by then. The store of the state had no
    /// sync to speak of: it is there as it was at that moment, or not at all.
    fn cut(&self, to: &Path, with_state: bool) -> BTreeMap<u64, Vec<u8>> {
        let acknowledged = self.acknowledged.lock().unwrap();
        copy(&self.kept, to);
        if with_state {
            copy(&self.live.join("data/state"), &to.join("data/state"));
        }
        acknowledged.clone()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).into_iter().flatten() {
        let (path, name) = item.map(|item| (item.path(), item.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if !name.to_string_lossy().contains('#') {
            // One that has gone meanwhile was not to stay.
            let _ = std::fs::copy(&path, to.join(name));
        }
    }
}

fn in_directory(dir: &Path) -> bucket::Config {
    let url = StorageUrl::parse(&format!("file:{}", dir.join("bucket").display()), Path::new("/")).unwrap();
    bucket::Config { part_size: 64 << 10, ..bucket::Config::new(url) }
}

/// A file in one piece, or now and then of several parts; three jobs in a row want the same.
fn file(number: u64) -> Vec<u8> {
    let seed = number / 3;
    mp4(seed, if seed % 4 == 3 { 200_000 } else { 1000 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let (live, kept, media) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), MediaServer::start());
    let disk =
        Arc::new(Disk { live: live.path().to_owned(), kept: kept.path().to_owned(), acknowledged: Mutex::default() });
    for (point, synced) in
        [("journal.synced", Disk::journal_synced as fn(&Disk)), ("bucket.synced", Disk::bucket_synced)]
    {
        let disk = disk.clone();
        fail::cfg_callback(point, move || synced(&disk)).unwrap();
    }
    let vault = Arc::new(
        Vault::start_with(|settings| {
            settings.data_dir = live.path().join("data");
            settings.bucket = in_directory(live.path());
            settings.worker.concurrency = 1;
        })
        .await,
    );
    let next = Arc::new(AtomicU64::new(1));
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (vault, disk, next, base) = (vault.clone(), disk.clone(), next.clone(), media.url(""));
        senders.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let bytes = file(number);
                let url =
                    format!("{base}/generated/{}/{}", number / 3, if number / 3 % 4 == 3 { 200_000 } else { 1000 });
                vault.callback(completed(number, &url)).await;
                disk.acknowledged.lock().unwrap().insert(number, bytes);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let mut cuts = Vec::new();
    for turn in 0..CUTS {
        let wanted = 10 * (turn as u64 + 1) + 3 * turn as u64;
        while next.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let acknowledged = disk.cut(dir.path(), turn % 2 == 1);
        cuts.push((dir, acknowledged));
    }
    senders.shutdown().await;
    for point in ["journal.synced", "bucket.synced"] {
        fail::remove(point);
    }
    Arc::into_inner(vault).unwrap().stop().await;
    for (dir, acknowledged) in &cuts {
        assert!(!acknowledged.is_empty());
        recovers(dir.path(), acknowledged).await;
    }
}

/// Everything acknowledged gets archived, and each object that the index names is whole.
async fn recovers(dir: &Path, acknowledged: &BTreeMap<u64, Vec<u8>>) {
    let mut vault = Vault::start_with(|settings| {
        settings.data_dir = dir.join("data");
        settings.bucket = in_directory(dir);
    })
    .await;
    for (number, bytes) in acknowledged {
        let job = vault.archived(&video_id(*number)).await;
        vault.assert_stored(&job, bytes).await;
        assert_eq!(vault.manifest(&job).await["job"]["state"], "archived");
    }
    let mut path = "/api/v1/media?limit=100".to_owned();
    loop {
        let (_, list) = vault.get(&path).await;
        for media in list["items"].as_array().unwrap() {
            let bytes = vault.object(media["key"].as_str().unwrap()).await;
            assert_eq!(media["sha256"], Digest::of(&bytes).to_string());
        }
        let Some(cursor) = list["nextCursor"].as_str() else { break };
        path = format!("/api/v1/media?limit=100&cursor={cursor}");
    }
    vault.stop().await;
}
