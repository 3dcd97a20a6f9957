//! Long downloads go on where they stopped: in the next attempt, after a kill, after a stop.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::child::{Process, Program};
use crate::support::media::mp4;
use crate::support::ranged::{Ranged, RangedServer};
use crate::support::s3::S3Server;
use crate::support::vault::{PATIENCE, Vault, completed, video_id, with_bucket};

const PART: usize = 64 << 10;
const SIZE: usize = 1 << 20;
/// In the middle of the fifteenth part.
const STOP: usize = 14 * PART + 1000;

/// How many of the first upload's parts the journal below `dir` names, once there are as many as `parts`.
async fn recorded(dir: &Path, parts: usize) {
    let wanted = async {
        loop {
            let mut bytes = Vec::new();
            for item in std::fs::read_dir(dir.join("data/journal")).unwrap() {
                bytes.extend(std::fs::read(item.unwrap().path()).unwrap());
            }
            // Events are JSON, and the bytes of parts without a gap is a field of theirs.
            let text = String::from_utf8_lossy(&bytes);
            let part = if text.contains("\"part_size\\\":5242880") { S3Server::PART_SIZE as usize } else { PART };
            if text.contains(&format!("\"bytes\":{},\"point\"", parts * part)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.expect("the progress is not recorded");
}

/// Staging files below the bucket of a directory.
fn staging(root: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.display().to_string().contains('#') => found.push(path.display().to_string()),
                false => {}
            }
        }
    }
    found
}

fn assert_whole(job: &Value, bucket: &Path, bytes: &[u8]) {
    let stored = std::fs::read(bucket.join(job["assets"][0]["key"].as_str().unwrap())).unwrap();
    assert!(stored == bytes, "other bytes");
    assert_eq!(job["assets"][0]["sha256"], replyvault::domain::Digest::of(bytes).to_string());
}

