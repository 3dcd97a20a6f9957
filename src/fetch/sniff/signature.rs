//! Formats that a few bytes in one place tell, and that nothing more is known of here.

use super::{MediaType, named};

/// First bytes and extension. Only what is four bytes or more: two come about by chance.
const SIGNATURES: &[(&[u8], &str)] = &[
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"II+\0\x08\0\0\0", "tif"),
    (b"MM\0+\0\x08\0\0", "tif"),
    (b"\0\0\x01\0", "ico"),
    (b"\0\0\x02\0", "ico"),
    (b"8BPS\0", "psd"),
    (b"\xff\x4f\xff\x51\0", "j2k"),
    (b"II\xbc\x01", "jxr"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"DDS \x7c\0\0\0", "dds"),
    (b"qoif\0", "qoi"),
    (b"gimp xcf", "xcf"),
    (b"icns\0", "icns"),
    (b"FLV\x01", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", "wmv"),
    (b"\0\0\x01\xba", "mpg"),
    (b"\0\0\x01\xb3", "mpg"),
    (b"DKIF\0\0\x20\0", "ivf"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
    (b"#!AMR\n", "amr"),
    (b"#!AMR-WB\n", "awb"),
    (b"#?RADIANCE\n", "hdr"),
    (b".snd\0", "au"),
    (b"caff\0\x01", "caf"),
    (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0", "w64"),
    (b"MThd\0\0\0\x06", "mid"),
    (b"MAC ", "ape"),
    (b"DSD \x1c\0\0\0", "dsf"),
    (b"wvpk", "wv"),
    (b"TTA1", "tta"),
    (b"glTF\x02\0\0\0", "glb"),
];

/// Those that no text begins with.
pub(super) fn certain(bytes: &[u8]) -> Option<MediaType> {
    if transport_packets(bytes).is_some() && bytes.iter().any(|byte| !matches!(byte, b'\n' | 0x20..=0x7e)) {
        return named("ts");
    }
    let is_binary = |signature: &[u8]| signature.iter().any(|byte| !matches!(byte, b'\n' | 0x20..=0x7e));
    match listed(bytes, is_binary)?.extension {
        "ico" if !is_icon(bytes) => None,
        extension => named(extension),
    }
}

fn listed(bytes: &[u8], wanted: fn(&[u8]) -> bool) -> Option<MediaType> {
    let found = SIGNATURES.iter().find(|(signature, _)| wanted(signature) && bytes.starts_with(signature));
    named(found?.1)
}

/// The rest, of what is no text.
pub(super) fn uncertain(bytes: &[u8]) -> Option<MediaType> {
    if let Some(found) = listed(bytes, |signature| signature.iter().all(|byte| matches!(byte, b'\n' | 0x20..=0x7e))) {
        return Some(found);
    }
    if is_codestream(bytes) {
        return named("jxl");
    }
    let found = infer::get(bytes)?;
    match found.matcher_type() {
        // Some of its signatures are two bytes long. Of media only those count that are longer and not looked for above.
        infer::MatcherType::Image | infer::MatcherType::Audio | infer::MatcherType::Video => {
            named(found.extension()).filter(|found| matches!(found.extension, "cr2" | "mpg"))
        }
        _ => named(found.extension()).filter(|found| !found.kind.is_media()).or_else(|| named("bin")),
    }
}

/// Every entry of its directory has a size, and a place behind the directory.
fn is_icon(bytes: &[u8]) -> bool {
    let Some([low, high]) = bytes.get(4..6) else { return false };
    let count = usize::from(u16::from_le_bytes([*low, *high]));
    let Some(entries) = bytes.get(6..6 + 16 * count) else { return false };
    let behind = 6 + 16 * count as u32;
    let fits = |entry: &[u8; 16]| {
        let [_, _, _, reserved, .., a, b, c, d, e, f, g, h] = *entry;
        reserved <= 1 && u32::from_le_bytes([a, b, c, d]) > 0 && u32::from_le_bytes([e, f, g, h]) >= behind
    };
    count > 0 && entries.as_chunks::<16>().0.iter().all(fits)
}

/// The least that such a directory, or the like, says about the length of the file.
pub(in crate::fetch) fn least_length(bytes: &[u8], extension: &str) -> Option<u64> {
    let le = |place: usize| Some(u64::from(u32::from_le_bytes(bytes.get(place..place + 4)?.try_into().ok()?)));
    let be = |place: usize| Some(u64::from(u32::from_be_bytes(bytes.get(place..place + 4)?.try_into().ok()?)));
    match extension {
        "ico" => {
            let count = usize::from(u16::from_le_bytes([*bytes.get(4)?, *bytes.get(5)?]));
            (0..count).filter_map(|entry| Some(le(14 + 16 * entry)? + le(18 + 16 * entry)?)).max()
        }
        // The first directory of a TIFF often stands at its end: at least the number of its entries must be there.
        "tif" => match bytes.get(..4)? {
            b"II*\0" => Some(le(4)? + 2),
            b"MM\0*" => Some(be(4)? + 2),
            _ => None,
        },
        "au" => be(8).filter(|size| *size != u64::from(u32::MAX)).and_then(|size| Some(be(4)? + size)),
        _ => None,
    }
}

/// Where in its packets a transport stream has a sync byte, and how long they are: every 188 bytes, every 192 behind a time
/// stamp, or every 204 with parity behind.
pub(in crate::fetch) fn transport_packets(bytes: &[u8]) -> Option<(usize, usize)> {
    let has_sync = |(first, step): &(usize, usize)| {
        (0..3).all(|packet| bytes.get(first + packet * step) == Some(&0x47)) && bytes.len() > first + 2 * step
    };
    [(0, 188), (4, 192), (0, 204)].into_iter().find(has_sync)
}

/// A JPEG XL codestream without boxes: two bytes alone say so, thus only with a size header that is plausible behind.
fn is_codestream(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\x0a") && bytes.len() > 12
}
