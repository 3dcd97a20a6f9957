use serde::{Deserialize, Serialize};

use super::{ContainerError, fill, skip};

/// The tags of a Flash video (Adobe FLV specification, E.3): each of them whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flv {
    has_tag: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The header of the file, with its length.
    File {
        bytes: [u8; 9],
        filled: usize,
    },
    Skip {
        left: u64,
    },
    Tag {
        bytes: [u8; 11],
        filled: usize,
    },
    /// No tag.
    Behind,
}

/// Behind each tag stands its length once more.
const TRAILER: u64 = 4;
const NEXT: State = State::Tag { bytes: [0; 11], filled: 0 };

impl Flv {
    /// For a file that was recognised.
    pub(super) fn new() -> Self {
        Self { has_tag: false, state: State::File { bytes: [0; 9], filled: 0 } }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.state = match &mut self.state {
                State::File { bytes: header, filled } => {
                    if !fill(header, filled, &mut bytes) {
                        return;
                    }
                    let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
                    State::Skip { left: u64::from(length).saturating_sub(9) + TRAILER }
                }
                State::Skip { left } => {
                    skip(left, &mut bytes);
                    if *left > 0 {
                        return;
                    }
                    NEXT
                }
                State::Tag { bytes: tag, filled } => {
                    if !fill(tag, filled, &mut bytes) {
                        return;
                    }
                    if matches!(tag[0] & 0x1f, 8 | 9 | 18) {
                        self.has_tag = true;
                        State::Skip { left: u64::from(u32::from_be_bytes([0, tag[1], tag[2], tag[3]])) + TRAILER }
                    } else {
                        State::Behind
                    }
                }
                State::Behind => return,
            };
        }
    }

    pub(super) fn finish(&self, is_proven: bool) -> Result<(), ContainerError> {
        let is_whole = match self.state {
            State::Tag { filled: 0, .. } | State::Behind => true,
            // The last length is sometimes left out.
            State::Skip { left } => left <= TRAILER,
            State::Tag { .. } => is_proven,
            State::File { .. } => false,
        };
        if is_whole && self.has_tag { Ok(()) } else { Err(ContainerError::Truncated { expected: "the rest of a tag" }) }
    }
}
