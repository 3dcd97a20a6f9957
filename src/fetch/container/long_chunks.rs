use serde::{Deserialize, Serialize};

use super::{ContainerError, fill, skip};

/// The chunks of formats whose lengths have 64 bits: Core Audio Format
/// (<https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/CAF_spec/CAF_spec.html>) and
/// Sony Wave64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LongChunks {
    kind: Kind,
    has_data: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Caf,
    Wave64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The header of the file.
    File { left: u64 },
    /// The name of a chunk.
    Name { bytes: [u8; 16], filled: usize },
    /// Its length.
    Length { is_data: bool, bytes: [u8; 8], filled: usize },
    /// What is left of a chunk, and how much of that is padding.
    Content { left: u64, padding: u64 },
    /// Data up to the end of the file.
    Open,
    /// No chunk.
    Behind,
}

const NEXT: State = State::Name { bytes: [0; 16], filled: 0 };
const WAVE64_DATA: &[u8] = b"data\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a";
/// Bytes of a Wave64 chunk's name and length, which the length counts.
const WAVE64_HEADER: u64 = 24;
/// No file is as long; CAF says -1 where the length is not known.
const UNKNOWN: u64 = 1 << 62;

impl LongChunks {
    /// For a CAF that was recognised.
    pub(super) fn caf() -> Self {
        Self { kind: Kind::Caf, has_data: false, state: State::File { left: 8 } }
    }

    /// For a Wave64 that was recognised.
    pub(super) fn wave64() -> Self {
        Self { kind: Kind::Wave64, has_data: false, state: State::File { left: 40 } }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.state = match &mut self.state {
                State::File { left } | State::Content { left, .. } => {
                    skip(left, &mut bytes);
                    if *left > 0 {
                        return;
                    }
                    NEXT
                }
                State::Name { bytes: name, filled } => {
                    let name = &mut name[..if self.kind == Kind::Caf { 4 } else { 16 }];
                    if !fill(name, filled, &mut bytes) {
                        return;
                    }
                    let is_data = if self.kind == Kind::Caf { name == b"data" } else { name == WAVE64_DATA };
                    // Of a Wave64's name the rest is the same for all but the first.
                    if name[..4].iter().all(|byte| matches!(byte, b' '..=b'~')) {
                        State::Length { is_data, bytes: [0; 8], filled: 0 }
                    } else {
                        State::Behind
                    }
                }
                State::Length { is_data, bytes: length, filled } => {
                    if !fill(length, filled, &mut bytes) {
                        return;
                    }
                    self.has_data |= *is_data;
                    content(self.kind, *is_data, *length)
                }
                State::Open | State::Behind => return,
            };
        }
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        let is_at_border = match self.state {
            State::Open | State::Behind | State::Name { .. } | State::Length { .. } => true,
            // Padding is often forgotten.
            State::Content { left, padding } => left <= padding,
            State::File { .. } => false,
        };
        if is_at_border && self.has_data {
            return Ok(());
        }
        Err(ContainerError::Truncated { expected: "chunks as long as they say, data among them" })
    }
}

fn content(kind: Kind, is_data: bool, length: [u8; 8]) -> State {
    let (size, padding) = match kind {
        Kind::Caf => (u64::from_be_bytes(length), 0),
        // Chunks begin at multiples of eight.
        Kind::Wave64 => match u64::from_le_bytes(length).checked_sub(WAVE64_HEADER) {
            Some(size) => (size, size.wrapping_neg() % 8),
            None => (UNKNOWN, 0),
        },
    };
    match size.saturating_add(padding) {
        0 => NEXT,
        left if left < UNKNOWN => State::Content { left, padding },
        _ if is_data => State::Open,
        _ => State::Behind,
    }
}
