//! Jobs that are read together, and pages of them.

use super::*;

/// An agent job with so many files: beyond four, each has a record of its own.
fn with_files(number: u32, files: usize) -> serde_json::Value {
    let file = |file: usize| json!({"attachmentID": format!("a{file}"), "file": {"fileName": "f.mp4", "fileUrl": format!("https://h/{file}")}});
    let attachments: Vec<_> = (0..files).map(file).collect();
    json!({"jobId": agent_id(number), "status": "completed", "response": {"attachments": attachments}})
}

fn agent_id(number: u32) -> JobId {
    format!("p{number}-u2-a3-bot:minimax").parse().unwrap()
}

#[tokio::test]
async fn jobs_read_together_are_those_read_one_by_one() {
    const JOBS: u32 = 120;
    let bench = Bench::new().await;
    let mut sequences = Vec::new();
    for number in 1..=JOBS {
        let (job, body) = match number % 7 {
            0 => (agent_id(number), with_files(number, 9)),
            _ => (id(number), done(number, None)),
        };
        bench.post(Target::Channel, body).await;
        sequences.push(bench.log.state().job(&job).unwrap().unwrap().sequence);
    }
    let check = |state: &State| {
        let far = [&sequences[..9], &sequences[90..], &[u64::MAX, 0]].concat();
        let sparse: Vec<_> = sequences.iter().copied().step_by(11).rev().collect();
        for wanted in [sequences.clone(), sparse, far, vec![sequences[3]], Vec::new()] {
            let batch = state.job_batch(wanted.iter().copied()).unwrap();
            for sequence in wanted {
                assert_eq!(batch.weighed(sequence).unwrap(), state.weighed_job(sequence).unwrap());
                assert_eq!(batch.without_files(sequence).unwrap(), state.job_without_files(sequence).unwrap());
            }
        }
        let listed = state.jobs(&JobFilter::default(), JOBS as usize, None).unwrap().items;
        let one_by_one = sequences.iter().rev().map(|sequence| state.job_at(*sequence).unwrap().unwrap());
        assert!(listed.into_iter().eq(one_by_one));
    };
    check(bench.log.state());
    let (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.moved_aside, recovery.replayed), (None, 0));
    check(bench.log.state());
}

#[tokio::test]
async fn a_page_of_large_jobs_has_fewer_of_them() {
    let bench = Bench::new().await;
    for number in 1..=60 {
        let mut body = with_files(number, 4);
        for file in body["response"]["attachments"].as_array_mut().unwrap() {
            file["file"]["fileUrl"] = format!("https://h/{}", "u".repeat(8000)).into();
        }
        bench.post(Target::Channel, body).await;
    }
    let state = bench.log.state();
    let mut page = state.jobs(&JobFilter::default(), 60, None).unwrap();
    let mut seen = page.items.len();
    assert!((28..=36).contains(&seen), "about a MiB: {seen}");
    while let Some(next) = page.next {
        page = state.jobs(&JobFilter::default(), 60, Some(next)).unwrap();
        seen += page.items.len();
    }
    assert_eq!(seen, 60);
}
