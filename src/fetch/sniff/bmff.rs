//! The family of ISO base media files, told apart by their brands.

use super::{MediaType, named};

pub(super) fn sniff(bytes: &[u8]) -> Option<MediaType> {
    let size = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    match bytes.get(4..8)? {
        b"ftyp" => ftyp(bytes, size as usize),
        b"JXL " if bytes.get(..12)? == b"\0\0\0\x0cJXL \r\n\x87\n" => named("jxl"),
        b"jP  " if bytes.get(..12)? == b"\0\0\0\x0cjP  \r\n\x87\n" => named("jp2"),
        // QuickTime from before there were brands: what else begins with a plausible size and one of these?
        b"moov" if size >= 16 && matches!(bytes.get(12..16)?, b"mvhd" | b"cmov" | b"rmra" | b"udta" | b"trak") => {
            named("mov")
        }
        b"mdat" if matches!(size, 0 | 1 | 8..) => named("mov"),
        b"wide" if size == 8 && bytes.get(12..16)? == b"mdat" => named("mov"),
        b"free" | b"skip" | b"pnot" | b"uuid" => behind(bytes, size as usize),
        _ => None,
    }
}

/// A file may begin with a box that says nothing.
fn behind(bytes: &[u8], size: usize) -> Option<MediaType> {
    let next = bytes.get(size.max(8)..)?;
    match next.get(4..8)? {
        b"ftyp" => ftyp(next, u32::from_be_bytes(next.get(..4)?.try_into().ok()?) as usize),
        b"moov" | b"mdat" | b"wide" => named("mov"),
        _ => None,
    }
}

fn ftyp(bytes: &[u8], size: usize) -> Option<MediaType> {
    let box_ = &bytes[..bytes.len().min(size)];
    let major: [u8; 4] = box_.get(8..12)?.try_into().ok()?;
    let compatible = box_.get(16..).unwrap_or_default().as_chunks::<4>().0;
    // The generic brands of pictures leave it to a compatible brand which codec it is.
    std::iter::once(&major).chain(compatible).find_map(|brand| by_brand(*brand)).or_else(|| match &major {
        b"mif1" | b"msf1" | b"mif2" | b"miaf" => named("heif"),
        // There are more brands than anyone has written down. The box itself says that it is a movie of some kind.
        brand if brand.iter().all(|byte| matches!(byte, 0x20..=0x7e)) => named("mp4"),
        _ => None,
    })
}

fn by_brand(brand: [u8; 4]) -> Option<MediaType> {
    match &brand {
        b"qt  " => named("mov"),
        b"M4A " | b"M4B " | b"M4P " => named("m4a"),
        b"avif" | b"avis" => named("avif"),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => named("heic"),
        b"crx " => named("cr3"),
        b"jxl " => named("jxl"),
        b"jp2 " | b"jpx " | b"jpm " => named("jp2"),
        [b'3', b'g', b'2', _] => named("3g2"),
        [b'3', b'g', b'p' | b'e' | b'g' | b'r' | b's' | b't' | b'h' | b'm' | b'f', _] => named("3gp"),
        b"isom" | b"avc1" | b"hvc1" | b"av01" | b"dash" | b"M4V " | b"M4VH" | b"M4VP" | b"MSNV" | b"f4v " | b"F4V "
        | b"cmfc" | b"cmf2" => named("mp4"),
        [b'i', b's', b'o', b'2'..=b'9' | b'a'..=b'c'] | [b'm', b'p', b'4', b'1' | b'2'] => named("mp4"),
        _ => None,
    }
}
