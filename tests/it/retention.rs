//! Old segments of the journal move into the bucket, and nothing is lost by it, whatever is lost of the rest.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use replyvault::domain::{AssetId, Digest, FileName, JobId, MediaUrl, StoredFile, Timestamp, Variant};
use replyvault::intake::Intake;
use replyvault::journal::{Durability, Event};
use replyvault::repair::{RebuildError, RebuildProgress, Retention, open_event_log, rebuild};
use replyvault::state::EventLog;
use serde_json::{Value, json};

use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4};
use crate::support::s3::{Call, Fault, S3Server};
use crate::support::vault::{PATIENCE, Vault, completed, journal_keys, video_id, with_bucket};

/// A service that has one of everything: a job in each state, refs of both kinds, bodies in quarantine.
struct Full {
    vault: Vault,
    media: MediaServer,
}

impl Full {
    async fn of(vault: Vault) -> Self {
        let media = MediaServer::start();
        let url = |number: u64| media.put(&format!("/{number}.mp4"), mp4(number, 3000), "video/mp4");
        let (status, registered) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "boat"})).await;
        assert_eq!(status, 201, "{registered}");
        let (_, removed) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "gone"})).await;
        let removed = format!("/api/v1/refs/{}", removed["refId"].as_str().unwrap());
        assert_eq!(vault.send("DELETE", &removed, &json!(null)).await.0, 204);
        let mut over_ref = completed(1, &url(1));
        over_ref["replyRef"] = "boat".into();
        assert_eq!(vault.post(registered["replyUrl"].as_str().unwrap(), over_ref.to_string()).await.0, 200);
        vault.callback(completed(2, &url(2))).await;
        // The same bytes as the second.
        vault.callback(completed(3, &media.put("/3.mp4", mp4(2, 3000), "video/mp4"))).await;
        vault.callback(json!({"videoId": video_id(4), "status": 3, "replyRef": "four"})).await;
        vault.callback(json!({"videoId": video_id(5), "status": 1, "percent": 40, "replyRef": "five"})).await;
        vault.callback(completed(6, "http://192.0.2.1/refused.mp4")).await;
        assert_eq!(vault.post(&vault.channel_url(), r#"{"what":"is this"}"#).await.0, 202);
        for (number, state) in [(1, "archived"), (2, "archived"), (3, "archived"), (4, "failed"), (6, "stuck")] {
            vault.job_in(&video_id(number), &[state]).await;
        }
        Self { vault, media }
    }

    fn data(&self) -> PathBuf {
        self.vault.settings.data_dir.clone()
    }

    fn segments(&self) -> usize {
        std::fs::read_dir(self.data().join("journal")).unwrap().count()
    }

    fn segment_paths(&self) -> Vec<PathBuf> {
        let items = std::fs::read_dir(self.data().join("journal")).unwrap();
        let mut paths: Vec<_> = items.map(|item| item.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// Moves all that may go; nothing need be old for that.
    async fn move_segments(&self) -> usize {
        let running = self.vault.running();
        let log = running.intake().log().clone();
        Retention::new(log, Intake::parse_callback, Duration::ZERO).pass().await.unwrap()
    }

    async fn archived_segments(&self) -> Vec<String> {
        use futures_util::TryStreamExt;
        let folder = replyvault::bucket::ObjectFolder::journal();
        let objects: Vec<_> = self.vault.running().bucket().list(Some(&folder)).try_collect().await.unwrap();
        let mut keys: Vec<_> = objects.into_iter().map(|(key, _)| key.as_str().to_owned()).collect();
        keys.sort();
        keys
    }

    /// All that the API shows.
    async fn everything(&self) -> Value {
        let vault = &self.vault;
        let mut all = json!({});
        for list in ["jobs", "refs", "quarantine", "media"] {
            let (status, page) = vault.get(&format!("/api/v1/{list}?limit=200")).await;
            assert_eq!(status, 200, "{page}");
            all[list] = page["items"].clone();
        }
        for item in all["quarantine"].as_array_mut().unwrap() {
            let id = item["quarantineId"].as_str().unwrap().to_owned();
            *item = vault.get(&format!("/api/v1/quarantine/{id}")).await.1;
        }
        for item in all["refs"].as_array_mut().unwrap() {
            // It names the port, which is another after a restart.
            item.as_object_mut().unwrap().remove("replyUrl");
        }
        let (_, stats) = vault.get("/api/v1/stats").await;
        for number in ["jobs", "objects", "bytesStored", "bytesDeduplicated", "refs", "quarantined", "callbacks"] {
            all["stats"][number] = stats[number].clone();
        }
        all
    }

    fn fetched(&self) -> Vec<usize> {
        [1, 2, 3].map(|number| self.media.hits(&format!("/{number}.mp4"))).to_vec()
    }

    /// What is new is taken as before: a job goes on, a repeat is counted, an old body is looked at again.
    async fn goes_on(&self) {
        let vault = &self.vault;
        let url = self.media.put("/5.mp4", mp4(5, 3000), "video/mp4");
        vault.callback(json!({"videoId": video_id(5), "status": 2, "downloadURL": url, "replyRef": "five"})).await;
        let job = vault.archived(&video_id(5)).await;
        assert_eq!(job["callbacks"], 2, "{job:#}");
        let answer = vault.callback(completed(2, "http://192.0.2.1/late.mp4")).await;
        assert_eq!((&answer["state"], &answer["final"]), (&json!("archived"), &json!(true)));
        let (_, kept) = vault.get("/api/v1/quarantine").await;
        for id in kept["items"].as_array().unwrap().iter().map(|item| &item["quarantineId"]) {
            let path = format!("/api/v1/quarantine/{}/replay", id.as_str().unwrap());
            let (status, again) = vault.send("POST", &path, &json!(null)).await;
            assert_eq!((status.as_u16(), &again["quarantineId"]), (202, id));
        }
        let (status, retried) =
            vault.send("POST", &format!("/api/v1/jobs/{}/retry", video_id(6).replace(':', "%3A")), &json!(null)).await;
        assert_eq!(status, 202, "{retried}");
        let stuck = vault.job_in(&video_id(6), &["stuck"]).await;
        assert_eq!(stuck["reason"], "refused_by_policy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_moved_into_the_bucket_are_still_known() {
    let mut full = Full::of(Vault::start().await).await;
    let before = full.everything().await;
    assert!(full.move_segments().await > 0);
    assert_eq!(full.segments(), 1);
    assert_eq!(full.everything().await, before);
    // Nothing is left but what is needed, so nothing moves.
    assert_eq!(full.move_segments().await, 0);
    assert_eq!(full.archived_segments().await.len(), 1);
    full.vault.stop().await;
    std::fs::remove_dir_all(full.data().join("state")).unwrap();
    full.vault.start_again().await;
    assert_eq!(full.everything().await, before);
    assert_eq!(full.fetched(), [1, 1, 1]);
    full.goes_on().await;
    // Once more, with what was written again.
    let before = full.everything().await;
    assert!(full.move_segments().await > 0);
    assert_eq!((full.segments(), full.archived_segments().await.len()), (1, 3));
    full.vault.stop().await;
    std::fs::remove_dir_all(full.data().join("state")).unwrap();
    full.vault.start_again().await;
    assert_eq!(full.everything().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_moved_segments_the_manifests_tell_of_the_rest() {
    let mut full = Full::of(Vault::start().await).await;
    let before = full.everything().await;
    full.move_segments().await;
    full.vault.stop().await;
    std::fs::remove_dir_all(full.data().join("state")).unwrap();
    std::fs::remove_dir_all(full.vault.dir.path().join("bucket/_journal")).unwrap();
    full.vault.start_again().await;
    for number in [1, 2, 3, 4] {
        wait_for_job(&full.vault, number).await;
    }
    let mut after = full.everything().await;
    // The order in which manifests are found is any; when a callback came is not in them.
    let sorted = |all: &Value, list: &str| {
        let mut items = all[list].as_array().unwrap().clone();
        items.sort_by_key(ToString::to_string);
        items
    };
    for list in ["jobs", "refs"] {
        assert_eq!(sorted(&after, list), sorted(&before, list), "{list}");
    }
    // A body in quarantine is in the segment it came in and nowhere else.
    assert_eq!((&after["quarantine"], &after["stats"]["quarantined"]), (&json!([]), &json!(0)));
    let media = |all: &Value| {
        let media = all["media"].as_array().unwrap().iter();
        let mut media: Vec<_> = media.map(|item| (item["sha256"].to_string(), item["key"].to_string())).collect();
        media.sort();
        media
    };
    assert_eq!(media(&after), media(&before));
    for counted in ["callbacks", "quarantined"] {
        after["stats"][counted] = before["stats"][counted].clone();
    }
    assert_eq!(after["stats"], before["stats"]);
    assert_eq!(full.fetched(), [1, 1, 1]);
    full.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_made_anew_while_running_gets_from_manifests_what_lost_segments_told() {
    let full = Full::of(Vault::start().await).await;
    assert!(full.move_segments().await > 0);
    std::fs::remove_dir_all(full.vault.dir.path().join("bucket/_journal")).unwrap();
    let log = full.vault.running().intake().log().clone();
    assert!(log.start_over().await.unwrap().has_gaps());
    for number in [1, 2, 3, 4] {
        wait_for_job(&full.vault, number).await;
    }
    assert_eq!(full.fetched(), [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_whole_data_directory_lost_the_bucket_tells_what_there_was() {
    let mut full = Full::of(Vault::start().await).await;
    let before = full.everything().await;
    full.move_segments().await;
    // What came after the last move is in manifests only.
    full.vault.callback(completed(7, &full.media.put("/7.mp4", mp4(7, 3000), "video/mp4"))).await;
    let late = full.vault.archived(&video_id(7)).await;
    full.vault.stop().await;
    std::fs::remove_dir_all(full.data()).unwrap();
    // A service that starts with nothing does not get into the way of what is in the bucket.
    full.vault.start_again().await;
    full.vault.callback(json!({"videoId": video_id(8), "status": 1, "replyRef": "eight"})).await;
    let bucket = full.vault.running().bucket().clone();
    full.vault.stop().await;
    let progress = RebuildProgress::default();
    let rebuilt = rebuild(&full.data(), &bucket, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
    assert_eq!((rebuilt.segments, rebuilt.manifests), (1, 1), "{rebuilt:?}");
    let ((read, segments), looked_at) = (progress.journal().segments(), progress.manifests());
    assert!(read == segments && read >= 2 && progress.journal().bytes() > 0, "{progress:?}");
    assert!(looked_at.is_some_and(|(done, manifests)| done == manifests && done == 5), "{progress:?}");
    full.vault.start_again().await;
    for number in [1, 2, 3, 4, 6] {
        let id = video_id(number);
        let known = before["jobs"].as_array().unwrap().iter().find(|job| job["jobId"] == *id).unwrap();
        assert_eq!(full.vault.job(&id).await, *known);
    }
    assert_eq!(full.vault.job(&video_id(8)).await["state"], "running");
    let mut found = full.vault.job(&video_id(7)).await;
    // Its manifest has all but the query of its source.
    found["assets"][0]["sourceUrl"] = late["assets"][0]["sourceUrl"].clone();
    assert_eq!(found, late);
    assert_eq!(full.fetched(), [1, 1, 1]);
    // A body that is only in the bucket is looked at again all the same.
    let (_, kept) = full.vault.get("/api/v1/quarantine").await;
    let id = kept["items"][0]["quarantineId"].as_str().unwrap();
    let (status, again) = full.vault.send("POST", &format!("/api/v1/quarantine/{id}/replay"), &json!(null)).await;
    assert_eq!((status.as_u16(), &again["quarantineId"]), (202, &json!(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_was_cut_off_can_be_repeated_or_left_to_the_next_start() {
    let s3 = S3Server::start().await;
    let mut full = Full::of(Vault::start_with(with_bucket(s3.config("vault"))).await).await;
    let before = full.everything().await;
    assert!(full.move_segments().await > 0);
    // It is in a manifest only.
    full.vault.callback(completed(7, &full.media.put("/7.mp4", mp4(7, 3000), "video/mp4"))).await;
    full.vault.archived(&video_id(7)).await;
    let bucket = full.vault.running().bucket().clone();
    full.vault.stop().await;
    let refused = Arc::new(AtomicBool::new(false));
    s3.inject({
        let refused = refused.clone();
        move |call: &Call| {
            let is_manifest = call.method.as_str() == "GET" && call.path.ends_with("/manifest.json");
            let is_refused = is_manifest && refused.load(Ordering::Relaxed);
            is_refused.then_some(Fault::Refuse(403, "InvalidAccessKeyId", None))
        }
    });
    let boat = |all: &Value| {
        let mut refs = all["refs"].as_array().unwrap().iter();
        refs.find(|item| item["replyRef"] == "boat").cloned().unwrap()
    };
    for is_repeated in [true, false] {
        let (data, progress) = (full.data(), RebuildProgress::default());
        std::fs::remove_dir_all(&data).unwrap();
        refused.store(true, Ordering::Relaxed);
        let cut_off = rebuild(&data, &bucket, journal_keys(), Intake::parse_callback, &progress).await;
        assert!(matches!(cut_off, Err(RebuildError::Restore(_))), "{cut_off:?}");
        // A kill would have left less of the state.
        std::fs::remove_dir_all(data.join("state")).unwrap();
        std::fs::create_dir(data.join("state")).unwrap();
        refused.store(false, Ordering::Relaxed);
        if is_repeated {
            rebuild(&data, &bucket, journal_keys(), Intake::parse_callback, &progress).await.unwrap();
            assert!(!data.join("state.rebuild").exists());
        }
        full.vault.start_again().await;
        assert_eq!(boat(&full.everything().await), boat(&before), "{is_repeated}");
        assert_eq!(full.vault.job(&video_id(5)).await["state"], "running", "{is_repeated}");
        wait_for_job(&full.vault, 7).await;
        let ended = async {
            while data.join("state.rebuild").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, ended).await.is_ok(), "{is_repeated}");
        full.vault.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_cannot_be_read_callbacks_are_taken_and_the_rebuild_waits() {
    let s3 = S3Server::start().await;
    let mut full = Full::of(Vault::start_with(with_bucket(s3.config("vault"))).await).await;
    let before = full.everything().await;
    assert!(full.move_segments().await > 0);
    full.vault.stop().await;
    std::fs::remove_dir_all(full.data().join("state")).unwrap();
    s3.break_with(503);
    full.vault.start_without_waiting().await;
    let body = json!({"videoId": video_id(9), "status": 1, "replyRef": "nine"}).to_string();
    assert_eq!(full.vault.post(&full.vault.channel_url(), body).await.0, 200);
    assert_eq!(full.vault.get("/api/v1/stats").await.0, 503);
    s3.break_with(0);
    tokio::time::timeout(PATIENCE, full.vault.running().ready()).await.unwrap();
    assert_eq!(full.vault.job(&video_id(9)).await["state"], "running");
    let after = full.everything().await;
    assert_eq!(after["media"], before["media"]);
    assert_eq!(after["quarantine"], before["quarantine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_worked_on_is_carried_forward_and_holds_no_segment() {
    let mut full = Full::of(Vault::start().await).await;
    let gone = full.media.url("/not-there.mp4");
    full.vault.callback(completed(10, &gone)).await;
    full.vault.job_in(&video_id(10), &["archiving"]).await;
    assert!(full.move_segments().await > 0);
    assert_eq!(full.segments(), 1);
    // It goes on, whatever is left of what moved.
    full.vault.stop().await;
    std::fs::remove_dir_all(full.data().join("state")).unwrap();
    std::fs::remove_dir_all(full.vault.dir.path().join("bucket/_journal")).unwrap();
    full.vault.start_again().await;
    full.media.put("/not-there.mp4", mp4(10, 3000), "video/mp4");
    let job = full.vault.job_in(&video_id(10), &["archived", "stuck"]).await;
    assert_eq!(job["callbacks"], 1, "{job:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_quarantine_are_written_once_and_read_where_they_are() {
    let mut full = Full::of(Vault::start().await).await;
    let body = |number: u64| json!({"what": "is this", "number": number, "padding": "x".repeat(100_000)});
    for number in 0..10 {
        assert_eq!(full.vault.post(&full.vault.channel_url(), body(number).to_string()).await.0, 202);
    }
    let before = full.everything().await;
    for round in 0..3 {
        full.vault.callback(json!({"videoId": video_id(20 + round), "status": 1, "percent": 1})).await;
        assert!(full.move_segments().await > 0);
        let (_, stats) = full.vault.get("/api/v1/stats").await;
        assert!(stats["journalBytes"].as_u64().unwrap() < 100_000, "{stats}");
    }
    let ids: Vec<_> =
        before["quarantine"].as_array().unwrap().iter().map(|item| item["quarantineId"].clone()).collect();
    for round in 0..2 {
        assert_eq!(full.everything().await["quarantine"], before["quarantine"]);
        for id in &ids {
            let path = format!("/api/v1/quarantine/{}/replay", id.as_str().unwrap());
            let (status, again) = full.vault.send("POST", &path, &json!(null)).await;
            assert_eq!((status.as_u16(), &again["quarantineId"]), (202, id), "{again}");
        }
        if round == 0 {
            full.vault.stop().await;
            std::fs::remove_dir_all(full.data().join("state")).unwrap();
            full.vault.start_again().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_claims_and_uploads_are_carried_forward_and_hold_no_segment() {
    let mut vault = Vault::start().await;
    vault.callback(completed(1, "http://192.0.2.1/refused.mp4")).await;
    vault.job_in(&video_id(1), &["stuck"]).await;
    let bucket = vault.running().bucket().clone();
    vault.stop().await;
    // Nobody works on anything here, so what is open stays so.
    let data = vault.settings.data_dir.clone();
    let open = {
        let (data, bucket) = (data.clone(), bucket.clone());
        move || {
            let (data, bucket) = (data.clone(), bucket.clone());
            async move {
                let opening = move || open_event_log(&data, &bucket, journal_keys(), None, Intake::parse_callback);
                let log = tokio::task::spawn_blocking(opening).await.unwrap().unwrap();
                log.recovered().await.unwrap();
                log
            }
        }
    };
    let close = async |log: EventLog| tokio::task::spawn_blocking(move || log.close()).await.unwrap();
    let log = open().await;
    let (at, job, slot) = (Timestamp::now(), video_id(1).parse::<JobId>().unwrap(), AssetId::media());
    let file = StoredFile {
        file: FileName::clean("video.mp4"),
        sha256: Digest::of(b"bytes"),
        bytes: 5,
        content_type: "video/mp4".to_owned(),
        key: "video/1/video.mp4".to_owned(),
        deduplicated: false,
        url: MediaUrl::parse("http://192.0.2.1/refused.mp4").unwrap(),
        variant: Variant::Clean,
        at,
    };
    let upload = r#"{"key":"video/1/video.mp4","id":"an-upload","part_size":5}"#.to_owned();
    let parts = vec!["part-0".to_owned(), "part-1".to_owned()];
    let (first, point) = (0, "a point".to_owned());
    for event in [
        Event::Claimed { at, job: job.clone(), slot: slot.clone(), file },
        Event::UploadStarted { at, job: job.clone(), slot, upload: upload.clone() },
        Event::UploadAdvanced { at, upload, first, parts, bytes: 10, point },
    ] {
        log.record(event, Durability::Synced).await.unwrap();
    }
    let opened = |log: &EventLog| (log.state().claims().unwrap(), log.state().uploads_of(&job).unwrap());
    let before = opened(&log);
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    for round in 1..3 {
        log.record(Event::Retried { at, job: job.clone() }, Durability::Synced).await.unwrap();
        let moved = Retention::new(log.clone(), Intake::parse_callback, Duration::ZERO).pass().await.unwrap();
        assert!(moved > 0, "{round}");
        assert_eq!(opened(&log), before, "{round}");
    }
    close(log).await;
    std::fs::remove_dir_all(data.join("state")).unwrap();
    std::fs::remove_dir_all(vault.dir.path().join("bucket/_journal")).unwrap();
    let log = open().await;
    assert_eq!(opened(&log), before, "also without the segments that they stood in");
    close(log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_stays_here_and_those_behind_it_may_go() {
    let mut full = Full::of(Vault::start().await).await;
    // The last record is of nothing that is compared.
    full.vault.callback(json!({"videoId": video_id(5), "status": 1, "percent": 60, "replyRef": "five"})).await;
    full.vault.stop().await;
    let damaged = full.segment_paths()[0].clone();
    let mut bytes = std::fs::read(&damaged).unwrap();
    // In the middle of the last record's payload.
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    full.vault.start_again().await;
    let url = full.media.put("/7.mp4", mp4(7, 3000), "video/mp4");
    full.vault.callback(completed(7, &url)).await;
    full.vault.archived(&video_id(7)).await;
    assert_eq!(full.move_segments().await, 1);
    assert_eq!(std::fs::read(&damaged).unwrap(), bytes);
    let before = full.everything().await;
    full.vault.stop().await;
    std::fs::remove_dir_all(full.data().join("state")).unwrap();
    full.vault.start_again().await;
    let after = full.everything().await;
    assert_eq!((&after["refs"], &after["quarantine"]), (&before["refs"], &before["quarantine"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_was_written_to_while_the_clock_was_ahead_holds_up_none_behind_it() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut full = Full::of(Vault::start().await).await;
    full.vault.stop().await;
    full.vault.start_again().await;
    full.vault.callback(json!({"videoId": video_id(8), "status": 1})).await;
    assert!(full.segments() > 1);
    let oldest = full.segment_paths()[0].clone();
    std::fs::File::open(&oldest).unwrap().set_modified(SystemTime::now() + 365 * DAY).unwrap();
    // Soon after a start it may be the present clock that is wrong.
    let log = full.vault.running().intake().log().clone();
    assert_eq!(Retention::new(log, Intake::parse_callback, DAY).pass().await.unwrap(), 0);
    assert!(std::fs::metadata(&oldest).unwrap().modified().unwrap() > SystemTime::now() + 300 * DAY);
    assert!(full.move_segments().await > 0);
    assert_eq!(full.segments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_first_segments_header_loses_nothing_here_or_in_the_bucket() {
    for place in [3, 12, 20, 25, 29] {
        let mut full = Full::of(Vault::start().await).await;
        if place == 3 {
            assert!(full.move_segments().await > 0);
        }
        let before = full.everything().await;
        full.vault.stop().await;
        let first = full.segment_paths()[0].clone();
        let mut bytes = std::fs::read(&first).unwrap();
        bytes[place] ^= 0x10;
        bytes[4096 + place] ^= 0x01;
        std::fs::write(&first, &bytes).unwrap();
        std::fs::remove_dir_all(full.data().join("state")).unwrap();
        full.vault.start_again().await;
        assert_eq!(full.everything().await, before, "{place}");
        // What moves away with a damaged header is read there, too.
        full.move_segments().await;
        full.vault.stop().await;
        std::fs::remove_dir_all(full.data().join("state")).unwrap();
        full.vault.start_again().await;
        assert_eq!(full.everything().await, before, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_another_process_took_after_this_one_began_are_recorded_again() {
    let mut full = Full::of(Vault::start().await).await;
    full.vault.stop().await;
    let segment = full.segment_paths().last().unwrap().clone();
    full.vault.start_again().await;
    full.vault.callback(json!({"videoId": video_id(8), "status": 1})).await;
    full.vault.stop().await;
    // The other process had the segment open, and took twenty callbacks.
    let mut bytes = std::fs::read(&segment).unwrap();
    let salt = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
    for number in 20..40 {
        let body = json!({"videoId": video_id(number), "status": 1, "percent": 7}).to_string();
        let head = [&[1][..], &1_795_172_334_234_u64.to_le_bytes(), &[1], &u64::MAX.to_le_bytes(), &[7], b"minimax"];
        let payload = [head.concat(), body.into_bytes()].concat();
        let length = (payload.len() as u32).to_le_bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(salt, &length), &payload);
        bytes.extend([b"\xF5rv\xF6", &length, &checksum.to_le_bytes(), &payload[..]].concat());
    }
    std::fs::write(&segment, &bytes).unwrap();
    for _ in 0..2 {
        full.vault.start_again().await;
        for number in 20..40 {
            wait_for_job(&full.vault, number).await;
            assert_eq!(full.vault.job(&video_id(number)).await["percent"], 7);
        }
        assert_eq!(full.vault.job(&video_id(8)).await["state"], "running");
        full.vault.stop().await;
        // Also when the state is made anew.
        std::fs::remove_dir_all(full.data().join("state")).unwrap();
    }
}

/// The points of failure between a segment here and one in the bucket; their names are held against the source with
/// those of the worker.
pub(crate) const POINTS: &[&str] =
    &["retention.store", "retention.store.done", "retention.remove", "retention.remove.done"];

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_any_step_of_retention_changes_no_outcome() {
    for point in POINTS {
        let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
        let mut program = Program::new(dir.path());
        program.failure_points = format!("{point}=1*return");
        program.set("DATA__JOURNAL_RETENTION", "1s".to_owned());
        let process = program.start().await;
        let url = media.put("/1.mp4", mp4(1, 1000), "video/mp4");
        process.post_until_accepted(&completed(1, &url)).await;
        process.post_until_accepted(&json!({"videoId": video_id(2), "status": 1})).await;
        process.job_in(&video_id(1), "archived").await;
        let (here, there) = (program.dir.join("data/journal"), program.dir.join("bucket/_journal"));
        let count = |path: &PathBuf| std::fs::read_dir(path).map_or(0, Iterator::count);
        let moved = async {
            // On a slow disk more than one segment was begun meanwhile.
            while count(&here) != 1 || count(&there) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, moved).await.is_ok(), "{point}: {}", process.log());
        process.kill();
        drop(process);
        std::fs::remove_dir_all(program.dir.join("data/state")).unwrap();
        program.failure_points.clear();
        let process = program.start().await;
        for (number, state) in [(1, "archived"), (2, "running")] {
            let job = process.job_in(&video_id(number), state).await;
            assert_eq!(job["callbacks"], 1, "{point}: {job:#}");
        }
        assert_eq!(media.hits("/1.mp4"), 1, "{point}");
        assert_eq!(process.terminate().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_cannot_be_removed_holds_up_none_behind_it_and_is_written_again_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.failure_points = "journal.remove=return".to_owned();
    program.set("DATA__JOURNAL_RETENTION", "1s".to_owned());
    let process = program.start().await;
    let (here, there) = (program.dir.join("data/journal"), program.dir.join("bucket/_journal"));
    let names = |path: &PathBuf| {
        let items = std::fs::read_dir(path).into_iter().flatten();
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    process.post_until_accepted(&json!({"videoId": video_id(1), "status": 1})).await;
    let oldest = names(&here).into_iter().min().unwrap();
    for number in 1..=3 {
        process.post_until_accepted(&json!({"videoId": video_id(number), "status": 1, "percent": 1})).await;
        let moved = async {
            while names(&there).len() < number as usize {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, moved).await.is_ok(), "{number}: {}", process.log());
    }
    assert!(names(&here).contains(&oldest));
    // Some passes more: what was open of it is not recorded time and again.
    let warned = || process.log().matches("cannot be moved into the bucket yet").count();
    assert_eq!(warned(), 1, "{}", process.log());
    let bytes = async || process.get("/api/v1/stats").await.unwrap()["journalBytes"].as_u64().unwrap();
    let before = bytes().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = bytes().await;
    assert!(after < before + 500, "{before} bytes, then {after}");
    assert_eq!(process.terminate().await, Some(0));
}

async fn wait_for_job(vault: &Vault, number: u64) {
    let path = format!("/api/v1/jobs/{}", video_id(number).replace(':', "%3A"));
    let known = async {
        while vault.get(&path).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
}
