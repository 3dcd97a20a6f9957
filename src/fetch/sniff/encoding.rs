//! Whether bytes are text, in whatever encoding.

/// The text that bytes are, if they are text. What is not ASCII in an encoding of eight bits is only good to look past: it
/// reads as replacement characters.
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    match bytes {
        [] => None,
        [0xef, 0xbb, 0xbf, rest @ ..] => eight_bits(rest),
        [0xff, 0xfe, 0, 0, rest @ ..] => utf32(rest, u32::from_le_bytes, false),
        [0, 0, 0xfe, 0xff, rest @ ..] => utf32(rest, u32::from_be_bytes, false),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes, false),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes, false),
        _ => eight_bits(bytes)
            .or_else(|| utf16(bytes, u16::from_le_bytes, true))
            .or_else(|| utf16(bytes, u16::from_be_bytes, true))
            .or_else(|| utf32(bytes, u32::from_le_bytes, true))
            .or_else(|| utf32(bytes, u32::from_be_bytes, true)),
    }
}

/// ASCII and what grew from it: UTF-8, Latin, Cyrillic, and the encodings of Chinese, Japanese and Korean. None of them uses
/// the control characters below the space, which hardly any binary file of some length is without.
fn eight_bits(bytes: &[u8]) -> Option<String> {
    // A C program's string may come with its end.
    let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | 0x1a)).map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    let odd = bytes.iter().filter(|byte| !is_character(u32::from(**byte))).count();
    let plain = bytes.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')).count();
    let is_mostly_plain = odd * 20 < bytes.len() && plain * 20 >= bytes.len() * 19 && !bytes.contains(&0);
    let is_text = !bytes.is_empty() && (odd == 0 || is_mostly_plain);
    is_text.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// `guessed` where no byte order mark says that it is.
fn utf16(bytes: &[u8], read: fn([u8; 2]) -> u16, guessed: bool) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    if guessed && (units.is_empty() || !rest.is_empty()) {
        return None;
    }
    let mut text = String::with_capacity(units.len());
    let mut decoded = char::decode_utf16(units.iter().map(|unit| read(*unit))).peekable();
    while let Some(char) = decoded.next() {
        match char {
            Ok('\0') if decoded.peek().is_none() && !text.is_empty() => {}
            Ok(char) if is_assigned(char) => text.push(char),
            // What was looked at ends within a pair.
            Err(_) if decoded.peek().is_none() && !text.is_empty() => {}
            _ => return None,
        }
    }
    (!guessed || is_plausible(&text)).then_some(text)
}

/// Whether it is of scripts that messages are written in. Any few bytes are some characters in UTF-16.
fn is_plausible(text: &str) -> bool {
    let is_common = |char: char| {
        let code = u32::from(char);
        matches!(code, ..0x7f | 0xa0..=0x24f | 0x370..=0x6ff | 0x900..=0xdff | 0xe00..=0xe7f | 0x1e00..=0x206f | 0x3000..=0x30ff)
            || matches!(code, 0x4e00..=0x9fff | 0xac00..=0xd7a3 | 0xff00..=0xffef)
    };
    let (all, common) = (text.chars().count(), text.chars().filter(|char| is_common(*char)).count());
    let ascii = text.chars().filter(char::is_ascii).count();
    common == all || common * 10 >= all * 9 && ascii * 4 >= all
}

fn utf32(bytes: &[u8], read: fn([u8; 4]) -> u32, guessed: bool) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<4>();
    if guessed && (units.is_empty() || !rest.is_empty()) {
        return None;
    }
    units.iter().map(|unit| char::from_u32(read(*unit)).filter(|char| is_assigned(*char))).collect()
}

/// Not a control character, but those that texts have: white space, escape, and NEL as some machines write it.
fn is_character(code: u32) -> bool {
    matches!(code, 0x09..=0x0d | 0x1b | 0x20..=0x7e | 0x80..)
}

/// Nor for private use, nor for no use at all.
fn is_assigned(char: char) -> bool {
    let code = u32::from(char);
    is_character(code) && !matches!(code, 0xe000..=0xf8ff | 0xfdd0..=0xfdef | 0xf_0000..) && code & 0xfffe != 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_in_every_encoding() {
        let message = "Link expired 链接已过期";
        let utf16: Vec<u16> = message.encode_utf16().collect();
        let (le16, be16) = (|u: &u16| u.to_le_bytes(), |u: &u16| u.to_be_bytes());
        let (le32, be32) = (|c: char| u32::from(c).to_le_bytes(), |c: char| u32::from(c).to_be_bytes());
        for bytes in [
            message.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", message.as_bytes()].concat(),
            [message.as_bytes(), b"\0"].concat(),
            utf16.iter().flat_map(le16).collect(),
            utf16.iter().flat_map(be16).collect(),
            [b"\xff\xfe".to_vec(), utf16.iter().flat_map(le16).collect()].concat(),
            [b"\xfe\xff".to_vec(), utf16.iter().flat_map(be16).collect()].concat(),
            message.chars().flat_map(le32).collect(),
            message.chars().flat_map(be32).collect(),
            [b"\xff\xfe\0\0".to_vec(), message.chars().flat_map(le32).collect()].concat(),
            [b"\0\0\xfe\xff".to_vec(), message.chars().flat_map(be32).collect()].concat(),
            b"Le lien a expir\xe9".to_vec(),
            b"\xc1\xb4\xbd\xd3\xd2\xd1\xb9\xfd\xc6\xda".to_vec(),
            b"\x1b$B%j%s%/\x1b(B".to_vec(),
            b"a message with one \x08 odd byte, as some programs write it".to_vec(),
        ] {
            assert!(decode(&bytes).is_some(), "{bytes:x?}");
        }
    }

    #[test]
    fn media_is_no_text() {
        let noise: Vec<u8> = (0..512_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        let quiet: Vec<u8> = (0..256_i16).flat_map(|n| (n % 5 - 2).to_le_bytes()).collect();
        for bytes in [&noise[..], &quiet, &[0; 64], b"", b"\0\0\0\x18ftypisom", b"\x47\x40\x11\x10\0\x42\xf0"] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
    }
}
