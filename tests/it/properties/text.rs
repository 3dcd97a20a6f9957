//! Texts in every encoding: none is taken for media.

use replyvault::fetch::sniff;

/// Signatures that are letters alone, at the front of a text or four bytes behind it.
const SIGNATURES: [&str; 6] = ["RIFF", "RIFX", "RF64", "BW64", "FORM", "GIF8"];
const BOXES: [&str; 7] = ["ftyp", "moov", "mdat", "wide", "free", "skip", "jP  "];

/// Any bytes, and the characters among them that a message may have.
pub(crate) fn check(input: &[u8]) {
    let _ = sniff(input);
    let text: String = String::from_utf8_lossy(input).chars().filter(|char| is_written(*char)).collect();
    if text.trim().is_empty() {
        return;
    }
    let units: Vec<u16> = text.encode_utf16().collect();
    let wide = |write: fn(u16) -> [u8; 2]| units.iter().flat_map(move |unit| write(*unit)).collect::<Vec<u8>>();
    let long = |write: fn(u32) -> [u8; 4]| text.chars().flat_map(move |char| write(char.into())).collect::<Vec<u8>>();
    let mut encoded = vec![
        ("UTF-8 with mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("UTF-16LE with mark", [b"\xff\xfe".to_vec(), wide(u16::to_le_bytes)].concat()),
        ("UTF-16BE with mark", [b"\xfe\xff".to_vec(), wide(u16::to_be_bytes)].concat()),
        ("UTF-32LE with mark", [b"\xff\xfe\0\0".to_vec(), long(u32::to_le_bytes)].concat()),
        ("UTF-32BE with mark", [b"\0\0\xfe\xff".to_vec(), long(u32::to_be_bytes)].concat()),
    ];
    let has_signature = SIGNATURES.iter().any(|signature| text.starts_with(signature))
        || BOXES.iter().any(|name| text.as_bytes().get(4..8) == Some(name.as_bytes()));
    if !has_signature {
        encoded.push(("UTF-8", text.clone().into_bytes()));
    }
    if text.is_ascii() {
        encoded.extend([("UTF-16LE", wide(u16::to_le_bytes)), ("UTF-16BE", wide(u16::to_be_bytes))]);
        encoded.extend([("UTF-32LE", long(u32::to_le_bytes)), ("UTF-32BE", long(u32::to_be_bytes))]);
    }
    for (encoding, bytes) in encoded {
        let found = sniff(&bytes);
        assert!(found.is_some_and(|found| !found.kind.is_media()), "{encoding}: {found:?} {text:?}");
    }
}

fn is_written(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, ' '..='~' | '\n' | '\r' | '\t' | '，' | '。' | '…')
}
