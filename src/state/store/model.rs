//! A model check: the store's own code, with locks, waiting and time of shuttle's in the place of the system's, and a disk that
//! is a map in the place of sled. shuttle runs one thread at a time and chooses at each lock, each wait and each call of the
//! disk which goes on, so every run is another interleaving; one in which all wait is reported as a deadlock, and one that
//! fails can be run again (`shuttle::replay`).

mod disk;
mod scenarios;
mod sync;

use self::disk as blocks;
use super::{IVec, StoreError, Write, memtable};

#[path = "engine.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the same source, against other locks")]
mod engine;
#[path = "flush_control.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the same source, against other locks")]
mod flush_control;
#[path = "range.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the same source, against other locks")]
mod range;
