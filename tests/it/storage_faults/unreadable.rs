//! A file or folder of the bucket that the disk does not give back, while all others are in order.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::support::child::Program;

/// From now on whoever looks there gets an error. That nothing is there would be an answer.
fn break_at(path: &Path) {
    symlink(path, path).unwrap();
}

async fn until(what: &str, is_reached: impl Fn() -> bool) {
    let reached = async {
        while !is_reached() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_object_that_cannot_be_read_holds_up_no_start() {
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let mut program = Program::new(dir.path());
    program.set("STORAGE__KEY", "{job}/{file}".to_owned());
    // It is written, and nobody learns of it.
    program.failure_points = "worker.put.done=return".to_owned();
    let process = program.start().await;
    let urls = [1, 2].map(|number| media.put(&format!("/{number}.mp4"), mp4(number, SMALL), "video/mp4"));
    process.post_until_accepted(&completed(1, &urls[0])).await;
    let object = dir.path().join("bucket/video-1/video.mp4");
    until("the object is written", || object.is_file()).await;
    process.kill();
    std::fs::remove_file(&object).unwrap();
    break_at(&object);
    program.failure_points.clear();
    let process = program.start().await;
    process.post_until_accepted(&completed(2, &urls[1])).await;
    for number in [2, 1] {
        process.job_in(&video_id(number), "archived").await;
    }
    assert!(std::fs::read(&object).unwrap() == mp4(1, SMALL), "it was written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_object_that_cannot_be_read_for_a_while_is_found_by_a_later_start() {
    let (dir, media, s3) = (tempfile::tempdir().unwrap(), MediaServer::start(), S3Server::start().await);
    let mut program = Program::new(dir.path());
    program.store_in(&s3);
    program.set("STORAGE__KEY", "{job}/{file}".to_owned());
    program.failure_points = "worker.put.done=return".to_owned();
    let process = program.start().await;
    let bytes = mp4(1, SMALL);
    process.post_until_accepted(&completed(1, &media.put("/1.mp4", bytes.clone(), "video/mp4"))).await;
    let object = s3.root.path().join(&s3.bucket).join("video-1/video.mp4");
    until("the object is written", || std::fs::read(&object).is_ok_and(|found| found == bytes)).await;
    process.kill();
    // All there is of the file by now is in the bucket.
    media.put_after("/1.mp4", &[404; 99], "gone", "text/plain");
    s3.inject(|call| {
        let reads = call.method == Method::GET || call.method == Method::HEAD;
        let is_strange = reads && call.path.ends_with("/video-1/video.mp4");
        is_strange.then_some(Fault::Refuse(503, "SlowDown", None))
    });
    program.failure_points.clear();
    let process = program.start().await;
    let url = media.put("/2.mp4", mp4(2, SMALL), "video/mp4");
    process.post_until_accepted(&completed(2, &url)).await;
    process.job_in(&video_id(2), "archived").await;
    process.kill();
    s3.inject(|_| None);
    let process = program.start().await;
    process.job_in(&video_id(1), "archived").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_jobs_manifest_that_cannot_be_read_is_written_anew() {
    let vault = Vault::start().await;
    let callback = |status: u8, label: &str| {
        let id = video_id(1);
        json!({"videoId": id, "status": status, "statusLabel": label, "statusFinal": true})
    };
    vault.callback(callback(3, "failed")).await;
    let job = vault.job_in(&video_id(1), &["failed"]).await;
    let manifest = vault.dir.path().join("bucket").join(job["manifestKey"].as_str().unwrap());
    std::fs::remove_file(&manifest).unwrap();
    break_at(&manifest);
    vault.callback(callback(5, "moderated")).await;
    let ended = async {
        loop {
            let (_, ready) = vault.get("/readyz").await;
            assert_eq!(ready["checks"]["storage"], "ok", "{ready}");
            let job = vault.job(&video_id(1)).await;
            if job["state"] == "failed" && job["outcome"] == "moderated" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let job = tokio::time::timeout(PATIENCE, ended).await.expect("it does not end");
    assert_eq!(vault.manifest(&job).await["job"]["outcome"], "moderated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_folder_that_cannot_be_listed_holds_up_no_start() {
    let media = MediaServer::start();
    let mut vault = Vault::start_with(|settings| {
        settings.worker.key = "{job}/{file}".parse().unwrap();
        settings.shutdown_grace = Duration::from_millis(100);
    })
    .await;
    let url = media.put("/1.mp4", mp4(1, SMALL), "video/mp4");
    // Its job never gets to write.
    media.delay("/1.mp4", PATIENCE * 2);
    vault.callback(completed(1, &url)).await;
    until("the job is worked on", || media.hits("/1.mp4") > 0).await;
    vault.stop().await;
    break_at(&vault.dir.path().join("bucket/video-1"));
    vault.start_again().await;
    let url = media.put("/2.mp4", mp4(2, SMALL), "video/mp4");
    vault.callback(completed(2, &url)).await;
    vault.archived(&video_id(2)).await;
}