/// A process whose download of `file` has come to a halt, all parts before that recorded.
async fn halted(program: &Program, media: &RangedServer, file: &Ranged, parts: usize) -> (Process, String) {
    let stops_at = Some(parts * if file.bytes.len() > SIZE * 2 { S3Server::PART_SIZE as usize } else { PART } + 1000);
    let url = media.put("/v.mp4", Ranged { stops_at, ..file.clone() });
    let process = program.start().await;
    process.post_until_accepted(&completed(1, &url)).await;
    recorded(&program.dir, parts).await;
    (process, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_was_killed_goes_on_at_the_last_recorded_part() {
    let (dir, media) = (tempfile::tempdir().unwrap(), RangedServer::start());
    let program = Program::new(dir.path());
    let file = Ranged::new(mp4(1, SIZE));
    let (process, _) = halted(&program, &media, &file, 14).await;
    process.kill();
    media.put("/v.mp4", file.clone());
    let process = program.start().await;
    let job = process.job_in(&video_id(1), "archived").await;
    assert_whole(&job, &dir.path().join("bucket"), &file.bytes);
    assert_eq!(media.began_at("/v.mp4"), [0, 14 * PART]);
    assert!(media.sent() < SIZE * 3 / 2, "{}", media.sent());
    assert_eq!(process.terminate().await, Some(0));
    assert_eq!(staging(&dir.path().join("bucket")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_whose_staging_file_was_changed_after_a_kill_is_fetched_anew() {
    fn cut(staging: &File) {
        staging.set_len(3 * PART as u64).unwrap();
    }
    fn flip(staging: &File) {
        let (mut byte, at) = ([0], 3 * PART as u64 + 7);
        staging.read_exact_at(&mut byte, at).unwrap();
        staging.write_all_at(&[!byte[0]], at).unwrap();
    }
    for change in [cut as fn(&File), flip] {
        let (dir, media) = (tempfile::tempdir().unwrap(), RangedServer::start());
        let program = Program::new(dir.path());
        let file = Ranged::new(mp4(1, SIZE));
        let (process, _) = halted(&program, &media, &file, 14).await;
        process.kill();
        let path = staging(&dir.path().join("bucket")).remove(0);
        change(&OpenOptions::new().read(true).write(true).open(path).unwrap());
        media.put("/v.mp4", file.clone());
        let process = program.start().await;
        let job = process.job_in(&video_id(1), "archived").await;
        assert_whole(&job, &dir.path().join("bucket"), &file.bytes);
        assert_eq!(media.began_at("/v.mp4"), [0, 14 * PART, 0]);
        assert_eq!(job["assets"][0]["attempts"], 0);
        assert_eq!(process.terminate().await, Some(0));
        assert_eq!(staging(&dir.path().join("bucket")), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_into_s3_that_was_killed_goes_on_at_the_last_recorded_part() {
    let (dir, media, s3) = (tempfile::tempdir().unwrap(), RangedServer::start(), S3Server::start().await);
    let mut program = Program::new(dir.path());
    let config = s3.config("");
    for (key, value) in [
        ("STORAGE__URL", format!("s3://{}", s3.bucket)),
        ("STORAGE__ENDPOINT", s3.endpoint.clone()),
        ("STORAGE__ALLOW_HTTP", "true".to_owned()),
        ("STORAGE__ACCESS_KEY_ID", config.access_key_id.as_ref().unwrap().expose_secret().to_owned()),
        ("STORAGE__SECRET_ACCESS_KEY", config.secret_access_key.as_ref().unwrap().expose_secret().to_owned()),
        ("STORAGE__PART_SIZE", "5MiB".to_owned()),
    ] {
        program.set(key, value);
    }
    let file = Ranged::new(mp4(1, 17 << 20));
    let (process, _) = halted(&program, &media, &file, 3).await;
    process.kill();
    assert_eq!(s3.unfinished_parts().len(), 3);
    media.put("/v.mp4", file.clone());
    let process = program.start().await;
    let job = process.job_in(&video_id(1), "archived").await;
    assert_whole(&job, &s3.root.path().join(&s3.bucket), &file.bytes);
    assert_eq!(media.began_at("/v.mp4"), [0, 3 * S3Server::PART_SIZE as usize]);
    assert_eq!(process.terminate().await, Some(0));
    assert_eq!(s3.unfinished_uploads(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_a_stop_cut_off_goes_on() {
    let (dir, media) = (tempfile::tempdir().unwrap(), RangedServer::start());
    let mut program = Program::new(dir.path());
    program.set("SERVER__SHUTDOWN_GRACE", "1s".to_owned());
    let file = Ranged::new(mp4(1, SIZE));
    let url = media.put("/v.mp4", Ranged { stops_at: Some(STOP), ..file.clone() });
    let process = program.start().await;
    process.post_until_accepted(&completed(1, &url)).await;
    while media.sent() < STOP {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(process.terminate().await, Some(0));
    media.put("/v.mp4", file.clone());
    let process = program.start().await;
    let job = process.job_in(&video_id(1), "archived").await;
    assert_whole(&job, &dir.path().join("bucket"), &file.bytes);
    assert_eq!(media.began_at("/v.mp4"), [0, 14 * PART]);
    assert_eq!(job["assets"][0]["attempts"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_or_one_without_ranges_is_fetched_anew_after_a_restart() {
    let other = mp4(2, SIZE);
    for after in
        [Ranged { etag: "\"v2\"", ..Ranged::new(other) }, Ranged { ranges: false, ..Ranged::new(mp4(1, SIZE)) }]
    {
        let (dir, media) = (tempfile::tempdir().unwrap(), RangedServer::start());
        let program = Program::new(dir.path());
        let (process, _) = halted(&program, &media, &Ranged::new(mp4(1, SIZE)), 14).await;
        process.kill();
        media.put("/v.mp4", after.clone());
        let process = program.start().await;
        let job = process.job_in(&video_id(1), "archived").await;
        assert_whole(&job, &dir.path().join("bucket"), &after.bytes);
        assert_eq!(media.began_at("/v.mp4"), [0, 14 * PART, 0]);
        assert_eq!(staging(&dir.path().join("bucket")), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_url_is_gone_the_next_is_fetched_and_nothing_of_the_old_upload_stays() {
    let (dir, media) = (tempfile::tempdir().unwrap(), RangedServer::start());
    let mut program = Program::new(dir.path());
    program.set("FETCH__MAX_ATTEMPTS", "1".to_owned());
    let (file, other) = (Ranged::new(mp4(1, SIZE)), Ranged::new(mp4(2, SIZE)));
    let url = media.put("/v.mp4", Ranged { stops_at: Some(STOP), ..file.clone() });
    let next = media.put("/w.mp4", other.clone());
    let process = program.start().await;
    let callback = json!({"videoId": video_id(1), "status": 2, "downloadURL": url, "videoURL": next});
    process.post_until_accepted(&callback).await;
    recorded(dir.path(), 14).await;
    process.kill();
    assert_eq!(staging(&dir.path().join("bucket")).len(), 1);
    media.put("/v.mp4", Ranged { status: 404, ..file });
    let process = program.start().await;
    let job = process.job_in(&video_id(1), "archived").await;
    assert_whole(&job, &dir.path().join("bucket"), &other.bytes);
    assert_eq!(staging(&dir.path().join("bucket")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_stuck_leaves_no_upload() {
    let (media, s3) = (RangedServer::start(), S3Server::start().await);
    let vault = Vault::start_with(|settings| {
        with_bucket(s3.config(""))(settings);
        settings.worker.max_attempts = 1;
    })
    .await;
    let file = Ranged::new(mp4(1, 12 << 20));
    let url = media.put("/v.mp4", Ranged { stops_at: Some(11 << 20), cuts: true, ..file.clone() });
    vault.callback(completed(1, &url)).await;
    let job = vault.job_in(&video_id(1), &["stuck"]).await;
    // The first attempt came far enough not to count; the one after it came no further.
    assert_eq!(job["assets"][0]["attempts"], 1, "{job:#}");
    assert!(media.began_at("/v.mp4").contains(&(10 << 20)), "{:?}", media.began_at("/v.mp4"));
    assert_eq!(s3.unfinished_uploads(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_goes_on_where_the_last_one_broke_off_and_counts_only_without_progress() {
    let media = RangedServer::start();
    let vault = Vault::start_with(|settings| settings.worker.max_attempts = 1).await;
    let part = 1 << 20;
    let file = Ranged::new(mp4(1, 10 * part));
    let stops = |at: usize| Ranged { stops_at: Some(at), cuts: true, ..file.clone() };
    let url = media.put("/v.mp4", stops(9 * part + 1000));
    vault.callback(completed(1, &url)).await;
    let failed = async {
        while vault.job(&video_id(1)).await["assets"][0]["lastError"].is_null() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    media.put("/v.mp4", file.clone());
    let job = vault.archived(&video_id(1)).await;
    vault.assert_stored(&job, &file.bytes).await;
    assert_eq!(job["assets"][0]["attempts"], 0, "{job:#}");
    assert_eq!(media.began_at("/v.mp4").last(), Some(&(9 * part)));
    assert!(media.sent() < 11 * part, "{}", media.sent());
}
