//! Decompression that never makes more bytes than its caller allows.
//!
//! A kilobyte of gzip can hold a megabyte of zeros, so the output is bounded while it is made, not measured afterwards.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Identity,
    /// gzip (RFC 1952), of one member or several.
    Gzip,
    /// Deflate within zlib's frame (RFC 1950), which HTTP calls `deflate`.
    Zlib,
    /// Bare deflate (RFC 1951), which some send instead.
    Deflate,
}

/// Why there is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// There would be more than the bound.
    #[error("it decompresses to more bytes than are allowed")]
    TooLarge,
    /// It is not of the format, breaks off, or goes on behind its end.
    #[error("{0}")]
    Damaged(String),
}

/// Decompresses bytes that come piece by piece.
pub struct Decompressor(Sink);

enum Sink {
    Identity(BoundedBuffer),
    Gzip(MultiGzDecoder<BoundedBuffer>),
    Zlib(ZlibDecoder<BoundedBuffer>),
    Deflate(DeflateDecoder<BoundedBuffer>),
}

impl Decompressor {
    /// For output of at most `max_bytes`.
    pub fn new(format: Format, max_bytes: usize) -> Self {
        let output = BoundedBuffer { bytes: Vec::new(), taken: 0, expected: 0, max_bytes };
        Self(match format {
            Format::Identity => Sink::Identity(output),
            Format::Gzip => Sink::Gzip(MultiGzDecoder::new(output)),
            Format::Zlib => Sink::Zlib(ZlibDecoder::new(output)),
            Format::Deflate => Sink::Deflate(DeflateDecoder::new(output)),
        })
    }

    /// Makes room for `bytes` in one step when the next piece comes, if nothing is decompressed.
    pub fn expect(&mut self, bytes: usize) {
        if let Sink::Identity(output) = &mut self.0 {
            output.expected = bytes;
        }
    }

    /// How many bytes of output are in memory.
    pub fn buffered(&self) -> usize {
        self.output().bytes.len()
    }

    /// The output so far, which is in memory no longer. It still counts for the bound.
    pub fn take(&mut self) -> Vec<u8> {
        let output = match &mut self.0 {
            Sink::Identity(output) => output,
            Sink::Gzip(decoder) => decoder.get_mut(),
            Sink::Zlib(decoder) => decoder.get_mut(),
            Sink::Deflate(decoder) => decoder.get_mut(),
        };
        output.taken += output.bytes.len();
        std::mem::take(&mut output.bytes)
    }

