//! The archived journal is damaged, foreign, huge, of another key, or newer than the data directory that is put back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use replyvault::bucket::Bucket;
use replyvault::domain::Target;
use replyvault::intake::Intake;
use replyvault::journal::ArchiveError;
use replyvault::repair::{
    ArchiveKeys, FindingKind, RebuildProgress, Report, Retention, compare_with_archive, open_journal, rebuild,
};
use serde_json::{Value, json};

use crate::support::child::{Program, TOKEN};
use crate::support::media::{MediaServer, mp4};
use crate::support::s3::{Fault, S3Server};
use crate::support::vault::{PATIENCE, Vault, completed, journal_keys, video_id, with_bucket};

fn running(number: u64) -> Value {
    json!({"videoId": video_id(number), "status": 1, "percent": 10, "replyRef": format!("ref-{number}")})
}

fn data(vault: &Vault) -> PathBuf {
    vault.settings.data_dir.clone()
}

async fn quarantined(vault: &Vault, text: &str) -> String {
    let (status, answer) = vault.post(&vault.channel_url(), json!({"what": text}).to_string()).await;
    assert_eq!(status, 202, "{answer}");
    answer["quarantineId"].as_str().unwrap().to_owned()
}

async fn move_segments(vault: &Vault) {
    let log = vault.running().intake().log().clone();
    assert!(Retention::new(log, Intake::parse_callback, Duration::ZERO).pass().await.unwrap() > 0);
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

/// What lies below `_journal/` in a directory that holds a bucket.
fn archived(bucket: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(items) = std::fs::read_dir(bucket.join("_journal")) else { return BTreeMap::new() };
    let items = items.map(|item| item.unwrap());
    items.map(|item| (item.file_name().into_string().unwrap(), std::fs::read(item.path()).unwrap())).collect()
}

async fn stats(vault: &Vault) -> Value {
    vault.get("/api/v1/stats").await.1
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

/// A vault whose data directory was copied, which then went on and archived, and then got the copy back.
struct PutBack {
    vault: Vault,
    media: MediaServer,
    bucket: PathBuf,
    /// Bodies in quarantine, from before the copy and after it.
    kept: [String; 2],
    /// A ref that was registered after the copy was made.
    registered: Value,
    objects: BTreeMap<String, Vec<u8>>,
}

impl PutBack {
    async fn of(mut vault: Vault, bucket: PathBuf, with_state: bool) -> Self {
        let media = MediaServer::start();
        let copy = vault.dir.path().join("copy");
        vault.callback(running(1)).await;
        let before = quarantined(&vault, "before").await;
        vault.stop().await;
        copy_dir(&data(&vault), &copy);
        vault.start_again().await;
        vault.callback(running(2)).await;
        let after = quarantined(&vault, "after").await;
        let (_, registered) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "after"})).await;
        let url = media.put("/3.mp4", mp4(3, 3000), "video/mp4");
        vault.callback(completed(3, &url)).await;
        vault.archived(&video_id(3)).await;
        move_segments(&vault).await;
        // Neither in the copy nor archived as a segment; its manifest is there.
        let url = media.put("/4.mp4", mp4(4, 3000), "video/mp4");
        vault.callback(completed(4, &url)).await;
        vault.archived(&video_id(4)).await;
        vault.stop().await;
        std::fs::remove_dir_all(data(&vault)).unwrap();
        copy_dir(&copy, &data(&vault));
        if !with_state {
            std::fs::remove_dir_all(data(&vault).join("state")).unwrap();
        }
        let objects = archived(&bucket);
        assert!(!objects.is_empty());
        Self { vault, media, bucket, kept: [before, after], registered, objects }
    }

    async fn knows_all(&self) {
        let vault = &self.vault;
        let job = format!("/api/v1/jobs/{}", video_id(4).replace(':', "%3A"));
        until("its manifest is read", async || vault.get(&job).await.0 == 200).await;
        for (number, state) in [(1, "running"), (2, "running"), (3, "archived"), (4, "archived")] {
            assert_eq!(vault.job(&video_id(number)).await["state"], state, "{number}");
        }
        for id in &self.kept {
            let (status, body) = vault.get(&format!("/api/v1/quarantine/{id}")).await;
            assert_eq!(status, 200, "{body}");
        }
        assert_eq!([3, 4].map(|number| self.media.hits(&format!("/{number}.mp4"))), [1, 1], "nothing is fetched again");
    }

    /// It goes on, archives, and knows all of it when its state is lost once more.
    async fn goes_on(&mut self) {
        self.vault.callback(running(5)).await;
        let late = quarantined(&self.vault, "late").await;
        move_segments(&self.vault).await;
        self.vault.callback(running(6)).await;
        let objects = archived(&self.bucket);
        assert!(objects.len() > self.objects.len(), "something moved");
        for (name, bytes) in &self.objects {
            assert_eq!(objects.get(name), Some(bytes), "{name} is what it was");
        }
        self.vault.stop().await;
        std::fs::remove_dir_all(data(&self.vault).join("state")).unwrap();
        self.vault.start_again().await;
        self.knows_all().await;
        for number in [5, 6] {
            assert_eq!(self.vault.job(&video_id(number)).await["state"], "running");
        }
        assert_eq!(self.vault.get(&format!("/api/v1/quarantine/{late}")).await.0, 200);
        assert_eq!(stats(&self.vault).await["archiveConflicts"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_data_directory_is_noticed_and_gets_what_the_bucket_has_beyond_it() {
    for with_state in [true, false] {
        let vault = Vault::start().await;
        let bucket = vault.dir.path().join("bucket");
        let mut put_back = PutBack::of(vault, bucket, with_state).await;
        put_back.vault.start_again().await;
        assert_eq!(stats(&put_back.vault).await["olderCopy"], true, "{with_state}");
        put_back.knows_all().await;
        put_back.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_noticed_as_soon_as_the_bucket_answers_and_takes_callbacks_meanwhile() {
    for with_state in [true, false] {
        let s3 = S3Server::start().await;
        let vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
        let bucket = s3.root.path().join(&s3.bucket).join("vault");
        let mut put_back = PutBack::of(vault, bucket, with_state).await;
        s3.break_with(503);
        put_back.vault.start_without_waiting().await;
        let vault = &put_back.vault;
        assert_eq!(vault.post(&vault.channel_url(), running(9).to_string()).await.0, 200);
        s3.break_with(0);
        until("it is noticed", async || stats(vault).await["olderCopy"] == true).await;
        until("the state is there", async || vault.get("/api/v1/stats").await.0 == 200).await;
        let job = format!("/api/v1/jobs/{}", video_id(2).replace(':', "%3A"));
        until("what is beyond is read", async || vault.get(&job).await.0 == 200).await;
        put_back.knows_all().await;
        assert_eq!(put_back.vault.job(&video_id(9)).await["state"], "running");
        put_back.goes_on().await;
        assert_eq!(put_back.vault.job(&video_id(9)).await["state"], "running");
    }
}

/// The URL that a ref has in the service that runs now.
fn url_of(vault: &Vault, registered: &Value) -> String {
    let target = Target::parse(registered["refId"].as_str().unwrap()).unwrap();
    vault.running().intake().urls().reply_url(&target)
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_bucket_answers_callbacks_are_taken_for_refs_that_only_its_journal_may_know() {
    let s3 = S3Server::start().await;
    let vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
    let bucket = s3.root.path().join(&s3.bucket).join("vault");
    let mut put_back = PutBack::of(vault, bucket, true).await;
    s3.break_with(503);
    put_back.vault.start_without_waiting().await;
    let vault = &put_back.vault;
    until("the state is there", async || vault.get("/api/v1/stats").await.0 == 200).await;
    let body = |number: u64| json!({"videoId": video_id(number), "status": 1, "percent": 10}).to_string();
    let (status, answer) = vault.post(&url_of(vault, &put_back.registered), body(9)).await;
    assert!(status.is_success(), "{status} {answer}");
    // One that is known to be deleted does not come back.
    let (_, removed) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "gone"})).await;
    let path = format!("/api/v1/refs/{}", removed["refId"].as_str().unwrap());
    assert_eq!(vault.send("DELETE", &path, &json!(null)).await.0, 204);
    assert_eq!(vault.post(&url_of(vault, &removed), body(10)).await.0, 401);
    s3.break_with(0);
    let path = format!("/api/v1/jobs/{}", video_id(9).replace(':', "%3A"));
    until("its ref is read", async || vault.get(&path).await.0 == 200).await;
    let job = vault.job(&video_id(9)).await;
    assert_eq!((&job["refId"], &job["replyRef"]), (&put_back.registered["refId"], &json!("after")), "{job:#}");
    put_back.knows_all().await;
    // What the bucket's journal does not know either is nobody's.
    let vault = &put_back.vault;
    let unknown = json!({"refId": format!("ref_{:026}", 7)});
    assert_eq!(vault.post(&url_of(vault, &unknown), body(11)).await.0, 401);
    assert_eq!(vault.post(&url_of(vault, &removed), body(10)).await.0, 401);
}

/// Starts again, and waits until what is there is compared with the bucket.
async fn start_and_compare(vault: &mut Vault) {
    vault.start_again().await;
    compare_with_archive(vault.running().intake().log()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_journal_gone_callbacks_are_taken_for_refs_until_a_rebuild_has_read_the_buckets() {
    let s3 = S3Server::start().await;
    let mut vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
    let unknown = json!({"refId": format!("ref_{:026}", 7)});
    let body = |number: u64| json!({"videoId": video_id(number), "status": 1, "percent": 10}).to_string();
    // Of a new vault it is nobody's.
    compare_with_archive(vault.running().intake().log()).await.unwrap();
    assert_eq!(vault.post(&url_of(&vault, &unknown), body(9)).await.0, 401);
    let (_, registered) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "boat"})).await;
    vault.callback(running(1)).await;
    move_segments(&vault).await;
    let bucket = vault.running().bucket().clone();
    vault.stop().await;
    for folder in ["journal", "state"] {
        std::fs::remove_dir_all(data(&vault).join(folder)).unwrap();
    }
    s3.break_with(503);
    vault.start_without_waiting().await;
    until("the state is there", async || vault.get("/api/v1/stats").await.0 == 200).await;
    for number in [2, 3, 4] {
        let (status, answer) = vault.post(&url_of(&vault, &registered), body(number)).await;
        assert_eq!(status, 202, "{number}: {answer}");
        vault.stop().await;
        s3.break_with(0);
        start_and_compare(&mut vault).await;
    }
    vault.stop().await;
    let (dir, progress) = (data(&vault), RebuildProgress::default());
    rebuild(&dir, &bucket, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
    start_and_compare(&mut vault).await;
    for number in [2, 3, 4] {
        let job = vault.job(&video_id(number)).await;
        assert_eq!((&job["refId"], &job["replyRef"]), (&registered["refId"], &json!("boat")), "{job:#}");
    }
    assert_eq!(vault.post(&url_of(&vault, &unknown), body(9)).await.0, 401);
    // A rebuild that comes first leaves nothing to wait for, also where it adds nothing to the journal.
    vault.stop().await;
    std::fs::remove_dir_all(&dir).unwrap();
    rebuild(&dir, &bucket, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
    start_and_compare(&mut vault).await;
    assert_eq!(vault.post(&url_of(&vault, &registered), body(5)).await.0, 200);
    assert_eq!(vault.post(&url_of(&vault, &unknown), body(9)).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_noticed_when_the_bucket_answers_only_after_one_more_restart() {
    for with_state in [true, false] {
        let s3 = S3Server::start().await;
        let vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
        let bucket = s3.root.path().join(&s3.bucket).join("vault");
        let mut put_back = PutBack::of(vault, bucket, with_state).await;
        s3.break_with(503);
        put_back.vault.start_without_waiting().await;
        let vault = &mut put_back.vault;
        assert_eq!(vault.post(&vault.channel_url(), running(9).to_string()).await.0, 200);
        // Its state is past what the bucket has.
        until("the state is there", async || vault.get("/api/v1/stats").await.0 == 200).await;
        assert_eq!(vault.job(&video_id(9)).await["state"], "running");
        vault.stop().await;
        let baseline = data(vault).join("state.baseline");
        assert!(baseline.exists(), "{with_state}");
        s3.break_with(0);
        vault.start_again().await;
        let job = format!("/api/v1/jobs/{}", video_id(2).replace(':', "%3A"));
        until("what is beyond is read", async || vault.get(&job).await.0 == 200).await;
        assert_eq!(stats(vault).await["olderCopy"], true, "{with_state}");
        put_back.knows_all().await;
        assert!(!baseline.exists(), "{with_state}");
        put_back.goes_on().await;
        assert_eq!(put_back.vault.job(&video_id(9)).await["state"], "running");
        assert_eq!(stats(&put_back.vault).await["olderCopy"], false, "{with_state}");
    }
}

/// Once an older copy was put back, and once the directory was lost: each time the state is then made anew while the service
/// runs, and at a start without the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_made_anew_has_what_only_the_bucket_has_of_the_journal() {
    for is_lost in [false, true] {
        let s3 = S3Server::start().await;
        let vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
        let bucket = s3.root.path().join(&s3.bucket).join("vault");
        let mut put_back = PutBack::of(vault, bucket, true).await;
        put_back.vault.start_again().await;
        put_back.knows_all().await;
        let bucket = put_back.vault.running().bucket().clone();
        put_back.vault.stop().await;
        let dir = data(&put_back.vault);
        if is_lost {
            std::fs::remove_dir_all(&dir).unwrap();
            let progress = RebuildProgress::default();
            rebuild(&dir, &bucket, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
        }
        put_back.vault.start_again().await;
        put_back.vault.running().intake().log().start_over().await.unwrap();
        put_back.knows_all().await;
        put_back.vault.stop().await;
        std::fs::remove_dir_all(dir.join("state")).unwrap();
        s3.break_with(503);
        put_back.vault.start_without_waiting().await;
        let vault = &put_back.vault;
        assert_eq!(vault.post(&vault.channel_url(), running(9).to_string()).await.0, 200);
        let gave_up = async || {
            let (_, ready) = vault.get("/readyz").await;
            ready["checks"]["state"] == "it cannot be opened" || vault.get("/api/v1/stats").await.0 == 200
        };
        until("the bucket's journal could not be listed", gave_up).await;
        s3.break_with(0);
        tokio::time::timeout(PATIENCE, vault.running().ready()).await.unwrap();
        put_back.knows_all().await;
        assert_eq!(put_back.vault.job(&video_id(9)).await["state"], "running");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_running_service_gets_what_its_newest_segment_had_in_the_end() {
    let mut vault = Vault::start().await;
    let copy = vault.dir.path().join("copy");
    vault.callback(running(1)).await;
    copy_dir(&data(&vault).join("journal"), &copy);
    vault.callback(running(2)).await;
    vault.stop().await;
    vault.start_again().await;
    move_segments(&vault).await;
    vault.stop().await;
    for folder in ["journal", "state"] {
        std::fs::remove_dir_all(data(&vault).join(folder)).unwrap();
    }
    copy_dir(&copy, &data(&vault).join("journal"));
    vault.start_again().await;
    assert_eq!(stats(&vault).await["olderCopy"], true);
    for number in [1, 2] {
        assert_eq!(vault.job(&video_id(number)).await["state"], "running", "{number}");
    }
    // What is archived of it again is a part of what is there.
    vault.callback(running(3)).await;
    move_segments(&vault).await;
    assert_eq!(stats(&vault).await["archiveConflicts"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_in_step_is_no_older_copy() {
    let mut vault = Vault::start().await;
    vault.callback(running(1)).await;
    move_segments(&vault).await;
    for without_state in [false, true] {
        vault.stop().await;
        if without_state {
            std::fs::remove_dir_all(data(&vault).join("state")).unwrap();
        }
        vault.start_again().await;
        assert_eq!(stats(&vault).await["olderCopy"], false);
        assert_eq!(vault.job(&video_id(1)).await["state"], "running");
    }
}

async fn verified(vault: &Vault) -> Report {
    let (status, task) = vault.send("POST", "/api/v1/tasks/verify", &json!({})).await;
    assert_eq!(status, 202, "{task}");
    let path = format!("/api/v1/tasks/{}", task["taskId"].as_str().unwrap());
    until("it is verified", async || vault.get(&path).await.1["state"] != "running").await;
    let task = vault.get(&path).await.1;
    assert_eq!(task["state"], "done", "{task}");
    serde_json::from_value(task["report"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archived_segment_is_reported_and_keeps_nothing_else_away() {
    let mut vault = Vault::start().await;
    let media = MediaServer::start();
    let url = media.put("/1.mp4", mp4(1, 3000), "video/mp4");
    vault.callback(completed(1, &url)).await;
    vault.archived(&video_id(1)).await;
    move_segments(&vault).await;
    vault.callback(running(2)).await;
    move_segments(&vault).await;
    vault.callback(running(3)).await;
    let report = verified(&vault).await;
    assert!(report.is_clean() && report.segments >= 2, "{report:?}");
    let folder = vault.dir.path().join("bucket/_journal");
    std::fs::write(folder.join("notes.txt"), "whose is this").unwrap();
    let first = folder.join(archived(&vault.dir.path().join("bucket")).keys().next().unwrap());
    let whole = std::fs::read(&first).unwrap();
    std::fs::write(folder.join("a b#1"), "odd").unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() * 2 / 3] ^= 1;
    for (what, bytes) in [
        ("a flipped byte", Some(flipped)),
        ("a cut", Some(whole[..whole.len() / 2].to_vec())),
        ("noise", Some(vec![7; 5000])),
        ("nothing", Some(Vec::new())),
        ("gone", None),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(&first, bytes).unwrap(),
            None => std::fs::remove_file(&first).unwrap(),
        }
        vault.stop().await;
        std::fs::remove_dir_all(data(&vault).join("state")).unwrap();
        vault.start_without_waiting().await;
        tokio::time::timeout(PATIENCE, vault.running().ready()).await.unwrap_or_else(|_| panic!("{what}"));
        // By its manifest, and by what was written again.
        vault.archived(&video_id(1)).await;
        for number in [2, 3] {
            assert_eq!(vault.job(&video_id(number)).await["state"], "running", "{what}");
        }
        let report = verified(&vault).await;
        let expected = if what == "gone" { FindingKind::MissingSegment } else { FindingKind::DamagedSegment };
        assert_eq!(report.by_kind.get(&expected), Some(&1), "{what}: {report:?}");
        assert_eq!(report.by_kind.get(&FindingKind::OrphanObject), Some(&1), "{what}: {report:?}");
    }
    assert_eq!(media.hits("/1.mp4"), 1);
    // So it is for `rebuild`.
    let bucket = vault.running().bucket().clone();
    vault.stop().await;
    std::fs::write(&first, &whole[..whole.len() / 2]).unwrap();
    let progress = RebuildProgress::default();
    let dir = data(&vault);
    let rebuilt = rebuild(&dir, &bucket, journal_keys(), Intake::parse_callback, &progress);
    let rebuilt = tokio::time::timeout(PATIENCE, rebuilt).await.unwrap().unwrap();
    assert!(rebuilt.recovery.has_gaps() && rebuilt.problems.len() == 1, "{rebuilt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_segment_that_cannot_be_read_while_the_bucket_answers_keeps_nothing_else_away() {
    let s3 = S3Server::start().await;
    let mut vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
    let media = MediaServer::start();
    let url = media.put("/1.mp4", mp4(1, 3000), "video/mp4");
    vault.callback(completed(1, &url)).await;
    vault.archived(&video_id(1)).await;
    move_segments(&vault).await;
    vault.callback(running(2)).await;
    move_segments(&vault).await;
    vault.callback(running(3)).await;
    vault.stop().await;
    let first = archived(&s3.root.path().join(&s3.bucket).join("vault")).into_keys().next().unwrap();
    std::fs::remove_dir_all(data(&vault).join("state")).unwrap();
    s3.inject(move |call| {
        let is_wanted = call.method == "GET" && call.path.ends_with(&first);
        is_wanted.then_some(Fault::Refuse(500, "InternalError", None))
    });
    vault.start_without_waiting().await;
    tokio::time::timeout(3 * PATIENCE, vault.running().ready()).await.unwrap();
    vault.archived(&video_id(1)).await;
    for number in [2, 3] {
        assert_eq!(vault.job(&video_id(number)).await["state"], "running", "{number}");
    }
    let report = verified(&vault).await;
    assert_eq!(report.by_kind.get(&FindingKind::DamagedSegment), Some(&1), "{report:?}");
}

/// What an earlier version archived in clear, in an S3 bucket that refuses some requests of those that encrypt it.
struct InClear {
    s3: S3Server,
    dir: tempfile::TempDir,
    /// How many segments were written.
    written: Arc<AtomicUsize>,
}

impl InClear {
    const OLDEST: &str = "00000000000000000000.journal.zst";

    /// Two segments, and a bucket that refuses `method` with `code`: to remove any, or to read the oldest.
    async fn refusing(method: &'static str, code: &'static str) -> Self {
        let (s3, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
        let folder = s3.root.path().join(&s3.bucket).join("vault/_journal");
        std::fs::create_dir_all(&folder).unwrap();
        for name in [Self::OLDEST, "00000000000000001000.journal.zst"] {
            std::fs::write(folder.join(name), zstd::encode_all(name.as_bytes(), 0).unwrap()).unwrap();
        }
        let written = Arc::new(AtomicUsize::new(0));
        let counted = written.clone();
        s3.inject(move |call| {
            if call.method == "PUT" && call.path.contains("/_journal/") {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            let removes = call.method == "DELETE" || (call.method == "POST" && call.query.contains("delete"));
            let reads_oldest = call.method == "GET" && call.path.ends_with(Self::OLDEST);
            let is_refused = if method == "DELETE" { removes } else { reads_oldest };
            is_refused.then_some(Fault::Refuse(403, code, None))
        });
        Self { s3, dir, written }
    }

    /// Encrypts what it can, in a run of its own or in `passes` of one.
    async fn renew(&self, passes: usize) -> Result<usize, ArchiveError> {
        let bucket = Bucket::open(&self.s3.config("vault")).unwrap();
        let journal = open_journal(self.dir.path(), &bucket, journal_keys()).unwrap();
        let renew = move || {
            let mut last = journal.renew_archive();
            (1..passes).for_each(|_| last = journal.renew_archive());
            last
        };
        tokio::task::spawn_blocking(renew).await.unwrap()
    }

    /// How many segments are in clear, and how many are encrypted.
    fn count(&self) -> [usize; 2] {
        let names: Vec<_> = archived(&self.s3.root.path().join(&self.s3.bucket).join("vault")).into_keys().collect();
        [".journal.zst", ".journal.enc"].map(|end| names.iter().filter(|name| name.ends_with(end)).count())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_cannot_be_removed_or_read_keeps_none_behind_it_in_clear() {
    for (method, code, permission, found) in
        [("DELETE", "AccessDenied", "s3:DeleteObject", [2, 2]), ("GET", "InvalidObjectState", "s3:GetObject", [1, 1])]
    {
        let archive = InClear::refusing(method, code).await;
        let error = archive.renew(1).await.unwrap_err();
        let ArchiveError::NotRenewed { left, reason } = &error else { panic!("{error}") };
        assert_eq!((*left, archive.count()), (found[0], found), "{error}");
        assert!(reason.contains(InClear::OLDEST) && reason.contains(permission), "{reason}");
        // What is encrypted is not encrypted again, neither by another pass nor after a restart.
        let written = archive.written.load(Ordering::Relaxed);
        let again = archive.renew(2).await.unwrap_err();
        assert!(matches!(&again, ArchiveError::NotRenewed { left, .. } if *left == found[0]), "{again}");
        assert_eq!((archive.written.load(Ordering::Relaxed), archive.count()), (written, found), "{method}");
        archive.s3.inject(|_| None);
        assert_eq!((archive.renew(1).await, archive.count()), (Ok(0), [0, 2]), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_manifests_alone_tell_and_the_keys_are_named() {
    let mut vault = Vault::start().await;
    let media = MediaServer::start();
    let url = media.put("/1.mp4", mp4(1, 3000), "video/mp4");
    vault.callback(completed(1, &url)).await;
    vault.archived(&video_id(1)).await;
    move_segments(&vault).await;
    let bucket = vault.running().bucket().clone();
    vault.stop().await;
    std::fs::remove_dir_all(data(&vault)).unwrap();
    let other = || ArchiveKeys::new([&"another-key".into()]).unwrap();
    let progress = RebuildProgress::default();
    let dir = data(&vault);
    let rebuilt = rebuild(&dir, &bucket, other(), Intake::parse_callback, &progress);
    let rebuilt = tokio::time::timeout(PATIENCE, rebuilt).await.unwrap().unwrap();
    assert_eq!(rebuilt.manifests, 1, "{rebuilt:?}");
    let [problem] = rebuilt.problems.as_slice() else { panic!("{rebuilt:?}") };
    let advice = ["encrypted with the key", "secrets.toml", "`replyvault rebuild`"];
    assert!(advice.iter().all(|part| problem.contains(part)), "{problem}");
    vault.settings.journal_keys = other();
    vault.start_again().await;
    assert_eq!(vault.job(&video_id(1)).await["state"], "archived");
    // With the key back, all of it is read.
    vault.stop().await;
    let rebuilt = rebuild(&data(&vault), &bucket, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
    assert!(rebuilt.problems.is_empty() && rebuilt.counters.callbacks >= 1, "{rebuilt:?}");
    assert_eq!(media.hits("/1.mp4"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_reads_what_an_older_copy_could_not_for_want_of_the_key() {
    let vault = Vault::start().await;
    let bucket = vault.dir.path().join("bucket");
    let mut put_back = PutBack::of(vault, bucket, true).await;
    let right = put_back.vault.settings.journal_keys.clone();
    put_back.vault.settings.journal_keys = ArchiveKeys::new([&"another-key".into()]).unwrap();
    put_back.vault.start_again().await;
    // By their manifests.
    for number in [3, 4] {
        put_back.vault.archived(&video_id(number)).await;
    }
    let path = format!("/api/v1/jobs/{}", video_id(2).replace(':', "%3A"));
    assert_eq!(put_back.vault.get(&path).await.0, 404);
    let bucket = put_back.vault.running().bucket().clone();
    put_back.vault.stop().await;
    put_back.vault.settings.journal_keys = right;
    let (dir, progress) = (data(&put_back.vault), RebuildProgress::default());
    let rebuilt = rebuild(&dir, &bucket, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
    assert!(rebuilt.problems.is_empty(), "{rebuilt:?}");
    put_back.vault.start_again().await;
    put_back.knows_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_objects_that_grow_large_take_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.set("DATA__JOURNAL_RETENTION", "1s".to_owned());
    let process = program.start().await;
    let media = MediaServer::start();
    process.post_until_accepted(&completed(1, &media.put("/1.mp4", mp4(1, 3000), "video/mp4"))).await;
    process.job_in(&video_id(1), "archived").await;
    let journal = dir.path().join("bucket/_journal");
    until("a segment moved", async || std::fs::read_dir(&journal).is_ok_and(|items| items.count() > 0)).await;
    process.kill();
    drop(process);
    // 99 KB that are two gigabytes, and a manifest without end.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), 2 << 30), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    std::fs::write(journal.join("00000000000000000001.journal.zst"), &bomb).unwrap();
    let folder = dir.path().join("bucket/video/2026/01/01/video-9");
    std::fs::create_dir_all(&folder).unwrap();
    let huge = std::fs::File::create(folder.join("manifest.json")).unwrap();
    huge.set_len(3 << 30).unwrap();
    std::fs::remove_dir_all(dir.path().join("data/state")).unwrap();
    let process = program.start().await;
    process.job_in(&video_id(1), "archived").await;
    let call = async |method: reqwest::Method, path: &str| -> Value {
        let request = process.client.request(method, format!("{}/api/v1/tasks/{path}", process.base));
        request.bearer_auth(TOKEN).json(&json!({})).send().await.unwrap().json().await.unwrap()
    };
    let task = call(reqwest::Method::POST, "verify").await["taskId"].as_str().unwrap().to_owned();
    until("it is verified", async || call(reqwest::Method::GET, &task).await["state"] != "running").await;
    let report = call(reqwest::Method::GET, &task).await["report"].clone();
    let found = report["findings"].as_array().unwrap().iter().find(|finding| finding["kind"] == "damaged_segment");
    assert_eq!(found.unwrap()["key"], "_journal/00000000000000000001.journal.zst", "{report}");
    assert_eq!(report["byKind"]["orphan_manifest"], 1, "{report}");
    let peak = process.peak_memory();
    assert!(peak < 300 << 20, "{} MiB", peak >> 20);
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_in_the_buckets_directory_hold_up_nothing() {
    let (mut vault, media) = (Vault::start().await, MediaServer::start());
    let bucket = vault.dir.path().join("bucket");
    crate::bucket::put_odd_names(&bucket);
    vault.callback(completed(1, &media.put("/1.mp4", mp4(1, 3000), "video/mp4"))).await;
    vault.archived(&video_id(1)).await;
    vault.callback(running(2)).await;
    move_segments(&vault).await;
    let report = verified(&vault).await;
    assert!(report.is_clean() && report.segments > 0, "{report:?}");
    let opened = vault.running().bucket().clone();
    vault.stop().await;
    let (dir, progress) = (data(&vault), RebuildProgress::default());
    rebuild(&dir, &opened, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
    vault.start_again().await;
    vault.archived(&video_id(1)).await;
    assert_eq!(vault.job(&video_id(2)).await["state"], "running");
    assert_eq!(media.hits("/1.mp4"), 1);
}

/// The file of the only segment.
fn only_segment(data: &Path) -> PathBuf {
    let mut segments: Vec<_> =
        std::fs::read_dir(data.join("journal")).unwrap().map(|item| item.unwrap().path()).collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_cannot_read_of_a_segment_is_tried_for_a_while_and_then_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    let process = program.start().await;
    let body = |number: u64| json!({"videoId": video_id(number), "status": 1, "desc": "x".repeat(3000)});
    for number in 1..=20 {
        process.post_until_accepted(&body(number)).await;
    }
    assert_eq!(process.terminate().await, Some(0));
    let segment = only_segment(&dir.path().join("data"));
    let bytes = std::fs::read(&segment).unwrap();
    let without_state = || std::fs::remove_dir_all(dir.path().join("data/state")).unwrap();
    without_state();
    // One block of it. The segment is also to be moved away.
    let base: u64 = segment.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    program.failure_points = format!("journal.read=return({base}/20480-24575)");
    program.set("DATA__JOURNAL_RETENTION", "1s".to_owned());
    let process = program.start().await;
    // Callbacks are taken all the while.
    process.post_until_accepted(&body(30)).await;
    process.job_in(&video_id(30), "running").await;
    let metrics = process.client.get(format!("{}/metrics", process.base)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("replyvault_journal_segments_unreadable 1\n"), "{metrics}");
    let mut known = 0;
    for number in 1..=20 {
        known += u64::from(process.get(&format!("/api/v1/jobs/{}", video_id(number))).await.is_some());
    }
    assert!((17..=19).contains(&known), "{known}");
    assert!(process.log().contains("that the disk cannot read"), "{}", process.log());
    assert_eq!(process.terminate().await, Some(0));
    // Nothing of it was cut off or moved: once the disk reads it again, all of it is there.
    assert!(std::fs::read(&segment).unwrap() == bytes);
    without_state();
    program.failure_points = String::new();
    let process = program.start().await;
    for number in (1..=20).chain([30]) {
        process.job_in(&video_id(number), "running").await;
    }
    assert_eq!(process.terminate().await, Some(0));
}
