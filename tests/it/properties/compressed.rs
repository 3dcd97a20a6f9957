//! Callbacks' bodies that a proxy has compressed, or that only look so.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use replyvault::decompress::{DecompressError, by_content_encoding};
use replyvault::intake::Decoder;

/// The first byte says how the body comes in pieces, the second how large it may be; the rest is the body, or what is packed.
pub(crate) fn check(input: &[u8]) {
    let Some(([piece, most], body)) = input.split_first_chunk::<2>() else { return };
    let (piece, most) = (usize::from(*piece) + 1, usize::from(*most) * 16);
    for encoding in [None, Some("deflate"), Some("gzip"), Some("br")] {
        let whole = decoded(encoding, body, body.len().max(1), most);
        // Where both a bound and damage are met, pieces decide which comes first.
        let in_pieces = decoded(encoding, body, piece, most);
        assert_eq!(whole.is_ok(), in_pieces.is_ok(), "{encoding:?}");
        if let (Ok(whole), Ok(in_pieces)) = (whole, in_pieces) {
            assert!(whole.len() <= most);
            assert_eq!(whole, in_pieces);
        }
    }
    for encoding in ["gzip", "deflate", "zstd", "identity"] {
        if let Some(Ok(plain)) = by_content_encoding(encoding, body, most) {
            assert!(plain.len() <= most);
        }
    }
    let packed = [
        (None, gzip(body)),
        (Some("deflate"), zlib(body)),
        (Some("deflate"), deflate(body)),
        (None, [gzip(&body[..body.len() / 2]), gzip(&body[body.len() / 2..])].concat()),
    ];
    for (encoding, packed) in packed {
        // What may be JSON is held as it came, and is one or the other only at its end.
        if encoding.is_some() && packed.first().is_some_and(|first| b"{[ \t\r\n".contains(first)) {
            continue;
        }
        assert_eq!(decoded(encoding, &packed, piece, body.len()).as_deref(), Ok(body), "{encoding:?}");
        if !body.is_empty() {
            let read = decoded(encoding, &packed, piece, body.len() - 1);
            assert_eq!(read, Err(DecompressError::TooLarge), "{encoding:?}");
        }
    }
}

fn decoded(encoding: Option<&str>, body: &[u8], piece: usize, most: usize) -> Result<Vec<u8>, DecompressError> {
    let mut decoder = Decoder::new(encoding, most);
    for piece in body.chunks(piece) {
        let _ = decoder.decodes(piece);
        decoder.push(piece)?;
    }
    decoder.finish()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