    fn output(&self) -> &BoundedBuffer {
        match &self.0 {
            Sink::Identity(output) => output,
            Sink::Gzip(decoder) => decoder.get_ref(),
            Sink::Zlib(decoder) => decoder.get_ref(),
            Sink::Deflate(decoder) => decoder.get_ref(),
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`DecompressError::TooLarge`] before more than the bound is in memory; [`DecompressError::Damaged`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), DecompressError> {
        let written = match &mut self.0 {
            Sink::Identity(output) => output.write_all(piece),
            Sink::Gzip(decoder) => decoder.write_all(piece),
            Sink::Zlib(decoder) => decoder.write_all(piece),
            Sink::Deflate(decoder) => decoder.write_all(piece),
        };
        written.map_err(from_io)
    }

    /// All of the output that was not taken yet.
    ///
    /// # Errors
    /// As for [`Decompressor::push`], and when the input breaks off.
    pub fn finish(self) -> Result<Vec<u8>, DecompressError> {
        let output = match self.0 {
            Sink::Identity(output) => Ok(output),
            Sink::Gzip(decoder) => decoder.finish(),
            Sink::Zlib(decoder) => decoder.finish(),
            Sink::Deflate(decoder) => decoder.finish(),
        };
        output.map(|output| output.bytes).map_err(from_io)
    }
}

/// All of `bytes`, compressed as `format` says, in at most `max_bytes`.
///
/// # Errors
/// As for [`Decompressor::finish`].
pub fn decompress(format: Format, bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    let mut decompressor = Decompressor::new(format, max_bytes);
    decompressor.push(bytes)?;
    decompressor.finish()
}

/// All of `bytes` by their `Content-Encoding`, in at most `max_bytes`; `None` for an encoding that is not known here, and for
/// several of them.
///
/// # Errors
/// As for [`Decompressor::finish`].
pub fn by_content_encoding(encoding: &str, bytes: &[u8], max_bytes: usize) -> Option<Result<Vec<u8>, DecompressError>> {
    Some(match &*encoding.trim().to_ascii_lowercase() {
        "gzip" | "x-gzip" => decompress(Format::Gzip, bytes, max_bytes),
        "deflate" => match decompress(Format::Zlib, bytes, max_bytes) {
            Err(DecompressError::Damaged(_)) => decompress(Format::Deflate, bytes, max_bytes),
            other => other,
        },
        "zstd" => zstd_frames(bytes, max_bytes),
        _ => return None,
    })
}

/// A frame says how much memory its decoder needs; 8 MiB is the most that RFC 9659 allows with HTTP.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;

fn zstd_frames(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    let mut output = BoundedBuffer { bytes: Vec::new(), taken: 0, expected: 0, max_bytes };
    let mut decoder = zstd::Decoder::with_buffer(bytes).map_err(from_io)?;
    decoder.window_log_max(MAX_ZSTD_WINDOW_LOG).map_err(from_io)?;
    io::copy(&mut decoder, &mut output).map_err(from_io)?;
    Ok(output.bytes)
}

/// Bytes up to a bound.
struct BoundedBuffer {
    bytes: Vec<u8>,
    /// How many are elsewhere already.
    taken: usize,
    expected: usize,
    max_bytes: usize,
}

impl Write for BoundedBuffer {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + more.len();
        if self.taken + length > self.max_bytes {
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

fn from_io(error: io::Error) -> DecompressError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => DecompressError::TooLarge,
        _ => DecompressError::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn compressed(format: Format, bytes: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        match format {
            Format::Identity => bytes.to_vec(),
            Format::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Format::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Format::Deflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    #[test]
    fn content_encodings_are_decompressed_within_bounds() {
        let text = b"{\"prompt\":\"a boat\"}".repeat(9);
        let zstd = zstd::encode_all(&text[..], 0).unwrap();
        for (encoding, packed) in [
            ("GZIP", compressed(Format::Gzip, &text)),
            (" x-gzip", compressed(Format::Gzip, &text)),
            ("deflate", compressed(Format::Zlib, &text)),
            ("deflate", compressed(Format::Deflate, &text)),
            ("zstd", [&zstd[..], &zstd::encode_all(&b""[..], 0).unwrap()].concat()),
        ] {
            let read = |packed: &[u8], max| by_content_encoding(encoding, packed, max).unwrap();
            assert_eq!(read(&packed, text.len()).as_deref(), Ok(&text[..]), "{encoding}");
            assert_eq!(read(&packed, text.len() - 1), Err(DecompressError::TooLarge), "{encoding}");
            let cut = read(&packed[..packed.len() / 2], text.len());
            assert!(matches!(cut, Err(DecompressError::Damaged(_))), "{encoding}: {cut:?}");
        }
        assert!(matches!(by_content_encoding("gzip", &text, 1000), Some(Err(DecompressError::Damaged(_)))));
        assert_eq!(by_content_encoding("br", &text, 1000), None);
        assert_eq!(by_content_encoding("gzip, gzip", &text, 1000), None);
    }

    #[test]
    fn a_bomb_is_given_up_before_it_is_in_memory() {
        let zeros = vec![0; 64 << 20];
        for format in [Format::Gzip, Format::Zlib, Format::Deflate] {
            let bomb = compressed(format, &zeros);
            assert!(bomb.len() < 100_000);
            assert_eq!(decompress(format, &bomb, 1 << 20), Err(DecompressError::TooLarge), "{format:?}");
        }
        let bomb = zstd::encode_all(&zeros[..], 1).unwrap();
        assert_eq!(by_content_encoding("zstd", &bomb, 1 << 20), Some(Err(DecompressError::TooLarge)));
        // A few bytes that would have their decoder set 64 MiB aside: magic number, no size, a window of 2^26, an empty block.
        let wide = [0x28, 0xb5, 0x2f, 0xfd, 0, (26 - 10) << 3, 1, 0, 0];
        assert!(matches!(by_content_encoding("zstd", &wide, 1 << 20), Some(Err(DecompressError::Damaged(_)))));
        let narrow = [0x28, 0xb5, 0x2f, 0xfd, 0, (23 - 10) << 3, 1, 0, 0];
        assert_eq!(by_content_encoding("zstd", &narrow, 1 << 20), Some(Ok(Vec::new())));
    }
}
