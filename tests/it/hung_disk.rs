//! What can be had while the disk takes in nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::support::child::Program;
use crate::support::frozen_disk::Disk;
use crate::support::vault::{PATIENCE, video_id};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_hangs_jobs_can_be_read_and_callbacks_get_503_and_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path()) else {
        println!("skipped: a file system cannot be mounted here");
        return;
    };
    let mut program = Program::new(dir.path());
    program.set("DATA__DIR", disk.path().join("data").display().to_string());
    let process = program.start().await;
    let ready = async |status: u16| {
        while process.touch("/readyz").await != Some(status) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let becomes = async |status: u16| {
        let waited = timeout(PATIENCE, ready(status)).await;
        waited.unwrap_or_else(|_| panic!("/readyz does not become {status}:\n{}", process.log()));
    };
    becomes(200).await;
    let body = |number: u64| json!({"videoId": video_id(number), "status": 1, "desc": "x".repeat(3000)}).to_string();
    let post = async |number: u64| {
        let answer = process.client.post(process.channel_url()).body(body(number)).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    };
    // So much that the store is still being written when the disk hangs.
    assert_eq!(join_all((0..300).map(post)).await, [(200, false); 300]);
    let frozen = disk.freeze();
    let started = Instant::now();
    let read = async {
        let mut number = 0;
        while started.elapsed() < Duration::from_secs(20) {
            let path = format!("/api/v1/jobs/{}", video_id(number % 300));
            let found = timeout(Duration::from_secs(10), process.get(&path)).await;
            assert!(found.is_ok_and(|job| job.is_some()), "after {:?}:\n{}", started.elapsed(), process.log());
            number += 1;
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(process.touch("/healthz").await, Some(200));
        becomes(503).await;
    };
    let (posted, ()) = tokio::join!(join_all((300..310).map(post)), read);
    assert_eq!(posted, [(503, true); 10]);
    drop(frozen);
    becomes(200).await;
    assert_eq!(post(310).await.0, 200);
    // The disk had taken in what was answered 503 in the end.
    for number in [0, 299, 300, 309, 310] {
        process.job_in(&video_id(number), "running").await;
    }
    assert_eq!(process.terminate().await, Some(0));
}
