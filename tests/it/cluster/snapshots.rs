//! Snapshots of the state: new replicas begin with them, and nobody depends on them.

use std::path::{Path, PathBuf};

use super::{Replicas, caught_up, until};
use crate::support::child::Program;
use crate::support::vault::{completed, video_id};

impl Replicas {
    fn snapshots(&self) -> Vec<PathBuf> {
        files(&self.s3.root.path().join(&self.s3.bucket).join("_replyvault/snapshots"))
    }

    fn snapshot_parts(&self) -> Vec<PathBuf> {
        files(&self.s3.root.path().join(&self.s3.bucket).join("_replyvault/snapshot-parts"))
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().map(|item| item.unwrap().path());
    let mut found: Vec<_> = found.filter(|path| path.extension().is_some_and(|end| end == "enc")).collect();
    found.sort();
    found
}

/// What `cluster snapshot` says, and its exit code.
fn snapshot(program: &Program) -> (String, Option<i32>) {
    let said = program.command(&["cluster", "snapshot"]).output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    (String::from_utf8(text).unwrap(), said.status.code())
}

const BEGINS: &str = "this replica begins with a snapshot";
const JOBS: u64 = 30;

/// A replica with some archived jobs, and a snapshot of them in the bucket.
async fn with_snapshot() -> Option<(Replicas, crate::support::child::Process)> {
    let replicas = Replicas::prepare(1).await?;
    let process = replicas.programs[0].start().await;
    for number in 0..JOBS {
        process.post_until_accepted(&completed(number, &replicas.media.generated(number, 1000))).await;
    }
    for number in 0..JOBS {
        process.job_in(&video_id(number), "archived").await;
    }
    let (said, code) = snapshot(&replicas.programs[0]);
    assert!(code == Some(0) && said.contains("a snapshot of"), "{said}");
    assert_eq!(replicas.snapshots().len(), 1);
    Some((replicas, process))
}

/// What a snapshot has, a new replica does not fold; what came after it, it does; and it has what all the others have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_comes_later_begins_with_a_snapshot() {
    let Some((mut replicas, first)) = with_snapshot().await else { return };
    first.post_until_accepted(&completed(JOBS, &replicas.media.generated(JOBS, 1000))).await;
    first.job_in(&video_id(JOBS), "archived").await;
    replicas.add();
    let later = replicas.programs[1].start().await;
    for number in 0..=JOBS {
        later.job_in(&video_id(number), "archived").await;
    }
    assert!(later.log().contains(BEGINS), "{}", later.log());
    later.post_until_accepted(&completed(JOBS + 1, &replicas.media.generated(JOBS + 1, 1000))).await;
    for process in [&first, &later] {
        process.job_in(&video_id(JOBS + 1), "archived").await;
        caught_up(process).await;
    }
    for process in [&first, &later] {
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    }
    replicas.assert_alike().await;
    // Its copy of the log is whole: it can move to one machine, and be folded anew.
    for program in &replicas.programs[1..] {
        let said = program.command(&["cluster", "export"]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}

/// The second snapshot goes on from the first, and says when there is nothing new; of many, the two newest stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_snapshots_the_two_newest_stay() {
    let Some((replicas, process)) = with_snapshot().await else { return };
    let (said, code) = snapshot(&replicas.programs[0]);
    assert!(code == Some(0) && said.contains("has all"), "{said}");
    let first = replicas.snapshots();
    // What a maker that was killed leaves behind.
    let parts = replicas.s3.root.path().join(&replicas.s3.bucket).join("_replyvault/snapshot-parts");
    let left = parts.join("00000000000000000001-0011223344556677-00000000.enc");
    std::fs::write(&left, "x").unwrap();
    for round in 0..3 {
        let number = JOBS + round;
        process.post_until_accepted(&completed(number, &replicas.media.generated(number, 1000))).await;
        process.job_in(&video_id(number), "archived").await;
        let (said, code) = snapshot(&replicas.programs[0]);
        assert!(code == Some(0) && said.contains("a snapshot of"), "{said}");
    }
    let whole = replicas.snapshots();
    assert!(whole.len() == 2 && !whole.contains(&first[0]), "{whole:#?}");
    assert!(!left.exists());
    let id = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap()[..37].to_owned();
    let known: Vec<_> = whole.iter().map(id).collect();
    assert!(replicas.snapshot_parts().iter().all(|part| known.contains(&id(part))), "{:#?}", replicas.snapshot_parts());
}

/// One flipped bit anywhere in the newest: the one before it serves; in both: the log does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_snapshot_is_passed_over() {
    let Some((mut replicas, first)) = with_snapshot().await else { return };
    first.post_until_accepted(&completed(JOBS, &replicas.media.generated(JOBS, 1000))).await;
    first.job_in(&video_id(JOBS), "archived").await;
    assert_eq!(snapshot(&replicas.programs[0]).1, Some(0));
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    flip(replicas.snapshot_parts().last().unwrap());
    for (place, is_last) in [(1, false), (2, true)] {
        if is_last {
            replicas.snapshots().iter().for_each(|path| flip(path));
        }
        replicas.add();
        let later = replicas.programs[place].start().await;
        for number in 0..=JOBS {
            later.job_in(&video_id(number), "archived").await;
        }
        let log = later.log();
        assert_eq!(log.contains(BEGINS), !is_last, "{log}");
        assert_eq!(log.contains("cannot begin with a snapshot"), is_last, "{log}");
        assert_eq!(later.terminate().await, Some(0));
    }
}

/// After the database was replaced by an empty one, a snapshot of the log before is no beginning for the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_of_another_log_is_passed_over() {
    let Some((mut replicas, first)) = with_snapshot().await else { return };
    assert_eq!(first.terminate().await, Some(0));
    replicas.postgres.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    replicas.add();
    let later = replicas.programs[1].start().await;
    later.post_until_accepted(&completed(JOBS, &replicas.media.generated(JOBS, 1000))).await;
    later.job_in(&video_id(JOBS), "archived").await;
    assert!(later.get(&format!("/api/v1/jobs/{}", video_id(0))).await.is_none(), "{}", later.log());
    assert!(!later.log().contains(BEGINS), "{}", later.log());
}

/// The service makes them by itself, one replica at a time; a replica whose state is damaged begins with one, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_makes_snapshots_as_the_log_grows_and_mends_a_damaged_state_with_one() {
    let Some(mut replicas) = Replicas::prepare(2).await else { return };
    for program in &mut replicas.programs {
        program.failure_points = "snapshot.hurry=return".to_owned();
    }
    let processes = replicas.start().await;
    for number in 0..JOBS {
        let process = &processes[number as usize % 2];
        process.post_until_accepted(&completed(number, &replicas.media.generated(number, 1000))).await;
    }
    for number in 0..JOBS {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    let made = || processes.iter().any(|process| process.log().contains("a snapshot of the state was made"));
    until("a snapshot is made", || async { made() && replicas.snapshots().len() == 2 }).await;
    for process in &processes {
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    }
    let state = replicas.programs[0].dir.join("data/state/db");
    let length = std::fs::metadata(&state).unwrap().len() as usize;
    std::fs::write(&state, vec![0xA5; length]).unwrap();
    let again = replicas.programs[0].start().await;
    for number in 0..JOBS {
        again.job_in(&video_id(number), "archived").await;
    }
    assert!(again.log().contains(BEGINS), "{}", again.log());
}
