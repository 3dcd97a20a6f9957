//! From callback to bucket, through the whole service.

mod attempts;
mod files;
mod objects;

use replyvault::simulator::{self, Simulator};
use serde_json::{Value, json};

use crate::support::media::{MediaServer, mp4, png};
use crate::support::s3::{S3Server, config};
use crate::support::vault::{Vault, completed, video_id, with_bucket};

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
    // Links belong to answers: they depend on who asks, and when.
    let mut job = job;
    job["assets"][0].as_object_mut().unwrap().remove("links");
    // Labels are the ref's.
    job.as_object_mut().unwrap().remove("labels");
    assert_eq!(manifest["job"], job);
    assert_eq!(vault.keys().await, ["video/2026/11/20/video-7/manifest.json", "video/2026/11/20/video-7/video.mp4"]);
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
