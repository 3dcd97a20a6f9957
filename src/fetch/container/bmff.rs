use serde::{Deserialize, Serialize};

use super::tracks::Tracks;
use super::{ContainerError, Expected, skip};

/// The top-level boxes of an ISO base media file (ISO/IEC 14496-12, 4.2): whole, and the required ones among them. What
/// follows the last of them and is no box is let be: tags, padding, a line's end, what a form or a camera has added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bmff {
    kind: Kind,
    /// Bit n: the n-th of [`NOTED`] was seen whole.
    seen: u8,
    state: State,
    inside: Tracks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Movie,
    Heif,
    Jxl,
    Jp2,
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
    /// Behind everything that is required, and no box.
    Behind,
    #[serde(skip)]
    Malformed(Expected),
}

const NOTED: [&[u8; 4]; 7] = [b"moov", b"mdat", b"meta", b"jxlc", b"jxlp", b"jp2h", b"jp2c"];
const MOOV: u8 = 1;
const MDAT: u8 = 2;
const META: u8 = 4;
const JXL: u8 = 8 | 16;
const JP2H: u8 = 32;
const JP2C: u8 = 64;

/// What stands at the top level of such files: a rest that begins like one of these has been cut.
const TOP_LEVEL: [&[u8; 4]; 25] = [
    b"moof", b"mdat", b"free", b"skip", b"mfra", b"sidx", b"styp", b"emsg", b"uuid", b"meta", b"moov", b"udta",
    b"prft", b"wide", b"ssix", b"pdin", b"jumb", b"idat", b"ftyp", b"imda", b"jxlp", b"jxlc", b"brob", b"Exif",
    b"xml ",
];

const NEXT: State = State::Header { bytes: [0; 16], filled: 0 };

impl Bmff {
    /// A file with a movie. Without `mdat` a file that was cut right behind its `moov` would pass for whole.
    pub(super) fn movie() -> Self {
        Self::new(Kind::Movie)
    }

    /// A file with pictures, which `meta` may hold by itself, or a movie as for a video.
    pub(super) fn heif() -> Self {
        Self::new(Kind::Heif)
    }

    /// JPEG XL.
    pub(super) fn jxl() -> Self {
        Self::new(Kind::Jxl)
    }

    /// JPEG 2000.
    pub(super) fn jp2() -> Self {
        Self::new(Kind::Jp2)
    }

    fn new(kind: Kind) -> Self {
        Self { kind, seen: 0, state: NEXT, inside: Tracks::default() }
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
                    let before = bytes;
                    skip(left, &mut bytes);
                    let is_over = *left == 0;
                    if *kind == *b"moov" || *kind == *b"meta" && self.kind == Kind::Heif {
                        self.inside.update(&before[..before.len() - bytes.len()]);
                    }
                    if is_over {
                        let kind = *kind;
                        self.mark(kind);
                        self.state = NEXT;
                    }
                }
                State::ToTheEnd | State::Behind | State::Malformed(_) => return,
            }
        }
    }

    /// `None` while the header is incomplete.
    fn after_header(&mut self, header: [u8; 16], filled: usize) -> Option<State> {
        let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _] = header;
        let size = u32::from_be_bytes([a, b, c, d]);
        match (filled, size) {
            (8, _) if !kind.iter().all(|byte| matches!(byte, 0x20..=0x7e | 0xa9)) => {
                return Some(self.no_box("a box type"));
            }
            (8, 0) => {
                self.begin(kind);
                self.mark(kind);
                return Some(State::ToTheEnd);
            }
            (8, 2..=7) => return Some(self.no_box("a box of at least 8 bytes")),
            (8, 8..) | (16, 1) => {}
            _ => return None,
        }
        let [.., e, f, g, h, i, j, k, l] = header;
        let size = if size == 1 { u64::from_be_bytes([e, f, g, h, i, j, k, l]) } else { u64::from(size) };
        self.begin(kind);
        Some(match size.checked_sub(filled as u64) {
            None => self.no_box("a box at least as long as its header"),
            Some(0) => {
                self.mark(kind);
                NEXT
            }
            Some(left) => State::Content { left, kind },
        })
    }

    fn no_box(&self, expected: Expected) -> State {
        if self.has_all() { State::Behind } else { State::Malformed(expected) }
    }

    fn begin(&mut self, kind: [u8; 4]) {
        match &kind {
            b"moov" => self.inside.begin(0),
            // It has a version and flags before its boxes.
            b"meta" if self.kind == Kind::Heif => self.inside.begin(4),
            _ => {}
        }
    }

    fn mark(&mut self, kind: [u8; 4]) {
        if let Some(place) = NOTED.iter().position(|noted| **noted == kind) {
            self.seen |= 1 << place;
        }
    }

    fn has_all(&self) -> bool {
        let has = |boxes: u8| self.seen & boxes == boxes;
        match self.kind {
            Kind::Movie => has(MOOV | MDAT),
            Kind::Heif => has(META) && (has(MDAT) || self.inside.has_item_data()) || has(MOOV | MDAT),
            Kind::Jxl => self.seen & JXL != 0,
            Kind::Jp2 => has(JP2H | JP2C),
        }
    }

    /// Whether the movie is there and has sound and no pictures.
    pub(super) fn is_sound_alone(&self) -> bool {
        self.kind == Kind::Movie && self.seen & MOOV != 0 && self.inside.is_sound_alone()
    }

    /// Whether nothing that may follow can make it whole.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.state, State::Malformed(_))
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        match &self.state {
            State::Malformed(expected) => return Err(ContainerError::Malformed { expected }),
            // A box of no known type behind all that is required is as likely a tag in letters.
            State::Content { kind, .. } if !self.has_all() || TOP_LEVEL.contains(&kind) => {
                return Err(ContainerError::Truncated { expected: "the rest of a box" });
            }
            State::Header { bytes, filled: filled @ 1.. } if !self.has_all() || is_cut_header(&bytes[..*filled]) => {
                return Err(ContainerError::Truncated { expected: "the rest of a header" });
            }
            _ => {}
        }
        if self.has_all() {
            return Ok(());
        }
        let expected = match self.kind {
            Kind::Movie => "the boxes moov and mdat",
            Kind::Heif => "the boxes meta and mdat, or moov and mdat",
            Kind::Jxl => "the box jxlc or jxlp",
            Kind::Jp2 => "the boxes jp2h and jp2c",
        };
        Err(ContainerError::Truncated { expected })
    }
}

/// Whether less than a header is the beginning of one, and no padding or line's end.
fn is_cut_header(bytes: &[u8]) -> bool {
    let Some((size, kind)) = bytes.split_at_checked(4) else { return false };
    let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]);
    let is_known = !kind.is_empty() && TOP_LEVEL.iter().any(|known| known.starts_with(&kind[..kind.len().min(4)]));
    is_known || kind.is_empty() && (8..1 << 24).contains(&size)
}
