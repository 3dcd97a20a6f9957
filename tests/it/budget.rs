//! However much one sender names, one job costs what a job may cost, and nothing of it is lost in silence.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::media::{MediaServer, mp4};
use crate::support::vault::Vault;

const JOB: &str = "p1-u2-a3-bot:minimax";

fn attachment(place: usize, url: &str) -> Value {
    json!({"attachmentID": format!("a{place}"), "file": {"fileName": "f.mp4", "fileUrl": url}})
}

fn agent_job(attachments: &[Value]) -> Value {
    json!({"jobId": JOB, "status": "completed", "response": {"attachments": attachments}})
}

#[tokio::test]
async fn of_4096_files_of_one_job_the_first_256_are_archived_and_the_body_is_quarantined() {
    let (vault, media) = (Vault::start().await, MediaServer::start());
    let url = media.put("/f.mp4", mp4(1, 300), "video/mp4");
    let attachments: Vec<_> = (1..=4096).map(|place| attachment(place, &format!("{url}?{place:0100}"))).collect();
    let body = agent_job(&attachments).to_string();
    assert!(body.len() > 700_000, "{}", body.len());
    let (status, answer) = vault.post(&vault.channel_url(), body.clone()).await;
    assert_eq!((status, &answer["final"], &answer["reason"]), (StatusCode::OK, &json!(true), &json!("over_budget")));
    let kept = vault.get(&format!("/api/v1/quarantine/{}", answer["quarantineId"].as_str().unwrap())).await.1;
    assert_eq!(
        (&kept["jobId"], &kept["bytes"], &kept["reason"]),
        (&json!(JOB), &json!(body.len()), &json!("over_budget"))
    );
    assert_eq!(kept["body"]["response"]["attachments"].as_array().unwrap().len(), 4096);

    let job = vault.archived(JOB).await;
    assert!(job["leftOut"].as_u64().unwrap() >= 4096 - 256, "{}", job["leftOut"]);
    let names: Vec<_> = job["assets"].as_array().unwrap().iter().map(|asset| asset["file"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0], names[255]), (256, "01-f.mp4", "256-f.mp4"));
    assert_eq!(vault.manifest(&job).await["job"]["leftOut"], job["leftOut"]);
    // Looked at again it names no less.
    let path = format!("/api/v1/quarantine/{}/replay", answer["quarantineId"].as_str().unwrap());
    vault.send("POST", &path, &Value::Null).await;
    assert_eq!(vault.job(JOB).await["assets"].as_array().unwrap().len(), 256);
}

#[tokio::test]
async fn a_job_grown_by_48_callbacks_is_archived_with_256_files_and_the_rest_is_quarantined() {
    let (vault, media) = (Vault::start().await, MediaServer::start());
    let url = media.put_after("/f.mp4", &[503; 30], mp4(1, 300), "video/mp4");
    let mut over = 0;
    for callback in 0..48 {
        let attachments: Vec<_> = (0..48).map(|file| attachment(callback * 48 + file + 1, &url)).collect();
        let answer = vault.callback(agent_job(&attachments)).await;
        over += u64::from(answer["reason"] == "over_budget");
    }
    assert!(over >= 42, "{over}");
    assert_eq!(vault.get("/api/v1/quarantine?limit=200").await.1["items"].as_array().unwrap().len() as u64, over);
    let job = vault.job(JOB).await;
    assert_eq!((job["assets"].as_array().unwrap().len(), &job["leftOut"]), (256, &json!(48)));
}

#[tokio::test]
async fn an_honest_job_shows_nothing_of_budgets() {
    let (vault, media) = (Vault::start().await, MediaServer::start());
    let url = media.put("/f.mp4", mp4(1, 300), "video/mp4");
    let attachments: Vec<_> = (1..=40).map(|place| attachment(place, &format!("{url}?{place}"))).collect();
    let answer = vault.callback(agent_job(&attachments)).await;
    assert_eq!((&answer["reason"], &answer["quarantineId"]), (&Value::Null, &Value::Null));
    let job = vault.archived(JOB).await;
    assert_eq!((job["assets"].as_array().unwrap().len(), job.get("leftOut")), (40, None));
    assert!(job["assets"].as_array().unwrap().iter().all(|asset| asset["state"] == "stored"));
}
