use serde::{Deserialize, Serialize};

use super::{ContainerError, skip};
use crate::fetch::sniff::{adts_frame, mpeg_frame};

/// The frames of MPEG audio or of AAC in ADTS, as far as they follow one another, and the number of bytes that the first
/// frame of an MP3 may declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Frames {
    codec: Codec,
    length: u64,
    declared: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Codec {
    Mpeg,
    Adts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Header {
        bytes: [u8; 7],
        filled: usize,
    },
    Frame {
        left: u64,
    },
    /// A tag, or frames that are not where the last one ends.
    Behind,
}

/// What is enough to know a frame's length. `ID3`, `TAG` and `APETAGEX` are no frame.
const HEADER: usize = 7;
const NEXT: State = State::Header { bytes: [0; HEADER], filled: 0 };

impl Frames {
    /// For a file of MPEG audio with these first bytes.
    pub(super) fn mpeg(head: &[u8]) -> Self {
        Self { codec: Codec::Mpeg, length: 0, declared: declared(head), state: NEXT }
    }

    /// For a file of AAC.
    pub(super) fn adts() -> Self {
        Self { codec: Codec::Adts, length: 0, declared: None, state: NEXT }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        while let [byte, rest @ ..] = bytes {
            match &mut self.state {
                State::Header { bytes: header, filled } => {
                    header[*filled] = *byte;
                    *filled += 1;
                    bytes = rest;
                    if *filled == HEADER {
                        let length = match self.codec {
                            Codec::Mpeg => mpeg_frame(header),
                            Codec::Adts => adts_frame(header),
                        };
                        self.state = match length.and_then(|length| length.checked_sub(HEADER)) {
                            Some(0) => NEXT,
                            Some(left) => State::Frame { left: left as u64 },
                            None => State::Behind,
                        };
                    }
                }
                State::Frame { left } => {
                    skip(left, &mut bytes);
                    if *left == 0 {
                        self.state = NEXT;
                    }
                }
                State::Behind => return,
            }
        }
    }

    /// A rest of a frame is how many a file was made: it only counts as cut where nothing else says that all has come.
    pub(super) fn finish(&self, is_proven: bool) -> Result<(), ContainerError> {
        let is_within = matches!(self.state, State::Frame { .. });
        let is_short = self.declared.is_some_and(|declared| self.length < declared);
        if is_short && (is_within || !is_proven) {
            return Err(ContainerError::Truncated { expected: "as many bytes as its first frame declares" });
        }
        if is_within && !is_proven {
            return Err(ContainerError::Truncated { expected: "the rest of a frame" });
        }
        Ok(())
    }
}

/// How many bytes of frames there are, by the `Xing` or `Info` header in the first one, or by its `VBRI` header.
fn declared(head: &[u8]) -> Option<u64> {
    mpeg_frame(head)?;
    let is_mpeg1 = head[1] & 8 != 0;
    let is_mono = head[3] & 0xc0 == 0xc0;
    let side = match (is_mpeg1, is_mono) {
        (true, false) => 32,
        (true, true) | (false, false) => 17,
        (false, true) => 9,
    };
    let number = |place: usize| Some(u32::from_be_bytes(head.get(place..place + 4)?.try_into().ok()?));
    let xing = 4 + side;
    let bytes = match head.get(xing..xing + 4)? {
        b"Xing" | b"Info" => match number(xing + 4)? & 3 {
            // The number of frames stands before that of bytes.
            3 => number(xing + 12)?,
            2 => number(xing + 8)?,
            _ => return None,
        },
        _ if head.get(36..40)? == b"VBRI" => number(46)?,
        _ => return None,
    };
    (bytes > 0).then_some(u64::from(bytes))
}
