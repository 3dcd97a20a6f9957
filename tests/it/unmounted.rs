//! A bucket at whose place another lies, such as an empty directory on which no disk is mounted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use replyvault::bucket::Bucket;
use serde_json::Value;

use crate::support::media::{MediaServer, mp4};
use crate::support::s3::S3Server;
use crate::support::vault::{PATIENCE, Vault, completed, video_id, with_bucket};

/// A bucket's directory, and where its disk lies while it is not mounted.
struct Disk {
    mount_point: PathBuf,
    aside: PathBuf,
}

impl Disk {
    fn at(mount_point: &Path) -> Self {
        Self { mount_point: mount_point.to_owned(), aside: mount_point.with_extension("aside") }
    }

    fn unmount(&self) {
        std::fs::rename(&self.mount_point, &self.aside).unwrap();
        std::fs::create_dir(&self.mount_point).unwrap();
    }

    /// Nobody can even look at the place, as at the mount of a file server that is gone.
    fn break_off(&self) {
        std::fs::rename(&self.mount_point, &self.aside).unwrap();
        std::os::unix::fs::symlink(&self.mount_point, &self.mount_point).unwrap();
    }

    fn come_back(&self) {
        std::fs::remove_file(&self.mount_point).unwrap();
        std::fs::rename(&self.aside, &self.mount_point).unwrap();
    }

    fn mount(&self) {
        // Fails when anything was written there.
        assert_eq!(files(&self.mount_point), Vec::<PathBuf>::new());
        std::fs::remove_dir_all(&self.mount_point).unwrap();
        std::fs::rename(&self.aside, &self.mount_point).unwrap();
    }

