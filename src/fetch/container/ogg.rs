use serde::{Deserialize, Serialize};

use super::{ContainerError, fill, skip};
use crate::fetch::sniff::is_ogg_video;

/// The pages of an Ogg file (RFC 3533): each of them whole. That the last one is marked as such is not asked for: recorders
/// leave it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ogg {
    has_pictures: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Header {
        bytes: [u8; 27],
        filled: usize,
    },
    /// The lengths of what is in the page.
    Lengths {
        left: u64,
        body: u64,
        begins: bool,
    },
    /// The first bytes of a stream.
    Beginning {
        bytes: [u8; 9],
        filled: usize,
        left: u64,
    },
    Body {
        left: u64,
    },
    /// No page.
    Behind,
}

const NEXT: State = State::Header { bytes: [0; 27], filled: 0 };

impl Ogg {
    /// For a file whose first page was recognised.
    pub(super) fn new() -> Self {
        Self { has_pictures: false, state: NEXT }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            self.state = match &mut self.state {
                State::Header { bytes: header, filled } => {
                    let is_full = fill(header, filled, &mut bytes);
                    match header {
                        header if !b"OggS"[..].starts_with(&header[..(*filled).min(4)]) => State::Behind,
                        [.., 0] if is_full => NEXT,
                        [.., segments] if is_full => {
                            State::Lengths { left: u64::from(*segments), body: 0, begins: header[5] & 2 != 0 }
                        }
                        _ => return,
                    }
                }
                State::Lengths { left, body, begins } => {
                    bytes = rest;
                    let (left, body) = (*left - 1, *body + u64::from(*byte));
                    match (left, body) {
                        (0, 0) => NEXT,
                        (0, left @ 9..) if *begins => State::Beginning { bytes: [0; 9], filled: 0, left: left - 9 },
                        (0, left) => State::Body { left },
                        _ => State::Lengths { left, body, begins: *begins },
                    }
                }
                State::Beginning { bytes: packet, filled, left } => {
                    if !fill(packet, filled, &mut bytes) {
                        return;
                    }
                    self.has_pictures |= is_ogg_video(packet);
                    if *left == 0 { NEXT } else { State::Body { left: *left } }
                }
                State::Body { left } => {
                    skip(left, &mut bytes);
                    if *left > 0 {
                        return;
                    }
                    NEXT
                }
                State::Behind => return,
            };
        }
    }

    /// Whether one of its streams has pictures.
    pub(super) fn has_pictures(&self) -> bool {
        self.has_pictures
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        match self.state {
            State::Header { filled: 0, .. } | State::Behind => Ok(()),
            _ => Err(ContainerError::Truncated { expected: "the rest of a page" }),
        }
    }
}
