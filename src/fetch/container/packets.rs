use serde::{Deserialize, Serialize};

use super::ContainerError;

/// The packets of an MPEG transport stream (ISO/IEC 13818-1), all of one length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packets {
    /// Bytes of a packet.
    step: u64,
    /// Where in a packet its sync byte stands.
    sync: u64,
    position: u64,
    /// Whether the last place for a sync byte had one.
    is_in_step: bool,
}

const SYNC: u8 = 0x47;

impl Packets {
    /// For a stream whose packets have `step` bytes, with the sync byte behind `sync` of them.
    pub(super) fn new(sync: usize, step: usize) -> Self {
        Self { step: step as u64, sync: sync as u64, position: 0, is_in_step: true }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let before = self.position;
        self.position += bytes.len() as u64;
        // The last place for a sync byte that is in these bytes.
        let Some(last) = self.position.checked_sub(self.sync + 1) else { return };
        let last = last / self.step * self.step + self.sync;
        if let Some(byte) = last.checked_sub(before).and_then(|place| bytes.get(usize::try_from(place).ok()?)) {
            self.is_in_step = *byte == SYNC;
        }
    }

    /// What follows the last packet and is none is let be.
    pub(super) fn finish(&self, is_proven: bool) -> Result<(), ContainerError> {
        let cut = self.position % self.step;
        if cut == 0 || is_proven || (cut > self.sync && !self.is_in_step) {
            return Ok(());
        }
        Err(ContainerError::Truncated { expected: "whole packets" })
    }
}
