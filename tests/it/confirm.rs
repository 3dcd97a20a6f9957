//! `provider.confirm`: nothing follows from a final callback until the provider says the same.

pub(crate) mod crash;
mod shares;
mod trouble;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use replyvault::egress::{self, AllowedHosts};
use replyvault::provider::ClientConfig;
use replyvault::simulator::{Config, Simulator};
use serde_json::{Value, json};

use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{PATIENCE, TOKEN, Vault, video_id};

/// A provider and a vault that asks it.
struct Bench {
    simulator: Simulator,
    vault: Vault,
    client: reqwest::Client,
    /// GETs of the test itself.
    own_reads: AtomicU64,
}

impl Bench {
    /// `faults` of the simulator; `patience` of the vault.
    async fn start(faults: &str, patience: Duration) -> Self {
        let simulator =
            Simulator::start(Config { faults: faults.parse().unwrap(), ..Config::default() }).await.unwrap();
        let provider = provider(&simulator.base_url());
        let vault = Vault::start_with(|settings| {
            settings.intake.confirm = true;
            settings.provider = Some(provider);
            settings.confirm_patience = patience;
            // Nobody but whoever confirms asks.
            settings.reconcile.minute = NEVER;
        });
        let vault = vault.await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { simulator, vault, client, own_reads: AtomicU64::new(0) }
    }

