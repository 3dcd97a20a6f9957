//! Jobs whose end the provider never told: it is asked.

mod discover;
mod shares;

use std::time::Duration;

use replyvault::app::Settings;
use replyvault::egress::{self, AllowedHosts};
use replyvault::provider::ClientConfig;
use replyvault::simulator::{Config, Simulator};
use serde_json::{Value, json};

use crate::support::apis::{create, encoded};
use crate::support::vault::{PATIENCE, Vault};

/// A provider, and a vault with a token for it.
pub(crate) struct Bench {
    pub(crate) simulator: Simulator,
    pub(crate) vault: Vault,
}

impl Bench {
    /// `faults` of the simulator; what the schedule's minutes last.
    async fn start(faults: &str, minute: Duration) -> Self {
        let config = Config { faults: faults.parse().unwrap(), ..Config::default() };
        Self::with(config, |settings| settings.reconcile.minute = minute).await
    }

    /// A simulator of this configuration, and a vault after a change to its settings; it asks nothing by itself unless told.
    pub(crate) async fn with(config: Config, change: impl FnOnce(&mut Settings)) -> Self {
        let simulator = Simulator::start(config).await.unwrap();
        let base_url = simulator.base_url().parse().unwrap();
        let vault = Vault::start_with(|settings| {
            settings.reconcile.minute = NEVER;
            settings.reconcile.reads_lists = false;
            settings.provider = Some(ClientConfig {
                base_url,
                api_token: "token".into(),
                egress: egress::Config {
                    allowed_hosts: AllowedHosts::Only(vec!["127.0.0.1".parse().unwrap()]),
                    allow_http: true,
                    allow_private_addresses: true,
                },
            });
            change(settings);
        });
        let vault = vault.await;
        Self { simulator, vault }
    }

    async fn create(&self, path: &str, mut body: Value) -> Value {
        body["replyUrl"] = self.vault.channel_url().into();
        self.create_unheard(path, body).await
    }

