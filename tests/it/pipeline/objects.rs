//! What lies in the bucket: one object for the same bytes, folders and names that stay in their bounds.

use replyvault::bucket::KeyTemplate;
use serde_json::json;

use crate::support::media::{MediaServer, mp4, png};
use crate::support::s3::S3Server;
use crate::support::vault::{Vault, completed, video_id, with_bucket};

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
