use std::fmt;

mod audio;
mod text;

/// How many first bytes [`sniff`] may need to be sure. Two MP3 frames of the longest kind fit in.
pub const SNIFF_LENGTH: usize = 4096;

/// What people would call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Moving pictures.
    Video,
    /// Still or animated pictures.
    Image,
    /// Sound alone.
    Audio,
    /// Timed text.
    Subtitles,
    /// Text that is no media: where media was expected, an error page.
    Document,
}

/// What a file's first bytes say it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaType {
    /// What people would call it.
    pub kind: MediaKind,
    /// The MIME type to store it under.
    pub mime: &'static str,
    /// The usual file name extension, without a dot.
    pub extension: &'static str,
    pub(super) format: Format,
}

/// The container, as far as checking its wholeness goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// ISO base media file (ISO/IEC 14496-12) with a movie.
    Movie,
    /// The same with still pictures.
    Heif,
    Png,
    Jpeg,
    Riff,
    Other,
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mime)
    }
}

impl MediaType {
    const fn new(kind: MediaKind, mime: &'static str, extension: &'static str, format: Format) -> Self {
        Self { kind, mime, extension, format }
    }

    /// The kinds a large file may be of, found again by what is recorded of them.
    pub(super) fn recorded(mime: &str, extension: &str) -> Option<Self> {
        use Format::{Heif, Jpeg, Movie, Png, Riff};
        use MediaKind::{Audio, Image, Video};
        const LARGE: [MediaType; 20] = [
            MediaType::new(Video, "video/mp4", "mp4", Movie),
            MediaType::new(Video, "video/quicktime", "mov", Movie),
            MediaType::new(Audio, "audio/mp4", "m4a", Movie),
            MediaType::new(Image, "image/avif", "avif", Heif),
            MediaType::new(Image, "image/heic", "heic", Heif),
            MediaType::new(Image, "image/heif", "heif", Heif),
            MediaType::new(Image, "image/png", "png", Png),
            MediaType::new(Image, "image/jpeg", "jpg", Jpeg),
            MediaType::new(Image, "image/webp", "webp", Riff),
            MediaType::new(Audio, "audio/wav", "wav", Riff),
            MediaType::image("image/gif", "gif"),
            MediaType::image("image/bmp", "bmp"),
            MediaType::video("video/webm", "webm"),
            MediaType::video("video/x-matroska", "mkv"),
            MediaType::video("video/ogg", "ogv"),
            MediaType::audio("audio/mpeg", "mp3"),
            MediaType::audio("audio/aac", "aac"),
            MediaType::audio("audio/flac", "flac"),
            MediaType::audio("audio/ogg", "opus"),
            MediaType::audio("audio/ogg", "ogg"),
        ];
        LARGE.into_iter().find(|known| known.mime == mime && known.extension == extension)
    }

    const fn video(mime: &'static str, extension: &'static str) -> Self {
        Self::new(MediaKind::Video, mime, extension, Format::Other)
    }

    const fn image(mime: &'static str, extension: &'static str) -> Self {
        Self::new(MediaKind::Image, mime, extension, Format::Other)
    }

    const fn audio(mime: &'static str, extension: &'static str) -> Self {
        Self::new(MediaKind::Audio, mime, extension, Format::Other)
    }
}

/// Recognises a file by its first bytes, of which [`SNIFF_LENGTH`] are enough. `None` for what is not known for sure:
/// a wrong type does more harm than none.
pub fn sniff(bytes: &[u8]) -> Option<MediaType> {
    let bytes = &bytes[..bytes.len().min(SNIFF_LENGTH)];
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => {
            Some(MediaType::new(MediaKind::Image, "image/png", "png", Format::Png))
        }
        [0xff, 0xd8, 0xff, ..] => Some(MediaType::new(MediaKind::Image, "image/jpeg", "jpg", Format::Jpeg)),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(MediaType::image("image/gif", "gif")),
        [b'R', b'I', b'F', b'F', _, _, _, _, form @ ..] => riff(form),
        [b'B', b'M', header @ ..] => bmp(header),
        [0x1a, 0x45, 0xdf, 0xa3, header @ ..] => ebml(header),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => ftyp(bytes),
        _ => audio::sniff(bytes).or_else(|| text::sniff(bytes)),
    }
}

