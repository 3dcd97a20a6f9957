//! Bodies of every API over the one URL, each until its media are in the bucket.

mod asked;
mod quarantined;
pub(crate) mod world;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use replyvault::domain::{Digest, JobId, Target};
use replyvault::provider;
use replyvault::simulator::{Config, Simulator};
use reqwest::StatusCode;
use serde_json::{Value, json};

use self::world::{Seen, World, expected, file, fixtures, redirected};
use crate::support::apis::{create, encoded, fault};
use crate::support::vault::Vault;

#[tokio::test]
async fn one_url_takes_the_callbacks_of_every_api_and_archives_their_media() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let mut apis = BTreeSet::new();
    for (name, body) in fixtures() {
        let body = redirected(&body, &world.base);
        let (status, answer) = vault.post(&url, body.to_string()).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let id = answer["jobId"].as_str().unwrap().to_owned();
        let (state, outcome, variants) = expected(&name);
        if name.ends_with("progress") {
            continue;
        }
        let wait = async {
            loop {
                let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(&id))).await;
                if job["state"] == state {
                    return job;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        let Ok(job) = waited else {
            let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(&id))).await;
            panic!("{name}: expected {state}: {job:#}");
        };
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        apis.insert(api);
        assert_eq!((&job["outcome"], &job["provider"]), (&outcome, &json!(api)), "{name}");
        let assets = job["assets"].as_array().unwrap();
        let found: Vec<&str> = assets.iter().map(|asset| asset["variant"].as_str().unwrap_or("none")).collect();
        assert_eq!(found, variants, "{name}: {job:#}");
        for asset in assets.iter().filter(|asset| asset["state"] == "stored") {
            let key = asset["key"].as_str().unwrap();
            assert!(!key.contains('@') && !key.contains("studio"), "{key}");
            assert_eq!(key.contains(&format!("-{api}-")), api != "minimax", "{key}");
            let bytes = vault.object(key).await;
            assert_eq!(asset["sha256"], Digest::of(&bytes).to_string(), "{name}");
            if name == "google-flow-image-inline" {
                assert!(bytes.starts_with(b"\x89PNG") && bytes.len() == 74, "{}", bytes.len());
            } else {
                let is_ours = world.seen().iter().any(|seen| file(&seen.path).1 == bytes);
                assert!(is_ours, "{name}: other bytes");
            }
        }
        if let Some(key) = job["manifestKey"].as_str() {
            assert!(!key.is_empty());
            let manifest = vault.manifest(&job).await;
            assert_eq!((&manifest["job"]["provider"], &manifest["job"]["kind"]), (&json!(api), &job["kind"]), "{name}");
        }
    }
    assert_eq!(apis.len(), provider::names().count());
    // The token goes to the provider's own paths alone.
    for Seen { path, has_token } in world.seen() {
        assert_eq!(has_token, path.starts_with("/v1/") || path.starts_with("/v2/"), "{path}");
    }
    let (_, jobs) = vault.get("/api/v1/jobs?provider=kling&limit=100").await;
    let jobs = jobs["items"].as_array().unwrap();
    assert!(jobs.len() >= 4 && jobs.iter().all(|job| job["provider"] == "kling"), "{jobs:#?}");
}

/// From create calls to the bucket, for each way a job can end.
#[tokio::test(flavor = "multi_thread")]
async fn what_every_api_makes_is_archived_as_the_simulator_made_it() {
    let mut refreshed = BTreeSet::new();
    // Links that are dead when they are told are asked for anew.
    for faults in ["", "no-clean=1,inline=1,processing=1", "stale=1,expire=1h", "fail=1", "moderate=1"] {
        let simulator =
            Simulator::start(Config { faults: faults.parse().unwrap(), ..Config::default() }).await.unwrap();
        let world = World { base: simulator.base_url(), shared: Arc::default() };
        let vault = Vault::start_with(|settings| world.configure(settings)).await;
        let url = vault.running().intake().urls().reply_url(&Target::UseApi);
        for (number, call) in Simulator::creates().enumerate() {
            create(&vault.client, &simulator, &call, &url, &format!("job-{number}")).await;
        }
        simulator.idle().await;
        let truth = simulator.truth();
        assert_eq!(
            truth.iter().map(|job| job.job_id.provider()).collect::<BTreeSet<_>>().len(),
            provider::names().count()
        );
        for wanted in truth {
            let job = vault.job_in(&encoded(wanted.job_id.as_str()), &["archived", "failed", "stuck"]).await;
            let mut objects = HashMap::new();
            for asset in job["assets"].as_array().unwrap() {
                let key = asset["key"].as_str().unwrap_or_else(|| panic!("{faults}: {job:#}")).to_owned();
                let bytes = vault.object(&key).await;
                objects.insert(key, Digest::of(&bytes));
            }
            let fault = fault(&job, &wanted, &mut |key| objects.get(key).copied());
            assert_eq!(fault, None, "{faults}");
            let dead: u64 =
                job["assets"].as_array().unwrap().iter().filter_map(|asset| asset["attempts"].as_u64()).sum();
            refreshed.extend((dead > 0 && faults.starts_with("stale")).then(|| wanted.job_id.provider()));
            assert_eq!(job["replyRef"].as_str(), wanted.reply_ref.as_deref(), "{job:#}");
        }
        if faults.starts_with("stale") {
            assert!(simulator.stats().cdn_expired > 20, "{:?}", simulator.stats());
        }
        simulator.stop().await;
    }
    // Files that a call gives have no link that could be dead.
    let with_links =
        ["dreamina", "faceswap", "flowmusic", "google-flow", "kling", "minimax", "mureka", "pixverse", "runwayml"];
    assert_eq!(refreshed.iter().map(String::as_str).collect::<Vec<_>>(), with_links);
}

