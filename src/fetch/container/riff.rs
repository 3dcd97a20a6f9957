use serde::{Deserialize, Serialize};

use super::{ContainerError, fill, skip};

/// The chunks of RIFF, RIFX, RF64 and IFF files: WAV, AIFF, WebP, AVI.
///
/// The length in the header is not to be relied on: who writes as he goes cannot know it, and others get it wrong by a few
/// bytes. What counts is the chunk with the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Riff {
    form: Form,
    big_endian: bool,
    /// The length of the file, by its header.
    declared: u64,
    /// The length of the data in an RF64, whose chunk has no room for it.
    long: Option<u64>,
    /// Where the data begin and how long they are.
    data: Option<(u64, u64)>,
    position: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Form {
    Sound,
    Picture,
    Movie,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Before the first chunk.
    Preamble {
        left: u64,
    },
    Header {
        bytes: [u8; 8],
        filled: usize,
    },
    /// The chunk with the real lengths of an RF64.
    Lengths {
        bytes: [u8; 16],
        filled: usize,
        left: u64,
    },
    Content {
        left: u64,
    },
    /// Data up to the end of the file.
    Open,
    /// No chunk.
    Behind,
}

const PREAMBLE: u64 = 12;
const NEXT: State = State::Header { bytes: [0; 8], filled: 0 };

impl Riff {
    /// For a file that was recognised by these first bytes.
    pub(super) fn new(head: &[u8]) -> Self {
        let big_endian = head.starts_with(b"RIFX") || head.starts_with(b"FORM");
        let form = match head.get(8..12) {
            Some(b"WEBP") => Form::Picture,
            Some(b"AVI ") => Form::Movie,
            _ => Form::Sound,
        };
        let size = head.get(4..8).and_then(|size| size.try_into().ok()).unwrap_or_default();
        let size = if big_endian { u32::from_be_bytes(size) } else { u32::from_le_bytes(size) };
        let state = State::Preamble { left: PREAMBLE };
        Self { form, big_endian, declared: u64::from(size) + 8, long: None, data: None, position: 0, state }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let before = bytes.len();
            let next = match &mut self.state {
                State::Preamble { left } | State::Content { left } => {
                    skip(left, &mut bytes);
                    (*left == 0).then_some(NEXT)
                }
                State::Header { bytes: header, filled } => {
                    let is_full = fill(header, filled, &mut bytes);
                    let header = *header;
                    self.position += (before - bytes.len()) as u64;
                    if is_full {
                        self.state = self.after_header(header);
                    }
                    continue;
                }
                State::Lengths { bytes: lengths, filled, left } => fill(lengths, filled, &mut bytes).then(|| {
                    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *lengths;
                    self.declared = u64::from_le_bytes([a, b, c, d, e, f, g, h]).saturating_add(8);
                    self.long = Some(u64::from_le_bytes([i, j, k, l, m, n, o, p]));
                    if *left == 0 { NEXT } else { State::Content { left: *left } }
                }),
                State::Open | State::Behind => return,
            };
            self.position += (before - bytes.len()) as u64;
            if let Some(next) = next {
                self.state = next;
            }
        }
    }

    fn after_header(&mut self, [a, b, c, d, size @ ..]: [u8; 8]) -> State {
        let kind = [a, b, c, d];
        let size = if self.big_endian { u32::from_be_bytes(size) } else { u32::from_le_bytes(size) };
        let is_long = size == u32::MAX && self.long.is_some();
        let size = self.long.filter(|_| is_long).unwrap_or(u64::from(size));
        // Chunks are padded to an even length.
        let left = size.saturating_add(size & 1);
        match &kind {
            b"ds64" if size >= 16 => State::Lengths { bytes: [0; 16], filled: 0, left: left - 16 },
            b"data" | b"SSND" if self.form == Form::Sound && self.data.is_none() => {
                self.data = Some((self.position, size));
                if is_placeholder(size) { State::Open } else { State::Content { left } }
            }
            b"VP8 " | b"VP8L" | b"ANMF" | b"LIST" if self.form != Form::Sound => {
                self.data = Some((self.position, size));
                State::Content { left }
            }
            kind if !kind.iter().all(|byte| matches!(byte, b' '..=b'~')) => State::Behind,
            _ if left == 0 => NEXT,
            _ => State::Content { left },
        }
    }

    /// Judges a file of `length` bytes that ends here.
    pub(super) fn finish(&self, length: u64) -> Result<(), ContainerError> {
        let Some((start, size)) = self.data else {
            return Err(ContainerError::Truncated { expected: "a chunk with data" });
        };
        let is_streamed = is_placeholder(self.declared.saturating_sub(8));
        let is_at_border = matches!(self.state, State::Behind | State::Header { filled: 0, .. })
            // The padding of the last chunk is often forgotten.
            || matches!(self.state, State::Content { left: 1 });
        // Padding may be counted and left out.
        let is_long_enough = !is_streamed && length.saturating_add(1) >= self.declared;
        let is_whole = match (self.form, &self.state) {
            (_, State::Open) => true,
            (Form::Sound, _) if length >= start.saturating_add(size) => is_streamed || is_long_enough || is_at_border,
            (Form::Sound, _) => self.is_off_by_little(length, start, size),
            (Form::Picture | Form::Movie, _) => {
                let short = self.declared.saturating_sub(length);
                is_long_enough || is_at_border && (is_streamed || short <= 8)
            }
        };
        if is_whole {
            Ok(())
        } else {
            Err(ContainerError::Truncated { expected: "as many bytes as its chunks declare" })
        }
    }

    /// Whether the header is wrong rather than the data short: the two lengths contradict each other, and one of them is that
    /// of the file, or the data are short by less than a header. A file that was cut has lengths that agree.
    fn is_off_by_little(&self, length: u64, start: u64, size: u64) -> bool {
        let end = start.saturating_add(size);
        let agree = self.declared == end || self.declared == end.saturating_add(size & 1);
        let is_the_file = |size: u64| size == length || size.saturating_add(8) == length;
        let declared = self.declared.saturating_sub(8);
        // Where the header counts a chunk behind the data, both are missing.
        let is_close = end - length <= 64 && self.declared < end.saturating_add(8);
        !agree && !is_placeholder(declared) && (is_the_file(declared) || is_the_file(size) || is_close)
            || is_placeholder(declared) && is_the_file(size)
    }
}

/// What stands in the place of a length that its writer did not know: nothing, or about as much as fits, or a round number,
/// perhaps less or more by a header. (A file of such a length would have to be longer than 900 MB to be mistaken.)
fn is_placeholder(size: u64) -> bool {
    const ABOUT: u64 = 1 << 17;
    let is_about_binary = size.saturating_add(ABOUT) % (1 << 28) <= 2 * ABOUT;
    size == 0
        || (900_000_000..=1 << 33).contains(&size) && ((size + 128) % 1_000_000 <= 256 || is_about_binary)
        || size >= u64::MAX - ABOUT
}
