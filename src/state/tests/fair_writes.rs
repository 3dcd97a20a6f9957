//! Whose entries are written next when more wait than one write takes.

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn a_callback_is_written_before_most_of_what_waits_from_another_url() {
    const LARGE: usize = 20;
    let bench = Bench::new().await;
    // Each fills a write by itself.
    let large = json!({"odd": "x".repeat(1_100_000)});
    let mut recordings: Vec<_> = (0..LARGE).map(|_| Box::pin(bench.post(Target::Channel, large.clone()))).collect();
    recordings.push(Box::pin(bench.post(Target::UseApi, json!({"odd": 1}))));
    {
        // Nothing is folded in meanwhile, so that after a few writes the next waits.
        let _held = bench.log.state().shared.store.write();
        for recording in &mut recordings {
            assert_eq!(recording.now_or_never(), None);
        }
    }
    join_all(recordings).await;
    bench.log.close();
    let written = bench.log.journal().replay(0).unwrap().map(|read| read.unwrap().1);
    let targets: Vec<_> = written.filter_map(Entry::into_callback).map(|callback| callback.target).collect();
    assert_eq!(targets.len(), LARGE + 1);
    let before = targets.iter().position(|target| *target == Target::UseApi).unwrap();
    assert!(before < LARGE / 2, "{before} were written before");
}