    /// The same without a replyUrl.
    pub(crate) async fn create_unheard(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/v1/minimax/{path}", self.simulator.base_url());
        self.vault.client.post(url).bearer_auth("t").json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// A video that the vault has heard of once.
    async fn video(&self) -> String {
        let created = self.create("videos/create", json!({"prompt": "a boat", "account": "7"})).await;
        let id = created["videoId"].as_str().unwrap().to_owned();
        self.vault.callback(json!({"videoId": id, "status": 0, "replyRef": "boat"})).await;
        id
    }

    /// Waits until a video has ended at the provider.
    async fn ended(&self, video: &str) {
        let url = format!("{}/v1/minimax/videos/{video}", self.simulator.base_url());
        let ended = async {
            loop {
                let get = self.vault.client.get(&url).bearer_auth("t").send().await.unwrap();
                if get.json::<Value>().await.unwrap()["statusFinal"] == true {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("it does not end");
    }

    /// Waits until the vault has asked `times`.
    async fn asked(&self, times: u64) {
        let asked = async {
            while self.simulator.stats().reads < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("the provider is not asked");
    }

    async fn readyz(&self, expected: Option<&str>) {
        let says = async {
            while self.vault.get("/readyz").await.1["checks"]["provider"] != json!(expected) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, says).await.unwrap_or_else(|_| panic!("{expected:?}"));
        assert_eq!(self.vault.get("/readyz").await.0, 200);
    }

    /// Has a task done and gives it as it ended.
    pub(crate) async fn task(&self, kind: &str, body: Value) -> Value {
        let (status, mut task) = self.vault.send("POST", &format!("/api/v1/tasks/{kind}"), &body).await;
        assert_eq!(status, 202, "{task}");
        let path = format!("/api/v1/tasks/{}", task["taskId"].as_str().unwrap());
        let ended = async {
            while task["state"] == "running" {
                tokio::time::sleep(Duration::from_millis(5)).await;
                task = self.vault.get(&path).await.1;
            }
            task
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("it does not end")
    }

    /// Waits until everything made so far is in the bucket as it was made.
    pub(crate) async fn all_archived(&self) {
        for expected in self.simulator.truth() {
            let known = async {
                let path = format!("/api/v1/jobs/{}", expected.job_id.as_str().replace(':', "%3A"));
                while self.vault.get(&path).await.0 == 404 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, known).await.expect("a job is not known");
            let job = self.vault.archived(expected.job_id.as_str()).await;
            let digests: Vec<_> =
                job["assets"].as_array().unwrap().iter().map(|asset| asset["sha256"].clone()).collect();
            let expected: Vec<_> = expected.files.iter().map(|file| json!(file.sha256.to_string())).collect();
            assert_eq!(digests, expected);
        }
    }

    fn journal_bytes(&self) -> u64 {
        self.vault.running().intake().log().journal().disk_bytes()
    }
}

const SHORT: Duration = Duration::from_millis(20);
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn with_no_final_callback_at_all_every_job_is_archived() {
    let bench = Bench::start("drop=1", SHORT).await;
    bench.video().await;
    let images = bench.create("images/create", json!({"prompt": "a boat", "quantity": 2})).await;
    for id in images["imageIds"].as_array().unwrap() {
        bench.vault.callback(json!({"imageId": id, "status": 0, "replyRef": "boat"})).await;
    }
    let agent = json!({"prompt": "rain", "models": "hailuo-2.3,speech-2.5-hd-preview", "async": true});
    let agent = bench.create("agent", agent).await;
    bench.vault.callback(json!({"jobId": agent["jobId"], "status": "started"})).await;
    let truth = bench.simulator.truth();
    assert_eq!(truth.len(), 4);
    bench.all_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_dead_before_the_first_download_are_asked_for_again() {
    let bench = Bench::start("stale=1,expire=1h", NEVER).await;
    let created = bench.create("videos/create", json!({"prompt": "a boat", "replyRef": "boat"})).await;
    bench.simulator.idle().await;
    let job = bench.vault.archived(created["videoId"].as_str().unwrap()).await;
    assert_eq!(job["assets"][0]["variant"], "clean", "{job:#}");
    assert!(bench.simulator.stats().cdn_expired >= 1 && bench.simulator.stats().reads >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_stay_dead_use_up_the_attempts() {
    let bench = Bench::start("expire=0s", NEVER).await;
    let created = bench.create("videos/create", json!({"prompt": "a boat", "replyRef": "boat"})).await;
    bench.simulator.idle().await;
    let job = bench.vault.job_in(created["videoId"].as_str().unwrap(), &["stuck"]).await;
    assert_eq!((&job["reason"], &job["assets"][0]["attempts"]), (&json!("attempts_exhausted"), &json!(3)));
    assert!(bench.simulator.stats().reads <= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_whose_links_stay_dead_do_not_revive_each_other() {
    let bench = Bench::start("expire=0s", NEVER).await;
    let agent = json!({"prompt": "rain", "models": "hailuo-2.3,nano-banana-2", "async": true, "replyRef": "rain"});
    let created = bench.create("agent", agent).await;
    bench.simulator.idle().await;
    let job = bench.vault.job_in(created["jobId"].as_str().unwrap(), &["stuck"]).await;
    let attempts: Vec<_> = job["assets"].as_array().unwrap().iter().map(|asset| &asset["attempts"]).collect();
    assert_eq!(attempts, [&json!(3), &json!(3)], "{job:#}");
    assert!(bench.simulator.stats().reads <= 2 * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_video_that_the_provider_no_longer_knows_ends_as_removed_when_its_links_are_dead() {
    let bench = Bench::with(Config { faults: "expire=0s".parse().unwrap(), ..Config::default() }, |settings| {
        settings.reconcile.minute = SHORT;
        settings.worker.max_attempts = 100;
    })
    .await;
    let created = bench.create("videos/create", json!({"prompt": "a boat", "replyRef": "boat"})).await;
    let video = created["videoId"].as_str().unwrap();
    bench.vault.job_in(video, &["archiving"]).await;
    bench.simulator.set_read_faults("get-404=1".parse().unwrap());
    let job = bench.vault.job_in(video, &["failed"]).await;
    assert_eq!((&job["outcome"], &job["assets"][0]["state"]), (&json!("removed"), &json!("stuck")), "{job:#}");
    assert_eq!(bench.vault.manifest(&job).await["job"]["outcome"], "removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_removed_by_the_provider_ends_removed_also_after_a_rebuild() {
    let mut bench = Bench::start("drop=1,remove=1", SHORT).await;
    let video = bench.video().await;
    let job = bench.vault.job_in(&video, &["failed"]).await;
    assert_eq!((&job["outcome"], &job["assets"]), (&json!("removed"), &json!([])));
    assert_eq!(bench.vault.manifest(&job).await["job"]["outcome"], "removed");
    bench.vault.stop().await;
    std::fs::remove_dir_all(bench.vault.settings.data_dir.join("state")).unwrap();
    bench.vault.start_again().await;
    assert_eq!(bench.vault.job(&video).await, job);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_and_an_agent_job_that_the_provider_denies_end_as_removed() {
    let bench = Bench::start("", SHORT).await;
    bench.simulator.set_read_faults("get-404=1".parse().unwrap());
    let agent = "p5-u4821-a7-bot:minimax";
    bench.vault.callback(json!({"imageId": "user:4821-minimax:7-image:3", "status": 1})).await;
    bench.vault.callback(json!({"jobId": agent, "status": "started"})).await;
    // It was made long before it was heard of, and all that while nobody asked.
    let old = json!({"jobId": "p6-u4821-a7-bot:minimax", "status": "started", "created": "2026-01-01T00:00:00.000Z"});
    bench.vault.callback(old).await;
    for id in ["user:4821-minimax:7-image:3", agent, "p6-u4821-a7-bot:minimax"] {
        let job = bench.vault.job_in(id, &["failed"]).await;
        assert_eq!(job["outcome"], "removed", "{job:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_job_stays_archived_when_the_provider_forgets_it() {
    let bench = Bench::start("", SHORT).await;
    let created = bench.create("videos/create", json!({"prompt": "a boat", "replyRef": "boat"})).await;
    let video = created["videoId"].as_str().unwrap();
    bench.simulator.idle().await;
    bench.vault.archived(video).await;
    bench.simulator.set_read_faults("get-404=1".parse().unwrap());
    bench.vault.callback(json!({"videoId": video, "status": 1, "replyRef": "boat"})).await;
    let asked = bench.simulator.stats().reads;
    let other = "user:4821-minimax:7-video:99";
    bench.vault.callback(json!({"videoId": other, "status": 1})).await;
    bench.vault.job_in(other, &["failed"]).await;
    assert!(bench.simulator.stats().reads > asked);
    assert_eq!(bench.vault.job(video).await["state"], "archived");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_say_nothing_new_write_nothing() {
    let mut bench = Bench::start("drop=1,get-running=1", SHORT).await;
    let video = bench.video().await;
    // The first answers to the scheduler and to discovery may tell more than the callback did.
    let state = async || (bench.journal_bytes(), bench.vault.job(&video).await);
    let mut before = state().await;
    for changes in 0.. {
        bench.asked(bench.simulator.stats().reads + 3).await;
        let after = state().await;
        if after == before {
            break;
        }
        assert!(changes < 3, "{before:?} became {after:?}");
        before = after;
    }
    // What is to be asked is known again after a restart.
    bench.vault.stop().await;
    bench.simulator.set_read_faults("".parse().unwrap());
    bench.vault.start_again().await;
    bench.vault.archived(&video).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_provider_is_asked_again_later() {
    let bench = Bench::start("drop=1,get-429=1", SHORT).await;
    let video = bench.video().await;
    bench.asked(1).await;
    bench.simulator.set_read_faults("".parse().unwrap());
    bench.vault.archived(&video).await;
    // Who looks for jobs that nobody has heard of may have found it first, and asked as well. In the second that the
    // provider wants to be left alone the schedule has fifty times to ask.
    let reads = bench.simulator.stats().reads;
    assert!((2..=4).contains(&reads), "it was not left alone for as long as it asked: {reads}");
}

/// Speech may be answered without its id, and so is an error.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_a_code_does_not_end_speech() {
    let bench = Bench::start("drop=1,get-500=1", SHORT).await;
    let created = bench.create("speech/create", json!({"prompt": "rain", "text": "It rains."})).await;
    let speech = created["audioId"].as_str().unwrap();
    bench.vault.callback(json!({"audioId": speech, "statusLabel": "processing", "statusFinal": false})).await;
    bench.asked(3).await;
    let job = bench.vault.job(speech).await;
    assert_eq!((&job["state"], &job["outcome"], &job["error"]), (&json!("running"), &Value::Null, &Value::Null));
    bench.simulator.set_read_faults("".parse().unwrap());
    bench.vault.archived(speech).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_on_hold_and_a_refused_token_are_said_and_left_alone() {
    const ON_HOLD: &str = "get-596=1";
    for (faults, says) in [(ON_HOLD, "an account is on hold"), ("get-401=1,list-401=1", "the token is refused")] {
        let mut bench = Bench::start("drop=1", SHORT).await;
        bench.readyz(None).await;
        bench.simulator.set_read_faults(faults.parse().unwrap());
        let video = bench.video().await;
        bench.readyz(Some(says)).await;
        let metrics = bench.vault.client.get(bench.vault.url("/metrics")).send().await.unwrap().text().await.unwrap();
        let gauge = if faults == ON_HOLD { "provider_accounts_on_hold 1" } else { "provider_token_refused 1" };
        assert!(metrics.contains(gauge), "{metrics}");
        bench.simulator.set_read_faults("".parse().unwrap());
        if faults == ON_HOLD {
            // Another account is not concerned.
            let created = bench.create("videos/create", json!({"prompt": "a boat", "account": "8"})).await;
            let other = created["videoId"].as_str().unwrap();
            bench.vault.callback(json!({"videoId": other, "status": 0, "replyRef": "other"})).await;
            bench.vault.archived(other).await;
            assert_eq!(bench.vault.job(&video).await["state"], "running");
        }
        assert_eq!(bench.vault.job(&video).await["state"], "running");
        bench.vault.stop().await;
        bench.vault.start_again().await;
        bench.vault.archived(&video).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_nobody_registered_are_found_while_they_run() {
    let config = Config { pace: Duration::from_secs(3), ..Config::default() };
    let bench = Bench::with(config, |settings| settings.reconcile.minute = SHORT).await;
    bench.create_unheard("videos/create", json!({"prompt": "a boat", "account": "9"})).await;
    bench.create_unheard("images/create", json!({"prompt": "a boat", "replyRef": "kettle"})).await;
    let agent = json!({"prompt": "rain", "models": "hailuo-2.3", "async": true});
    bench.create_unheard("agent", agent).await;
    bench.all_archived().await;
    assert_eq!(bench.vault.get("/api/v1/jobs?replyRef=kettle").await.1["items"].as_array().unwrap().len(), 1);
}

/// The provider names the caller's replyUrl and replyRef in its scheduler alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_tied_to_the_ref_that_the_scheduler_names() {
    let config = Config { pace: Duration::from_secs(60), faults: "drop=1".parse().unwrap(), ..Config::default() };
    let bench = Bench::with(config, |settings| settings.intake.adopt_unknown_refs = false).await;
    let register = async |name: &str| {
        let (status, reference) = bench.vault.send("POST", "/api/v1/refs", &json!({"replyRef": name})).await;
        assert_eq!(status, 201, "{reference}");
        reference
    };
    let (by_url, by_name) = (register("harbour").await, register("kettle").await);
    let video = json!({"prompt": "a boat", "account": "9", "replyUrl": by_url["replyUrl"], "replyRef": "another"});
    bench.create_unheard("videos/create", video).await;
    bench.create_unheard("images/create", json!({"prompt": "a boat", "replyRef": "kettle"})).await;
    let stranger = json!({"prompt": "a boat", "account": "8", "replyRef": "nobody registered this"});
    bench.create_unheard("videos/create", stranger).await;
    let task = bench.task("reconcile", json!({})).await;
    assert_eq!(task["report"]["discovered"], 2, "{task:#}");
    for (reference, name) in [(&by_url, "harbour"), (&by_name, "kettle")] {
        let jobs = bench.vault.get(&format!("/api/v1/jobs?replyRef={name}")).await.1;
        assert_eq!(jobs["items"][0]["refId"], reference["refId"], "{jobs:#}");
        assert_eq!(jobs["items"].as_array().unwrap().len(), 1);
    }
    let task = bench.task("reconcile", json!({})).await;
    assert_eq!(task["report"]["discovered"], 0, "{task:#}");
    assert_eq!(bench.vault.get("/api/v1/jobs").await.1["items"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unregistered_jobs_are_left_where_configured() {
    let config = Config { pace: Duration::from_secs(60), ..Config::default() };
    let bench = Bench::with(config, |settings| settings.intake.adopt_unknown_refs = false).await;
    bench.create_unheard("videos/create", json!({"prompt": "a boat"})).await;
    let task = bench.task("reconcile", json!({})).await;
    assert_eq!((&task["report"]["discovered"], bench.simulator.stats().reads), (&json!(0), 1), "{task:#}");
    assert_eq!(bench.vault.get("/api/v1/jobs").await.1["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_of_a_list_ends_what_no_callback_ended_and_adopts_what_it_may() {
    let config = Config { faults: "drop=1".parse().unwrap(), ..Config::default() };
    let bench = Bench::with(config, |settings| {
        settings.reconcile.minute = SHORT;
        settings.reconcile.reads_lists = true;
        settings.reconcile.adopt_listed = true;
    })
    .await;
    // Asked about by its id, a job is said to run on: only the list tells its end.
    bench.simulator.set_read_faults("get-running=1".parse().unwrap());
    let known = bench.video().await;
    let unknown = bench.create_unheard("videos/create", json!({"prompt": "x"})).await;
    bench.vault.archived(&known).await;
    bench.vault.archived(unknown["videoId"].as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn songs_speech_and_agent_jobs_are_imported_by_their_ids() {
    let bench = Bench::with(Config::default(), |_| {}).await;
    let agent = json!({"prompt": "rain", "models": "kolors", "async": true});
    let agent = bench.create_unheard("agent", agent).await["jobId"].as_str().unwrap().to_owned();
    let spoken = json!({"text": "hello", "voice_id": "1"});
    let spoken = bench.create_unheard("audio/create-mp3", spoken).await["audio_id"].as_str().unwrap().to_owned();
    let url = format!("{}/v1/minimax/agent/{agent}", bench.simulator.base_url());
    let ended = async {
        while bench.vault.client.get(&url).bearer_auth("t").send().await.unwrap().json::<Value>().await.unwrap()["status"]
            != "completed"
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it does not end");
    let gone = "p9-u4821-a7-bot:minimax";
    let task = bench.task("backfill", json!({"kind": "jobs", "ids": [agent, spoken, gone]})).await;
    assert_eq!((&task["report"]["imported"], &task["report"]["unanswered"]), (&json!(2), &json!(1)), "{task:#}");
    bench.vault.archived(&agent).await;
    bench.vault.archived(&spoken).await;
    for body in [
        json!({"kind": "jobs"}),
        json!({"kind": "jobs", "ids": []}),
        json!({"kind": "jobs", "ids": ["x"]}),
        json!({"kind": "jobs", "ids": [agent], "all": true}),
        json!({"kind": "videos", "ids": [agent]}),
    ] {
        assert_eq!(bench.vault.send("POST", "/api/v1/tasks/backfill", &body).await.0, 422, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_show_their_credits_and_when_their_login_expires() {
    let bench = Bench::with(Config::default(), |settings| {
        settings.reconcile.minute = SHORT;
        settings.reconcile.reads_lists = true;
    })
    .await;
    let url = format!("{}/v1/minimax/accounts", bench.simulator.base_url());
    let account = json!({"url": "https://hailuoai.video", "token": "one", "maxJobs": 2});
    bench.vault.client.post(url).bearer_auth("t").json(&account).send().await.unwrap();
    let shown = async {
        loop {
            let metrics =
                bench.vault.client.get(bench.vault.url("/metrics")).send().await.unwrap().text().await.unwrap();
            let has =
                |name: &str| metrics.lines().any(|line| line.starts_with(&format!("replyvault_{name}{{account=")));
            if has("provider_account_credits") && has("provider_account_expires_timestamp_seconds") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.expect("no account is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_missing_is_asked_for() {
    let bench = Bench::start("processing=1", SHORT).await;
    let agent = json!({"prompt": "rain", "models": "hailuo-2.3,speech-2.5-hd-preview", "async": true});
    bench.create("agent", agent).await;
    bench.all_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_asks_at_once_for_a_result_that_is_missing_and_for_an_end() {
    let bench = Bench::start("drop=1", NEVER).await;
    let (stuck, running) = (bench.video().await, bench.video().await);
    bench.ended(&stuck).await;
    bench.ended(&running).await;
    bench.vault.callback(json!({"videoId": stuck, "status": 2})).await;
    let job = bench.vault.job_in(&stuck, &["stuck"]).await;
    assert_eq!(job["reason"], "no_media_url");
    for id in [&stuck, &running] {
        let path = format!("/api/v1/jobs/{}/retry", id.replace(':', "%3A"));
        assert_eq!(bench.vault.send("POST", &path, &Value::Null).await.0, 202);
    }
    bench.all_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_asked_about_when_somebody_wants_it() {
    let bench = Bench::start("drop=1,expire=1h", NEVER).await;
    let (first, second) = (bench.video().await, bench.video().await);
    bench.vault.callback(json!({"imageId": "user:4821-minimax:7-image:3", "status": 1})).await;
    // Stuck for want of a result that the provider does not have.
    bench.vault.callback(json!({"videoId": "user:4821-minimax:7-video:4", "status": 2})).await;
    bench.ended(&first).await;
    bench.ended(&second).await;
    let task = bench.task("reconcile", json!({})).await;
    let report = json!({"complete": true, "asked": 4, "changed": 2, "removed": 0, "running": 1, "unanswered": 2,
        "onHold": 0, "discovered": 0});
    assert_eq!((&task["state"], &task["report"]), (&json!("done"), &report), "{task:#}");
    assert_eq!(task["progress"], json!({"done": 4, "total": 4}));
    bench.all_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconciliation_says_what_kept_it() {
    let bench = Bench::start("drop=1,get-596=1", NEVER).await;
    bench.video().await;
    bench.video().await;
    let task = bench.task("reconcile", json!({})).await;
    assert_eq!((&task["state"], &task["report"]["onHold"]), (&json!("done"), &json!(2)), "{task:#}");
    assert_eq!(bench.simulator.stats().reads, 1, "an account on hold is asked about once");
    let bench = Bench::start("drop=1,get-401=1", NEVER).await;
    let video = bench.video().await;
    let task = bench.task("reconcile", json!({})).await;
    assert_eq!((&task["state"], &task["error"]), (&json!("failed"), &json!("the provider refuses provider.api_token")));
    bench.simulator.set_read_faults("".parse().unwrap());
    bench.ended(&video).await;
    // Mended, it works although nobody else would ask again yet.
    bench.simulator.set_read_faults("get-429=0.5".parse().unwrap());
    assert_eq!(bench.task("reconcile", json!({})).await["state"], "done");
    bench.vault.archived(&video).await;
}

/// Every API whose page names a list of what runs.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_at_the_apis_in_use_is_found_there() {
    let config = Config { pace: Duration::from_secs(600), ..Config::default() };
    let bench = Bench::with(config, |_| {}).await;
    let found = [
        ("minimax", "speech/create"),
        ("flowmusic", "music"),
        ("dreamina", "images"),
        ("kling", "images/kolors"),
        ("mureka", "speech"),
        ("tempolor", "music/song"),
        ("gemini-notebook", "artifacts"),
    ];
    let reference = bench.vault.send("POST", "/api/v1/refs", &json!({"replyRef": "theirs"})).await.1;
    let reply_url = reference["replyUrl"].as_str().unwrap();
    for (provider, path) in found {
        let call = Simulator::creates().find(|call| call.provider == provider && call.path == path).unwrap();
        create(&bench.vault.client, &bench.simulator, &call, reply_url, "theirs").await;
    }
    let made: Vec<String> = bench.simulator.truth().iter().map(|job| job.job_id.to_string()).collect();
    assert_eq!(made.len(), 8);
    let known = async || {
        let mut known = Vec::new();
        for id in &made {
            let (status, job) = bench.vault.get(&format!("/api/v1/jobs/{}", encoded(id))).await;
            if status == 200 {
                assert_eq!((&job["state"], &job["replyRef"]), (&json!("running"), &json!("theirs")), "{job:#}");
                known.push(job["provider"].as_str().unwrap().to_owned());
            }
        }
        known
    };
    // Nothing is here of the others yet: they are not asked.
    let task = bench.task("reconcile", json!({})).await;
    assert_eq!((&task["report"]["discovered"], known().await), (&json!(1), vec!["minimax".to_owned()]), "{task:#}");
    for (provider, _) in &found[1..] {
        let call = Simulator::creates().find(|call| call.provider == *provider).unwrap();
        // The callback of a job that is not the simulator's.
        let elsewhere = Simulator::start(Config { seed: 2, ..Config::default() }).await.unwrap();
        create(&bench.vault.client, &elsewhere, &call, &bench.vault.channel_url(), "other").await;
        elsewhere.idle().await;
        assert!(elsewhere.stats().callbacks_acked > 0, "{provider}");
        elsewhere.stop().await;
    }
    let task = bench.task("reconcile", json!({})).await;
    assert_eq!(task["report"]["discovered"], 7, "{task:#}");
    assert_eq!(known().await.len(), 8);
}

/// What a list shows first is taken in where that is asked for, of every API in use.
#[tokio::test(flavor = "multi_thread")]
async fn ends_that_only_a_list_of_another_api_shows_are_found_there() {
    let bench = Bench::with(Config::default(), |settings| {
        settings.reconcile.minute = Duration::from_millis(100);
        settings.reconcile.reads_lists = true;
        settings.reconcile.adopt_listed = true;
    })
    .await;
    for provider in ["kling", "pixverse"] {
        for reply_url in ["http://127.0.0.1:9/", &bench.vault.channel_url()] {
            let call = Simulator::creates().find(|call| call.provider == provider).unwrap();
            create(&bench.vault.client, &bench.simulator, &call, reply_url, provider).await;
        }
    }
    bench.simulator.idle().await;
    for job in bench.simulator.truth() {
        let job = bench.vault.job_in(&encoded(job.job_id.as_str()), &["archived"]).await;
        assert_eq!(job["assets"][0]["state"], "stored");
    }
}
