//! What entries count for in the shares of a write.

use bytes::Bytes;

use super::fair_queue::FairQueue;
use super::*;
use crate::domain::{AssetId, AssetSource, FileName, MissingReason, Observation, Role, Timestamp};
use crate::journal::CallbackEntry;

const FILES: usize = Observation::MAX_ASSETS;

/// A body of nine kilobytes with as many files as a job can have.
fn request() -> AppendRequest {
    let file = |place: usize| AssetSource {
        slot: AssetId::new(&format!("#{place}")),
        role: Role::Media,
        file: FileName::clean("b"),
        candidates: Vec::new(),
        missing: MissingReason::NoUrl,
    };
    let job = "p1-u2-a3-bot:minimax".parse().unwrap();
    let observation = Observation { assets: (0..FILES).map(file).collect(), ..Observation::naming(job) };
    let entry = Entry::Callback(CallbackEntry {
        at: Timestamp::now(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: Bytes::from(vec![b' '; 9200]),
    });
    let parsed = Some(ParsedCallback::Job(Box::new(observation)));
    AppendRequest { entry, parsed, durability: Durability::Synced, fence: None, answer: oneshot::channel().0 }
}

#[test]
fn a_small_body_with_many_files_counts_for_what_it_costs() {
    assert!(size(&request()) > 100_000, "{}", size(&request()));
    let mut queue = FairQueue::new();
    for _ in 0..107 {
        let request = request();
        queue.push(sender(&request), size(&request), request);
    }
    let taken = queue.take(BATCH_BYTES).len();
    assert!((1..=10).contains(&taken), "{} files in one write", taken * FILES);
}
