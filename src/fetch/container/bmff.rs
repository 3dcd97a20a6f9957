use serde::{Deserialize, Serialize};

use super::{ContainerError, Expected};

/// The top-level boxes of an ISO base media file (ISO/IEC 14496-12, 4.2): whole, and the required ones among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bmff {
    kind: Kind,
    /// Bit n: the n-th of the boxes that are required was seen whole.
    seen: u8,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Movie,
    Heif,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Size and type, and the 64-bit size if there is one.
    Header {
        bytes: [u8; 16],
        filled: usize,
    },
    Content {
        left: u64,
        kind: [u8; 4],
    },
    /// A size of 0: this box goes on to the end of the file.
    ToTheEnd,
    /// Zeros after everything that is required.
    Padding,
    #[serde(skip)]
    Malformed(Expected),
}

impl Kind {
    fn required(self) -> &'static [&'static [u8; 4]] {
        match self {
            Self::Movie => &[b"ftyp", b"moov", b"mdat"],
            Self::Heif => &[b"ftyp", b"meta"],
        }
    }
}

const NEXT: State = State::Header { bytes: [0; 16], filled: 0 };

impl Bmff {
    /// A file with a movie. Without `mdat` a file that was cut right behind its `moov` would pass for whole.
    pub(super) fn movie() -> Self {
        Self { kind: Kind::Movie, seen: 0, state: NEXT }
    }

    /// A file with still pictures, which `meta` may hold by itself.
    pub(super) fn heif() -> Self {
        Self { kind: Kind::Heif, seen: 0, state: NEXT }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Header { bytes: header, filled } => {
                    header[*filled] = bytes[0];
                    *filled += 1;
                    bytes = &bytes[1..];
                    let (header, filled) = (*header, *filled);
                    if let Some(next) = self.after_header(header, filled) {
                        self.state = next;
                    }
                }
                State::Content { left, kind } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        let kind = *kind;
                        self.mark(kind);
                        self.state = NEXT;
                    }
                }
                State::Padding if bytes.iter().any(|byte| *byte != 0) => {
                    self.state = State::Malformed("nothing but zeros after the last box");
                }
                State::ToTheEnd | State::Padding | State::Malformed(_) => return,
            }
        }
    }

    /// `None` while the header is incomplete.
    fn after_header(&mut self, header: [u8; 16], filled: usize) -> Option<State> {
        let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _] = header;
        let size = u32::from_be_bytes([a, b, c, d]);
        match (filled, size) {
            (8, 0) if kind == [0; 4] && self.has_all() => return Some(State::Padding),
            (8, _) if !kind.iter().all(|byte| matches!(byte, 0x20..=0x7e | 0xa9)) => {
                return Some(State::Malformed("a box type"));
            }
            (8, 0) => {
                self.mark(kind);
                return Some(State::ToTheEnd);
            }
            (8, 2..=7) => return Some(State::Malformed("a box of at least 8 bytes")),
            (8, 8..) | (16, 1) => {}
            _ => return None,
        }
        let [.., e, f, g, h, i, j, k, l] = header;
        let size = if size == 1 { u64::from_be_bytes([e, f, g, h, i, j, k, l]) } else { u64::from(size) };
        Some(match size.checked_sub(filled as u64) {
            None => State::Malformed("a box at least as long as its header"),
            Some(0) => {
                self.mark(kind);
                NEXT
            }
            Some(left) => State::Content { left, kind },
        })
    }

    fn mark(&mut self, kind: [u8; 4]) {
        if let Some(place) = self.kind.required().iter().position(|required| **required == kind) {
            self.seen |= 1 << place;
        }
    }

    fn has_all(&self) -> bool {
        self.seen.count_ones() as usize == self.kind.required().len()
    }

    /// Whether nothing that may follow can make it whole.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.state, State::Malformed(_))
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        match self.state {
            State::Malformed(expected) => Err(ContainerError::Malformed { expected }),
            State::Content { .. } => Err(ContainerError::Truncated { expected: "the rest of a box" }),
            State::Header { filled: 1.., .. } => Err(ContainerError::Truncated { expected: "the rest of a header" }),
            _ if self.has_all() => Ok(()),
            _ => Err(ContainerError::Truncated { expected: "the boxes moov and mdat, or meta for a picture" }),
        }
    }
}