fn riff(form: &[u8]) -> Option<MediaType> {
    if form.starts_with(b"WAVE") {
        Some(MediaType::new(MediaKind::Audio, "audio/wav", "wav", Format::Riff))
    } else if [b"WEBPVP8 ", b"WEBPVP8L", b"WEBPVP8X"].iter().any(|start| form.starts_with(*start)) {
        Some(MediaType::new(MediaKind::Image, "image/webp", "webp", Format::Riff))
    } else {
        None
    }
}

/// Two letters are no proof: the reserved bytes and the length of the second header must fit too.
fn bmp(header: &[u8]) -> Option<MediaType> {
    let reserved = header.get(4..8)?;
    let second = u32::from_le_bytes(header.get(12..16)?.try_into().ok()?);
    let known = matches!(second, 12 | 40 | 52 | 56 | 64 | 108 | 124);
    (reserved == [0; 4] && known).then_some(MediaType::image("image/bmp", "bmp"))
}

/// Matroska and WebM: the DocType in the EBML header (RFC 8794).
fn ebml(header: &[u8]) -> Option<MediaType> {
    let (length, mut rest) = ebml_number(header)?;
    rest = &rest[..rest.len().min(length)];
    loop {
        let id_length = rest.first()?.leading_zeros() as usize + 1;
        let (id, after) = rest.split_at_checked(id_length)?;
        let (length, value) = ebml_number(after)?;
        let (value, after) = value.split_at_checked(length)?;
        if id == [0x42, 0x82] {
            // EBML strings may be padded with zeros.
            return match value.split(|byte| *byte == 0).next()? {
                b"webm" => Some(MediaType::video("video/webm", "webm")),
                b"matroska" => Some(MediaType::video("video/x-matroska", "mkv")),
                _ => None,
            };
        }
        rest = after;
    }
}

/// A length of 1 to 8 bytes whose leading zeros say how many.
fn ebml_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    let (number, rest) = bytes.split_at_checked(length)?;
    if length > 8 {
        return None;
    }
    let value = number.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    // The bit that ends the leading zeros is no part of the number.
    Some((usize::try_from(value & !(1 << (7 * length))).ok()?, rest))
}

/// The family of ISO base media files, told apart by their brands.
fn ftyp(bytes: &[u8]) -> Option<MediaType> {
    let size = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let box_ = &bytes[..bytes.len().min(size)];
    let major: [u8; 4] = box_.get(8..12)?.try_into().ok()?;
    let compatible = box_.get(16..).unwrap_or_default().as_chunks::<4>().0;
    // The generic brands of still pictures leave it to a compatible brand which codec it is.
    std::iter::once(&major).chain(compatible).find_map(|brand| by_brand(*brand)).or_else(|| match &major {
        b"mif1" | b"msf1" => Some(MediaType::new(MediaKind::Image, "image/heif", "heif", Format::Heif)),
        _ => None,
    })
}

fn by_brand(brand: [u8; 4]) -> Option<MediaType> {
    let movie = |kind, mime, extension| Some(MediaType::new(kind, mime, extension, Format::Movie));
    let still = |mime, extension| Some(MediaType::new(MediaKind::Image, mime, extension, Format::Heif));
    match &brand {
        b"qt  " => movie(MediaKind::Video, "video/quicktime", "mov"),
        b"M4A " | b"M4B " | b"M4P " => movie(MediaKind::Audio, "audio/mp4", "m4a"),
        b"avif" | b"avis" => still("image/avif", "avif"),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => still("image/heic", "heic"),
        b"isom" | b"avc1" | b"hvc1" | b"av01" | b"dash" | b"M4V " | b"M4VH" | b"M4VP" | b"MSNV" | b"f4v " | b"F4V "
        | b"cmfc" | b"cmf2" => movie(MediaKind::Video, "video/mp4", "mp4"),
        [b'i', b's', b'o', b'2'..=b'9' | b'a'..=b'c'] | [b'm', b'p', b'4', b'1' | b'2'] => {
            movie(MediaKind::Video, "video/mp4", "mp4")
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