    async fn create(&self, path: &str, mut body: Value) -> Value {
        body["replyUrl"] = self.vault.channel_url().into();
        let url = format!("{}/v1/minimax/{path}", self.simulator.base_url());
        self.client.post(url).bearer_auth("t").json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// A video that will be final, and its id.
    async fn video(&self) -> String {
        let created = self.create("videos/create", json!({"prompt": "a boat", "replyRef": "boat"})).await;
        created["videoId"].as_str().unwrap().to_owned()
    }

    /// What the provider calls back with at the end.
    async fn truth(&self, video: &str) -> Value {
        let url = format!("{}/v1/minimax/videos/{video}", self.simulator.base_url());
        let is_final = async {
            loop {
                self.own_reads.fetch_add(1, Ordering::Relaxed);
                let get = self.client.get(&url).bearer_auth("t");
                let mut body: Value = get.send().await.unwrap().json().await.unwrap();
                if body["statusFinal"] == true {
                    body["replyRef"] = "boat".into();
                    return body;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_final).await.expect("the job does not end")
    }

    /// How often the vault has asked.
    fn questions(&self) -> u64 {
        self.simulator.stats().reads - self.own_reads.load(Ordering::Relaxed)
    }

    /// The only body in quarantine, once it is there.
    async fn quarantined(&self) -> Value {
        let wait = async {
            loop {
                let found = self.vault.get("/api/v1/quarantine").await.1["items"].clone();
                if let Some(item) = found.get(0) {
                    assert_eq!(found.as_array().unwrap().len(), 1, "{found:#}");
                    return item.clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("nothing is quarantined")
    }

    async fn replay(&self, quarantined: &Value) -> Value {
        let id = quarantined["quarantineId"].as_str().unwrap();
        let replay = self.vault.client.post(self.vault.url(&format!("/api/v1/quarantine/{id}/replay")));
        let answer = replay.bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// The service again, from its journal alone.
    async fn rebuild(&mut self) {
        self.vault.stop().await;
        std::fs::remove_dir_all(self.vault.settings.data_dir.join("state")).unwrap();
        self.vault.start_again().await;
    }
}

fn provider(base_url: &str) -> ClientConfig {
    ClientConfig {
        base_url: base_url.parse().unwrap(),
        api_token: "token".into(),
        egress: egress::Config {
            allowed_hosts: AllowedHosts::Only(vec!["127.0.0.1".parse().unwrap()]),
            allow_http: true,
            allow_private_addresses: true,
        },
    }
}

/// A provider that answers each question as a test says: `MediaServer` under the paths of its API.
async fn with_answers(answers: &MediaServer) -> Vault {
    let provider = provider(&answers.url(""));
    Vault::start_with(|settings| {
        settings.intake.confirm = true;
        settings.provider = Some(provider);
        settings.reconcile.minute = NEVER;
    })
    .await
}

fn question(number: u64) -> String {
    format!("/v1/minimax/videos/{}", video_id(number))
}

/// For what the provider does not know yet.
const SOON: Duration = Duration::from_millis(300);
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_final_callback_is_archived() {
    let mut bench = Bench::start("repeat=0.3,disorder=0.3,expire=1h", NEVER).await;
    for number in 0..3 {
        bench.create("videos/create", json!({"prompt": "a boat", "replyRef": format!("v{number}")})).await;
        bench
            .create("images/create", json!({"prompt": "a boat", "quantity": 2, "replyRef": format!("i{number}")}))
            .await;
        let agent =
            json!({"prompt": "rain", "models": "hailuo-2.3,speech-2.5-hd-preview", "async": true, "replyRef": "a"});
        bench.create("agent", agent).await;
    }
    let truth = bench.simulator.truth();
    assert_eq!(truth.len(), 12);
    let mut before = Vec::new();
    for expected in &truth {
        let job = bench.vault.archived(expected.job_id.as_str()).await;
        let digests: Vec<_> = job["assets"].as_array().unwrap().iter().map(|asset| asset["sha256"].clone()).collect();
        let expected: Vec<_> = expected.files.iter().map(|file| json!(file.sha256.to_string())).collect();
        assert_eq!(digests, expected);
        assert_eq!(bench.vault.manifest(&job).await["callback"]["replyRef"].is_null(), job["kind"] == "agent");
        before.push(job);
    }
    assert!(bench.questions() >= 12);
    bench.simulator.idle().await;
    bench.rebuild().await;
    for (expected, before) in truth.iter().zip(before) {
        let mut after = bench.vault.job(expected.job_id.as_str()).await;
        for field in ["callbacks", "updatedAt"] {
            // A repeat may have come in between.
            after[field] = before[field].clone();
        }
        assert_eq!(after, before);
    }
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["queueDepth"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_end_changes_nothing_and_the_true_one_still_counts() {
    let mut bench = Bench::start("drop=1", SOON).await;
    let video = bench.video().await;
    let truth = bench.truth(&video).await;
    let forged = json!({"videoId": video, "status": 3, "statusFinal": true, "replyRef": "boat", "message": "forged"});
    let answer = bench.vault.callback(forged.clone()).await;
    assert_eq!(
        (&answer["state"], &answer["final"], &answer["replyRef"]),
        (&json!("running"), &json!(true), &json!("boat"))
    );
    let kept = bench.quarantined().await;
    assert_eq!((&kept["reason"], &kept["jobId"]), (&json!("not_confirmed"), &json!(video)));
    let job = bench.vault.job(&video).await;
    let shown = (&job["state"], &job["outcome"], &job["statusFinal"], &job["message"], &job["callbacks"]);
    assert_eq!(shown, (&json!("running"), &Value::Null, &json!(false), &Value::Null, &json!(1)));
    // Asked again, with the same end, under the same id; and what once was refuted is not taken for a repeat.
    let asked = bench.questions();
    assert_eq!(bench.replay(&kept).await["state"], "running");
    assert_eq!(bench.quarantined().await["quarantineId"], kept["quarantineId"]);
    assert_eq!(bench.questions(), asked + 1);
    let job = bench.vault.job(&video).await;
    bench.rebuild().await;
    assert_eq!(bench.vault.job(&video).await, job);
    assert_eq!(bench.quarantined().await["quarantineId"], kept["quarantineId"]);
    bench.vault.callback(truth).await;
    let job = bench.vault.archived(&video).await;
    assert_eq!((&job["callbacks"], &job["outcome"]), (&json!(3), &json!("completed")));
    // Nothing turns an archived job back, so nobody is asked.
    let asked = bench.questions();
    assert_eq!(bench.vault.callback(forged).await["state"], "archived");
    assert_eq!((bench.vault.job(&video).await["outcome"].clone(), bench.questions()), (json!("completed"), asked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_names_another_host_is_never_fetched() {
    let (bench, media) = (Bench::start("drop=1", SOON).await, MediaServer::start());
    let video = bench.video().await;
    let truth = bench.truth(&video).await;
    let mut forged = truth.clone();
    forged["videoURL"] = media.put("/forged.mp4", mp4(1, 100), "video/mp4").into();
    bench.vault.callback(forged).await;
    assert_eq!(bench.quarantined().await["reason"], "not_confirmed");
    bench.vault.callback(truth).await;
    let job = bench.vault.archived(&video).await;
    assert_eq!((job["assets"].as_array().unwrap().len(), media.hits("/forged.mp4")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_true_callback_is_not_believed_when_the_provider_says_otherwise() {
    for fault in ["get-failed=1", "get-host=1", "get-404=1", "get-running=1"] {
        let bench = Bench::start("drop=1", SOON).await;
        let video = bench.video().await;
        let truth = bench.truth(&video).await;
        bench.simulator.set_read_faults(fault.parse().unwrap());
        bench.vault.callback(truth).await;
        let kept = bench.quarantined().await;
        assert_eq!(bench.vault.job(&video).await["state"], "running", "{fault}");
        bench.simulator.set_read_faults("".parse().unwrap());
        bench.replay(&kept).await;
        bench.vault.archived(&video).await;
        assert_eq!(bench.vault.get("/api/v1/quarantine").await.1["items"], json!([]), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_the_provider_does_not_know_ends_nowhere() {
    let bench = Bench::start("", SOON).await;
    let forged = json!({"videoId": "user:1-minimax:2-video:3", "status": 3});
    bench.vault.callback(forged).await;
    assert_eq!(bench.quarantined().await["jobId"], "user:1-minimax:2-video:3");
    assert!(bench.questions() >= 2, "it is asked more than once");
    assert_eq!(bench.vault.job("user:1-minimax:2-video:3").await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_faster_than_the_provider_waits_for_it() {
    let bench = Bench::start("drop=1", NEVER).await;
    let video = bench.video().await;
    let truth = bench.truth(&video).await;
    bench.simulator.set_read_faults("get-running=1".parse().unwrap());
    bench.vault.callback(truth).await;
    bench.asked(2).await;
    bench.simulator.set_read_faults("".parse().unwrap());
    bench.vault.archived(&video).await;
}

impl Bench {
    /// Waits until the vault has asked `times`.
    async fn asked(&self, times: u64) {
        let asked = async {
            while self.questions() < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("the provider is not asked");
    }
}
