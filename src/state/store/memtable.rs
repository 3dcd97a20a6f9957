use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use sled::IVec;

use super::Write;

/// What is committed and not yet in sled, and the latest of it by key.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In the order they were made; the first has the number `first`.
    commits: VecDeque<Commit>,
    first: u64,
    latest: BTreeMap<IVec, Latest>,
    /// The sum over the commits.
    bytes: usize,
}

#[derive(Debug)]
struct Commit {
    writes: Vec<Write>,
    bytes: usize,
}

#[derive(Debug)]
struct Latest {
    /// The commit it comes from.
    commit: u64,
    value: Option<IVec>,
}

/// Some commits in one.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) commits: usize,
    pub(super) writes: BTreeMap<IVec, Option<IVec>>,
}

/// About what some writes take up while they wait.
pub(super) fn size(writes: &[Write]) -> usize {
    /// Of a write, beside its bytes: its places in the commit and in the map, and what the allocator adds.
    const PLACES: usize = 160;
    let bytes = |(key, value): &Write| PLACES + key.len() + value.as_ref().map_or(0, |value| value.len());
    writes.iter().map(bytes).sum()
}

impl Waiting {
    pub(super) fn push(&mut self, writes: Vec<Write>) {
        let bytes = size(&writes);
        self.bytes += bytes;
        let commit = self.first + self.commits.len() as u64;
        for (key, value) in &writes {
            self.latest.insert(key.clone(), Latest { commit, value: value.clone() });
        }
        self.commits.push_back(Commit { writes, bytes });
    }

    /// About how much memory it all takes up.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is to be read under a key; `None` if nothing that waits says so.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<IVec>> {
        self.latest.get(key).map(|latest| latest.value.clone())
    }

    pub(super) fn has(&self, key: &[u8]) -> Option<bool> {
        self.latest.get(key).map(|latest| latest.value.is_some())
    }

    /// At most `limit` of what is to be read in a range, from its start on, or from its end on.
    pub(super) fn some_of(&self, range: (Bound<&[u8]>, Bound<&[u8]>), back: bool, limit: usize) -> VecDeque<Write> {
        let range = self.latest.range::<[u8], _>(range);
        let write = |(key, latest): (&IVec, &Latest)| (key.clone(), latest.value.clone());
        if back { range.rev().take(limit).map(write).collect() } else { range.take(limit).map(write).collect() }
    }

    /// The number of the oldest commit that waits, or of the next.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the newest commit; `None` before the first.
    pub(super) fn last(&self) -> Option<u64> {
        (self.first + self.commits.len() as u64).checked_sub(1)
    }

    /// The oldest commits in one: as many as have `limit` writes together, and at least one.
    pub(super) fn oldest(&self, limit: usize) -> Merged {
        let mut merged = Merged { commits: 0, writes: BTreeMap::new() };
        for commit in &self.commits {
            if merged.commits > 0 && merged.writes.len() + commit.writes.len() > limit {
                break;
            }
            merged.commits += 1;
            merged.writes.extend(commit.writes.iter().cloned());
        }
        merged
    }

    /// Forgets the oldest commits, which sled has.
    pub(super) fn retire(&mut self, commits: usize) {
        for commit in self.commits.drain(..commits) {
            self.bytes -= commit.bytes;
            for (key, _) in commit.writes {
                if self.latest.get(&key).is_some_and(|latest| latest.commit == self.first) {
                    self.latest.remove(&key);
                }
            }
            self.first += 1;
        }
        if self.commits.is_empty() {
            self.commits = VecDeque::new();
        }
    }
}
