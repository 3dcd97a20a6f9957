//! From one machine to replicas and back; a replica that comes later.

use replyvault::domain::{Target, Timestamp};
use replyvault::journal::{CallbackEntry, Durability, Entry, Journal, Writer};
use serde_json::{Value, json};

use super::{Replicas, caught_up, until};
use crate::support::vault::{completed, video_id};

/// A vault of one machine becomes the first replica of several, with all that it has; and one machine's again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vault_of_one_machine_moves_into_the_log_and_back() {
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let url = replicas.postgres.url();
    replicas.programs[0].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    let alone = replicas.programs[0].start().await;
    for number in 0..30 {
        alone.post_until_accepted(&completed(number, &replicas.media.generated(number, 1000))).await;
    }
    alone.job_in(&video_id(29), "archived").await;
    assert_eq!(alone.terminate().await, Some(0));
    replicas.programs[0].set("CLUSTER__POSTGRES", url);
    let import = || {
        let said = replicas.programs[0].command(&["cluster", "import"]).output().unwrap();
        (said.status.code(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
    };
    let (code, said) = import();
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = import();
    assert!(code == Some(2) && said.contains("has a log already"), "{said}");
    replicas.add();
    let processes = replicas.start().await;
    for number in 0..30 {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    processes[1].post_until_accepted(&completed(30, &replicas.media.generated(30, 1000))).await;
    processes[0].job_in(&video_id(30), "archived").await;
    let export = |program: &crate::support::child::Program| {
        let said = program.command(&["cluster", "export"]).output().unwrap();
        (said.status.code(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
    };
    assert_eq!(processes[0].terminate().await, Some(0));
    let (code, said) = export(&replicas.programs[0]);
    assert!(code == Some(2) && said.contains("replicas still run"), "{said}");
    caught_up(&processes[1]).await;
    assert_eq!(processes[1].terminate().await, Some(0));
    replicas.programs[1].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    let refused = replicas.programs[1].command(&["serve"]).output().unwrap();
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("cluster export"), "{refused}");
    replicas.programs[1].set("CLUSTER__POSTGRES", replicas.postgres.url());
    let (code, said) = export(&replicas.programs[1]);
    assert_eq!(code, Some(0), "{said}");
    replicas.programs[1].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    let alone = replicas.programs[1].start().await;
    alone.post_until_accepted(&completed(31, &replicas.media.generated(31, 1000))).await;
    for number in 0..32 {
        alone.job_in(&video_id(number), "archived").await;
    }
    assert_eq!(replicas.objects().len(), 64);
}

/// A journal may begin at position 0, where no other segment can stand before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_comes_later_has_an_imported_journal_from_position_0_on() {
    const CALLBACKS: u64 = 5;
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let folder = replicas.programs[0].dir.join("data/journal");
    let mut writer = Writer::new(Journal::open(&folder).unwrap(), 0).unwrap();
    for number in 0..CALLBACKS {
        let callback = CallbackEntry {
            at: Timestamp::now(),
            target: Target::Channel,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: false,
            replay_of: None,
            body: completed(number, &replicas.media.generated(number, 1000)).to_string().into(),
        };
        writer.append(&[Entry::Callback(callback)], Durability::Synced).unwrap();
    }
    drop(writer);
    let said = replicas.programs[0].command(&["cluster", "import"]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let first = replicas.programs[0].start().await;
    first.job_in(&video_id(CALLBACKS - 1), "archived").await;
    replicas.add();
    let later = replicas.programs[1].start().await;
    for number in 0..CALLBACKS {
        later.job_in(&video_id(number), "archived").await;
    }
    assert!(!later.log().contains("a part of the journal is missing"), "{}", later.log());
}

/// Old segments leave PostgreSQL for the bucket, and a replica that comes later is made of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_comes_later_is_made_of_the_bucket_and_the_log() {
    let Some(mut replicas) = Replicas::prepare(2).await else { return };
    for program in &mut replicas.programs {
        program.set("DATA__JOURNAL_RETENTION", "1s".to_owned());
    }
    let mut processes = replicas.start().await;
    for number in 0..20 {
        processes[number as usize % 2]
            .post_until_accepted(&completed(number, &replicas.media.generated(number, 1000)))
            .await;
    }
    for number in 0..20 {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    let first = replicas.postgres.run("SELECT min(position) FROM replyvault_journal").await;
    until("the oldest segment has left", || async {
        replicas.postgres.run("SELECT min(position) FROM replyvault_journal").await != first
    })
    .await;
    replicas.add().set("DATA__JOURNAL_RETENTION", "1h".to_owned());
    processes.push(replicas.programs[2].start().await);
    for number in 0..20 {
        processes[2].job_in(&video_id(number), "archived").await;
    }
    processes[2].post_until_accepted(&completed(20, &replicas.media.generated(20, 1000))).await;
    processes[0].job_in(&video_id(20), "archived").await;
    assert_eq!(replicas.objects().len(), 42);
}

/// However large the callbacks in the log are, a replica that comes later has PostgreSQL send each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_comes_later_reads_large_callbacks_once() {
    const CALLBACKS: u64 = 40;
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let process = replicas.programs[0].start().await;
    for number in 0..CALLBACKS {
        let mut body = completed(number, "");
        body["status"] = json!(1);
        body["downloadURL"] = Value::Null;
        body["padding"] = json!("x".repeat(3 << 20));
        process.post_until_accepted(&body).await;
    }
    // Large payloads are in a table of their own, whose index is looked into once for each that is read.
    let sent = async || -> u64 {
        let said = "SELECT coalesce(idx_scan, 0) FROM pg_stat_all_tables
            WHERE relid = (SELECT reltoastrelid FROM pg_class WHERE relname = 'replyvault_journal')";
        replicas.postgres.run(said).await[0].parse().unwrap()
    };
    let before = sent().await;
    let later = replicas.programs[1].start().await;
    let last = format!("/api/v1/jobs/{}", video_id(CALLBACKS - 1));
    until("it has all", || async { later.get(&last).await.is_some() }).await;
    until("it is counted", || async { sent().await >= before + CALLBACKS }).await;
    let rows = sent().await - before;
    assert!(rows < 2 * CALLBACKS, "{rows} payloads were read for {CALLBACKS} callbacks");
}
