//! Final callbacks that nothing follows from until the provider itself says the same.

use serde::{Deserialize, Serialize};

use super::{Change, Job};
use crate::{Observation, Target, Timestamp};

/// A final callback whose truth is not known yet. It holds all that follows from it, so that neither its own record nor
/// the provider is needed again once it is confirmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnconfirmedFinal {
    /// Journal position of its record.
    pub position: u64,
    /// The position it is quarantined under when it is not confirmed: another one when it comes from quarantine.
    pub quarantine_as: u64,
    /// When it came.
    pub at: Timestamp,
    /// Over which URL.
    pub target: Target,
    /// Whether posters and the like were wanted at the time.
    pub sidecars: bool,
    /// Size of its body in bytes.
    pub bytes: u64,
    /// What it says.
    pub observation: Box<Observation>,
}

impl Job {
    /// The most final callbacks that may wait. Of more the oldest gives way: whoever wants to crowd out the true one must
    /// send this many within the time that one question to the provider takes.
    pub const MAX_UNCONFIRMED: usize = 4;
    /// The most bytes that these may have together. Of more the largest gives way, so that a small one, as the true one is
    /// mostly, is not crowded out by large ones.
    pub const MAX_UNCONFIRMED_BYTES: usize = 256 << 10;

    /// Keeps a final callback until it is confirmed or refuted, and makes the provider be asked at once. Returns those
    /// that gave way to it.
    pub fn hold(&mut self, callback: UnconfirmedFinal) -> Vec<UnconfirmedFinal> {
        self.callbacks = self.callbacks.saturating_add(1);
        self.updated_at = callback.at;
        self.confirm_at = Some(callback.at);
        self.unconfirmed.push(callback);
        let mut displaced = Vec::new();
        if self.unconfirmed.len() > Self::MAX_UNCONFIRMED {
            displaced.push(self.unconfirmed.remove(0));
        }
        let mut bytes: Vec<_> = self.unconfirmed.iter().map(|callback| callback.observation.bytes()).collect();
        while bytes.iter().sum::<usize>() > Self::MAX_UNCONFIRMED_BYTES
            && let Some((largest, _)) = bytes.iter().enumerate().max_by_key(|(_, bytes)| **bytes)
        {
            bytes.remove(largest);
            displaced.push(self.unconfirmed.remove(largest));
        }
        displaced
    }

    /// The provider says the same as the callback recorded at `position`: it is taken into account, and returned. `None`
    /// when no such callback waits.
    pub fn confirm(&mut self, position: u64, at: Timestamp) -> Option<(Change, UnconfirmedFinal)> {
        let callback = self.take_unconfirmed(position, at)?;
        // It was counted when it came.
        let callbacks = self.callbacks;
        let change = self.observe(&callback.observation, callback.sidecars, callback.position, at);
        self.callbacks = callbacks;
        Some((change, callback))
    }

    /// The provider says otherwise: nothing follows from the callback recorded at `position`. `None` when no such
    /// callback waits.
    pub fn refute(&mut self, position: u64, at: Timestamp) -> Option<UnconfirmedFinal> {
        self.take_unconfirmed(position, at)
    }

    /// The provider is to be asked again at `due`.
    pub fn ask_again(&mut self, due: Timestamp) {
        if !self.unconfirmed.is_empty() {
            self.confirm_at = Some(due);
        }
    }

    fn take_unconfirmed(&mut self, position: u64, at: Timestamp) -> Option<UnconfirmedFinal> {
        let place = self.unconfirmed.iter().position(|callback| callback.position == position)?;
        let callback = self.unconfirmed.remove(place);
        if self.unconfirmed.is_empty() {
            self.confirm_at = None;
        }
        self.updated_at = at;
        Some(callback)
    }
}
