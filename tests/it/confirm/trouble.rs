//! A provider that gives no answer: whatever waits goes on waiting, and nothing is lost.

use replyvault::domain::{Target, Timestamp};
use replyvault::intake::Intake;
use replyvault::journal::{CallbackEntry, Durability, Entry, Event};

use super::*;
use crate::support::vault::completed;

async fn retry(bench: &Bench, video: &str) {
    let url = bench.vault.url(&format!("/api/v1/jobs/{}/retry", video.replace(':', "%3A")));
    let answer = bench.vault.client.post(url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_out_of_reach_means_wait() {
    // No patience at all: only what the provider says uses it up.
    for fault in ["get-500=1", "get-402=1", "get-reset=1", "get-429=1", "get-401=1", "get-596=1"] {
        let mut bench = Bench::start("drop=1", Duration::ZERO).await;
        let video = bench.video().await;
        let truth = bench.truth(&video).await;
        bench.simulator.set_read_faults(fault.parse().unwrap());
        bench.vault.callback(truth).await;
        let waits_for_long = matches!(fault, "get-401=1" | "get-596=1");
        bench.asked(if waits_for_long { 1 } else { 2 }).await;
        assert_eq!(bench.vault.job(&video).await["state"], "running", "{fault}");
        let stats = bench.vault.get("/api/v1/stats").await.1;
        assert_eq!((&stats["queueDepth"], &stats["quarantined"]), (&json!(1), &json!(0)), "{fault}");
        let (status, ready) = bench.vault.get("/readyz").await;
        assert_eq!(status, 200, "{fault}");
        assert!(waits_for_long || ready["checks"]["provider"].is_string(), "{fault}: {ready:#}");
        bench.simulator.set_read_faults("".parse().unwrap());
        if waits_for_long {
            bench.rebuild().await;
            retry(&bench, &video).await;
        }
        bench.vault.archived(&video).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_at_the_providers_address_means_wait() {
    let address = crate::support::free_address();
    let vault = Vault::start_with(|settings| {
        settings.intake.confirm = true;
        settings.provider = Some(provider(&format!("http://{address}")));
        settings.confirm_patience = Duration::ZERO;
    })
    .await;
    let config = Config { faults: "drop=1".parse().unwrap(), listen: address, ..Config::default() };
    let body = json!({"videoId": "user:1-minimax:2-video:3", "status": 3});
    vault.callback(body).await;
    let simulator = Simulator::start(config).await.unwrap();
    let waited = async {
        while vault.get("/api/v1/stats").await.1["quarantined"] == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("it is not asked again");
    assert_eq!(simulator.stats().reads, 1, "nothing was used up while nobody answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_on_hold_is_left_alone_and_others_are_not() {
    let bench = Bench::start("drop=1", NEVER).await;
    let (first, second) = (bench.video().await, bench.video().await);
    let truths = [bench.truth(&first).await, bench.truth(&second).await];
    bench.simulator.set_read_faults("get-596=1".parse().unwrap());
    for truth in truths {
        bench.vault.callback(truth).await;
        bench.asked(1).await;
    }
    bench.simulator.set_read_faults("".parse().unwrap());
    retry(&bench, &second).await;
    let other = json!({"prompt": "a boat", "account": "5", "replyRef": "other"});
    let other = bench.create("videos/create", other).await["videoId"].as_str().unwrap().to_owned();
    let truth = bench.truth(&other).await;
    bench.vault.callback(truth).await;
    bench.vault.archived(&other).await;
    assert_eq!(bench.vault.job(&second).await["state"], "running");
    assert_eq!(bench.questions(), 2, "the one that was answered 596, and the one about the other account");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_finals_are_believed_once_confirm_is_switched_off() {
    let mut bench = Bench::start("drop=1", NEVER).await;
    let video = bench.video().await;
    let truth = bench.truth(&video).await;
    bench.simulator.set_read_faults("get-running=1".parse().unwrap());
    bench.vault.callback(truth).await;
    bench.asked(1).await;
    bench.vault.stop().await;
    bench.vault.settings.intake.confirm = false;
    bench.vault.start_again().await;
    retry(&bench, &video).await;
    bench.vault.archived(&video).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowding_out_takes_many_and_loses_nothing() {
    let bench = Bench::start("drop=1,get-500=1", NEVER).await;
    let video = bench.video().await;
    let body = |message: u64| json!({"videoId": video, "status": 3, "message": message});
    for message in 0..4 {
        bench.vault.callback(body(message)).await;
    }
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["quarantined"], 0);
    bench.vault.callback(body(4)).await;
    let id = bench.quarantined().await["quarantineId"].as_str().unwrap().to_owned();
    assert_eq!(bench.vault.get(&format!("/api/v1/quarantine/{id}")).await.1["body"], body(0));
    // A repeat of one that waits is counted and not kept again.
    bench.vault.callback(body(4)).await;
    assert_eq!(bench.vault.job(&video).await["callbacks"], 6);
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["quarantined"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_looks_old_is_not_refuted_at_the_first_question() {
    let bench = Bench::start("drop=1,get-running=1", NEVER).await;
    let video = bench.video().await;
    // The clock was behind when it came, or is ahead now.
    let at = Timestamp::from_millis_clamped(Timestamp::now().millis() - 4 * 24 * 3_600_000);
    let body = json!({"videoId": video, "status": 3}).to_string();
    let meaning = Intake::parse_callback(body.as_bytes());
    let entry = CallbackEntry {
        at,
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: true,
        asked: false,
        foreign: false,
        replay_of: None,
        body: body.into(),
    };
    let log = bench.vault.running().intake().log().clone();
    log.record_callback(Entry::Callback(entry), meaning).await.unwrap();
    bench.asked(1).await;
    let later = async {
        while bench.vault.running().intake().log().state().confirmations(1).unwrap()[0].0 <= Timestamp::now() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, later).await.expect("it is not asked again later");
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["quarantined"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_put_off_by_a_clock_that_was_ahead_is_asked_at_once() {
    let (answers, media) = (MediaServer::start(), MediaServer::start());
    let vault = with_answers(&answers).await;
    let truth = completed(1, &media.put("/v.mp4", mp4(1, 100), "video/mp4"));
    answers.put_after(&question(1), &[500], truth.to_string(), "application/json");
    vault.callback(truth).await;
    let log = vault.running().intake().log().clone();
    let is_due = || log.state().confirmations(1).unwrap().first().is_some_and(|(at, _)| *at <= Timestamp::now());
    let put_off = async {
        while answers.hits(&question(1)) == 0 || is_due() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, put_off).await.expect("it is not asked about");
    // As if it had been said by a clock that was a month ahead.
    let at = Timestamp::now().after(Duration::from_secs(30 * 24 * 3600));
    let event = Event::Unanswered { at, job: video_id(1).parse().unwrap(), due: at.after(Duration::from_secs(2)) };
    log.record(event, Durability::Buffered).await.unwrap();
    vault.archived(&video_id(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_ends_whose_questions_fail_hold_up_no_other() {
    for (status, forged) in [(500, 1), (403, 1), (500, 12), (403, 12)] {
        let (answers, media) = (MediaServer::start(), MediaServer::start());
        let vault = with_answers(&answers).await;
        for number in 1..=forged {
            answers.put_after(&question(number), &[status; 5000], "{}", "application/json");
            vault.callback(json!({"videoId": video_id(number), "status": 3})).await;
        }
        let asked = async {
            let hits = || (1..=forged).map(|number| answers.hits(&question(number))).sum::<usize>();
            while hits() < if forged == 1 { 2 } else { 4 } {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("it is not asked again");
        for number in [100, 101] {
            let truth = completed(number, &media.put("/v.mp4", mp4(number, 100), "video/mp4"));
            answers.put(&question(number), truth.to_string(), "application/json");
            vault.callback(truth).await;
            vault.archived(&video_id(number)).await;
        }
        assert_eq!(vault.job(&video_id(1)).await["state"], "running", "{status}");
        assert!(answers.hits(&question(1)) < 20, "{}", answers.hits(&question(1)));
    }
}

/// A refused token keeps everybody from asking for minutes, unless somebody who asks all the same gets an answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_anybody_ends_the_pause_after_a_refused_token() {
    let bench = Bench::start("drop=1", Duration::ZERO).await;
    let (video, other) = (bench.video().await, bench.video().await);
    let truth = bench.truth(&video).await;
    bench.simulator.set_read_faults("get-401=1".parse().unwrap());
    bench.vault.callback(truth).await;
    let refused = async {
        while bench.vault.get("/readyz").await.1["checks"]["provider"] != "the token is refused" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("nobody says that the token is refused");
    bench.simulator.set_read_faults("".parse().unwrap());
    let backfill = json!({"kind": "jobs", "ids": [other]});
    let (status, body) = bench.vault.send("POST", "/api/v1/tasks/backfill", &backfill).await;
    assert_eq!(status, 202, "{body}");
    bench.vault.archived(&video).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_without_an_answer_are_shown() {
    let answers = MediaServer::start();
    let vault = with_answers(&answers).await;
    let shows = async |expected: Value, ok: &str| {
        let shown = async {
            while vault.get("/readyz").await.1["checks"]["provider"] != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.unwrap_or_else(|_| panic!("{expected}"));
        let metrics = vault.client.get(vault.url("/metrics")).send().await.unwrap().text().await.unwrap();
        assert!(metrics.contains(&format!("replyvault_provider_ok {ok}\n")), "{metrics}");
    };
    for number in 1..=3 {
        answers.put_after(&question(number), &[500; 5000], "{}", "application/json");
    }
    vault.callback(json!({"videoId": video_id(1), "status": 3})).await;
    shows(json!("a question has got no answer"), "1").await;
    for number in 2..=3 {
        vault.callback(json!({"videoId": video_id(number), "status": 3})).await;
    }
    shows(json!("it does not answer"), "0").await;
    let body = json!({"videoId": video_id(4), "status": 3});
    answers.put(&question(4), body.to_string(), "application/json");
    vault.callback(body).await;
    vault.job_in(&video_id(4), &["failed"]).await;
}
