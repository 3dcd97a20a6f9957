//! Jobs that the provider is asked about.
use replyvault::domain::Target;
use replyvault::provider::{self, Answer, Parsed};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{World, expected, fixtures, redirected};
use crate::support::apis::encoded;
use crate::support::vault::Vault;

/// The same bodies as the provider's answers when it is asked about jobs of which nothing but their ids is known.
#[tokio::test]
async fn every_api_is_asked_about_its_jobs_and_answers_as_it_calls_back() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let mut jobs = std::collections::BTreeMap::new();
    for (name, body) in fixtures() {
        let mut body = redirected(&body, &world.base);
        let Ok(Parsed::Job(found)) = provider::read(body.to_string().as_bytes()) else { panic!("{name}") };
        let id = found.job;
        if jobs.contains_key(&id) || name.ends_with("progress") {
            continue;
        }
        // It is asked for under one of its two names, and answered under the other.
        if name == "minimax-audio-completed" {
            body.as_object_mut().unwrap().remove("audioId");
        }
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        world.shared.answers.lock().unwrap().push((api, id.as_sent().to_owned(), body));
        let (status, answer) = vault.post(&url, Answer::naming(&id, None).body).await;
        assert_eq!((status, &answer["state"]), (StatusCode::OK, &json!("running")), "{name}");
        jobs.insert(id, name);
    }
    let (status, task) = vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    assert!(status.is_success(), "{task}");
    for (id, name) in jobs {
        let (state, outcome, variants) = expected(&name);
        let wait = async {
            loop {
                let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
                if job["state"] == state {
                    return job;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let Ok(job) = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await else {
            let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
            let (_, tasks) = vault.get("/api/v1/tasks").await;
            panic!("{name}: expected {state}: {job:#}\n{tasks:#}\n{:?}", world.seen());
        };
        let found: Vec<&str> =
            job["assets"].as_array().unwrap().iter().map(|asset| asset["variant"].as_str().unwrap_or("none")).collect();
        assert_eq!((&job["outcome"], &found[..]), (&outcome, variants), "{name}");
    }
}

/// Speech has two ids, and a body may have either.
#[tokio::test]
async fn speech_that_is_named_by_its_other_id_is_the_same_job() {
    let mut vault = Vault::start().await;
    let (made, listed) = ("user:1-minimax:2-audio:a7", "user:1-minimax:2-audio:991");
    let running = json!({"statusLabel": "processing", "statusFinal": false, "replyRef": "said"});
    let with = |ids: Value| {
        let mut body = running.clone();
        body.as_object_mut().unwrap().extend(ids.as_object().unwrap().clone());
        body
    };
    vault.callback(with(json!({"audioId": made}))).await;
    vault.callback(with(json!({"audioId": made, "audio_id": listed}))).await;
    let same = async |vault: &Vault, callbacks: u32| {
        let (_, jobs) = vault.get("/api/v1/jobs").await;
        assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "{jobs:#}");
        let job = vault.job(listed).await;
        assert_eq!(
            (&job["jobId"], &job["callbacks"], &job["replyRef"]),
            (&json!(made), &json!(callbacks), &json!("said"))
        );
    };
    let answer = vault.callback(with(json!({"audio_id": listed, "message": "soon"}))).await;
    assert_eq!(answer["jobId"], made);
    same(&vault, 3).await;
    // What another job is named by stays that job's.
    let other = "user:1-minimax:2-audio:992";
    vault.callback(with(json!({"audio_id": other}))).await;
    vault.callback(with(json!({"audioId": made, "audio_id": other}))).await;
    assert_eq!(vault.job(other).await["jobId"], other);
    let (_, deleted) = vault.get("/api/v1/jobs").await;
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    // The state is found as it was, and comes back from the journal alone.
    for remove in [false, true] {
        vault.stop().await;
        if remove {
            std::fs::remove_dir_all(vault.settings.data_dir.join("state")).unwrap();
        }
        vault.start_again().await;
        assert_eq!(vault.job(listed).await["jobId"], made);
        assert_eq!(vault.job(other).await["jobId"], other);
    }
    assert_eq!(vault.callback(with(json!({"audio_id": listed, "message": "now"}))).await["jobId"], made);
}

/// What is known by the id of the list of recordings is asked for by that, and both are in the answer.
#[tokio::test]
async fn speech_that_is_asked_for_by_its_other_id_may_be_answered_with_both() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let (_, body) = fixtures().into_iter().find(|(name, _)| name == "minimax-audio-completed").unwrap();
    let body = redirected(&body, &world.base);
    let id = |name: &str| body[name].as_str().unwrap().to_owned();
    let (made, listed) = (id("audioId"), id("audio_id"));
    world.shared.answers.lock().unwrap().push(("minimax", listed.clone(), body));
    vault.callback(json!({"audio_id": listed, "statusLabel": "processing", "statusFinal": false})).await;
    vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    vault.archived(&listed).await;
    assert_eq!(vault.job(&made).await["jobId"], listed, "it is known by its other id from now on");
}

/// The ids of some jobs name their account in a place of their own.
#[tokio::test]
async fn an_account_on_hold_keeps_no_other_of_its_api_waiting() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let (_, body) = fixtures().into_iter().find(|(name, _)| name == "google-vids-completed").unwrap();
    let mut ids = Vec::new();
    // The one that is heard of last is asked about first.
    for (mail, number) in [("free@", "1f6b2c14"), ("held@", "2f6b2c14")] {
        let body = body.to_string().replace("studio@", mail).replace("3f6b2c14", number);
        let body: Value = serde_json::from_str(&body).unwrap();
        let Ok(Parsed::Job(found)) = provider::read(body.to_string().as_bytes()) else { panic!("{body}") };
        world.shared.answers.lock().unwrap().push(("google-vids", found.job.as_sent().to_owned(), body));
        let (status, answer) = vault.post(&vault.channel_url(), Answer::naming(&found.job, None).body).await;
        assert_eq!((status, &answer["state"]), (StatusCode::OK, &json!("running")), "{answer}");
        ids.push(found.job);
    }
    world.refuse("held%40", 596);
    let (_, mut task) = vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    while task["state"] == "running" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        task = vault.get(&format!("/api/v1/tasks/{}", task["taskId"].as_str().unwrap())).await.1;
    }
    assert_eq!((&task["state"], &task["report"]["onHold"]), (&json!("done"), &json!(1)), "{task:#}");
    vault.job_in(&encoded(ids[0].as_str()), &["archived"]).await;
    let (_, held) = vault.get(&format!("/api/v1/jobs/{}", encoded(ids[1].as_str()))).await;
    assert_eq!(held["state"], "running");
}

/// Images that stand in the answer to a question about their job.
#[tokio::test]
async fn an_answer_may_have_files_in_it() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let (_, mut body) = fixtures().into_iter().find(|(name, _)| name == "google-flow-image-inline").unwrap();
    let picture = crate::support::media::png_of(&[7; 6_000_000]);
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &picture);
    body["response"]["media"][0]["image"]["generatedImage"]["encodedImage"] = json!(text);
    let id = body["jobid"].as_str().unwrap().to_owned();
    world.shared.answers.lock().unwrap().push(("google-flow", id.clone(), body));
    let known = json!({"jobid": id}).to_string();
    assert_eq!(vault.post(&vault.channel_url(), known).await.0, StatusCode::OK);
    vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    let job = vault.job_in(&encoded(&id), &["archived"]).await;
    vault.assert_stored(&job, &picture).await;
}
