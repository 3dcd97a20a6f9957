use serde::{Deserialize, Serialize};

use super::{ContainerError, Expected};

/// The chunks of a PNG (W3C PNG, third edition, 5): IHDR first, IDAT among them, IEND last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Png {
    state: State,
    chunks: u64,
    has_data: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Signature {
        left: u64,
    },
    Header {
        bytes: [u8; 8],
        filled: usize,
    },
    /// Data and CRC.
    Content {
        left: u64,
        last: bool,
    },
    Whole,
    #[serde(skip)]
    Malformed(Expected),
}

const CRC_LENGTH: u64 = 4;
const MAX_CHUNK: u32 = (1 << 31) - 1;
const NEXT: State = State::Header { bytes: [0; 8], filled: 0 };

impl Png {
    /// For a file whose signature was recognised.
    pub(super) fn new() -> Self {
        Self { state: State::Signature { left: 8 }, chunks: 0, has_data: false }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Signature { left } | State::Content { left, .. } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        let last = matches!(self.state, State::Content { last: true, .. });
                        self.state = if last { State::Whole } else { NEXT };
                    }
                }
                State::Header { bytes: header, filled } => {
                    header[*filled] = bytes[0];
                    *filled += 1;
                    bytes = &bytes[1..];
                    if *filled == header.len() {
                        let header = *header;
                        self.state = self.after_header(header);
                    }
                }
                State::Whole | State::Malformed(_) => return,
            }
        }
    }

    fn after_header(&mut self, [a, b, c, d, kind @ ..]: [u8; 8]) -> State {
        let length = u32::from_be_bytes([a, b, c, d]);
        self.chunks += 1;
        self.has_data |= &kind == b"IDAT";
        match (&kind, length) {
            (b"IHDR", 13) if self.chunks == 1 => {}
            _ if self.chunks == 1 => return State::Malformed("IHDR as the first chunk"),
            (_, length) if length > MAX_CHUNK => return State::Malformed("a chunk of less than 2 GiB"),
            (kind, _) if !kind.iter().all(u8::is_ascii_alphabetic) => return State::Malformed("a chunk type"),
            (b"IEND", 1..) => return State::Malformed("an empty IEND"),
            (b"IEND", 0) if !self.has_data => return State::Malformed("IDAT before IEND"),
            _ => {}
        }
        State::Content { left: u64::from(length) + CRC_LENGTH, last: &kind == b"IEND" }
    }

    /// Whether nothing that may follow can make it whole.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.state, State::Malformed(_))
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        match self.state {
            State::Whole => Ok(()),
            State::Malformed(expected) => Err(ContainerError::Malformed { expected }),
            _ => Err(ContainerError::Truncated { expected: "chunks up to IEND" }),
        }
    }
}
