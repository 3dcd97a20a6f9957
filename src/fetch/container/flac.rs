use serde::{Deserialize, Serialize};

use super::{ContainerError, fill, skip};

/// The metadata of a FLAC file and its frames (RFC 9639), up to the number of samples that it declares.
///
/// A frame does not say how long it is. It ends where its checksum comes out right and another one begins, which is looked
/// for at each byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flac {
    /// Samples, 0 where the encoder did not know.
    declared: u64,
    block_size: u64,
    /// The sample behind the frame that is being read.
    end: u64,
    crc: u16,
    /// The first bytes of what may be a frame.
    header: [u8; 16],
    filled: usize,
    /// Whether the checksum was right at the last byte before [`Self::header`].
    at_border: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Marker {
        left: u64,
    },
    Block {
        bytes: [u8; 4],
        filled: usize,
    },
    /// Of STREAMINFO what comes before the checksum of the samples, and that.
    Info {
        bytes: [u8; 18],
        filled: usize,
        last: bool,
    },
    Content {
        left: u64,
        last: bool,
    },
    Frames,
    /// All samples are there.
    Whole,
}

const NEXT: State = State::Block { bytes: [0; 4], filled: 0 };

impl Flac {
    /// For a file whose first block was recognised.
    pub(super) fn new() -> Self {
        let state = State::Marker { left: 4 };
        Self { declared: 0, block_size: 0, end: 0, crc: 0, header: [0; 16], filled: 0, at_border: true, state }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            self.state = match &mut self.state {
                State::Marker { left } => {
                    skip(left, &mut bytes);
                    if *left > 0 {
                        return;
                    }
                    NEXT
                }
                State::Block { bytes: block, filled } => {
                    if !fill(block, filled, &mut bytes) {
                        return;
                    }
                    let [kind, a, b, c] = *block;
                    let (last, left) = (kind & 0x80 != 0, u64::from(u32::from_be_bytes([0, a, b, c])));
                    match (kind & 0x7f, left) {
                        (0, 34) => State::Info { bytes: [0; 18], filled: 0, last },
                        (_, 0) => Self::after_block(last),
                        _ => State::Content { left, last },
                    }
                }
                State::Info { bytes: info, filled, last } => {
                    if !fill(info, filled, &mut bytes) {
                        return;
                    }
                    let [a, b, ..] = *info;
                    self.block_size = u64::from(u16::from_be_bytes([a, b]));
                    let [d, e, f, g, h] = [info[13], info[14], info[15], info[16], info[17]];
                    self.declared = u64::from_be_bytes([0, 0, 0, d & 0xf, e, f, g, h]);
                    State::Content { left: 16, last: *last }
                }
                State::Content { left, last } => {
                    skip(left, &mut bytes);
                    if *left > 0 {
                        return;
                    }
                    Self::after_block(*last)
                }
                State::Frames => {
                    bytes = rest;
                    self.take(*byte);
                    if self.filled == 0 && self.at_border && self.declared > 0 && self.end >= self.declared {
                        State::Whole
                    } else {
                        continue;
                    }
                }
                State::Whole => return,
            };
        }
    }

    fn after_block(last: bool) -> State {
        if last { State::Frames } else { NEXT }
    }

    /// One byte of the frames.
    fn take(&mut self, byte: u8) {
        if self.at_border || self.filled > 0 {
            self.header[self.filled] = byte;
            self.filled += 1;
            match frame(&self.header[..self.filled], self.block_size) {
                Header::Incomplete => return,
                Header::Frame(end) => {
                    self.end = end;
                    self.crc = 0;
                }
                Header::None => {}
            }
            let filled = std::mem::take(&mut self.filled);
            self.at_border = false;
            for byte in &self.header[..filled] {
                self.crc = crc16(self.crc, *byte);
            }
        } else {
            self.crc = crc16(self.crc, byte);
        }
        self.at_border = self.crc == 0;
    }

    pub(super) fn finish(&self, is_proven: bool) -> Result<(), ContainerError> {
        let is_whole = match self.state {
            State::Whole => true,
            // The number of samples may be wrong.
            State::Frames => {
                self.end > 0
                    && if self.declared == 0 { is_proven || self.at_border } else { is_proven && self.at_border }
            }
            _ => false,
        };
        if is_whole { Ok(()) } else { Err(ContainerError::Truncated { expected: "frames with all its samples" }) }
    }
}

enum Header {
    Incomplete,
    /// The sample behind the frame.
    Frame(u64),
    None,
}

/// The header of a frame, behind its checksum.
fn frame(bytes: &[u8], block_size: u64) -> Header {
    let [first, rest @ ..] = bytes else { return Header::Incomplete };
    if *first != 0xff {
        return Header::None;
    }
    let [second, rest @ ..] = rest else { return Header::Incomplete };
    if second & 0xfe != 0xf8 {
        return Header::None;
    }
    let [sizes, format, rest @ ..] = rest else { return Header::Incomplete };
    if sizes >> 4 == 0 || sizes & 0xf == 0xf || format >> 4 > 10 || format & 1 != 0 {
        return Header::None;
    }
    let Some(lead) = rest.first() else { return Header::Incomplete };
    // Written as UTF-8 would be, up to seven bytes.
    let length = match lead.leading_ones() as usize {
        0 => 1,
        1 | 8 => return Header::None,
        ones => ones,
    };
    let Some((number, rest)) = rest.split_at_checked(length) else { return Header::Incomplete };
    let first_bits = if length == 1 { u64::from(*lead) } else { u64::from(*lead) & (0x7f >> length) };
    let number = number[1..].iter().fold(first_bits, |number, byte| number << 6 | u64::from(byte & 0x3f));
    let extra = match sizes >> 4 {
        6 => 1,
        7 => 2,
        _ => 0,
    };
    let rate = match sizes & 0xf {
        12 => 1,
        13 | 14 => 2,
        _ => 0,
    };
    let Some((extra_bytes, rest)) = rest.split_at_checked(extra) else { return Header::Incomplete };
    if rest.len() <= rate {
        return Header::Incomplete;
    }
    let (header, crc) = bytes.split_at(bytes.len() - 1);
    if crc8(header) != crc[0] {
        return Header::None;
    }
    let size = match sizes >> 4 {
        1 => 192,
        code @ 2..=5 => 144 << code,
        6 => u64::from(extra_bytes[0]) + 1,
        7 => u64::from(u16::from_be_bytes([extra_bytes[0], extra_bytes[1]])) + 1,
        code => 1 << code,
    };
    // Frames of one length are counted, others tell their first sample.
    let start = if second & 1 == 0 { number.saturating_mul(block_size) } else { number };
    Header::Frame(start.saturating_add(size))
}

/// Of a header, which is short.
fn crc8(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |crc, byte| (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 7 }))
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x8005 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

fn crc16(crc: u16, byte: u8) -> u16 {
    crc << 8 ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)]
}
