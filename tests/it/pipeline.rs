//! From callback to bucket, through the whole service.

use std::time::Duration;

use replyvault::bucket::KeyTemplate;
use replyvault::simulator::{self, Simulator};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::media::{MediaServer, mp4, png};
use crate::support::s3::{S3Server, config};
use crate::support::vault::{TOKEN, Vault, completed, video_id, with_bucket};

/// A morning's work at the provider, and whether the bucket then holds exactly what it made.
async fn archives_what_the_provider_makes(vault: &Vault, faults: &str) {
    let simulator =
        Simulator::start(simulator::Config { faults: faults.parse().unwrap(), ..Default::default() }).await.unwrap();
    let call = |path: &str, mut body: Value| {
        body["replyUrl"] = vault.channel_url().into();
        vault.client.post(format!("{}/v1/minimax/{path}", simulator.base_url())).bearer_auth("x").json(&body).send()
    };
    for number in 0..6 {
        call("videos/create", json!({"prompt": "a boat", "replyRef": format!("boat-{number}")})).await.unwrap();
    }
    call("videos/create", json!({"prompt": "size=3MiB", "replyRef": "big"})).await.unwrap();
    call("images/create", json!({"prompt": "a kettle", "quantity": 4, "replyRef": "batch"})).await.unwrap();
    let models = "hailuo-2.3,nano-banana-2,minimax-music-2.0";
    call("agent", json!({"prompt": "rain", "models": models, "async": "true", "replyRef": "kit"})).await.unwrap();
    simulator.idle().await;
    let truth = simulator.truth();
    assert_eq!(truth.len(), 12);
    for expected in &truth {
        let end = if expected.outcome == simulator::Outcome::Completed { "archived" } else { "failed" };
        let job = vault.job_in(expected.job_id.as_str(), &[end]).await;
        assert_eq!(job["replyRef"].as_str(), expected.reply_ref.as_deref());
        let mut wanted: Vec<_> = expected.files.iter().map(|file| file.sha256.to_string()).collect();
        let mut found = Vec::new();
        for asset in job["assets"].as_array().unwrap() {
            let bytes = vault.object(asset["key"].as_str().unwrap()).await;
            found.push(replyvault::domain::Digest::of(&bytes).to_string());
        }
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "{job:#}");
        assert_eq!(vault.manifest(&job).await["job"]["state"], end);
    }
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_ends_up_with_what_the_provider_made() {
    archives_what_the_provider_makes(&Vault::start().await, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_up_with_what_the_provider_made() {
    archives_what_the_provider_makes(&Vault::start_with(with_bucket(config("memory:"))).await, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_ends_up_with_what_the_provider_made() {
    let s3 = S3Server::start().await;
    archives_what_the_provider_makes(&Vault::start_with(with_bucket(s3.config("some/prefix"))).await, "").await;
    assert_eq!(s3.unfinished_uploads().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn disorder_repeats_failures_and_a_bad_cdn_make_no_difference() {
    let vault = Vault::start_with(|settings| settings.worker.max_attempts = 12).await;
    archives_what_the_provider_makes(
        &vault,
        "disorder=0.5,repeat=0.5,fail=0.1,moderate=0.1,cdn-500=0.2,cdn-short=0.1,cdn-html=0.1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_holds_the_job_and_the_callback_as_it_came_without_its_secrets() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let bytes = mp4(1, 1000);
    let url = media.put("/a/boat.mp4", bytes.clone(), "text/plain");
    let body = format!(
        r#"{{"videoId":"{}","status":2,"downloadURL":"{url}?Signature=SECRET","userID":923847293472394001,"x":1.50,
        "replyUrl":"{}","replyRef":"boat","createTime":1795172334234,"desc":"a boat"}}"#,
        video_id(7),
        vault.channel_url()
    );
    vault.post(&vault.channel_url(), body).await;
    let job = vault.archived(&video_id(7)).await;
    vault.assert_stored(&job, &bytes).await;
    assert_eq!(job["manifestKey"], "video/2026/11/20/video-7/manifest.json");
    assert_eq!(job["assets"][0]["key"], "video/2026/11/20/video-7/video.mp4");
    let asset = &job["assets"][0];
    assert_eq!(
        json!([
            asset["role"],
            asset["variant"],
            asset["sourceUrl"],
            asset["contentType"],
            asset["deduplicated"],
            asset["lastError"]
        ]),
        json!(["media", "clean", format!("{url}?…"), "video/mp4", false, null])
    );
    let raw = String::from_utf8(vault.object("video/2026/11/20/video-7/manifest.json").await).unwrap();
    assert!(raw.contains("\"userID\":923847293472394001,\"x\":1.50"), "{raw}");
    assert!(!raw.contains("SECRET") && !raw.contains(vault.channel_url().rsplit('/').next().unwrap()));
    let manifest = vault.manifest(&job).await;
    assert_eq!(manifest["schema"], "replyvault/manifest/v1");
    assert_eq!(manifest["job"], job);
    assert_eq!(vault.keys().await, ["video/2026/11/20/video-7/manifest.json", "video/2026/11/20/video-7/video.mp4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_one_object_however_many_jobs_want_them_at_once() {
    let media = MediaServer::start();
    let s3 = S3Server::start().await;
    let vault = Vault::start_with(with_bucket(s3.config(""))).await;
    for (base, size) in [(100, 5000), (200, 6 << 20)] {
        let bytes = mp4(base, size);
        for number in base..base + 8 {
            let url = media.put(&format!("/{number}.mp4"), bytes.clone(), "video/mp4");
            vault.callback(completed(number, &url)).await;
        }
        let mut keys = Vec::new();
        for number in base..base + 8 {
            let job = vault.archived(&video_id(number)).await;
            vault.assert_stored(&job, &bytes).await;
            keys.push((job["assets"][0]["key"].clone(), job["assets"][0]["deduplicated"].clone()));
        }
        assert_eq!(keys.iter().filter(|(_, deduplicated)| *deduplicated == false).count(), 1);
        assert!(keys.iter().all(|(key, _)| *key == keys[0].0));
    }
    let objects = vault.keys().await.into_iter().filter(|key| key.ends_with(".mp4")).count();
    assert_eq!((objects, s3.unfinished_uploads().len()), (2, 0));
    let stats = vault.get("/api/v1/stats").await.1;
    assert_eq!(stats["objects"], 2);
    assert_eq!(stats["bytesDeduplicated"], 7 * (mp4(0, 5000).len() + mp4(0, 6 << 20).len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_went_missing_is_stored_again_under_its_key() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    for (number, size) in [(1, 1000), (3, 3 << 20)] {
        let bytes = mp4(number, size);
        let url = media.put(&format!("/{number}.mp4"), bytes.clone(), "video/mp4");
        vault.callback(completed(number, &url)).await;
        let first = vault.archived(&video_id(number)).await;
        let key = first["assets"][0]["key"].as_str().unwrap();
        std::fs::remove_file(vault.dir.path().join("bucket").join(key)).unwrap();
        vault.callback(completed(number + 1, &url)).await;
        let second = vault.archived(&video_id(number + 1)).await;
        assert_eq!(second["assets"][0]["key"], key);
        vault.assert_stored(&second, &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_that_want_the_same_folder_get_two() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let ids = ["user:1-minimax:2-video:5", "user:9-minimax:9-video:5"];
    for (index, id) in ids.iter().enumerate() {
        let url = media.put(&format!("/{index}.mp4"), mp4(index as u64, 50), "video/mp4");
        vault.callback(json!({"videoId": id, "status": 2, "videoURL": url, "createTime": 1_795_172_334_234u64})).await;
        vault.archived(id).await;
    }
    let suffix = &replyvault::domain::Digest::of(ids[1].as_bytes()).to_string()[..8];
    let keys = vault.keys().await;
    assert!(keys.contains(&"video/2026/11/20/video-5/video.mp4".to_owned()), "{keys:?}");
    assert!(keys.contains(&format!("video/2026/11/20/video-5-{suffix}/video.mp4")), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_file_names_stay_in_the_jobs_folder() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| {
        settings.worker.key = "{kind}/{ref}/{job}/{file}".parse::<KeyTemplate>().unwrap();
    })
    .await;
    let long = "x".repeat(900);
    let names =
        ["../../../etc/passwd", "a\u{0}b.mp4", "🌧️.mp4", &long, "rain.mp4", "rain.mp4", "", "manifest.json", "con.mp4"];
    let attachments: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let url = media.put(&format!("/{index}"), mp4(index as u64, 60), "application/octet-stream");
            json!({"attachmentID": format!("a{index}"), "status": 3, "file": {"fileName": name, "fileUrl": url}})
        })
        .collect();
    let id = "p77-u1-a2-bot:minimax";
    vault
        .callback(json!({"jobId": id, "status": "completed", "request": {"replyRef": "../../../../x/✓"},
        "response": {"attachments": attachments}}))
        .await;
    let job = vault.archived(id).await;
    let files: Vec<_> = job["assets"].as_array().unwrap().iter().map(|asset| asset["file"].as_str().unwrap()).collect();
    assert_eq!(files[0], "01-passwd.mp4");
    assert_eq!((files[4], files[5]), ("05-rain.mp4", "06-rain.mp4"));
    let keys = vault.keys().await;
    assert_eq!(keys.len(), names.len() + 1);
    for key in keys {
        assert!(
            key.starts_with("agent/") && key.contains("/agent-p77/") && key.len() <= 512 && key.is_ascii(),
            "{key}"
        );
        assert!(!key.split('/').any(|part| part.is_empty() || part == ".." || part == "."), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_stuck_and_says_why() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let gone = media.url("/gone.mp4");
    let html = media.put("/page.mp4", "<!doctype html><html><body>busy</body></html>", "video/mp4");
    let cut = media.put("/cut.mp4", mp4(9, 1000)[..500].to_vec(), "video/mp4");
    for (number, url, reason, error) in [
        (1, "", "no_media_url", ""),
        (2, "not a url", "refused_by_policy", "http"),
        (3, "https://evil.example.com/v.mp4?token=SECRET", "refused_by_policy", "evil.example.com"),
        (4, "http://169.254.169.254/latest/meta-data", "refused_by_policy", "169.254.169.254"),
        (5, gone.as_str(), "attempts_exhausted", "404"),
        (6, html.as_str(), "attempts_exhausted", "text/html"),
        (7, cut.as_str(), "attempts_exhausted", "cut short"),
    ] {
        vault.callback(json!({"videoId": video_id(number), "status": 2, "videoURL": url})).await;
        let job = vault.job_in(&video_id(number), &["stuck"]).await;
        assert_eq!(job["reason"], reason, "{job:#}");
        let shown = job["assets"][0]["lastError"].as_str().unwrap_or_default();
        assert!(shown.contains(error) && !job.to_string().contains("SECRET"), "{job:#}");
        assert_eq!(job["manifestKey"], Value::Null);
    }
    assert_eq!(vault.keys().await, Vec::<String>::new());
    assert_eq!(media.hits("/gone.mp4"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_job_moves_on_when_asked_or_when_a_callback_brings_another_url() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.worker.max_attempts = 1).await;
    for number in [1, 2] {
        vault.callback(completed(number, &media.url(&format!("/{number}.mp4")))).await;
        vault.job_in(&video_id(number), &["stuck"]).await;
    }
    let bytes = mp4(1, 100);
    media.put("/1.mp4", bytes.clone(), "video/mp4");
    let retry = vault.client.post(vault.url(&format!("/api/v1/jobs/{}/retry", video_id(1)))).bearer_auth(TOKEN);
    assert_eq!(retry.send().await.unwrap().status(), StatusCode::ACCEPTED);
    vault.assert_stored(&vault.archived(&video_id(1)).await, &bytes).await;
    let fresh = media.put("/fresh.mp4", mp4(2, 100), "video/mp4");
    vault.callback(completed(2, &fresh)).await;
    vault.assert_stored(&vault.archived(&video_id(2)).await, &mp4(2, 100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_errors_are_tried_again() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let bytes = mp4(1, 100);
    let url = media.put_after("/v.mp4", &[500, 503], bytes.clone(), "video/mp4");
    vault.callback(completed(1, &url)).await;
    let job = vault.archived(&video_id(1)).await;
    vault.assert_stored(&job, &bytes).await;
    assert_eq!((&job["assets"][0]["attempts"], media.hits("/v.mp4")), (&json!(2), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_about_to_die_go_first_and_are_counted() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.worker.concurrency = 1).await;
    // One that takes a while, so that the others wait together.
    media.put("/0.mp4", mp4(0, 100), "video/mp4");
    media.delay("/0.mp4", Duration::from_secs(2));
    vault.callback(completed(0, &media.url("/0.mp4"))).await;
    while media.hits("/0.mp4") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let now = replyvault::domain::Timestamp::now().millis() / 1000;
    let links = [(1, String::new()), (2, format!("?Expires={}", now + 86_400)), (3, format!("?Expires={}", now + 600))];
    for (number, query) in &links {
        let url = media.put(&format!("/{number}.mp4"), mp4(*number, 100), "video/mp4");
        vault.callback(completed(*number, &format!("{url}{query}"))).await;
    }
    assert_eq!(vault.get("/api/v1/stats").await.1["expiringWithinHour"], 1);
    let mut order = Vec::new();
    for number in 1..=3 {
        let job = vault.archived(&video_id(number)).await;
        order.push((job["assets"][0]["storedAt"].as_str().unwrap().to_owned(), number));
    }
    order.sort();
    assert_eq!(order.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [3, 1, 2]);
    assert_eq!(vault.get("/api/v1/stats").await.1["expiringWithinHour"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clean_file_is_preferred_and_another_is_better_than_none() {
    let media = MediaServer::start();
    let clean = media.put("/clean.mp4", mp4(1, 100), "video/mp4");
    let other = media.put("/other.mp4", mp4(2, 100), "video/mp4");
    let vault = Vault::start().await;
    let both = |number: u64, download: &str| json!({"videoId": video_id(number), "status": 2, "downloadURL": download, "videoURL": other});
    vault.callback(both(1, &clean)).await;
    assert_eq!(vault.archived(&video_id(1)).await["assets"][0]["variant"], "clean");
    vault.callback(both(2, "https://elsewhere.example.com/v.mp4")).await;
    let job = vault.archived(&video_id(2)).await;
    assert_eq!((&job["assets"][0]["variant"], &job["assets"][0]["attempts"]), (&json!("unknown"), &json!(0)));
    vault.callback(both(3, &media.url("/gone.mp4"))).await;
    assert_eq!(vault.archived(&video_id(3)).await["assets"][0]["sourceUrl"], other);

    let strict = Vault::start_with(|settings| settings.worker.clean_only = true).await;
    strict.callback(json!({"videoId": video_id(1), "status": 2, "videoURL": other})).await;
    let job = strict.job_in(&video_id(1), &["stuck"]).await;
    assert_eq!((&job["reason"], &job["assets"][0]["variant"]), (&json!("no_clean_url"), &json!("unknown")));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_may_answer_in_words_and_files_may_still_be_in_the_making() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let words = "p1-u1-a2-bot:minimax";
    vault.callback(json!({"jobId": words, "status": "completed", "response": {"msg_content": "just words"}})).await;
    let job = vault.archived(words).await;
    assert_eq!(
        (&job["assets"], &job["message"], &job["status"]),
        (&json!([]), &json!("just words"), &json!("completed"))
    );

    let id = "p2-u1-a2-bot:minimax";
    let ready = media.put("/ready.png", png(1), "image/png");
    let attachment = |status: u8, url: &str| json!({"attachmentID": format!("a{url}"), "status": status, "file": {"fileName": "x.png", "fileUrl": url}});
    let answer = |items: Vec<Value>| json!({"jobId": id, "status": "completed", "response": {"attachments": items}});
    let mut late = attachment(2, "");
    late["attachmentID"] = "late".into();
    vault.callback(answer(vec![attachment(3, &ready), late.clone()])).await;
    let job = vault.job_in(id, &["stuck"]).await;
    assert_eq!((&job["reason"], &job["assets"][0]["state"]), (&json!("still_processing"), &json!("stored")));
    assert_eq!(vault.manifest(&job).await["job"]["state"], "stuck", "some of its files are stored");
    late["status"] = 3.into();
    late["file"]["fileUrl"] = media.put("/late.png", png(2), "image/png").into();
    vault.callback(answer(vec![attachment(3, &ready), late])).await;
    let job = vault.archived(id).await;
    assert_eq!(vault.manifest(&job).await["job"]["state"], "archived", "it is replaced");
    assert_eq!(media.hits("/ready.png"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_and_types_follow_the_bytes() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let url = media.put("/v.mp4", png(1), "video/mp4");
    vault.callback(completed(1, &url)).await;
    let asset = &vault.archived(&video_id(1)).await["assets"][0];
    assert_eq!((&asset["file"], &asset["contentType"]), (&json!("video.png"), &json!("image/png")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_are_kept_when_asked_for() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.intake.sidecars = true).await;
    let video = media.put("/v.mp4", mp4(1, 100), "video/mp4");
    let cover = media.put("/c.jpg", png(1), "image/jpeg");
    vault.callback(json!({"videoId": video_id(1), "status": 2, "videoURL": video, "coverURL": cover})).await;
    let job = vault.archived(&video_id(1)).await;
    let files: Vec<_> =
        job["assets"].as_array().unwrap().iter().map(|asset| (asset["role"].clone(), asset["file"].clone())).collect();
    assert_eq!(files, [(json!("media"), json!("video.mp4")), (json!("poster"), json!("poster.png"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appeal_that_succeeds_is_archived_and_an_archived_job_stays_so() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    vault.callback(json!({"videoId": video_id(1), "status": 5, "message": "no"})).await;
    let job = vault.job_in(&video_id(1), &["failed"]).await;
    assert_eq!((&job["outcome"], &vault.manifest(&job).await["job"]["state"]), (&json!("moderated"), &json!("failed")));
    vault.callback(completed(1, &media.put("/v.mp4", mp4(1, 100), "video/mp4"))).await;
    let job = vault.archived(&video_id(1)).await;
    assert_eq!(
        (&job["outcome"], &vault.manifest(&job).await["job"]["state"]),
        (&json!("completed"), &json!("archived"))
    );
    vault.callback(json!({"videoId": video_id(1), "status": 3})).await;
    let job = vault.job(&video_id(1)).await;
    assert_eq!(
        (&job["state"], &job["outcome"], &job["callbacks"]),
        (&json!("archived"), &json!("completed"), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_fails_uses_up_no_attempts() {
    let media = MediaServer::start();
    let s3 = S3Server::start().await;
    let vault = Vault::start_with(|settings| {
        settings.bucket = s3.config("");
        settings.worker.max_attempts = 1;
    })
    .await;
    s3.break_with(503);
    let bytes = mp4(1, 100);
    vault.callback(completed(1, &media.put("/v.mp4", bytes.clone(), "video/mp4"))).await;
    let outage = async {
        while vault.job(&video_id(1)).await["assets"][0]["lastError"].is_null() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::vault::PATIENCE, outage).await.unwrap();
    s3.break_with(0);
    let job = vault.archived(&video_id(1)).await;
    vault.assert_stored(&job, &bytes).await;
    assert_eq!(job["assets"][0]["attempts"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_what_runs_to_be_taken_up_again() {
    let media = MediaServer::start();
    let mut vault = Vault::start_with(|settings| settings.shutdown_grace = Duration::from_secs(1)).await;
    let bytes = mp4(1, 100);
    let url = media.put("/v.mp4", bytes.clone(), "video/mp4");
    media.delay("/v.mp4", Duration::from_secs(5));
    vault.callback(completed(1, &url)).await;
    while media.hits("/v.mp4") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    vault.stop().await;
    media.delay("/v.mp4", Duration::ZERO);
    vault.start_again().await;
    let job = vault.archived(&video_id(1)).await;
    vault.assert_stored(&job, &bytes).await;
    assert_eq!(job["assets"][0]["attempts"], 0);
}
