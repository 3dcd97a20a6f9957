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
