use serde::{Deserialize, Serialize};

use super::asf::Asf;
use super::bmff::Bmff;
use super::ebml::Ebml;
use super::flac::Flac;
use super::flv::Flv;
use super::frames::Frames;
use super::gif::Gif;
use super::jpeg::Jpeg;
use super::long_chunks::LongChunks;
use super::ogg::Ogg;
use super::packets::Packets;
use super::png::Png;
use super::riff::Riff;
use super::tail::Tail;
use super::{ContainerError, Format, MediaType};
use crate::fetch::sniff;

/// The check of one format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Checker {
    Asf(Asf),
    Bmff(Bmff),
    Ebml(Ebml),
    Flac(Flac),
    Flv(Flv),
    Frames(Frames),
    Gif(Gif),
    Jpeg(Jpeg),
    Ogg(Ogg),
    Png(Png),
    Riff(Riff),
    Tail(Tail),
    AtLeast { length: u64 },
    None,
    LongChunks(LongChunks),
    Packets(Packets),
}

impl Checker {
    /// For a file of this format that begins with `head`, which is to be given to [`Self::update`] as well.
    pub(super) fn new(format: Format, media_type: Option<MediaType>, head: &[u8]) -> Self {
        let extension = media_type.map_or("", |media_type| media_type.extension);
        match format {
            Format::Movie => Self::Bmff(Bmff::movie()),
            Format::Heif => Self::Bmff(Bmff::heif()),
            Format::Jxl if head.starts_with(b"\0") => Self::Bmff(Bmff::jxl()),
            Format::Jp2 => Self::Bmff(Bmff::jp2()),
            Format::Png => Self::Png(Png::new()),
            Format::Jpeg => Self::Jpeg(Jpeg::new()),
            Format::Gif => Self::Gif(Gif::new()),
            Format::Riff | Format::Iff => Self::Riff(Riff::new(head)),
            Format::Ebml => Self::Ebml(Ebml::new()),
            Format::Ogg => Self::Ogg(Ogg::new()),
            Format::Flac => Self::Flac(Flac::new()),
            Format::Mpeg => Self::Frames(Frames::mpeg(head)),
            Format::Adts => Self::Frames(Frames::adts()),
            Format::Asf => Self::Asf(Asf::new()),
            Format::Flv => Self::Flv(Flv::new()),
            Format::Caf => Self::LongChunks(LongChunks::caf()),
            Format::Wave64 => Self::LongChunks(LongChunks::wave64()),
            Format::TransportStream => {
                let packets = sniff::transport_packets(head).map(|(sync, step)| Packets::new(sync, step));
                packets.map_or(Self::None, Self::Packets)
            }
            Format::Pdf => Self::Tail(Tail::pdf()),
            Format::Zip => Self::Tail(Tail::zip()),
            Format::Bmp => bmp_length(head).map_or(Self::None, |length| Self::AtLeast { length }),
            Format::Sized => sniff::least_length(head, extension).map_or(Self::None, |length| Self::AtLeast { length }),
            Format::Jxl | Format::Text | Format::Other => Self::None,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Asf(asf) => asf.update(bytes),
            Self::Bmff(bmff) => bmff.update(bytes),
            Self::Ebml(ebml) => ebml.update(bytes),
            Self::Flac(flac) => flac.update(bytes),
            Self::Flv(flv) => flv.update(bytes),
            Self::Frames(frames) => frames.update(bytes),
            Self::Gif(gif) => gif.update(bytes),
            Self::Jpeg(jpeg) => jpeg.update(bytes),
            Self::Ogg(ogg) => ogg.update(bytes),
            Self::Png(png) => png.update(bytes),
            Self::Riff(riff) => riff.update(bytes),
            Self::Tail(tail) => tail.update(bytes),
            Self::LongChunks(chunks) => chunks.update(bytes),
            Self::Packets(packets) => packets.update(bytes),
            Self::AtLeast { .. } | Self::None => {}
        }
    }

    /// Whether nothing that may follow can make it whole.
    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Bmff(bmff) => bmff.is_malformed(),
            Self::Gif(gif) => gif.is_malformed(),
            Self::Jpeg(jpeg) => jpeg.is_malformed(),
            Self::Png(png) => png.is_malformed(),
            _ => false,
        }
    }

    /// What the tracks of the file make of the type that its head shows.
    pub(super) fn refined(&self, media_type: MediaType) -> MediaType {
        let is_sound_alone = match self {
            Self::Asf(asf) => asf.is_sound_alone(),
            Self::Bmff(bmff) => bmff.is_sound_alone(),
            Self::Ebml(ebml) => ebml.is_sound_alone(),
            Self::Ogg(ogg) if ogg.has_pictures() => return MediaType::by_extension("ogv").unwrap_or(media_type),
            _ => false,
        };
        if is_sound_alone { media_type.without_pictures() } else { media_type }
    }

    /// Judges a file of `length` bytes that ends here.
    pub(super) fn finish(&self, length: u64, is_proven: bool) -> Result<(), ContainerError> {
        match self {
            Self::Asf(asf) => asf.finish(),
            Self::Bmff(bmff) => bmff.finish(),
            Self::Ebml(ebml) => ebml.finish(length),
            Self::Flac(flac) => flac.finish(is_proven),
            Self::Flv(flv) => flv.finish(is_proven),
            Self::Frames(frames) => frames.finish(is_proven),
            Self::Gif(gif) => gif.finish(),
            Self::Jpeg(jpeg) => jpeg.finish(),
            Self::Ogg(ogg) => ogg.finish(),
            Self::Png(png) => png.finish(),
            Self::Riff(riff) => riff.finish(length),
            Self::Tail(tail) => tail.finish(length, is_proven),
            Self::LongChunks(chunks) => chunks.finish(),
            Self::Packets(packets) => packets.finish(is_proven),
            Self::AtLeast { length: least } if length < *least => {
                Err(ContainerError::Truncated { expected: "as many bytes as its header declares" })
            }
            Self::AtLeast { .. } | Self::None => Ok(()),
        }
    }
}

/// The least length of a BMP: where its pixels begin, and how many there are when they are not compressed.
fn bmp_length(head: &[u8]) -> Option<u64> {
    let word = |place: usize| Some(u32::from_le_bytes(head.get(place..place + 4)?.try_into().ok()?));
    let (pixels, header) = (u64::from(word(10)?), word(14)?);
    if header < 40 {
        return Some(pixels);
    }
    let (width, height) = (u64::from(word(18)?), u64::from(word(22)?.cast_signed().unsigned_abs()));
    let bits = u64::from(word(28)? & 0xffff).saturating_mul(width);
    let size = match word(30)? {
        // Uncompressed, with or without masks.
        0 | 3 | 6 => bits.div_ceil(32).saturating_mul(4).saturating_mul(height),
        _ => u64::from(word(34)?),
    };
    Some(pixels.saturating_add(size))
}
