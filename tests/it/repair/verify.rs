//! What is damaged in the bucket is found, named and mended.

use std::process::Stdio;

use serde_json::Value;

use super::{Archive, command, findings, is_line_about, run, s3_archive};
use crate::cli::Ended;
use crate::support::media::mp4;
use crate::support::s3::S3Server;
use crate::support::vault::PATIENCE;

/// More than three parts of the program's.
const LARGE: usize = 200 << 10;

/// A job's manifest without what is different whenever it is written.
fn manifest(archive: &Archive, job: usize) -> Value {
    let written = std::fs::read(archive.path(archive.manifest_key(job))).unwrap();
    let mut manifest: Value = serde_json::from_slice(&written).unwrap();
    for member in ["writtenAt", "digest"] {
        assert!(manifest.as_object_mut().unwrap().remove(member).is_some(), "{member}");
    }
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_bucket_verifies_clean() {
    let archive = Archive::of(&[1000, 2000, LARGE]).await;
    let ended = archive.run(&["verify"]).await;
    assert!(ended.result().starts_with("3 index entries (3 objects read back, "), "{ended:?}");
    assert!(ended.stdout.contains(", 3 jobs, 3 manifests, 6 objects listed\n"), "{ended:?}");
    assert!(ended.stdout.ends_with("damage 0, repaired 0, could not be read 0\n"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_found_and_named() {
    let archive = Archive::of(&[1000; 8]).await;
    let at = |key: &str| archive.path(key);
    std::fs::remove_file(at(archive.key(0))).unwrap();
    std::fs::write(at(archive.key(1)), [0; 999]).unwrap();
    archive.flip_a_byte(2);
    std::fs::write(at(archive.manifest_key(3)), "{\"schema\": ").unwrap();
    std::fs::remove_file(at(archive.manifest_key(4))).unwrap();
    let other = std::fs::read(at(archive.manifest_key(6))).unwrap();
    std::fs::write(at(archive.manifest_key(5)), other).unwrap();
    let text = std::fs::read_to_string(at(archive.manifest_key(7))).unwrap();
    let sha256 = archive.jobs[7]["assets"][0]["sha256"].as_str().unwrap();
    std::fs::write(at(archive.manifest_key(7)), text.replace(sha256, &"0".repeat(64))).unwrap();
    let beside = archive.key(6).replace("video.mp4", "stranger.mp4");
    std::fs::write(at(&beside), "nobody's").unwrap();
    std::fs::create_dir_all(at("video/elsewhere")).unwrap();
    std::fs::write(at("video/elsewhere/video.mp4"), "nobody's").unwrap();
    std::fs::write(at("video/elsewhere/manifest.json"), "{}").unwrap();

    let expected = archive.expected(&[
        ("missing_object", archive.key(0), Some(0)),
        ("wrong_size", archive.key(1), Some(1)),
        ("wrong_digest", archive.key(2), Some(2)),
        ("damaged_manifest", archive.manifest_key(3), Some(3)),
        ("missing_manifest", archive.manifest_key(4), Some(4)),
        ("damaged_manifest", archive.manifest_key(5), Some(5)),
        ("damaged_manifest", archive.manifest_key(7), Some(7)),
        ("orphan_object", &beside, Some(6)),
        ("orphan_object", "video/elsewhere/video.mp4", None),
        ("orphan_manifest", "video/elsewhere/manifest.json", None),
    ]);
    let ended = archive.run(&["verify"]).await;
    assert_eq!((ended.code, findings(&ended)), (1, expected), "{ended:?}");
    assert_eq!(ended.stderr, "replyvault: damage was found\n");
    assert!(ended.stdout.ends_with("damage 10, repaired 0, could not be read 0\n"), "{ended:?}");
    // Nothing was touched, orphans least of all.
    let again = archive.run(&["verify"]).await;
    assert_eq!(findings(&again), findings(&ended));
    assert!(at(&beside).exists() && !at(archive.key(0)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_mends_what_it_can_and_reports_and_keeps_the_rest() {
    let archive = Archive::of(&[1000, LARGE, LARGE, 1000, 1000, 1000, 1000]).await;
    let at = |key: &str| archive.path(key);
    let manifest_before = manifest(&archive, 3);
    std::fs::remove_file(at(archive.key(0))).unwrap();
    std::fs::write(at(archive.key(1)), [0; 999]).unwrap();
    archive.flip_a_byte(2);
    std::fs::write(at(archive.manifest_key(3)), "").unwrap();
    std::fs::remove_file(at(archive.manifest_key(4))).unwrap();
    // One whose source has other bytes of the same number now, and whose manifest must not be written without it.
    std::fs::remove_file(at(archive.key(5))).unwrap();
    std::fs::remove_file(at(archive.manifest_key(5))).unwrap();
    archive.media.put("/5.mp4", mp4(99, 1000), "video/mp4");
    // One whose source is gone, and which is worth keeping as it is.
    archive.flip_a_byte(6);
    archive.media.put_after("/6.mp4", &[404], mp4(6, 1000), "video/mp4");
    let flipped = std::fs::read(at(archive.key(6))).unwrap();

    let ended = archive.run(&["verify", "--repair"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    for (kind, key) in [
        ("missing_object", archive.key(0)),
        ("wrong_size", archive.key(1)),
        ("wrong_digest", archive.key(2)),
        ("damaged_manifest", archive.manifest_key(3)),
        ("missing_manifest", archive.manifest_key(4)),
    ] {
        assert!(is_line_about(&ended, &format!("{kind} {key} "), "; repaired"), "{kind}: {ended:?}");
    }
    for (kind, key, why) in [
        ("missing_object", archive.key(5), "the source has other bytes now"),
        ("missing_manifest", archive.manifest_key(5), "which it names, is not there as it was stored"),
        ("wrong_digest", archive.key(6), "/6.mp4: "),
    ] {
        assert!(is_line_about(&ended, &format!("{kind} {key} "), "; cannot be repaired: "), "{kind}: {ended:?}");
        assert!(is_line_about(&ended, &format!("{kind} {key} "), why), "{kind}: {ended:?}");
    }
    assert!(ended.stdout.ends_with("damage 8, repaired 5, could not be read 0\n"), "{ended:?}");
    for (number, size) in [(0, 1000), (1, LARGE), (2, LARGE)] {
        assert!(std::fs::read(at(archive.key(number as usize))).unwrap() == mp4(number, size), "{number}");
    }
    assert_eq!(manifest(&archive, 3), manifest_before);
    assert!(std::fs::read(at(archive.key(6))).unwrap() == flipped && !at(archive.key(5)).exists());

    let again = archive.run(&["verify"]).await;
    let left = archive.expected(&[
        ("missing_object", archive.key(5), Some(5)),
        ("missing_manifest", archive.manifest_key(5), Some(5)),
        ("wrong_digest", archive.key(6), Some(6)),
    ]);
    assert_eq!((again.code, findings(&again)), (1, left), "{again:?}");

    archive.media.put("/5.mp4", mp4(5, 1000), "video/mp4");
    let mended = archive.run(&["verify", "--repair"]).await;
    assert!(mended.stdout.ends_with("damage 3, repaired 3, could not be read 0\n"), "{mended:?}");
    assert!(archive.run(&["verify"]).await.result().contains("damage 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_one_wrong_character_is_found_and_written_again() {
    let archive = Archive::of(&[1000; 4]).await;
    let before: Vec<_> = (0..4).map(|job| manifest(&archive, job)).collect();
    archive.change_manifest(0, "\"replyRef\": \"ref-0\"", "\"replyRef\": \"raf-0\"");
    // In the callback, which the state does not compare.
    archive.change_manifest(1, "statusFinal\":true", "statusFinaL\":true");
    archive.change_manifest(2, "\"digest\"", "\"digesu\"");
    archive.change_a_digit(3);
    let ended = archive.run(&["verify"]).await;
    let damaged = [0, 1, 2, 3].map(|job| ("damaged_manifest", archive.manifest_key(job), Some(job)));
    assert_eq!((ended.code, findings(&ended)), (1, archive.expected(&damaged)), "{ended:?}");
    assert!(ended.stdout.contains(": its digest is not that of its bytes\n"), "{ended:?}");
    let ended = archive.run(&["verify", "--repair"]).await;
    assert!(ended.stdout.ends_with("damage 4, repaired 4, could not be read 0\n"), "{ended:?}");
    assert!((0..4).map(|job| manifest(&archive, job)).eq(before));
    assert!(archive.run(&["verify"]).await.result().contains("damage 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_hashed_and_all_are_looked_for() {
    let archive = Archive::of(&[100; 40]).await;
    archive.flip_a_byte(7);
    let hashed = |ended: &Ended| -> usize {
        let (_, rest) = ended.stdout.split_once("40 index entries (").unwrap_or_else(|| panic!("{ended:?}"));
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let none = archive.run(&["verify", "--sample", "0%"]).await;
    assert_eq!((none.code, hashed(&none)), (0, 0), "{none:?}");
    let some = archive.run(&["verify", "--sample", "5%"]).await;
    assert!(hashed(&some) <= 12, "{some:?}");
    let all = archive.run(&["verify", "--sample", "100%"]).await;
    assert_eq!((all.code, hashed(&all)), (1, 40), "{all:?}");
    assert_eq!(findings(&all), archive.expected(&[("wrong_digest", archive.key(7), Some(7))]));
    // The size is looked at whatever the sample.
    std::fs::write(archive.path(archive.key(7)), "short").unwrap();
    let none = archive.run(&["verify", "--sample", "0%"]).await;
    assert_eq!(findings(&none), archive.expected(&[("wrong_size", archive.key(7), Some(7))]));
    for wrong in ["5", "101%", "-1%"] {
        let ended = archive.run(&["verify", &format!("--sample={wrong}")]).await;
        assert!(ended.line(2).contains("expected a share from 0% to 100%"), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_not_an_empty_one() {
    let s3 = S3Server::start().await;
    let (_archive, program) = s3_archive(&s3, &[1000; 3]).await;
    let ended = run(&program, &["verify"]).await;
    assert!(ended.result().contains("damage 0"), "{ended:?}");
    s3.break_with(503);
    let ended = run(&program, &["verify", "--repair"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(!ended.stdout.contains("missing") && ended.stdout.contains("damage 0, repaired 0"), "{ended:?}");
    assert!(ended.stdout.contains("\n6 unreadable\n"), "{ended:?}");
    assert!(ended.stdout.ends_with("could not be read 6; stopped before the end\n"), "{ended:?}");
    assert!(ended.stderr.starts_with("replyvault: the bucket could not be read: "), "{ended:?}");
    s3.break_with(0);
    assert!(run(&program, &["verify"]).await.result().contains("damage 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_says_what_it_has_found() {
    let s3 = S3Server::start().await;
    let (_archive, program) = s3_archive(&s3, &[1000; 3]).await;
    s3.break_with(503);
    let mut child = command(&program, &["verify"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let pid = rustix::process::Pid::from_child(&child);
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut text).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        (text, child.wait().unwrap())
    });
    let (text, status) = tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.starts_with("unreadable ") && text.ends_with("; stopped before the end\n"), "{text}");
}
