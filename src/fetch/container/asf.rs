use serde::{Deserialize, Serialize};

use super::{ContainerError, fill, skip};

/// The objects of a Windows Media file (Advanced Systems Format, 2): header and data whole, and what streams there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asf {
    has_pictures: bool,
    has_sound: bool,
    has_data: bool,
    /// The last bytes seen of the header object.
    window: Vec<u8>,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// A GUID and a length.
    Object {
        bytes: [u8; 24],
        filled: usize,
    },
    Header {
        left: u64,
    },
    Content {
        left: u64,
    },
    /// Data as a broadcast has them, without a length; or no object.
    Behind,
}

const HEADER: [u8; 4] = [0x30, 0x26, 0xb2, 0x75];
const DATA: [u8; 4] = [0x36, 0x26, 0xb2, 0x75];
const SOUND: [u8; 16] = *b"\x40\x9e\x69\xf8\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b";
const PICTURES: [u8; 16] = *b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b";
const NEXT: State = State::Object { bytes: [0; 24], filled: 0 };

impl Asf {
    /// For a file that was recognised.
    pub(super) fn new() -> Self {
        Self { has_pictures: false, has_sound: false, has_data: false, window: Vec::new(), state: NEXT }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let before = bytes;
            self.state = match &mut self.state {
                State::Object { bytes: object, filled } => {
                    if !fill(object, filled, &mut bytes) {
                        return;
                    }
                    let [a, b, c, d, .., i, j, k, l, m, n, o, p] = *object;
                    let left = u64::from_le_bytes([i, j, k, l, m, n, o, p]).checked_sub(24);
                    match (left, [a, b, c, d]) {
                        (Some(left @ 1..), HEADER) => State::Header { left },
                        (left, DATA) => {
                            self.has_data = true;
                            left.filter(|left| *left > 0).map_or(State::Behind, |left| State::Content { left })
                        }
                        (Some(left @ 1..), _) => State::Content { left },
                        (Some(0), _) => NEXT,
                        (None, _) => State::Behind,
                    }
                }
                State::Header { left } => {
                    skip(left, &mut bytes);
                    let is_over = *left == 0;
                    self.look_for_streams(&before[..before.len() - bytes.len()]);
                    if !is_over {
                        return;
                    }
                    NEXT
                }
                State::Content { left } => {
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

    fn look_for_streams(&mut self, bytes: &[u8]) {
        let mut window = std::mem::take(&mut self.window);
        for piece in bytes.chunks(4096) {
            window.extend_from_slice(piece);
            self.has_sound |= memchr::memmem::find(&window, &SOUND).is_some();
            self.has_pictures |= memchr::memmem::find(&window, &PICTURES).is_some();
            window.drain(..window.len().saturating_sub(SOUND.len() - 1));
        }
        self.window = window;
    }

    /// Whether it has streams of sound and none of pictures.
    pub(super) fn is_sound_alone(&self) -> bool {
        self.has_sound && !self.has_pictures
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        let is_whole = match self.state {
            State::Behind | State::Object { .. } => self.has_data,
            State::Header { .. } | State::Content { .. } => false,
        };
        if is_whole { Ok(()) } else { Err(ContainerError::Truncated { expected: "the rest of an object" }) }
    }
}
