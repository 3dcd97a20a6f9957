use super::MediaType;

const MP3: MediaType = MediaType::audio("audio/mpeg", "mp3");
const AAC: MediaType = MediaType::audio("audio/aac", "aac");

pub(super) fn sniff(bytes: &[u8]) -> Option<MediaType> {
    match bytes {
        // The first block is STREAMINFO, 34 bytes long (RFC 9639).
        [b'f', b'L', b'a', b'C', 0 | 0x80, 0, 0, 34, ..] => Some(MediaType::audio("audio/flac", "flac")),
        [b'O', b'g', b'g', b'S', 0, ..] => ogg(bytes),
        [b'I', b'D', b'3', rest @ ..] => id3(rest),
        [0xff, second, ..] if second & 0xf6 == 0xf0 => two_frames(bytes, adts_frame).then_some(AAC),
        [0xff, second, ..] if second & 0xe6 == 0xe2 => two_frames(bytes, mp3_frame).then_some(MP3),
        _ => None,
    }
}

/// The codec is named in the first packet, right after the first page's segment table (RFC 3533).
fn ogg(bytes: &[u8]) -> Option<MediaType> {
    let segments = usize::from(*bytes.get(26)?);
    let packet = bytes.get(27 + segments..)?;
    if packet.starts_with(b"OpusHead") {
        Some(MediaType::audio("audio/ogg", "opus"))
    } else if [b"\x01vorbis", b"\x7fFLAC\x01\x00", b"Speex  "].iter().any(|codec| packet.starts_with(*codec)) {
        Some(MediaType::audio("audio/ogg", "ogg"))
    } else if packet.starts_with(b"\x80theora") {
        Some(MediaType::video("video/ogg", "ogv"))
    } else {
        None
    }
}

/// An ID3v2 tag is a promise of MP3, unless what follows it is in sight and is something else.
fn id3(rest: &[u8]) -> Option<MediaType> {
    let [2..=4, revision, _flags, a, b, c, d, body @ ..] = rest else { return None };
    if *revision == 0xff || [a, b, c, d].iter().any(|byte| **byte >= 0x80) {
        return None;
    }
    let length = [a, b, c, d].iter().fold(0_usize, |length, byte| length << 7 | usize::from(**byte));
    match body.get(length..) {
        None | Some([]) => Some(MP3),
        Some([0xff, second, ..]) if second & 0xf6 == 0xf0 => Some(AAC),
        Some([0xff, second, ..]) if second & 0xe0 == 0xe0 => Some(MP3),
        // Padding that the tag's length does not count is common.
        Some([0, ..]) => Some(MP3),
        Some(_) => None,
    }
}

/// Eleven set bits come about by chance; a second frame where the first one ends does not.
fn two_frames(bytes: &[u8], length_of: fn(&[u8]) -> Option<usize>) -> bool {
    let second = length_of(bytes).and_then(|length| bytes.get(length..));
    second.is_some_and(|second| length_of(second).is_some() && second[1] & 0xfe == bytes[1] & 0xfe)
}

/// The length of an ADTS frame in bytes (ISO/IEC 13818-7).
fn adts_frame(bytes: &[u8]) -> Option<usize> {
    let [0xff, second, third, fourth, fifth, sixth, _, ..] = bytes else { return None };
    let length = usize::from(fourth & 3) << 11 | usize::from(*fifth) << 3 | usize::from(sixth >> 5);
    let sampling_rate = third >> 2 & 0xf;
    (second & 0xf6 == 0xf0 && sampling_rate < 13 && length >= 7).then_some(length)
}

/// The length of an MPEG audio layer III frame in bytes (ISO/IEC 11172-3 and 13818-3).
fn mp3_frame(bytes: &[u8]) -> Option<usize> {
    const MPEG1: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const MPEG2: [usize; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let [0xff, second, third, _, ..] = bytes else { return None };
    if second & 0xe6 != 0xe2 {
        return None;
    }
    let (divisor, kilobits, samples) = match second >> 3 & 3 {
        0 => (4, MPEG2, 72),
        2 => (2, MPEG2, 72),
        3 => (1, MPEG1, 144),
        _ => return None,
    };
    let rate = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))? / divisor;
    let kilobits = *kilobits.get(usize::from(third >> 4)).filter(|kilobits| **kilobits > 0)?;
    Some(samples * kilobits * 1000 / rate + usize::from(third >> 1 & 1))
}
