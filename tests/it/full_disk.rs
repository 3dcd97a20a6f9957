//! A disk that is full, for real: a small file system of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::child::Program;
use crate::support::vault::{PATIENCE, video_id};

/// A file system of a few MiB in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where one may not be mounted.
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_callbacks_get_503_and_then_it_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else {
        println!("skipped: a file system cannot be mounted here");
        return;
    };
    let process = Program::new(&disk.0).start().await;
    let body = |number: u64| json!({"videoId": video_id(number), "status": 1, "desc": "x".repeat(3000)});
    assert_eq!(process.post(&body(1)).await, Some(200));

    // A large one would leave the journal no room: it gets none from the start.
    let huge = json!({"videoId": video_id(8), "status": 1, "desc": "x".repeat(3 << 20)}).to_string();
    let refused = process.client.post(process.channel_url()).body(huge).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("no room on the disk"));

    let filler = disk.0.join("filler");
    // It ends with an error: that is what it is for.
    let _ = std::fs::write(&filler, vec![0; 32 << 20]);
    // It does not fit into the room that the journal has still got.
    let large = json!({"videoId": video_id(9), "status": 1, "desc": "x".repeat(600_000)});
    assert_eq!(process.post(&large).await, Some(503));
    // What did not fit was cut off again, and its room stays taken: a full disk takes no small ones instead.
    for number in 10..40 {
        assert_eq!(process.post(&body(number)).await, Some(503));
    }
    let refused = process.client.post(process.channel_url()).body(body(50).to_string()).send().await.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    let text = refused.text().await.unwrap();
    assert!(text.contains("journal cannot be written") && !text.contains(disk.0.to_str().unwrap()), "{text}");
    let ready = process.client.get(format!("{}/readyz", process.base)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert_ne!(ready.json::<serde_json::Value>().await.unwrap()["checks"]["journal"], "ok");
    let segments = std::fs::read_dir(disk.0.join("data/journal")).unwrap().count();
    assert!(segments <= 2, "{segments} segments");
    // Time for the state's store to meet the full disk, too: its error sticks.
    tokio::time::sleep(Duration::from_millis(2500)).await;

    std::fs::remove_file(&filler).unwrap();
    process.post_until_accepted(&body(2)).await;
    let visible = async {
        while process.get(&format!("/api/v1/jobs/{}", video_id(2))).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, visible).await.unwrap_or_else(|_| panic!("{}", process.log()));
    process.post_until_accepted(&body(3)).await;
    for (number, known) in [(1, true), (2, true), (3, true), (9, false), (10, false)] {
        assert_eq!(process.get(&format!("/api/v1/jobs/{}", video_id(number))).await.is_some(), known, "{number}");
    }
    assert_eq!(process.terminate().await, Some(0));
    assert_eq!(damaged_copies(&disk.0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_that_was_put_aside_gives_way_when_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else {
        println!("skipped: a file system cannot be mounted here");
        return;
    };
    let process = Program::new(&disk.0).start().await;
    assert_eq!(process.post(&json!({"videoId": video_id(1), "status": 1})).await, Some(200));
    let aside = disk.0.join("data/state.damaged-1");
    std::fs::create_dir(&aside).unwrap();
    std::fs::write(aside.join("db"), vec![0; 6 << 20]).unwrap();
    let _ = std::fs::write(disk.0.join("filler"), vec![0; 32 << 20]);
    // It does not fit into the room that the journal has still got. The room made for it is there for the next.
    let large = |number: u64| json!({"videoId": video_id(number), "status": 1, "desc": "x".repeat(600_000)});
    assert_eq!(process.post(&large(2)).await, Some(503));
    process.post_until_accepted(&large(3)).await;
    assert!(!aside.exists());
    assert_eq!(process.terminate().await, Some(0));
}

fn damaged_copies(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("data")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains("damaged")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_opened_while_the_disk_is_full_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else {
        println!("skipped: a file system cannot be mounted here");
        return;
    };
    let program = Program::new(&disk.0);
    let process = program.start().await;
    for number in 1..20 {
        process.post_until_accepted(&json!({"videoId": video_id(number), "status": 1})).await;
    }
    assert_eq!(process.terminate().await, Some(0));
    // Room for the log alone.
    let filler = disk.0.join("filler");
    let _ = std::fs::write(&filler, vec![0; 32 << 20]);
    std::fs::OpenOptions::new()
        .write(true)
        .open(&filler)
        .unwrap()
        .set_len(std::fs::metadata(&filler).unwrap().len().saturating_sub(64 << 10))
        .unwrap();
    let process = program.start().await;
    // Several tries of what fails.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(damaged_copies(&disk.0) == 0, "{}", process.log());
    std::fs::remove_file(&filler).unwrap();
    process.post_until_accepted(&json!({"videoId": video_id(30), "status": 1})).await;
    let visible = async {
        while process.get(&format!("/api/v1/jobs/{}", video_id(30))).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, visible).await.unwrap_or_else(|_| panic!("{}", process.log()));
    assert!(process.get(&format!("/api/v1/jobs/{}", video_id(1))).await.is_some());
    assert!(damaged_copies(&disk.0) == 0, "{}", process.log());
    assert_eq!(process.terminate().await, Some(0));
}
