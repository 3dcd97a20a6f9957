use serde::{Deserialize, Serialize};

use super::{ContainerError, Expected};

/// The segments and scans of a JPEG (ITU-T T.81, annex B) up to EOI.
///
/// Looking at the last two bytes is not enough: a thumbnail in the metadata has an EOI of its own, and cameras and
/// tools append to the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Jpeg {
    state: State,
    has_scan: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Looks for 0xff.
    Marker,
    /// After 0xff outside of a scan's data.
    MarkerCode,
    /// A segment's length: two bytes, themselves counted.
    Length {
        code: u8,
        first: Option<u8>,
    },
    Segment {
        code: u8,
        left: u16,
    },
    /// Entropy-coded data.
    Scan,
    /// After 0xff in it.
    ScanCode,
    Whole,
    #[serde(skip)]
    Malformed(Expected),
}

const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

impl Jpeg {
    /// For a file whose SOI was recognised.
    pub(super) fn new() -> Self {
        Self { state: State::Marker, has_scan: false }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            bytes = rest;
            self.state = match self.state {
                State::Marker if *byte == 0xff => State::MarkerCode,
                // Strays between two segments, which every decoder passes over.
                State::Marker => State::Marker,
                State::MarkerCode => self.marker(*byte),
                State::Length { code, first: None } => State::Length { code, first: Some(*byte) },
                State::Length { code, first: Some(first) } => match u16::from_be_bytes([first, *byte]) {
                    0..2 => State::Malformed("a segment of at least 2 bytes"),
                    2 => self.after_segment(code),
                    length => State::Segment { code, left: length - 2 },
                },
                State::Segment { code, left } => {
                    // This byte and as many of the rest as there are.
                    let taken = usize::from(left - 1).min(rest.len());
                    bytes = &rest[taken..];
                    match left - 1 - taken as u16 {
                        0 => self.after_segment(code),
                        left => State::Segment { code, left },
                    }
                }
                State::Scan => match std::iter::once(byte).chain(rest).position(|byte| *byte == 0xff) {
                    Some(place) => {
                        bytes = &rest[place..];
                        State::ScanCode
                    }
                    None => return,
                },
                // A stuffed zero, a restart marker: still data. 0xff: filling.
                State::ScanCode => match *byte {
                    0 | 0xd0..=0xd7 => State::Scan,
                    0xff => State::ScanCode,
                    code => self.marker(code),
                },
                State::Whole | State::Malformed(_) => return,
            };
        }
    }

    fn marker(&self, code: u8) -> State {
        match code {
            0xff => State::MarkerCode,
            // SOI, restart and TEM stand alone.
            0xd8 | 0xd0..=0xd7 | 0x01 => State::Marker,
            EOI if self.has_scan => State::Whole,
            EOI => State::Malformed("a scan before EOI"),
            0 => State::Marker,
            code => State::Length { code, first: None },
        }
    }

    fn after_segment(&mut self, code: u8) -> State {
        self.has_scan |= code == SOS;
        if code == SOS { State::Scan } else { State::Marker }
    }

    /// Whether nothing that may follow can make it whole.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.state, State::Malformed(_))
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        match self.state {
            State::Whole => Ok(()),
            State::Malformed(expected) => Err(ContainerError::Malformed { expected }),
            _ if self.has_scan => Err(ContainerError::WithoutEnd),
            _ => Err(ContainerError::Truncated { expected: "segments and scans up to EOI" }),
        }
    }
}