/// Progress, as a callback and as an answer, ends nothing and says how far a job is.
#[tokio::test]
async fn progress_of_every_api_leaves_its_job_running() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let mut jobs = Vec::new();
    for (name, body) in fixtures().into_iter().filter(|(name, _)| name.ends_with("progress")) {
        let body = redirected(&body, &world.base);
        let (status, answer) = vault.post(&url, body.to_string()).await;
        assert_eq!(
            (status, &answer["state"], &answer["final"]),
            (StatusCode::OK, &json!("running"), &json!(false)),
            "{name}"
        );
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        let id: JobId = answer["jobId"].as_str().unwrap().parse().unwrap();
        world.shared.answers.lock().unwrap().push((api, id.as_sent().to_owned(), body));
        jobs.push((name, id));
    }
    let apis: BTreeSet<_> = jobs.iter().map(|(_, id)| id.provider()).collect();
    assert_eq!(apis.len(), provider::names().count());
    let (_, mut task) = vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    while task["state"] == "running" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        task = vault.get(&format!("/api/v1/tasks/{}", task["taskId"].as_str().unwrap())).await.1;
    }
    let report = &task["report"];
    assert_eq!(
        (&report["asked"], &report["running"], &report["unanswered"]),
        (&json!(13), &json!(13), &json!(0)),
        "{task:#}"
    );
    for (name, id) in jobs {
        let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
        assert_eq!(
            (&job["state"], &job["outcome"], &job["assets"]),
            (&json!("running"), &Value::Null, &json!([])),
            "{name}"
        );
        let percent = match &*name {
            "runwayml-progress" => json!(42),
            "tempolor-progress" => json!(35),
            _ => Value::Null,
        };
        assert_eq!(job["percent"], percent, "{name}: {job:#}");
    }
}

#[tokio::test]
async fn without_a_token_what_needs_one_waits_and_says_so_and_the_marked_copy_is_kept() {
    let world = World::start();
    let vault = Vault::start().await;
    let all = fixtures();
    let post = async |name: &str| {
        let (_, body) = all.iter().find(|(found, _)| found == name).unwrap();
        let (status, answer) = vault.post(&vault.channel_url(), redirected(body, &world.base).to_string()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["jobId"].as_str().unwrap().to_owned()
    };
    let marked = vault.archived(&post("kling-completed").await).await;
    assert_eq!(marked["assets"][0]["variant"], "watermarked");
    let id = post("tempolor-completed").await;
    let wait = async {
        loop {
            let job = vault.job(&id).await;
            if job["assets"][0]["lastError"].as_str().is_some_and(|error| error.contains("provider.api_token")) {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let job = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.unwrap();
    assert_eq!((&job["state"], &job["assets"][0]["attempts"]), (&json!("archiving"), &json!(0)));
}

/// What the provider itself gives is asked for as the provider is asked about jobs.
#[tokio::test]
async fn a_file_at_the_provider_waits_for_the_token_and_its_account_and_uses_up_no_attempts() {
    for (status, says, trouble) in
        [(596, "put the account on hold", json!("an account is on hold")), (401, "refuses our token", Value::Null)]
    {
        let world = World::start();
        world.refuse("/media/", status);
        let vault = Vault::start_with(|settings| world.configure(settings)).await;
        let waits = async |name: &str| {
            let (_, body) = fixtures().into_iter().find(|(found, _)| found == name).unwrap();
            let (_, answer) = vault.post(&vault.channel_url(), body.to_string()).await;
            let path = format!("/api/v1/jobs/{}", encoded(answer["jobId"].as_str().unwrap()));
            let wait = async {
                loop {
                    let (_, job) = vault.get(&path).await;
                    if job["assets"][0]["lastError"].as_str().is_some_and(|error| error.contains(says)) {
                        return job;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            let job = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.expect(name);
            assert_eq!((&job["state"], &job["assets"][0]["attempts"]), (&json!("archiving"), &json!(0)), "{job:#}");
        };
        let requests = || world.seen().iter().filter(|seen| seen.path.contains("/media/")).count();
        waits("google-vids-completed").await;
        assert_eq!(requests(), 1, "{status}");
        // That files are refused says nothing of questions about jobs.
        assert_eq!(vault.get("/readyz").await.1["checks"]["provider"], trouble);
        if status == 596 {
            // Another job of the same account, whose id is of the other form.
            waits("google-vids-image-completed").await;
            assert_eq!(requests(), 1, "an account on hold is left alone");
        }
    }
}

#[tokio::test]
async fn a_refused_host_shows_what_would_allow_it() {
    let vault = Vault::start().await;
    let (_, body) = fixtures().into_iter().find(|(name, _)| name == "dreamina-completed").unwrap();
    let (_, answer) = vault.post(&vault.channel_url(), body.to_string()).await;
    let job = vault.job_in(&encoded(answer["jobId"].as_str().unwrap()), &["stuck"]).await;
    let error = job["assets"][0]["lastError"].as_str().unwrap();
    assert!(error.contains("add \"v3-web.douyinvod.com\" to fetch.allowed_hosts"), "{error}");
}
