//! However much one sender names, one job costs what a job may cost, and nothing of it is lost in silence.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{PATIENCE, TOKEN, Vault};

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

/// Posts a job with 64 KiB of URLs from a host that nothing is fetched from, and returns its id.
async fn post_large_job(vault: &Vault, number: usize) -> String {
    let id = format!("p{number}-u2-a3-bot:minimax");
    let filler = "x".repeat(500);
    let attachments: Vec<_> =
        (1..=110).map(|place| attachment(place, &format!("https://elsewhere.example/{place}/{filler}"))).collect();
    let body = json!({"jobId": id, "status": "completed", "request": {"prompt": "p".repeat(8000), "replyRef": "many"},
        "response": {"attachments": attachments}});
    vault.callback(body).await;
    id
}

#[tokio::test]
async fn a_page_of_large_jobs_is_bounded_in_bytes_and_none_is_left_out() {
    const JOBS: usize = 40;
    const MOST: usize = 4 << 20;
    let vault = Vault::start().await;
    let mut ids = HashSet::new();
    for number in 1..=JOBS {
        ids.insert(post_large_job(&vault, number).await);
    }
    let (mut seen, mut pages, mut cursor) = (HashSet::new(), 0, String::new());
    loop {
        let path = format!("/api/v1/jobs?limit=200{cursor}");
        let answer = vault.client.get(vault.url(&path)).bearer_auth(TOKEN).send().await.unwrap().bytes().await.unwrap();
        assert!(answer.len() < MOST, "{}", answer.len());
        let page: Value = serde_json::from_slice(&answer).unwrap();
        for job in page["items"].as_array().unwrap() {
            assert!(seen.insert(job["jobId"].as_str().unwrap().to_owned()), "twice: {}", job["jobId"]);
        }
        pages += 1;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    assert!(pages > 1, "{pages}");
    let refs = vault.get("/api/v1/refs?replyRef=many").await.1;
    let id = refs["items"][0]["refId"].as_str().unwrap().to_owned();
    let shown = vault.get(&format!("/api/v1/refs/{id}")).await.1;
    assert_eq!(shown["moreJobs"], true);
    assert!(shown.to_string().len() < MOST && !shown["jobs"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_listener_that_stalls_hears_of_every_job_once_it_reads_again_as_the_job_then_is() {
    let vault = Vault::start().await;
    let address = vault.url("").strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = vec![0; 1 << 16];
    let mut length = 0;
    while !told[..length].ends_with(b":\n\n\r\n") {
        length += stream.read(&mut told[length..]).await.unwrap();
    }
    // It reads nothing while jobs come and change a hundred times each.
    let mut ids = HashMap::new();
    for number in 1..=8 {
        ids.insert(post_large_job(&vault, number).await, "");
    }
    // Each job is half a megabyte, and costs as much to show as to work on.
    let all_are_stuck = async {
        while vault.get("/api/v1/stats").await.1["jobs"]["stuck"] != ids.len() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(3 * PATIENCE, all_are_stuck).await.expect("all are given up");
    told.clear();
    let read = async {
        let mut piece = vec![0; 1 << 16];
        while ids.values().any(|state| *state != "stuck") {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "the stream ended");
            told.extend(piece[..read].iter().filter(|byte| **byte != b'\r'));
            while let Some(end) = told.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = told.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event).into_owned();
                // Lines of the transfer coding stand between.
                let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
                let Some(id) = data.split('"').nth(3).filter(|_| data.starts_with("{\"jobId\"")) else { continue };
                let state = if data.contains("\"state\":\"stuck\"") { "stuck" } else { "before" };
                *ids.get_mut(id).unwrap() = state;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("every job is told as it is in the end");
}
