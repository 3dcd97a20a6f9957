//! What a file is, by its first bytes.

use super::media_type::{Format, MediaType};

mod audio;
mod bmff;
mod ebml;
mod encoding;
mod signature;
mod text;

pub(super) use audio::{adts_frame, id3_length, is_ogg_video, mpeg_frame};
pub(super) use signature::{least_length, transport_packets};

/// How many first bytes [`sniff`] may need to be sure. Two MP3 frames of the longest kind fit in.
pub const SNIFF_LENGTH: usize = 4096;

/// Recognises a file by its first bytes, of which [`SNIFF_LENGTH`] are enough. `None` for what is not known for sure:
/// a wrong type does more harm than none. What is text in any encoding is known: `text/plain`, if no more can be said.
pub fn sniff(bytes: &[u8]) -> Option<MediaType> {
    let bytes = &bytes[..bytes.len().min(SNIFF_LENGTH)];
    let known = match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => named("png"),
        [0xff, 0xd8, 0xff, ..] => named("jpg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => named("gif"),
        [b'R', b'I', b'F', b'F' | b'X', _, _, _, _, form @ ..] => riff(form),
        [b'R', b'F', b'6', b'4', _, _, _, _, form @ ..] | [b'B', b'W', b'6', b'4', _, _, _, _, form @ ..] => {
            form.starts_with(b"WAVE").then(|| named("wav")).flatten()
        }
        [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..] => named("aiff"),
        [b'B', b'M', header @ ..] => bmp(header),
        [0x1a, 0x45, 0xdf, 0xa3, header @ ..] => ebml::doc_type(header),
        // Both may hold hardly anything but text.
        [b'%', b'P', b'D', b'F', b'-', ..] => named("pdf"),
        [b'P', b'K', 3, 4, ..] => {
            let found = infer::get(bytes).and_then(|found| named(found.extension()));
            found.filter(|found| found.format == Format::Zip).or_else(|| named("zip"))
        }
        _ => None,
    };
    // What is made of letters alone is no signature at the front of a text.
    let signed = || bmff::sniff(bytes).or_else(|| audio::sniff(bytes)).or_else(|| signature::certain(bytes));
    known
        .or_else(signed)
        .or_else(|| after_id3(bytes))
        .or_else(|| text::sniff(bytes))
        .or_else(|| signature::uncertain(bytes))
}

/// The type behind a tag, without the tag.
pub(super) fn sniff_tagged(bytes: &[u8]) -> Option<MediaType> {
    let found = sniff(bytes);
    if found.is_some_and(|found| !found.is_text()) {
        return found;
    }
    // A promise of MP3, which one frame keeps. Padding that the tag's length does not count is common.
    let is_promised = matches!(bytes, [] | [0, ..]) || mpeg_frame(bytes).is_some();
    if is_promised { named("mp3") } else { found }
}

fn after_id3(bytes: &[u8]) -> Option<MediaType> {
    match bytes.get(id3_length(bytes)?..) {
        None | Some([]) => named("mp3"),
        Some(rest) => sniff_tagged(rest),
    }
}

fn named(extension: &str) -> Option<MediaType> {
    MediaType::by_extension(extension)
}

fn riff(form: &[u8]) -> Option<MediaType> {
    if form.starts_with(b"WAVE") {
        named("wav")
    } else if form.starts_with(b"AVI ") {
        named("avi")
    } else if [b"WEBPVP8 ", b"WEBPVP8L", b"WEBPVP8X"].iter().any(|start| form.starts_with(*start)) {
        named("webp")
    } else {
        None
    }
}

/// Two letters are no proof: the reserved bytes and the length of the second header must fit too.
fn bmp(header: &[u8]) -> Option<MediaType> {
    let reserved = header.get(4..8)?;
    let second = u32::from_le_bytes(header.get(12..16)?.try_into().ok()?);
    let known = matches!(second, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124);
    if reserved == [0; 4] && known { named("bmp") } else { None }
}

#[cfg(test)]
pub(super) mod tests;
