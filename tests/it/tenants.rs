//! What the holder of one reply URL can do to other tenants.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use crate::gateway::provider::{CALLERS_TOKEN, Provider, vault};
use crate::support::media::MediaServer;
use crate::support::receiver::Receiver;
use crate::support::vault::{TOKEN, Vault, video_id};

async fn register(vault: &Vault, name: &str) -> (String, String) {
    let (_, made) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": name})).await;
    (made["refId"].as_str().unwrap().to_owned(), made["replyUrl"].as_str().unwrap().to_owned())
}

fn ended(number: u64) -> String {
    json!({"videoId": video_id(number), "status": 3, "statusFinal": true}).to_string()
}

fn done(number: u64, url: &str) -> Value {
    json!({"videoId": video_id(number), "status": 2, "statusFinal": true, "downloadURL": url})
}

/// What of a job must not move.
fn standing(job: &Value) -> Value {
    json!([job["state"], job["outcome"], job["replyRef"], job["refId"], job["assets"], job["percent"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_a_refs_url_moves_no_job_of_another_ref_and_learns_nothing_of_it() {
    let media = MediaServer::start();
    let url = media.put("/a.mp4", crate::support::media::mp4(1, 1000), "video/mp4");
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({"videoId": video_id(2)})));
    let vault = vault(&provider.base_url).await;
    let receiver = Receiver::start();
    let (_, theirs) = register(&vault, "theirs").await;
    let (_, mine) = register(&vault, "mine").await;
    // One job of a registered ref that has been heard of, and one made through the gateway of which nothing was.
    assert_eq!(
        vault.post(&theirs, json!({"videoId": video_id(1), "status": 1, "percent": 5}).to_string()).await.0,
        200
    );
    let create = vault.client.post(vault.url("/v1/minimax/videos/create")).bearer_auth(TOKEN);
    let body = json!({"prompt": "x", "replyUrl": receiver.url("/theirs"), "replyRef": "made"});
    assert_eq!(create.json(&body).send().await.unwrap().status(), 200);
    for number in [1, 2] {
        let before = standing(&vault.job(&video_id(number)).await);
        for body in [
            ended(number),
            done(number, &url).to_string(),
            json!({"videoId": video_id(number), "status": 1, "percent": 99}).to_string(),
        ] {
            let (status, answer) = vault.post(&mine, body).await;
            assert_eq!((status.as_u16(), answer.as_object().unwrap().len()), (202, 3), "{answer}");
            assert!(answer["quarantineId"].is_string(), "{answer}");
        }
        assert_eq!(standing(&vault.job(&video_id(number)).await), before);
    }
    // Nor does it pass for them: neither by their reference, nor with its signature on their URL.
    let (status, _) =
        vault.post(&mine, json!({"videoId": video_id(3), "status": 1, "replyRef": "theirs"}).to_string()).await;
    assert_eq!(status, 202);
    let signature = mine.rsplit('/').next().unwrap();
    let forged = format!("{}/{signature}", theirs.rsplit_once('/').unwrap().0);
    assert_eq!(vault.post(&forged, ended(1)).await.0, 401);
    // The true callbacks count as if nothing had been.
    let made = provider.last().json()["replyUrl"].as_str().unwrap().to_owned();
    for (number, url_of) in [(1, &theirs), (2, &made)] {
        assert_eq!(vault.post(url_of, done(number, &url).to_string()).await.0, 200);
        vault.archived(&video_id(number)).await;
    }
    assert_eq!(receiver.bodies(1).await, [done(2, &url).to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_callers_own_token_shows_ties_no_job_to_a_registered_ref() {
    let (strangers, ours) = ("p9-u2-a3-bot:minimax", "p8-u2-a3-bot:minimax");
    let provider = Provider::start(move |asked| {
        if asked.method == "POST" {
            return HttpResponse::Ok().json(json!({"videoId": video_id(1), "replyRef": "theirs"}));
        }
        let job = if asked.target.contains("p9-") { strangers } else { ours };
        HttpResponse::Ok().json(json!({"jobId": job, "status": "running", "request": {"replyRef": "theirs"}}))
    });
    let mut vault = vault(&provider.base_url).await;
    let (theirs, _) = register(&vault, "theirs").await;
    for (job, token) in [(strangers, CALLERS_TOKEN), (ours, TOKEN)] {
        let asked = vault.client.get(vault.url(&format!("/v1/minimax/agent/{job}"))).bearer_auth(token);
        assert_eq!(asked.send().await.unwrap().status(), 200);
    }
    // A call that keeps its own replyUrl makes no ref: its job goes by the replyRef alone.
    let create = vault.client.post(vault.url("/v1/minimax/videos/create")).bearer_auth(CALLERS_TOKEN);
    let create = create.json(&json!({"prompt": "x", "replyUrl": "not a url", "replyRef": "theirs"}));
    assert_eq!(create.send().await.unwrap().status(), 200);
    for is_rebuilt in [false, true] {
        if is_rebuilt {
            vault.stop().await;
            std::fs::remove_dir_all(vault.settings.data_dir.join("state")).unwrap();
            vault.start_again().await;
        }
        for (job, of) in [(strangers, Value::Null), (&*video_id(1), Value::Null), (ours, json!(theirs))] {
            assert_eq!(vault.job(job).await["refId"], of, "{job}, {is_rebuilt}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_a_job_over_one_url_leaves_room_for_that_over_its_own() {
    let vault = Vault::start().await;
    let (_, theirs) = register(&vault, "theirs").await;
    let (_, mine) = register(&vault, "mine").await;
    let progress = |percent: u64| json!({"videoId": video_id(1), "status": 1, "percent": percent}).to_string();
    assert_eq!(vault.post(&theirs, progress(1)).await.0, 200);
    for percent in 1..=60 {
        assert_eq!(vault.post(&mine, progress(percent)).await.0, 202, "{percent}");
    }
    assert_eq!(vault.post(&mine, progress(61)).await.0, 429);
    assert_eq!(vault.post(&theirs, progress(62)).await.0, 200);
    assert_eq!(vault.job(&video_id(1)).await["percent"], 62);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_early_end_over_the_channel_yields_to_the_true_one() {
    let media = MediaServer::start();
    let url = media.put("/a.mp4", crate::support::media::mp4(1, 1000), "video/mp4");
    let vault = Vault::start().await;
    let (id, theirs) = register(&vault, "theirs").await;
    assert_eq!(vault.post(&theirs, json!({"videoId": video_id(1), "status": 1}).to_string()).await.0, 200);
    // Without provider.confirm a failure is believed of whoever says it, until the job's own end comes.
    vault.callback(serde_json::from_str(&ended(1)).unwrap()).await;
    let job = vault.job_in(&video_id(1), &["failed"]).await;
    assert_eq!((&job["replyRef"], &job["refId"]), (&json!("theirs"), &json!(id)));
    assert_eq!(vault.post(&theirs, done(1, &url).to_string()).await.0, 200);
    let before = standing(&vault.archived(&video_id(1)).await);
    for body in
        [ended(1), json!({"videoId": video_id(1), "status": 5, "statusFinal": true, "replyRef": "mine"}).to_string()]
    {
        assert!(vault.post(&vault.channel_url(), body).await.0.is_success());
    }
    assert_eq!(standing(&vault.job(&video_id(1)).await), before);
}
