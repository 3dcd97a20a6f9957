use serde::{Deserialize, Serialize};

use super::{ContainerError, skip};

/// The elements of a Matroska or WebM file (RFC 9559): as long as its segment says, or, where a recorder could not know
/// that, whole up to the last element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ebml {
    position: u64,
    /// Where the segment ends, if it says so.
    end: Option<u64>,
    has_cluster: bool,
    has_pictures: bool,
    has_sound: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// ID and length.
    Header {
        bytes: [u8; 12],
        filled: usize,
    },
    Content {
        left: u64,
    },
    /// The type of a track: a number of up to eight bytes, the last of which counts.
    TrackType {
        left: u64,
    },
    /// No element, or a length that nobody can know.
    Behind,
}

const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK: u32 = 0xae;
const TRACK_TYPE: u32 = 0x83;
/// What may follow on the same level or within a cluster: a rest that begins like one of these has been cut.
const FIRST_BYTES: [u8; 10] = [0xa0, 0xa3, 0xa7, 0xab, 0xe7, 0xec, 0xbf, 0x1f, 0x1c, 0x12];
const NEXT: State = State::Header { bytes: [0; 12], filled: 0 };

impl Ebml {
    /// For a file whose EBML header was recognised.
    pub(super) fn new() -> Self {
        Self { position: 0, end: None, has_cluster: false, has_pictures: false, has_sound: false, state: NEXT }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            match &mut self.state {
                State::Header { bytes: header, filled } => {
                    header[*filled] = *byte;
                    *filled += 1;
                    self.position += 1;
                    bytes = rest;
                    let (header, filled) = (*header, *filled);
                    if let Some(next) = self.after_header(&header[..filled]) {
                        self.state = next;
                    }
                }
                State::Content { left } => {
                    let before = bytes.len();
                    skip(left, &mut bytes);
                    self.position += (before - bytes.len()) as u64;
                    if *left == 0 {
                        self.state = NEXT;
                    }
                }
                State::TrackType { left } => {
                    self.position += 1;
                    bytes = rest;
                    *left -= 1;
                    if *left == 0 {
                        self.has_pictures |= *byte == 1;
                        self.has_sound |= *byte == 2;
                        self.state = NEXT;
                    }
                }
                State::Behind => return,
            }
        }
    }

    /// `None` while the header is incomplete.
    fn after_header(&mut self, header: &[u8]) -> Option<State> {
        let id_length = header[0].leading_zeros() as usize + 1;
        if id_length > 4 {
            return Some(State::Behind);
        }
        let (id, length) = header.split_at_checked(id_length)?;
        let size_length = length.first()?.leading_zeros() as usize + 1;
        if size_length > 8 {
            return Some(State::Behind);
        }
        let length = length.get(..size_length)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let mask = (1_u64 << (7 * size_length)) - 1;
        let size = number(length) & mask;
        // All bits set: until something of a higher level follows.
        let size = (size != mask).then_some(size);
        Some(match (number(id) as u32, size) {
            (SEGMENT, size) => {
                self.end = size.and_then(|size| self.position.checked_add(size));
                NEXT
            }
            // Their elements follow as if they were of the same level.
            (CLUSTER, _) => {
                self.has_cluster = true;
                NEXT
            }
            (TRACKS | TRACK, _) if !self.has_cluster => NEXT,
            (TRACK_TYPE, Some(left @ 1..=8)) if !self.has_cluster => State::TrackType { left },
            (_, Some(0)) => NEXT,
            (_, Some(left)) => State::Content { left },
            (_, None) => State::Behind,
        })
    }

    /// Whether there are tracks of sound and none of pictures.
    pub(super) fn is_sound_alone(&self) -> bool {
        self.has_sound && !self.has_pictures
    }

    pub(super) fn finish(&self, length: u64) -> Result<(), ContainerError> {
        let is_whole = match (self.end, &self.state) {
            (Some(end), _) => length >= end,
            (None, State::Header { filled: 0, .. } | State::Behind) => self.has_cluster,
            (None, State::Header { bytes, .. }) => self.has_cluster && !FIRST_BYTES.contains(&bytes[0]),
            (None, State::Content { .. } | State::TrackType { .. }) => false,
        };
        if is_whole { Ok(()) } else { Err(ContainerError::Truncated { expected: "as much as its segment declares" }) }
    }
}