    fn marker(&self) -> PathBuf {
        self.mount_point.join("_replyvault/vault.json")
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let items = std::fs::read_dir(root).unwrap().map(|item| item.unwrap().path());
    items.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn until(vault: &Vault, is_reached: impl Fn(&Value) -> bool) {
    let reached = async {
        while !is_reached(&vault.get("/readyz").await.1["checks"]["storage"]) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, reached).await;
    assert!(waited.is_ok(), "{}", vault.get("/readyz").await.1);
}

async fn is_refused(vault: &Vault) {
    until(vault, |storage| *storage == "not the bucket of this vault: is it mounted?").await;
}

struct Bench {
    vault: Vault,
    media: MediaServer,
    disk: Disk,
}

impl Bench {
    async fn new(vault: Vault, mount_point: &Path) -> Self {
        let bench = Self { vault, media: MediaServer::start(), disk: Disk::at(mount_point) };
        bench.archives(1).await;
        bench
    }

    async fn post(&self, number: u64) {
        let url = self.media.put(&format!("/{number}.mp4"), mp4(number, 3000), "video/mp4");
        self.vault.callback(completed(number, &url)).await;
    }

    async fn archives(&self, number: u64) {
        self.post(number).await;
        self.is_archived(number).await;
    }

    async fn is_archived(&self, number: u64) {
        let job = self.vault.archived(&video_id(number)).await;
        assert_eq!(job["assets"][0]["attempts"], 0, "{job:#}");
        self.vault.assert_stored(&job, &mp4(number, 3000)).await;
    }

    /// Why the bucket is not used, as the log has it.
    async fn refusal(&self) -> String {
        let settings = &self.vault.settings;
        let bucket = Bucket::open_for_vault(&settings.bucket, &settings.data_dir.join("bucket.json")).unwrap();
        bucket.identify(true).await.unwrap_err().to_string()
    }

    /// Uses what lies at the bucket's place once somebody has done what the log says.
    async fn uses_what_is_there(&mut self, number: u64) {
        self.vault.stop().await;
        let record = self.vault.settings.data_dir.join("bucket.json");
        let remedy = format!("write the word new into {} and start again", record.display());
        let refusal = self.refusal().await;
        assert!(refusal.contains(&remedy), "{refusal}");
        std::fs::write(&record, "new\n").unwrap();
        self.vault.start_again().await;
        self.archives(number).await;
        until(&self.vault, |storage| storage == "ok").await;
        // From then on it is known as any other.
        self.vault.stop().await;
        self.vault.start_again().await;
        self.archives(number + 1).await;
    }

    /// Takes a callback over and over while the bucket is another, and archives it when it is back.
    async fn waits_for_its_bucket(&mut self) {
        self.vault.stop().await;
        self.disk.unmount();
        self.vault.start_again().await;
        self.post(2).await;
        is_refused(&self.vault).await;
        assert_eq!(self.vault.job(&video_id(2)).await["state"], "archiving");
        self.disk.mount();
        self.is_archived(2).await;
        until(&self.vault, |storage| storage == "ok").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_mounted_is_not_written_to_and_waited_for() {
    let vault = Vault::start().await;
    let mount_point = vault.dir.path().join("bucket");
    let mut bench = Bench::new(vault, &mount_point).await;
    bench.waits_for_its_bucket().await;
    // The same while the service runs.
    bench.disk.unmount();
    bench.post(3).await;
    is_refused(&bench.vault).await;
    bench.disk.mount();
    bench.is_archived(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_used_at_the_start_is_waited_for_when_it_was_used_before() {
    let vault = Vault::start().await;
    let mount_point = vault.dir.path().join("bucket");
    let mut bench = Bench::new(vault, &mount_point).await;
    bench.vault.stop().await;
    bench.disk.break_off();
    bench.vault.start_again().await;
    bench.post(2).await;
    until(&bench.vault, |storage| *storage == "not reachable").await;
    assert_eq!(bench.vault.job(&video_id(2)).await["state"], "archiving");
    bench.disk.come_back();
    bench.is_archived(2).await;
    until(&bench.vault, |storage| storage == "ok").await;
    // Also what goes there in parts is written where the next start looks.
    let large = mp4(3, 3 << 20);
    let url = bench.media.put("/3.mp4", large.clone(), "video/mp4");
    bench.vault.callback(completed(3, &url)).await;
    bench.vault.archived(&video_id(3)).await;
    bench.vault.stop().await;
    bench.vault.start_again().await;
    bench.vault.assert_stored(&bench.vault.job(&video_id(3)).await, &large).await;
    bench.is_archived(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_bucket_that_is_another_is_not_written_to_and_waited_for() {
    let s3 = S3Server::start().await;
    let vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
    let mut bench = Bench::new(vault, &s3.root.path().join(&s3.bucket)).await;
    bench.waits_for_its_bucket().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_a_marker_is_marked_once_unless_what_was_stored_is_gone() {
    let vault = Vault::start().await;
    let mount_point = vault.dir.path().join("bucket");
    let mut bench = Bench::new(vault, &mount_point).await;
    let record = bench.vault.settings.data_dir.join("bucket.json");
    let forget = |disk: &Disk| {
        std::fs::remove_file(&record).unwrap();
        std::fs::remove_dir_all(disk.marker().parent().unwrap()).unwrap();
    };
    // As an earlier version left it.
    bench.vault.stop().await;
    forget(&bench.disk);
    bench.vault.start_again().await;
    bench.archives(2).await;
    let marker = std::fs::read(bench.disk.marker()).unwrap();
    // It is made once: the data directory that forgot it goes by what is in the bucket.
    bench.vault.stop().await;
    std::fs::remove_file(&record).unwrap();
    bench.vault.start_again().await;
    bench.archives(3).await;
    assert_eq!(std::fs::read(bench.disk.marker()).unwrap(), marker);
    bench.vault.stop().await;
    forget(&bench.disk);
    bench.disk.unmount();
    bench.vault.start_again().await;
    bench.post(4).await;
    is_refused(&bench.vault).await;
    assert_eq!(bench.vault.job(&video_id(4)).await["state"], "archiving");
    bench.disk.mount();
    bench.is_archived(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vaults_bucket_is_not_written_to() {
    let vault = Vault::start().await;
    let mount_point = vault.dir.path().join("bucket");
    let bench = Bench::new(vault, &mount_point).await;
    let marker = std::fs::read(bench.disk.marker()).unwrap();
    std::fs::write(bench.disk.marker(), r#"{"vault":"another"}"#).unwrap();
    let before = files(&mount_point).len();
    bench.post(2).await;
    is_refused(&bench.vault).await;
    assert_eq!(files(&mount_point).len(), before);
    std::fs::write(bench.disk.marker(), marker).unwrap();
    bench.is_archived(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_bucket_is_used_again_when_somebody_says_so() {
    let s3 = S3Server::start().await;
    let directory = Vault::start().await;
    let mount_point = directory.dir.path().join("bucket");
    let in_s3 = Vault::start_with(with_bucket(s3.config("vault"))).await;
    for (vault, place) in [(directory, mount_point), (in_s3, s3.root.path().join(&s3.bucket))] {
        let mut bench = Bench::new(vault, &place).await;
        bench.vault.stop().await;
        bench.disk.unmount();
        bench.vault.start_again().await;
        is_refused(&bench.vault).await;
        // To forget which bucket it was is not to say so.
        bench.vault.stop().await;
        std::fs::remove_file(bench.vault.settings.data_dir.join("bucket.json")).unwrap();
        bench.vault.start_again().await;
        is_refused(&bench.vault).await;
        bench.uses_what_is_there(2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_marker_has_changed_is_used_again_when_somebody_says_so() {
    let s3 = S3Server::start().await;
    for (prefix, damage) in [("one", r#"{"vault":"another"}"#), ("two", "damaged")] {
        let vault = Vault::start_with(with_bucket(s3.config(prefix))).await;
        let mut bench = Bench::new(vault, &s3.root.path().join(&s3.bucket).join(prefix)).await;
        std::fs::write(bench.disk.marker(), damage).unwrap();
        let refusal = bench.refusal().await;
        assert!(refusal.contains("_replyvault/vault.json"), "{refusal}");
        bench.uses_what_is_there(2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_of_a_marker_or_an_archived_segment_is_removed_at_the_next_start() {
    let mut vault = Vault::start().await;
    let noted = vault.settings.data_dir.join("bucket.json");
    let marked = async {
        while !noted.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, marked).await.expect("the bucket is marked");
    vault.stop().await;
    let bucket = vault.dir.path().join("bucket");
    // As if the process had been killed while it marked the bucket, and later while it moved a segment there.
    std::fs::remove_dir_all(&bucket).unwrap();
    std::fs::remove_file(noted).unwrap();
    let left =
        ["_replyvault/vault.json#1", "_journal/00000000000000000000-0.journal.enc#1"].map(|name| bucket.join(name));
    for path in &left {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "half").unwrap();
    }
    vault.start_again().await;
    let removed = async {
        while left.iter().any(|path| path.exists()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, removed).await.is_ok(), "{:?}", files(&bucket));
    assert!(bucket.join("_replyvault/vault.json").is_file());
}
