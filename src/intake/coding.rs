//! Bodies that a proxy has compressed on their way here.
//!
//! No JSON begins with the bytes that gzip and zlib begin with, so these are known by themselves, whatever the header says:
//! some proxies compress without saying so, others unpack and leave the header. Only bare deflate needs the header, and where
//! it begins like JSON, its end as well. Any other coding is taken for none, since what matters is whether the body is JSON.

use std::io::{self, Read, Write};

use flate2::bufread;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Turns a body's bytes into those that were sent.
pub(super) struct Decoder {
    says_deflate: bool,
    coding: Option<Coding>,
    /// Bytes that came before the coding was clear.
    first: Vec<u8>,
    expected: usize,
    max_bytes: usize,
}

enum Coding {
    None(Output),
    Gzip(MultiGzDecoder<Output>),
    Zlib(ZlibDecoder<Output>),
    Deflate(DeflateDecoder<Output>),
    /// Bare deflate, or JSON under its header: only the end shows which.
    JsonOrDeflate(Output),
}

/// Why a body has no bytes.
#[derive(Debug)]
pub(super) enum DecodeError {
    /// It unpacks to more than it may.
    TooLarge,
    /// It is not what it begins like.
    Damaged(String),
}

impl Decoder {
    /// For a body with this Content-Encoding that may have `max_bytes` when decoded.
    pub(super) fn new(encoding: Option<&str>, max_bytes: usize) -> Self {
        let says_deflate = encoding.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("deflate"));
        Self { says_deflate, coding: None, first: Vec::new(), expected: 0, max_bytes }
    }

    /// Whether what comes is compressed, as far as it can be seen with `next`.
    pub(super) fn decodes(&self, next: &[u8]) -> bool {
        match &self.coding {
            None => {
                let first: Vec<u8> = self.first.iter().chain(next).take(2).copied().collect();
                self.coding_of(&first).is_some_and(|coding| coding != Kind::None)
            }
            Some(coding) => !matches!(coding, Coding::None(_)),
        }
    }

    /// Makes room for `bytes` at once when the next come, if nothing is decoded.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
        if let Some(Coding::None(output)) = &mut self.coding {
            output.expected = bytes;
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        if let Some(coding) = &mut self.coding {
            return coding.push(chunk);
        }
        self.first.extend_from_slice(chunk);
        match self.coding_of(&self.first) {
            Some(kind) => self.begin(kind),
            None => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, DecodeError> {
        if self.coding.is_none() {
            self.begin(Kind::None)?;
        }
        match self.coding {
            Some(coding) => coding.finish(),
            None => Ok(Vec::new()),
        }
    }

    /// `None` while there is too little to tell.
    fn coding_of(&self, first: &[u8]) -> Option<Kind> {
        match first {
            [] | [0x1F] => None,
            [0x1F, 0x8B, ..] => Some(Kind::Gzip),
            // The method deflate with a window of up to 32 KiB; a number may begin with 8 as well.
            [method, ..] if method & 0x8F == 8 && (*method != b'8' || self.says_deflate) => match first {
                [_, flags, ..] if (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0 => Some(Kind::Zlib),
                [_] => None,
                _ => Some(self.said()),
            },
            [b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n', ..] if self.says_deflate => Some(Kind::JsonOrDeflate),
            _ => Some(self.said()),
        }
    }

    fn said(&self) -> Kind {
        if self.says_deflate { Kind::Deflate } else { Kind::None }
    }

    fn begin(&mut self, kind: Kind) -> Result<(), DecodeError> {
        let first = std::mem::take(&mut self.first);
        let expected = if kind == Kind::None { self.expected } else { 0 };
        let output = Output { bytes: Vec::new(), expected, max_bytes: self.max_bytes };
        let coding = match kind {
            Kind::None => Coding::None(output),
            Kind::Gzip => Coding::Gzip(MultiGzDecoder::new(output)),
            Kind::Zlib => Coding::Zlib(ZlibDecoder::new(output)),
            Kind::Deflate => Coding::Deflate(DeflateDecoder::new(output)),
            Kind::JsonOrDeflate => Coding::JsonOrDeflate(output),
        };
        self.coding.insert(coding).push(&first)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Gzip,
    Zlib,
    Deflate,
    JsonOrDeflate,
}

impl Coding {
    fn push(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        match self {
            Self::None(output) | Self::JsonOrDeflate(output) => output.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
            Self::Zlib(decoder) => decoder.write_all(chunk),
            Self::Deflate(decoder) => decoder.write_all(chunk),
        }
        .map_err(from_io)
    }

    fn finish(self) -> Result<Vec<u8>, DecodeError> {
        let output = match self {
            Self::None(output) => Ok(output),
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zlib(decoder) => decoder.finish(),
            Self::Deflate(decoder) => decoder.finish(),
            Self::JsonOrDeflate(output) => return Ok(json_or_deflated(output)),
        };
        output.map(|output| output.bytes).map_err(from_io)
    }
}

/// What `body` holds when it is deflate from its first byte to its last, which JSON never is; else the body itself. JSON can
/// pass for deflate that unpacks to too much before it breaks off, so that is no reason to refuse it.
fn json_or_deflated(body: Output) -> Vec<u8> {
    let mut decoder = bufread::DeflateDecoder::new(&body.bytes[..]);
    let mut plain = Vec::new();
    match decoder.by_ref().take(body.max_bytes as u64 + 1).read_to_end(&mut plain) {
        Ok(length) if length <= body.max_bytes && decoder.into_inner().is_empty() => plain,
        _ => body.bytes,
    }
}

/// Bytes up to a bound.
struct Output {
    bytes: Vec<u8>,
    expected: usize,
    max_bytes: usize,
}

impl Write for Output {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + more.len();
        if length > self.max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if length > self.bytes.capacity() {
            let room = (self.bytes.len() * 2).max(self.expected).clamp(length, self.max_bytes);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn from_io(error: io::Error) -> DecodeError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => DecodeError::TooLarge,
        _ => DecodeError::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn packed(kind: Kind, text: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        let bytes = match kind {
            Kind::None => Ok(text.to_vec()),
            Kind::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Kind::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Kind::Deflate | Kind::JsonOrDeflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
        };
        bytes.unwrap()
    }

    fn unpacked(encoding: Option<&str>, chunks: &[&[u8]], max_bytes: usize) -> Result<Vec<u8>, DecodeError> {
        let mut decoder = Decoder::new(encoding, max_bytes);
        chunks.iter().try_for_each(|chunk| decoder.push(chunk))?;
        decoder.finish()
    }

    #[test]
    fn a_decompression_bomb_is_refused_early() {
        let bomb = packed(Kind::Gzip, &vec![b' '; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(unpacked(Some("gzip"), &[&bomb], 1 << 20), Err(DecodeError::TooLarge)));
        assert!(matches!(unpacked(None, &[b"[]", b"[]"], 3), Err(DecodeError::TooLarge)));
    }

    #[test]
    fn unencoded_bodies_pass_and_damaged_ones_are_refused() {
        for (encoding, text) in
            [(Some("utf-8"), "{}"), (Some("gzip"), "{}"), (Some("deflate"), "[1]"), (None, "80"), (None, "")]
        {
            assert_eq!(unpacked(encoding, &[text.as_bytes()], 10).unwrap(), text.as_bytes(), "{encoding:?}");
        }
        for kind in [Kind::Gzip, Kind::Zlib] {
            let mut damaged = packed(kind, b"{\"a\":1}");
            let at = damaged.len() - 3;
            damaged[at] ^= 1;
            assert!(matches!(unpacked(None, &[&damaged], 99), Err(DecodeError::Damaged(_))));
        }
        assert!(matches!(unpacked(None, &[&[0x1F, 0x8B, 1, 2, 3]], 99), Err(DecodeError::Damaged(_))));
    }

    #[test]
    fn a_body_that_breaks_off_is_refused_or_left_as_it_is() {
        let text: Vec<u8> = (0..999).flat_map(|number: u32| format!("[{}],", number * number).into_bytes()).collect();
        for kind in [Kind::Gzip, Kind::Zlib, Kind::Deflate] {
            let packed = packed(kind, &text);
            for end in [packed.len() - 1, packed.len() / 2] {
                let encoding = (kind == Kind::Deflate).then_some("deflate");
                let read = unpacked(encoding, &[&packed[..end]], 99_999);
                assert!(matches!(read, Err(DecodeError::Damaged(_))), "{kind:?} {end}: {read:?}");
            }
        }
    }

    #[test]
    fn deflate_that_begins_like_json_is_unpacked() {
        let text = br#"["i":2,"":0,"gg":3,"dcaaf":7,"dbcgaj":9,"aal":6,"haba":4,"#;
        let packed = packed(Kind::Deflate, text);
        assert_eq!(packed[0], b'\r');
        assert_eq!(unpacked(Some("deflate"), &[&packed], 99).unwrap(), text);
        assert_eq!(unpacked(Some("deflate"), &[&packed], text.len() - 1).unwrap(), packed);
        assert_eq!(unpacked(Some("deflate"), &[b"\r\n", b"{}"], 99).unwrap(), b"\r\n{}");
    }

    proptest! {
        #[test]
        fn compressed_bodies_are_unpacked_however_they_are_cut(
            text in r#"[ \n]{0,2}[\{\[]("[a-z]{0,9}":[0-9],){0,40}"#,
            kind in prop_oneof![Just(Kind::None), Just(Kind::Gzip), Just(Kind::Zlib), Just(Kind::Deflate)],
            says in any::<bool>(),
            size in 1usize..40,
        ) {
            let encoding = if kind == Kind::Deflate || says { Some("deflate") } else { None };
            let packed = packed(kind, text.as_bytes());
            let chunks: Vec<&[u8]> = packed.chunks(size).collect();
            prop_assert_eq!(unpacked(encoding, &chunks, 4096).unwrap(), text.as_bytes());
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), deflate in any::<bool>()) {
            let _ = unpacked(deflate.then_some("deflate"), &[&bytes], 100);
        }
    }
}
