//! Jobs that the provider takes back after it has called them completed.

use serde_json::{Value, json};

use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{Vault, completed, video_id};

fn moderated(number: u64) -> Value {
    json!({"videoId": video_id(number), "status": 5, "statusLabel": "moderated", "statusFinal": true,
        "message": "against the rules", "replyRef": format!("ref-{number}")})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_job_that_is_called_moderated_ends_so_when_nothing_was_stored() {
    let media = MediaServer::start();
    let mut vault = Vault::start_with(|settings| settings.worker.max_attempts = 1).await;
    for (number, body) in [
        (1, completed(1, &media.url("/gone.mp4"))),
        (2, completed(2, "")),
        (3, completed(3, "https://elsewhere.example.com/v")),
    ] {
        vault.callback(body).await;
        vault.job_in(&video_id(number), &["stuck"]).await;
        vault.callback(moderated(number)).await;
        let job = vault.job_in(&video_id(number), &["failed"]).await;
        assert_eq!((&job["outcome"], &job["status"], &job["reason"]), (&json!("moderated"), &json!(5), &Value::Null));
        assert!(job["moderatedAt"].is_string(), "{job:#}");
        let manifest = vault.manifest(&job).await;
        assert_eq!((&manifest["job"]["outcome"], &manifest["callback"]["status"]), (&json!("moderated"), &json!(5)));
        // Said again, it is counted and nothing else.
        vault.callback(json!({"videoId": video_id(number), "status": 7})).await;
        assert_eq!(vault.job(&video_id(number)).await["outcome"], "moderated");
    }
    let before = vault.job(&video_id(1)).await;
    vault.stop().await;
    std::fs::remove_dir_all(vault.settings.data_dir.join("state")).unwrap();
    vault.start_again().await;
    assert_eq!(vault.job(&video_id(1)).await, before, "the journal tells the same");
    // An appeal that succeeds brings a link.
    let url = media.put("/appealed.mp4", mp4(1, 100), "video/mp4");
    vault.callback(completed(1, &url)).await;
    let job = vault.archived(&video_id(1)).await;
    assert_eq!((&job["outcome"], &job["moderatedAt"]), (&json!("completed"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_called_moderated_between_two_attempts_is_tried_once_more_and_ends() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.worker.max_attempts = 100).await;
    vault.callback(completed(1, &media.url("/gone.mp4"))).await;
    vault.callback(moderated(1)).await;
    assert_eq!(vault.job_in(&video_id(1), &["failed"]).await["outcome"], "moderated");

    // The links of another still work.
    let url = media.put_after("/there.mp4", &[503, 503, 503], mp4(2, 100), "video/mp4");
    vault.callback(completed(2, &url)).await;
    vault.callback(moderated(2)).await;
    let job = vault.archived(&video_id(2)).await;
    assert_eq!((&job["outcome"], job["moderatedAt"].is_string()), (&json!("completed"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_files_stay_and_moderated_at_is_shown() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let bytes = mp4(1, 100);
    vault.callback(completed(1, &media.put("/v.mp4", bytes.clone(), "video/mp4"))).await;
    assert_eq!(vault.archived(&video_id(1)).await["moderatedAt"], Value::Null);
    vault.callback(moderated(1)).await;
    let job = vault.job(&video_id(1)).await;
    assert_eq!((&job["state"], &job["outcome"], &job["status"]), (&json!("archived"), &json!("completed"), &json!(2)));
    assert!(job["moderatedAt"].is_string(), "{job:#}");
    vault.assert_stored(&job, &bytes).await;
}
