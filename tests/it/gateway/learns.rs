//! What the gateway learns from answers that pass.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::HttpResponse;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::provider::{CALLERS_TOKEN, Provider, gateway, vault};
use crate::support::media::MediaServer;
use crate::support::raw;
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};

async fn get(vault: &Vault, path: &str) -> (u16, Value) {
    let response = vault.client.get(vault.url(&format!("/v1/minimax/{path}"))).bearer_auth(TOKEN).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn journal_bytes(vault: &Vault) -> u64 {
    vault.running().intake().log().journal().disk_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_client_is_covered_without_any_reply_url() {
    let media = MediaServer::start();
    let url = media.put("/a.mp4", crate::support::media::mp4(1, 1000), "video/mp4");
    let done = Arc::new(AtomicBool::new(false));
    let (is_done, answer) = (done.clone(), completed(1, &url));
    let provider = Provider::start(move |_| {
        let running = json!({"videoId": video_id(1), "status": 1, "statusFinal": false, "percent": 10});
        HttpResponse::Ok().json(if is_done.load(Ordering::SeqCst) { &answer } else { &running })
    });
    let vault = vault(&provider.base_url).await;
    let path = format!("videos/{}", video_id(1));
    assert_eq!(get(&vault, &path).await.1["percent"], 10);
    assert_eq!(vault.job(&video_id(1)).await["percent"], 10);
    let before = journal_bytes(&vault);
    get(&vault, &path).await;
    assert_eq!(journal_bytes(&vault), before, "what changes nothing is not written");
    done.store(true, Ordering::SeqCst);
    assert_eq!(get(&vault, &path).await.1["downloadURL"], url);
    let job = vault.archived(&video_id(1)).await;
    assert_eq!(job["assets"][0]["variant"], "clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_writes_what_is_new_of_jobs_that_are_known() {
    let media = MediaServer::start();
    let url = media.put("/a.mp4", crate::support::media::mp4(1, 1000), "video/mp4");
    let list: Vec<Value> = (1..=30).map(|number| completed(number, &url)).collect();
    let provider = Provider::start(move |_| HttpResponse::Ok().json(&list));
    let mut vault = vault(&provider.base_url).await;
    vault.callback(json!({"videoId": video_id(3), "status": 1})).await;
    assert_eq!(get(&vault, "videos/?limit=30").await.1.as_array().unwrap().len(), 30);
    vault.archived(&video_id(3)).await;
    assert_eq!(vault.get("/api/v1/jobs").await.1["items"].as_array().unwrap().len(), 1);
    let before = journal_bytes(&vault);
    get(&vault, "videos").await;
    assert_eq!(journal_bytes(&vault), before);

    vault.stop().await;
    let config = gateway(&provider.base_url);
    vault.settings.gateway = Some(replyvault::gateway::Config { adopt_listed: true, ..config });
    vault.start_again().await;
    get(&vault, "videos").await;
    assert_eq!(vault.get("/api/v1/jobs").await.1["items"].as_array().unwrap().len(), 30);
    vault.archived(&video_id(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_answers_show_the_callers_own_too() {
    let created = Arc::new(std::sync::Mutex::new(Value::Null));
    let given = created.clone();
    let provider = Provider::start(move |asked| {
        let mut given = given.lock().unwrap();
        if asked.method == "POST" {
            *given = asked.json();
            return HttpResponse::Ok().json(json!({"videoId": video_id(1)}));
        }
        let entry = json!({"videoId": video_id(1), "replyUrl": given["replyUrl"], "replyRef": given["replyRef"]});
        match &*asked.target {
            "/v1/minimax/scheduler" => HttpResponse::Ok().json(json!([entry])),
            "/v1/minimax/scheduler/available" => {
                HttpResponse::Ok().json(json!({"executing": [entry], "available": []}))
            }
            _ => HttpResponse::Ok().json(entry),
        }
    });
    let vault = vault(&provider.base_url).await;
    let create = async |body: Value| {
        let url = vault.url("/v1/minimax/videos/create");
        assert_eq!(vault.client.post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap().status(), 200);
    };
    create(json!({"replyUrl": "https://caller.example/x", "replyRef": "boat"})).await;
    let shown = json!({"videoId": video_id(1), "replyUrl": "https://caller.example/x", "replyRef": "boat"});
    assert_eq!(get(&vault, "scheduler").await.1, json!([shown]));
    assert_eq!(get(&vault, &format!("videos/{}", video_id(1))).await.1, shown);
    create(json!({"prompt": "none of both"})).await;
    assert_eq!(get(&vault, &format!("videos/{}", video_id(1))).await.1, json!({"videoId": video_id(1)}));
    let shown = json!({"videoId": video_id(1), "replyUrl": "", "replyRef": ""});
    assert_eq!(get(&vault, "scheduler/available").await.1["executing"], json!([shown]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_agent_answer_is_archived_and_so_is_a_failed_one() {
    let media = MediaServer::start();
    let url = media.put("/a.mp4", crate::support::media::mp4(1, 1000), "video/mp4");
    let provider = Provider::start(move |asked| {
        let fails = asked.text().contains("fails");
        let file = json!({"fileName": "a.mp4", "type": "video/mp4", "fileUrl": url});
        let response = json!({"attachments": [{"attachmentID": "1", "status": 3, "file": file}]});
        if fails {
            let job = json!({"jobId": "p2-u1-a1-bot:minimax", "status": "failed", "error": "no", "request": {}});
            return HttpResponse::GatewayTimeout().json(job);
        }
        HttpResponse::Ok()
            .json(json!({"jobId": "p1-u1-a1-bot:minimax", "status": "completed", "request": {}, "response": response}))
    });
    let vault = vault(&provider.base_url).await;
    for (prompt, status, id, state) in
        [("works", 200, "p1-u1-a1-bot:minimax", "archived"), ("fails", 504, "p2-u1-a1-bot:minimax", "failed")]
    {
        let body = format!("--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n{prompt}\r\n--b--\r\n");
        let request = vault.client.post(vault.url("/v1/minimax/agent")).bearer_auth(TOKEN);
        let request = request.header("Content-Type", "multipart/form-data; boundary=b").body(body);
        assert_eq!(request.send().await.unwrap().status(), status);
        let job = vault.job_in(id, &[state]).await;
        let (_, reference) = vault.get(&format!("/api/v1/refs/{}", job["refId"].as_str().unwrap())).await;
        assert_eq!(reference["origin"], "gateway");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn songs_and_speech_are_archived_from_the_answers_that_make_them() {
    let media = MediaServer::start();
    let url = media.put("/a.mp3", &include_bytes!("../../../crates/simulator/src/media/tone.mp3")[..], "audio/mpeg");
    let provider = Provider::start(move |asked| match &*asked.target {
        "/v1/minimax/music/create?prompt=la" => {
            HttpResponse::Ok().json(json!({"musicId": "user:1-minimax:2-music:3", "audioURL": url, "duration": 55}))
        }
        _ => HttpResponse::Ok().json(json!({"audio_id": "user:1-minimax:2-audio:4", "audio_url": url})),
    });
    let vault = vault(&provider.base_url).await;
    get(&vault, "music/create?prompt=la").await;
    let url = vault.url("/v1/minimax/audio/create-mp3");
    vault.client.post(url).bearer_auth(TOKEN).json(&json!({"text": "la"})).send().await.unwrap();
    vault.archived("user:1-minimax:2-music:3").await;
    vault.archived("user:1-minimax:2-audio:4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_too_large_to_read_pass_all_the_same() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!(["x".repeat(17 << 20)])));
    let vault = vault(&provider.base_url).await;
    assert_eq!(get(&vault, "videos").await.1[0].as_str().unwrap().len(), 17 << 20);
}

/// A caller with a token of its own who takes nothing of an answer but its head.
async fn idle_caller(vault: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut stream = socket.connect(vault).await.unwrap();
    let request =
        format!("GET /v1/minimax/accounts HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer {CALLERS_TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(raw::head(&mut stream).await.0, 200);
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_take_nothing_keep_no_large_answer_of_another_waiting() {
    // More than the system takes of what nobody reads.
    let untaken = Bytes::from(json!({"x": "x".repeat(12 << 20)}).to_string());
    let job = json!({"videoId": video_id(1), "status": 1, "percent": 10, "x": "x".repeat(300 << 10)}).to_string();
    let provider = Provider::start(move |asked| {
        let mut answer = HttpResponse::Ok();
        answer.content_type("application/json");
        if asked.target.ends_with("/accounts") { answer.body(untaken.clone()) } else { answer.body(job.clone()) }
    });
    let vault = vault(&provider.base_url).await;
    let address = vault.running().address();
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(idle_caller(address).await);
    }
    // More than may wait: one of them is answered at once, whether it is held or not.
    let mut others: JoinSet<_> = (0..24).map(|_| idle_caller(address)).collect();
    idle.push(timeout(PATIENCE, others.join_next()).await.expect("none is answered").unwrap().unwrap());
    let path = format!("videos/{}", video_id(1));
    let answer = timeout(PATIENCE, get(&vault, &path)).await.expect("it waits for callers who take nothing");
    assert_eq!((answer.0, &answer.1["videoId"]), (200, &json!(video_id(1))));
    assert_eq!(vault.job(&video_id(1)).await["state"], "running", "it was held and read");
    // Those that cannot be held go on as well.
    while let Some(other) = timeout(PATIENCE, others.join_next()).await.expect("they wait for ever") {
        idle.push(other.unwrap());
    }
    assert_eq!(idle.len(), 27);
}
