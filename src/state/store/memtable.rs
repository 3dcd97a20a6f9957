//! What is committed and not yet in sled, and the latest of it by key.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use sled::IVec;

use super::Write;

/// What is committed and not yet in sled.
#[derive(Debug, Default)]
pub(super) struct MemTable {
    /// In the order they were made; the first has the number `flushed`.
    commits: VecDeque<Commit>,
    /// How many commits have left it, since sled has them.
    flushed: u64,
    latest: BTreeMap<IVec, Latest>,
    /// The sum over `commits`: changed where they are, by the same call.
    bytes: usize,
}

/// Writes that become visible together.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    writes: Arc<Vec<Write>>,
    bytes: usize,
}

#[derive(Debug)]
struct Latest {
    /// The number of the commit it comes from.
    commit: u64,
    value: Option<IVec>,
}

/// Some commits in one: what is put and then removed, or put again, is written once.
#[derive(Debug)]
pub(super) struct MergedCommits {
    pub(super) writes: BTreeMap<IVec, Option<IVec>>,
}

impl Commit {
    pub(super) fn new(writes: Vec<Write>) -> Self {
        /// Of a write, beside its bytes: its places in the commit and in the map, and what the allocator adds.
        const OVERHEAD_BYTES: usize = 160;
        let size = |(key, value): &Write| OVERHEAD_BYTES + key.len() + value.as_ref().map_or(0, |value| value.len());
        let bytes = writes.iter().map(size).sum();
        Self { writes: Arc::new(writes), bytes }
    }

    /// About how much memory it takes up.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl MergedCommits {
    pub(super) fn new(commits: &[Commit]) -> Self {
        let mut writes = BTreeMap::new();
        for commit in commits {
            writes.extend(commit.writes.iter().cloned());
        }
        Self { writes }
    }
}

impl MemTable {
    pub(super) fn push(&mut self, commit: Commit) {
        let number = self.committed();
        for (key, value) in commit.writes.iter() {
            self.latest.insert(key.clone(), Latest { commit: number, value: value.clone() });
        }
        self.bytes += commit.bytes;
        self.commits.push_back(commit);
    }

    /// About how much memory it all takes up.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many commits there were.
    pub(super) fn committed(&self) -> u64 {
        self.flushed + self.commits.len() as u64
    }

    /// How many of them sled has.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed
    }

    /// What is to be read under a key; `None` if nothing here says so, `Some(None)` if it is removed.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<IVec>> {
        self.latest.get(key).map(|latest| latest.value.clone())
    }

    /// At most `limit` of what is to be read in a range, from its start on, or from its end on.
    pub(super) fn window(&self, range: (Bound<&[u8]>, Bound<&[u8]>), back: bool, limit: usize) -> VecDeque<Write> {
        let range = self.latest.range::<[u8], _>(range);
        let write = |(key, latest): (&IVec, &Latest)| (key.clone(), latest.value.clone());
        if back { range.rev().take(limit).map(write).collect() } else { range.take(limit).map(write).collect() }
    }

    /// The oldest commits: as many as have `limit` writes together, and at least one. Copies nothing but references.
    pub(super) fn oldest(&self, limit: usize) -> Vec<Commit> {
        let (mut commits, mut writes) = (Vec::new(), 0);
        for commit in &self.commits {
            writes += commit.writes.len();
            if !commits.is_empty() && writes > limit {
                break;
            }
            commits.push(commit.clone());
        }
        commits
    }

    /// Forgets the oldest commits, which sled has. They are returned so that their memory can be freed without the lock.
    pub(super) fn retire(&mut self, commits: usize) -> Vec<Commit> {
        let retired: Vec<Commit> = self.commits.drain(..commits).collect();
        for commit in &retired {
            self.bytes -= commit.bytes;
            for (key, _) in commit.writes.iter() {
                if self.latest.get(key).is_some_and(|latest| latest.commit == self.flushed) {
                    self.latest.remove(key);
                }
            }
            self.flushed += 1;
        }
        if self.commits.is_empty() {
            self.commits = VecDeque::new();
        }
        retired
    }
}
