//! Copies of what there must be one of: an older one of the log, a second one of a replica's directory.

use std::process::Command;

use rustix::process::Signal;

use super::{Replicas, caught_up, nothing_waits, until};
use crate::support::child::Process;
use crate::support::vault::{completed, video_id};

/// PostgreSQL that has lost commits, as an older copy has or a standby that lacked them, is noticed by whoever has read them; and
/// whoever has read them has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_that_postgres_has_lost_stop_the_replicas_and_come_back_from_one_of_them() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    let post = async |process: &Process, number: u64| {
        let url = replicas.media.generated(number, 1000);
        process.post_until_accepted(&completed(number, &url)).await;
    };
    for number in 0..5 {
        post(&processes[0], number).await;
    }
    replicas.postgres.end(Signal::INT);
    replicas.postgres.save();
    replicas.postgres.begin().await;
    for number in 5..15 {
        post(&processes[number as usize % 2], number).await;
    }
    for number in 0..15 {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    for process in &processes {
        nothing_waits(process).await;
        caught_up(process).await;
    }
    replicas.postgres.end(Signal::INT);
    replicas.postgres.put_back();
    replicas.postgres.begin().await;
    for process in &processes {
        assert_eq!(process.exit_code().await, Some(1));
        assert!(process.log().contains("lacks what this replica has read from it"), "{}", process.log());
    }
    let run = |arguments: &[&str]| {
        let done = replicas.programs[0].command(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    until("they are no members any more", || async {
        replicas.postgres.ask("SELECT count(*) FROM replyvault_replica WHERE until > clock_timestamp()").await == ["0"]
    })
    .await;
    run(&["cluster", "export"]);
    let tables = "replyvault_head, replyvault_segment, replyvault_journal, replyvault_replica, replyvault_lease, replyvault_note";
    replicas.postgres.run(&format!("DROP TABLE {tables}")).await;
    run(&["cluster", "import"]);
    for folder in ["journal", "state"] {
        std::fs::remove_dir_all(replicas.programs[1].dir.join("data").join(folder)).unwrap();
    }
    let processes = replicas.start().await;
    post(&processes[1], 15).await;
    for number in 0..16 {
        for process in &processes {
            process.job_in(&video_id(number), "archived").await;
        }
    }
    assert_eq!(replicas.objects().len(), 32);
}

/// A replica that was stopped meanwhile notices at its next start that what it has read was lost, also when others have appended
/// more than that since.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_starts_after_commits_were_lost_stops_although_the_log_has_grown() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let post = async |process: &Process, number: u64| {
        process.post_until_accepted(&completed(number, &replicas.media.generated(number, 1000))).await;
    };
    let stop = async |process: &Process| {
        nothing_waits(process).await;
        caught_up(process).await;
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    };
    let processes = replicas.start().await;
    post(&processes[0], 0).await;
    for process in &processes {
        process.job_in(&video_id(0), "archived").await;
        stop(process).await;
    }
    replicas.postgres.end(Signal::INT);
    replicas.postgres.save();
    replicas.postgres.begin().await;
    let second = replicas.programs[1].start().await;
    post(&second, 1).await;
    second.job_in(&video_id(1), "archived").await;
    stop(&second).await;
    let has_read = replicas.postgres.run("SELECT max(position) FROM replyvault_journal").await[0].clone();
    replicas.postgres.end(Signal::INT);
    replicas.postgres.put_back();
    replicas.postgres.begin().await;
    let first = replicas.programs[0].start().await;
    let is_longer = format!("SELECT max(position) > {has_read} FROM replyvault_journal");
    let mut number = 2;
    while number < 10 || replicas.postgres.run(&is_longer).await != ["t"] {
        post(&first, number).await;
        number += 1;
    }
    nothing_waits(&first).await;
    let second = replicas.programs[1].listen().await;
    assert_eq!(second.exit_code().await, Some(1), "{}", second.log());
    assert!(second.log().contains("lacks what this replica has read from it"), "{}", second.log());
}

/// Through a pool a connection may outlive the server behind it: then its next append tells that commits were lost, whosever they
/// were.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_that_are_lost_behind_a_connection_stop_the_replica_that_appends_next() {
    const LOSE: &str = "WITH lost AS (
            DELETE FROM replyvault_journal WHERE position = (SELECT max(position) FROM replyvault_journal)
            RETURNING position
        ) UPDATE replyvault_head SET position = lost.position FROM lost";
    const LOSE_OWN: &str = "UPDATE replyvault_replica SET serial = serial - 1, committed = committed - 1";
    for lose in [LOSE.to_owned(), format!("{LOSE}; {LOSE_OWN}")] {
        let Some(replicas) = Replicas::prepare(1).await else { return };
        let process = replicas.programs[0].start().await;
        process.post_until_accepted(&completed(0, &replicas.media.generated(0, 1000))).await;
        process.job_in(&video_id(0), "archived").await;
        nothing_waits(&process).await;
        caught_up(&process).await;
        replicas.postgres.run(&lose).await;
        process.post(&completed(1, &replicas.media.generated(1, 1000))).await;
        assert_eq!(process.exit_code().await, Some(1), "{}", process.log());
        assert!(process.log().contains("lacks what this replica has read from it"), "{}", process.log());
    }
}

/// Of two processes with copies of one data directory, the one that finds the other in its place stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_copies_of_a_replica_the_first_stops() {
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let first = replicas.programs[0].start().await;
    nothing_waits(&first).await;
    let original = replicas.programs[0].dir.join("data");
    let copy = replicas.add().dir.join("data");
    // A file that goes away meanwhile makes it fail.
    let is_copied = || async {
        let _ = std::fs::remove_dir_all(&copy);
        Command::new("cp").arg("-r").args([&original, &copy]).status().unwrap().success()
    };
    until("it is copied", is_copied).await;
    let second = replicas.programs[1].start().await;
    assert_eq!(first.exit_code().await, Some(1), "{}", first.log());
    assert!(first.log().contains("another process is a member of the cluster under the name"), "{}", first.log());
    let url = replicas.media.generated(1, 1000);
    second.post_until_accepted(&completed(1, &url)).await;
    second.job_in(&video_id(1), "archived").await;
}
