//! Many invented jobs, and how long the true ones wait.

use std::time::Duration;

use replyvault::simulator::Config;
use serde_json::json;

use super::Bench;
use crate::support::media::MediaServer;
use crate::support::vault::{PATIENCE, video_id};

fn question(id: &str) -> String {
    format!("/v1/minimax/videos/{id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_jobs_over_one_url_keep_those_over_another_waiting_for_few_questions() {
    const INVENTED: u64 = 100;
    let answers = MediaServer::start();
    let bench = Bench::with(Config::default(), |settings| {
        settings.reconcile.minute = Duration::from_millis(100);
        settings.provider.as_mut().unwrap().base_url = answers.url("").parse().unwrap();
    });
    let bench = bench.await;
    let (status, forger) = bench.vault.send("POST", "/api/v1/refs", &json!({"replyRef": "forger"})).await;
    assert_eq!(status, 201, "{forger}");
    for number in 1..=INVENTED {
        let path = question(&video_id(number));
        answers.put_after(&path, &[404; 100], "{}", "application/json");
        answers.delay(&path, Duration::from_secs(1));
        let body = json!({"videoId": video_id(number), "status": 1});
        let (status, answer) = bench.vault.post(forger["replyUrl"].as_str().unwrap(), body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
    }
    // One of the same account, and one of another.
    let truths = [video_id(1000), "user:1-minimax:5-video:1".to_owned()];
    for id in &truths {
        let truth = json!({"videoId": id, "status": 1});
        answers.put(&question(id), truth.to_string(), "application/json");
        bench.vault.callback(truth).await;
    }
    let hits = || (1..=INVENTED).map(|number| answers.hits(&question(&video_id(number)))).sum::<usize>();
    let before = hits();
    let asked = async {
        while truths.iter().any(|id| answers.hits(&question(id)) == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("they are not asked about");
    let waited_for = hits() - before;
    assert!(waited_for <= 8, "they wait for {waited_for} others");
}
