//! What threads meet at. A model check takes the place of the real thing, and tries their interleavings one by one.

#[cfg(not(shuttle))]
pub(super) use std::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard},
    thread,
};

#[cfg(shuttle)]
pub(super) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard},
    thread,
};
