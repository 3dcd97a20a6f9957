use serde::{Deserialize, Serialize};

use super::{fill, skip};

/// What a movie's box says about its tracks (`moov/trak/mdia/hdlr`), and whether a picture's box has its data within. A look,
/// no check: what does not fit ends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracks {
    has_pictures: bool,
    has_sound: bool,
    has_item_data: bool,
    is_over: bool,
    position: u64,
    /// Where the boxes end that the current one is in, the outermost first: a track, its media.
    ends: Vec<u64>,
    header: [u8; 16],
    filled: usize,
    /// Of what does not matter.
    left: u64,
    /// The first bytes of a handler: version and flags, four bytes of old, the type.
    handler: Option<[u8; 12]>,
}

impl Tracks {
    /// Begins the content of a box whose own boxes begin behind `prefix` bytes.
    pub(super) fn begin(&mut self, prefix: u64) {
        let Self { has_pictures, has_sound, has_item_data, .. } = *self;
        *self = Self { has_pictures, has_sound, has_item_data, left: prefix, ..Self::default() };
    }

    pub(super) fn has_item_data(&self) -> bool {
        self.has_item_data
    }

    pub(super) fn is_sound_alone(&self) -> bool {
        self.has_sound && !self.has_pictures
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over {
            let before = bytes.len();
            if self.left > 0 {
                skip(&mut self.left, &mut bytes);
                self.position += (before - bytes.len()) as u64;
                continue;
            }
            if let Some(handler) = &mut self.handler {
                let is_full = fill(handler, &mut self.filled, &mut bytes);
                self.position += (before - bytes.len()) as u64;
                if is_full {
                    self.note();
                }
                continue;
            }
            self.header[self.filled] = bytes[0];
            bytes = &bytes[1..];
            self.filled += 1;
            self.position += 1;
            self.after_header();
        }
    }

    fn after_header(&mut self) {
        let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _] = self.header;
        let size = u32::from_be_bytes([a, b, c, d]);
        if self.filled < 8 || size == 1 && self.filled < 16 {
            return;
        }
        let [.., e, f, g, h, i, j, k, l] = self.header;
        let size = if size == 1 { u64::from_be_bytes([e, f, g, h, i, j, k, l]) } else { u64::from(size) };
        let start = self.position - self.filled as u64;
        while self.ends.last().is_some_and(|end| *end <= start) {
            self.ends.pop();
        }
        let (Some(left), Some(end)) = (size.checked_sub(self.filled as u64), start.checked_add(size)) else {
            self.is_over = true;
            return;
        };
        self.filled = 0;
        match (self.ends.len(), &kind) {
            (0, b"trak") | (1, b"mdia") => self.ends.push(end),
            (2, b"hdlr") if left >= 12 => {
                self.handler = Some([0; 12]);
                self.left = 0;
                self.ends.push(end);
            }
            (_, b"idat") => {
                self.has_item_data = true;
                self.left = left;
            }
            _ => self.left = left,
        }
    }

    fn note(&mut self) {
        if let Some([.., a, b, c, d]) = self.handler.take() {
            self.has_pictures |= [a, b, c, d] == *b"vide";
            self.has_sound |= [a, b, c, d] == *b"soun";
        }
        self.filled = 0;
        self.left = self.ends.pop().unwrap_or_default().saturating_sub(self.position);
    }
}
