use super::{MediaType, named};

pub(super) fn sniff(bytes: &[u8]) -> Option<MediaType> {
    match bytes {
        // The first block is STREAMINFO, 34 bytes long (RFC 9639).
        [b'f', b'L', b'a', b'C', 0 | 0x80, 0, 0, 34, ..] => named("flac"),
        [b'O', b'g', b'g', b'S', 0, ..] => ogg(bytes),
        [0xff, second, ..] if second & 0xf6 == 0xf0 => {
            if two_frames(bytes, adts_frame) {
                named("aac")
            } else {
                None
            }
        }
        [0xff, second, ..] if second & 0xe0 == 0xe0 => {
            let layer = if second & 6 == 2 { "mp3" } else { "mp2" };
            if two_frames(bytes, mpeg_frame) { named(layer) } else { None }
        }
        _ => None,
    }
}

/// The codec is named in the first packet, right after the first page's segment table (RFC 3533).
fn ogg(bytes: &[u8]) -> Option<MediaType> {
    let segments = usize::from(*bytes.get(26)?);
    let packet = bytes.get(27 + segments..)?;
    if packet.starts_with(b"OpusHead") {
        named("opus")
    } else if OGG_VIDEO.iter().any(|codec| packet.starts_with(codec)) {
        named("ogv")
    } else if OGG_AUDIO.iter().any(|codec| packet.starts_with(codec)) {
        named("ogg")
    } else {
        None
    }
}

const OGG_VIDEO: [&[u8]; 4] = [b"\x80theora", b"BBCD\0", b"OVP80", b"\x01video\0\0\0"];
/// `fishead` is Skeleton, which says what follows; sound, unless a stream of pictures begins.
const OGG_AUDIO: [&[u8]; 6] = [b"\x01vorbis", b"\x7fFLAC\x01", b"Speex  ", b"fishead\0", b"PCM     ", b"CELT    "];

/// Whether a stream that begins with this packet has pictures.
pub(in crate::fetch) fn is_ogg_video(packet: &[u8]) -> bool {
    OGG_VIDEO.iter().any(|codec| packet.starts_with(codec))
}

/// The length in bytes of the ID3v2 tag that a file begins with: its header, its body, its footer. It stands before MP3,
/// and where it does not belong before anything else.
pub(in crate::fetch) fn id3_length(bytes: &[u8]) -> Option<usize> {
    let [b'I', b'D', b'3', 2..=4, revision, flags, a, b, c, d, ..] = bytes else { return None };
    if *revision == 0xff || [a, b, c, d].iter().any(|byte| **byte >= 0x80) {
        return None;
    }
    let body = [a, b, c, d].iter().fold(0_usize, |length, byte| length << 7 | usize::from(**byte));
    Some(10 + body + if flags & 0x10 != 0 { 10 } else { 0 })
}

/// Eleven set bits come about by chance; a second frame where the first one ends does not.
fn two_frames(bytes: &[u8], length_of: fn(&[u8]) -> Option<usize>) -> bool {
    let second = length_of(bytes).and_then(|length| bytes.get(length..));
    second.is_some_and(|second| length_of(second).is_some() && second[1] & 0xfe == bytes[1] & 0xfe)
}

/// The length of an ADTS frame in bytes (ISO/IEC 13818-7).
pub(in crate::fetch) fn adts_frame(bytes: &[u8]) -> Option<usize> {
    let [0xff, second, third, fourth, fifth, sixth, _, ..] = bytes else { return None };
    let length = usize::from(fourth & 3) << 11 | usize::from(*fifth) << 3 | usize::from(sixth >> 5);
    let sampling_rate = third >> 2 & 0xf;
    (second & 0xf6 == 0xf0 && sampling_rate < 13 && length >= 7).then_some(length)
}

/// The length of an MPEG audio frame of layer II or III in bytes (ISO/IEC 11172-3 and 13818-3).
pub(in crate::fetch) fn mpeg_frame(bytes: &[u8]) -> Option<usize> {
    const MPEG1_III: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const MPEG1_II: [usize; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
    const MPEG2: [usize; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let [0xff, second, third, _, ..] = bytes else { return None };
    let is_layer_ii = match second & 0xe6 {
        0xe2 => false,
        0xe4 => true,
        _ => return None,
    };
    let (divisor, kilobits, samples) = match second >> 3 & 3 {
        0 => (4, MPEG2, 72),
        2 => (2, MPEG2, 72),
        3 if is_layer_ii => (1, MPEG1_II, 144),
        3 => (1, MPEG1_III, 144),
        _ => return None,
    };
    let samples = if is_layer_ii { 144 } else { samples };
    let rate = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))? / divisor;
    let kilobits = *kilobits.get(usize::from(third >> 4)).filter(|kilobits| **kilobits > 0)?;
    Some(samples * kilobits * 1000 / rate + usize::from(third >> 1 & 1))
}
