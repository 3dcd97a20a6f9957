//! Bodies that a proxy has compressed on their way here.
//!
//! No JSON begins with the bytes that gzip and zlib begin with, so these are known by themselves, whatever the header says:
//! some proxies compress without saying so, others unpack and leave the header. Only bare deflate needs the header, and where
//! it begins like JSON, its end as well. Any other coding is taken for none, since what matters is whether the body is JSON.

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread;

use crate::decompress::{DecompressError, Decompressor, Format};

/// Turns a body's bytes into those that were sent.
pub struct Decoder {
    says_deflate: bool,
    coding: Option<Coding>,
    /// Bytes that came before the coding was clear.
    first: Vec<u8>,
    expected: usize,
    max_bytes: usize,
}

struct Coding {
    kind: Kind,
    /// Of what may be JSON or deflate, the body as it came.
    decompressor: Decompressor,
}

impl Decoder {
    /// For a body with this Content-Encoding that may have `max_bytes` when decoded.
    pub fn new(encoding: Option<&str>, max_bytes: usize) -> Self {
        let says_deflate = encoding.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("deflate"));
        Self { says_deflate, coding: None, first: Vec::new(), expected: 0, max_bytes }
    }

    /// Whether what comes is compressed, as far as it can be seen with `next`.
    pub fn decodes(&self, next: &[u8]) -> bool {
        match &self.coding {
            None => {
                let seen: Cow<'_, [u8]> = match &*self.first {
                    [] => next.into(),
                    first => [first, next].concat().into(),
                };
                self.coding_of(&seen).is_some_and(|kind| kind != Kind::Known(Format::Identity))
            }
            Some(coding) => coding.kind != Kind::Known(Format::Identity),
        }
    }

    /// Makes room for `bytes` at once when the next come, if nothing is decoded.
    pub fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
        if let Some(coding) = self.coding.as_mut().filter(|coding| coding.kind == Kind::Known(Format::Identity)) {
            coding.decompressor.expect(bytes);
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// When it decompresses to too much, or is damaged.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), DecompressError> {
        if let Some(coding) = &mut self.coding {
            return coding.decompressor.push(chunk);
        }
        if self.first.is_empty()
            && let Some(kind) = self.coding_of(chunk)
        {
            return self.begin(kind, chunk);
        }
        self.first.extend_from_slice(chunk);
        match self.coding_of(&self.first) {
            Some(kind) => self.begin_with_first(kind),
            None => Ok(()),
        }
    }

    /// How much of the body is in memory, in bytes.
    pub(super) fn buffered(&self) -> usize {
        self.coding.as_ref().map_or(self.first.len(), |coding| coding.decompressor.buffered())
    }

    /// What is decoded so far, which is in memory no longer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.coding.as_mut().map(|coding| coding.decompressor.take()).unwrap_or_default()
    }

    /// The body, or what was not taken of it.
    ///
    /// # Errors
    /// As for [`Decoder::push`], and when it breaks off.
    pub fn finish(self) -> Result<Vec<u8>, DecompressError> {
        let max_bytes = self.max_bytes;
        let (body, may_be_deflate) = self.finish_undecided()?;
        Ok(if may_be_deflate { json_or_deflated(body, max_bytes) } else { body })
    }

    /// The same, and whether the whole of it may be deflate that begins like JSON: [`json_or_deflated`] tells.
    ///
    /// # Errors
    /// As for [`Decoder::finish`].
    pub(super) fn finish_undecided(mut self) -> Result<(Vec<u8>, bool), DecompressError> {
        if self.coding.is_none() {
            self.begin_with_first(Kind::Known(Format::Identity))?;
        }
        match self.coding {
            Some(coding) => Ok((coding.decompressor.finish()?, coding.kind == Kind::JsonOrDeflate)),
            None => Ok((Vec::new(), false)),
        }
    }

    /// `None` while there is too little to tell.
    fn coding_of(&self, first: &[u8]) -> Option<Kind> {
        match first {
            [] | [0x1F] => None,
            [0x1F, 0x8B, ..] => Some(Kind::Known(Format::Gzip)),
            // The method deflate with a window of up to 32 KiB; a number may begin with 8 as well.
            [method, ..] if method & 0x8F == 8 && (*method != b'8' || self.says_deflate) => match first {
                [_, flags, ..] if (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0 => {
                    Some(Kind::Known(Format::Zlib))
                }
                [_] => None,
                _ => Some(self.said()),
            },
            [b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n', ..] if self.says_deflate => Some(Kind::JsonOrDeflate),
            _ => Some(self.said()),
        }
    }

    fn said(&self) -> Kind {
        Kind::Known(if self.says_deflate { Format::Deflate } else { Format::Identity })
    }

    fn begin_with_first(&mut self, kind: Kind) -> Result<(), DecompressError> {
        let first = std::mem::take(&mut self.first);
        self.begin(kind, &first)
    }

    fn begin(&mut self, kind: Kind, first: &[u8]) -> Result<(), DecompressError> {
        let format = match kind {
            Kind::Known(format) => format,
            Kind::JsonOrDeflate => Format::Identity,
        };
        let mut decompressor = Decompressor::new(format, self.max_bytes);
        if kind == Kind::Known(Format::Identity) {
            decompressor.expect(self.expected);
        }
        self.coding.insert(Coding { kind, decompressor }).decompressor.push(first)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Known(Format),
    /// Bare deflate, or JSON under its header: only the end shows which.
    JsonOrDeflate,
}

/// What `body` holds when it is deflate from its first byte to its last, which JSON never is; else the body itself. JSON can
/// pass for deflate that unpacks to too much before it breaks off, so that is no reason to refuse it.
pub(super) fn json_or_deflated(body: Vec<u8>, max_bytes: usize) -> Vec<u8> {
    match inflated(&body, max_bytes) {
        Inflated::Whole(plain) => plain,
        Inflated::TooLarge | Inflated::Not => body,
    }
}

/// What bytes are when they are taken for deflate.
pub(super) enum Inflated {
    /// Deflate from the first to the last, of this.
    Whole(Vec<u8>),
    /// More than the bound comes of them, if they are deflate.
    TooLarge,
    /// Something else.
    Not,
}

/// Inflates bytes into at most `max_bytes`.
pub(super) fn inflated(body: &[u8], max_bytes: usize) -> Inflated {
    let mut decoder = bufread::DeflateDecoder::new(body);
    let mut plain = Vec::new();
    match decoder.by_ref().take(max_bytes as u64 + 1).read_to_end(&mut plain) {
        Ok(length) if length > max_bytes => Inflated::TooLarge,
        Ok(_) if decoder.into_inner().is_empty() => Inflated::Whole(plain),
        _ => Inflated::Not,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn packed(format: Format, text: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        let bytes = match format {
            Format::Identity => Ok(text.to_vec()),
            Format::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Format::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Format::Deflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
        };
        bytes.unwrap()
    }

    fn unpacked(encoding: Option<&str>, chunks: &[&[u8]], max_bytes: usize) -> Result<Vec<u8>, DecompressError> {
        let mut decoder = Decoder::new(encoding, max_bytes);
        chunks.iter().try_for_each(|chunk| decoder.push(chunk))?;
        decoder.finish()
    }

    #[test]
    fn a_decompression_bomb_is_refused_early() {
        let bomb = packed(Format::Gzip, &vec![b' '; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(unpacked(Some("gzip"), &[&bomb], 1 << 20), Err(DecompressError::TooLarge)));
        assert!(matches!(unpacked(None, &[b"[]", b"[]"], 3), Err(DecompressError::TooLarge)));
    }

    #[test]
    fn unencoded_bodies_pass_and_damaged_ones_are_refused() {
        for (encoding, text) in
            [(Some("utf-8"), "{}"), (Some("gzip"), "{}"), (Some("deflate"), "[1]"), (None, "80"), (None, "")]
        {
            assert_eq!(unpacked(encoding, &[text.as_bytes()], 10).unwrap(), text.as_bytes(), "{encoding:?}");
        }
        for kind in [Format::Gzip, Format::Zlib] {
            let mut damaged = packed(kind, b"{\"a\":1}");
            let at = damaged.len() - 3;
            damaged[at] ^= 1;
            assert!(matches!(unpacked(None, &[&damaged], 99), Err(DecompressError::Damaged(_))));
        }
        assert!(matches!(unpacked(None, &[&[0x1F, 0x8B, 1, 2, 3]], 99), Err(DecompressError::Damaged(_))));
    }

    #[test]
    fn a_body_that_breaks_off_is_refused_or_left_as_it_is() {
        let text: Vec<u8> = (0..999).flat_map(|number: u32| format!("[{}],", number * number).into_bytes()).collect();
        for kind in [Format::Gzip, Format::Zlib, Format::Deflate] {
            let packed = packed(kind, &text);
            for end in [packed.len() - 1, packed.len() / 2] {
                let encoding = (kind == Format::Deflate).then_some("deflate");
                let read = unpacked(encoding, &[&packed[..end]], 99_999);
                assert!(matches!(read, Err(DecompressError::Damaged(_))), "{kind:?} {end}: {read:?}");
            }
        }
    }

    #[test]
    fn deflate_that_begins_like_json_is_unpacked() {
        let text = br#"["i":2,"":0,"gg":3,"dcaaf":7,"dbcgaj":9,"aal":6,"haba":4,"#;
        let packed = packed(Format::Deflate, text);
        assert_eq!(packed[0], b'\r');
        assert_eq!(unpacked(Some("deflate"), &[&packed], 99).unwrap(), text);
        assert_eq!(unpacked(Some("deflate"), &[&packed], text.len() - 1).unwrap(), packed);
        assert_eq!(unpacked(Some("deflate"), &[b"\r\n", b"{}"], 99).unwrap(), b"\r\n{}");
    }

    proptest! {
        #[test]
        fn compressed_bodies_are_unpacked_however_they_are_cut(
            text in r#"[ \n]{0,2}[\{\[]("[a-z]{0,9}":[0-9],){0,40}"#,
            kind in prop_oneof![Just(Format::Identity), Just(Format::Gzip), Just(Format::Zlib), Just(Format::Deflate)],
            says in any::<bool>(),
            size in 1usize..40,
        ) {
            let encoding = if kind == Format::Deflate || says { Some("deflate") } else { None };
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
