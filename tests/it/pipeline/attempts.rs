//! What is tried, in which order, how often, and what comes of it.

use std::io::{Read, Write};
use std::time::Duration;

use replyvault::domain::{AssetId, AttemptFailure, Timestamp};
use replyvault::journal::{Durability, Event};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::media::{MediaServer, mp4, png};
use crate::support::s3::S3Server;
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_file_cannot_be_had_is_stuck_with_the_reason() {
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
async fn a_link_that_comes_while_the_last_attempt_is_made_is_tried() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.worker.max_attempts = 1).await;
    let old = media.put_after("/old.mp4", &[404], mp4(1, 100), "video/mp4");
    media.delay("/old.mp4", Duration::from_secs(1));
    vault.callback(completed(1, &old)).await;
    while media.hits("/old.mp4") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bytes = mp4(2, 100);
    vault.callback(completed(1, &media.put("/fresh.mp4", bytes.clone(), "video/mp4"))).await;
    vault.assert_stored(&vault.archived(&video_id(1)).await, &bytes).await;
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
async fn an_attempt_put_off_by_a_clock_that_was_a_month_ahead_is_made_now() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.worker.max_attempts = 9).await;
    vault.callback(completed(1, &media.url("/v.mp4"))).await;
    let failed = async {
        while vault.job(&video_id(1)).await["assets"][0]["lastError"].is_null() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    let now = Timestamp::now();
    let failure = AttemptFailure { error: "503".to_owned(), counted: true, stuck: None };
    let due = now.after(Duration::from_secs(30 * 24 * 3600));
    let (job, slot) = (video_id(1).parse().unwrap(), AssetId::media());
    let event = Event::AttemptFailed { at: now, job, slot, failure, renewals: None, due };
    vault.running().intake().log().record(event, Durability::Buffered).await.unwrap();
    let bytes = mp4(1, 100);
    media.put("/v.mp4", bytes.clone(), "video/mp4");
    vault.assert_stored(&vault.archived(&video_id(1)).await, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_closes_before_any_answer_costs_no_attempt() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // One answer for each connection, which then looks as if it were kept.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || -> std::io::Result<()> {
                read_head(&mut stream)?;
                let body = mp4(1, 1000);
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
                stream.write_all(&body)?;
                read_head(&mut stream)
            });
        }
    });
    let vault = Vault::start_with(|settings| settings.worker.max_attempts = 1).await;
    for number in 1..=5 {
        vault.callback(completed(number, &format!("http://{address}/{number}"))).await;
        let job = vault.archived(&video_id(number)).await;
        assert_eq!(job["assets"][0]["attempts"], 0, "{job:#}");
    }
}

fn read_head(stream: &mut std::net::TcpStream) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
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
    let now = Timestamp::now().millis() / 1000;
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
    assert_eq!((&job["reason"], &job["assets"][0]["variant"]), (&json!("no_clean_url"), &json!("watermarked")));
}

/// The provider marks videos and images. Its songs, an agent's stills and documents, and posters have one form.
#[tokio::test(flavor = "multi_thread")]
async fn clean_only_asks_for_a_clean_form_only_of_what_the_provider_marks() {
    let media = MediaServer::start();
    let (video, still) = (media.put("/v.mp4", mp4(1, 100), "video/mp4"), media.put("/s.png", png(1), "image/png"));
    let tone = [
        &b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x08\0\0\0"[..],
        &[7; 8],
    ]
    .concat();
    let (song, text) = (media.put("/a.wav", tone, "audio/wav"), media.put("/n.txt", "notes", "text/plain"));
    let vault = Vault::start_with(|settings| {
        settings.worker.clean_only = true;
        settings.intake.sidecars = true;
    })
    .await;
    let agent = |project: u64, files: Value| json!({"jobId": format!("p{project}-u1-a2-bot:minimax"), "status": "completed", "response": {"attachments": files}});
    let file = |id: &str, url: &str, extra: Value| {
        let name = url.rsplit('/').next();
        json!({"attachmentID": id, "status": 3, "file": {"fileName": name, "fileUrl": url, "extra": extra}})
    };
    let whole =
        agent(1, json!([file("a", &still, json!({})), file("b", &song, json!({})), file("c", &text, json!({}))]));
    for (body, id) in [
        (json!({"musicId": "user:1-minimax:2-music:3", "status": 2, "audioURL": song}), "user:1-minimax:2-music:3"),
        (json!({"videoId": video_id(1), "status": 2, "downloadURL": video, "coverURL": still}), &*video_id(1)),
        (whole, "p1-u1-a2-bot:minimax"),
    ] {
        vault.callback(body).await;
        let job = vault.archived(id).await;
        assert!(job["assets"].as_array().unwrap().iter().all(|asset| asset["state"] == "stored"), "{job:#}");
    }
    let marked = file("a", &still, json!({"watermark_url": "https://elsewhere.example.com/w.png"}));
    for (body, id) in [
        (json!({"imageId": "user:1-minimax:2-image:3", "status": 2, "videoURL": still}), "user:1-minimax:2-image:3"),
        (agent(2, json!([file("a", &video, json!({}))])), "p2-u1-a2-bot:minimax"),
        (agent(3, json!([marked])), "p3-u1-a2-bot:minimax"),
    ] {
        vault.callback(body).await;
        assert_eq!(vault.job_in(id, &["stuck"]).await["reason"], "no_clean_url");
    }
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
    tokio::time::timeout(PATIENCE, outage).await.unwrap();
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
