//! `replyvault backup`: a copy of the data directory, taken while callbacks come in, that can be put back.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use replyvault::domain::{Target, Timestamp};
use replyvault::journal::{CallbackEntry, Entry};
use replyvault::state::EventLog;
use serde_json::json;

use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{completed, video_id};
use crate::support::write_journal;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn backup(program: &Program, target: &Path) -> Ran {
    let ran = program.command(&["backup", target.to_str().unwrap()]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: ran.status.code(), out: text(ran.stdout), err: text(ran.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_acknowledged_before_a_backup_are_there_after_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let (program, media) = (Program::new(dir.path()), MediaServer::start());
    let process = Arc::new(program.start().await);
    // Callbacks come in all the while; how many were acknowledged is known at any moment.
    let (acknowledged, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let posting = tokio::spawn({
        let (process, acknowledged, is_over) = (process.clone(), acknowledged.clone(), is_over.clone());
        async move {
            for number in 100.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                process.post_until_accepted(&json!({"videoId": video_id(number), "status": 1, "percent": 5})).await;
                acknowledged.store(number, Ordering::Relaxed);
            }
        }
    });
    while acknowledged.load(Ordering::Relaxed) < 150 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let before = acknowledged.load(Ordering::Relaxed);
    let target = dir.path().join("copies/one");
    let ran = {
        let (target, program) =
            (target.clone(), Program { settings: program.settings.clone(), ..Program::new(dir.path()) });
        tokio::task::spawn_blocking(move || backup(&program, &target)).await.unwrap()
    };
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("secrets.toml") && ran.out.contains("read back"), "{}", ran.out);
    for (path, mode) in [("", 0o700), ("journal", 0o700), ("secrets.toml", 0o600)] {
        let found = std::fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}");
    }
    for item in std::fs::read_dir(target.join("journal")).unwrap() {
        assert_eq!(item.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // What comes after it comes back where it was archived.
    process.post_until_accepted(&completed(1, &media.put("/1.mp4", mp4(1, 3000), "video/mp4"))).await;
    process.job_in(&video_id(1), "archived").await;
    is_over.store(true, Ordering::Relaxed);
    posting.await.unwrap();
    process.kill();
    drop(process);
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    std::fs::rename(&target, dir.path().join("data")).unwrap();
    let process = program.start().await;
    process.job_in(&video_id(1), "archived").await;
    assert_eq!(media.hits("/1.mp4"), 1);
    for number in 100..=before {
        process.job_in(&video_id(number), "running").await;
    }
    process.post_until_accepted(&json!({"videoId": video_id(2), "status": 1})).await;
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_needs_no_service_and_refuses_what_would_be_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::new(dir.path());
    let target = dir.path().join("copy");
    let ran = backup(&program, &target);
    assert_eq!(ran.code, Some(2), "nothing to copy: {}", ran.err);
    assert!(ran.err.contains("data.dir") && !target.exists(), "{}", ran.err);
    let process = program.start().await;
    process.post_until_accepted(&json!({"videoId": video_id(1), "status": 1})).await;
    assert_eq!(process.terminate().await, Some(0));
    std::fs::create_dir(&target).unwrap();
    // Which sessions were ended before their time. Put back without it, they would be open again.
    let sessions = format!("{{{}}}", " ".repeat(3 << 20));
    std::fs::write(dir.path().join("data/sessions.json"), &sessions).unwrap();
    let ran = backup(&program, &target);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("1 segments of the journal with 1 entries"), "{}", ran.out);
    assert!(ran.out.contains("sessions.json"), "{}", ran.out);
    assert!(std::fs::read_to_string(target.join("sessions.json")).unwrap() == sessions);
    // Half of a file would be worse than none.
    let notes = dir.path().join("data/notes");
    std::fs::File::create(&notes).unwrap().set_len(9 << 20).unwrap();
    let ran = backup(&program, &dir.path().join("another"));
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("notes cannot be copied"), "{}", ran.err);
    std::fs::remove_file(&notes).unwrap();
    let again = backup(&program, &target);
    assert_eq!(again.code, Some(2), "{}", again.out);
    assert!(again.err.contains("empty or not there"), "{}", again.err);
    let inside = backup(&program, &dir.path().join("data/copy"));
    assert_eq!(inside.code, Some(2), "{}", inside.out);
    // Damage is copied and said.
    let segment = std::fs::read_dir(dir.path().join("data/journal")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() - 20;
    bytes[middle] ^= 1;
    bytes.extend(vec![1; 50]);
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(backup(&program, &dir.path().join("other")).code, Some(0), "a torn tail was never acknowledged");
}

/// A data directory that a service has left.
async fn left_by_a_service(program: &Program) {
    let process = program.start().await;
    process.post_until_accepted(&json!({"videoId": video_id(1), "status": 1})).await;
    assert_eq!(process.terminate().await, Some(0), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_the_callbacks_that_a_replica_keeps_while_postgres_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::new(dir.path());
    left_by_a_service(&program).await;
    let callback = Entry::Callback(CallbackEntry {
        at: Timestamp::now(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: "{}".into(),
    });
    write_journal(&dir.path().join("data/outage"), [&callback, &callback]);
    let target = dir.path().join("copy");
    let ran = backup(&program, &target);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("2 callbacks that wait for PostgreSQL"), "{}", ran.out);
    assert_eq!(EventLog::kept_callbacks(&target.join("outage")).unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_follows_links_to_files_and_refuses_those_that_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::new(dir.path());
    left_by_a_service(&program).await;
    let (data, elsewhere) = (dir.path().join("data"), dir.path().join("elsewhere.toml"));
    let secrets = data.join("secrets.toml");
    std::fs::rename(&secrets, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &secrets).unwrap();
    let target = dir.path().join("copy");
    let ran = backup(&program, &target);
    assert!(ran.code == Some(0) && ran.out.contains("secrets.toml"), "{}{}", ran.out, ran.err);
    let copy = target.join("secrets.toml");
    assert!(std::fs::symlink_metadata(&copy).unwrap().is_file());
    assert!(std::fs::read(&copy).unwrap() == std::fs::read(&elsewhere).unwrap());
    std::os::unix::fs::symlink(dir.path().join("nowhere"), data.join("notes")).unwrap();
    let other = dir.path().join("other");
    let ran = backup(&program, &other);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("data/notes cannot be read"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0);
}
