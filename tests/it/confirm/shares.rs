//! Many forged ends, and how long the true ones wait.

use super::*;
use crate::support::vault::completed;

/// As many different forged ends as a test wants, each of which takes the provider `delay` to know nothing of.
async fn forge(vault: &Vault, answers: &MediaServer, url: &str, count: u64, delay: Duration) {
    for number in 1..=count {
        answers.put_after(&question(number), &[404; 1000], "{}", "application/json");
        answers.delay(&question(number), delay);
        let body = json!({"videoId": video_id(number), "status": 3});
        assert_eq!(vault.post(url, body.to_string()).await.0, 200);
    }
}

/// Waits for the question at `path`. Returns how many of the `forged` ends were asked about meanwhile.
async fn asked_before(answers: &MediaServer, path: &str, forged: u64) -> usize {
    let hits = || (1..=forged).map(|number| answers.hits(&question(number))).sum::<usize>();
    let before = hits();
    let asked = async {
        while answers.hits(path) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it is not asked about");
    hits() - before
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_ends_over_one_url_keep_those_over_another_waiting_for_few_questions() {
    /// More than are looked at together.
    const FORGED: u64 = 300;
    let (answers, media) = (MediaServer::start(), MediaServer::start());
    let vault = with_answers(&answers).await;
    let (status, forger) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "forger"})).await;
    assert_eq!(status, 201, "{forger}");
    forge(&vault, &answers, forger["replyUrl"].as_str().unwrap(), FORGED, Duration::from_secs(1)).await;
    let truth = completed(1000, &media.put("/v.mp4", mp4(1, 100), "video/mp4"));
    answers.put(&question(1000), truth.to_string(), "application/json");
    vault.callback(truth).await;
    let before = asked_before(&answers, &question(1000), FORGED).await;
    assert!(before <= 8, "it waits for {before} others");
    vault.archived(&video_id(1000)).await;
    assert_eq!(vault.job(&video_id(1)).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_one_account_take_no_place_from_those_about_another() {
    const FORGED: u64 = 12;
    let (answers, media) = (MediaServer::start(), MediaServer::start());
    let vault = with_answers(&answers).await;
    forge(&vault, &answers, &vault.channel_url(), FORGED, Duration::from_secs(2)).await;
    let id = "user:1-minimax:5-video:1";
    let mut truth = completed(1000, &media.put("/v.mp4", mp4(1, 100), "video/mp4"));
    truth["videoId"] = id.into();
    let path = format!("/v1/minimax/videos/{id}");
    answers.put(&path, truth.to_string(), "application/json");
    vault.callback(truth).await;
    let before = asked_before(&answers, &path, FORGED).await;
    assert!(before <= 1, "it waits for {before} others");
    vault.archived(id).await;
}
