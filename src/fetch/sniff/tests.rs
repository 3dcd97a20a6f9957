use proptest::prelude::*;

use super::*;

/// A `ftyp` box with this major brand and these compatible ones.
pub(in crate::fetch) fn ftyp_box(major: &[u8; 4], compatible: &[&[u8; 4]]) -> Vec<u8> {
    let mut bytes = (16 + 4 * compatible.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(b"ftyp");
    bytes.extend_from_slice(major);
    bytes.extend_from_slice(&[0, 0, 2, 0]);
    compatible.iter().for_each(|brand| bytes.extend_from_slice(*brand));
    bytes
}

fn ebml(doc_type: &[u8]) -> Vec<u8> {
    // EBMLVersion, then the DocType, in a header whose length is written in eight bytes.
    let mut content = vec![0x42, 0x86, 0x81, 1, 0x42, 0x82, 0x80 | doc_type.len() as u8];
    content.extend_from_slice(doc_type);
    let mut bytes = vec![0x1a, 0x45, 0xdf, 0xa3, 1, 0, 0, 0, 0, 0, 0, content.len() as u8];
    bytes.extend(content);
    bytes.extend_from_slice(&[0x18, 0x53, 0x80, 0x67]);
    bytes
}

fn ogg(packet: &[u8]) -> Vec<u8> {
    let mut bytes = b"OggS\0\x02".to_vec();
    bytes.resize(26, 0);
    bytes.extend_from_slice(&[1, packet.len() as u8]);
    bytes.extend_from_slice(packet);
    bytes
}

fn frames(header: &[u8], length: usize, count: usize) -> Vec<u8> {
    let mut frame = header.to_vec();
    frame.resize(length, 0x55);
    frame.repeat(count)
}

fn bmp() -> Vec<u8> {
    let mut bytes = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.resize(58, 0);
    bytes
}

fn id3(length: u8, then: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'I', b'D', b'3', 4, 0, 0, 0, 0, 0, length];
    bytes.resize(10 + usize::from(length), 0);
    bytes.extend_from_slice(then);
    bytes
}

#[test]
fn known_kinds_are_recognised() {
    for (bytes, mime, extension) in [
        (ftyp_box(b"isom", &[b"isom", b"iso2", b"avc1", b"mp41"]), "video/mp4", "mp4"),
        (ftyp_box(b"mp42", &[]), "video/mp4", "mp4"),
        (ftyp_box(b"xxxx", &[b"yyyy", b"isom"]), "video/mp4", "mp4"),
        (ftyp_box(b"qt  ", &[b"qt  "]), "video/quicktime", "mov"),
        (ftyp_box(b"M4A ", &[b"isom", b"mp42"]), "audio/mp4", "m4a"),
        (ftyp_box(b"avif", &[b"mif1", b"miaf"]), "image/avif", "avif"),
        (ftyp_box(b"mif1", &[b"mif1", b"avif"]), "image/avif", "avif"),
        (ftyp_box(b"heic", &[b"mif1"]), "image/heic", "heic"),
        (ftyp_box(b"mif1", &[b"mif1", b"heic"]), "image/heic", "heic"),
        (ftyp_box(b"mif1", &[b"mif1"]), "image/heif", "heif"),
        (ebml(b"webm"), "video/webm", "webm"),
        (ebml(b"webm\0\0"), "video/webm", "webm"),
        (ebml(b"matroska"), "video/x-matroska", "mkv"),
        (b"GIF89a\x01\0".to_vec(), "image/gif", "gif"),
        (b"GIF87a\x01\0".to_vec(), "image/gif", "gif"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "image/png", "png"),
        (b"\xff\xd8\xff\xe0".to_vec(), "image/jpeg", "jpg"),
        (b"RIFF\x10\0\0\0WEBPVP8X".to_vec(), "image/webp", "webp"),
        (b"RIFF\x10\0\0\0WEBPVP8 ".to_vec(), "image/webp", "webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ".to_vec(), "audio/wav", "wav"),
        (bmp(), "image/bmp", "bmp"),
        (b"fLaC\0\0\0\x22".to_vec(), "audio/flac", "flac"),
        (ogg(b"OpusHead\x01"), "audio/ogg", "opus"),
        (ogg(b"\x01vorbis"), "audio/ogg", "ogg"),
        (ogg(b"\x80theora"), "video/ogg", "ogv"),
        (id3(4, b"\xff\xfb\x90\0"), "audio/mpeg", "mp3"),
        (id3(127, b""), "audio/mpeg", "mp3"),
        (id3(4, b"\xff\xf1\x50\x80"), "audio/aac", "aac"),
        (frames(b"\xff\xfb\x90\0", 417, 3), "audio/mpeg", "mp3"),
        (frames(b"\xff\xf3\x40\xc4", 144 * 32_000 / 48_000 * 48_000 / 44_100, 3), "audio/mpeg", "mp3"),
        (frames(b"\xff\xf1\x50\x80\x0c\x9f\xfc", 100, 3), "audio/aac", "aac"),
        (b"1\r\n00:00:01,000 --> 00:00:04,000\r\nHello\r\n".to_vec(), "application/x-subrip", "srt"),
        (b"\xef\xbb\xbf1\n00:00:01,000 --> 00:00:04,000\nHi\n".to_vec(), "application/x-subrip", "srt"),
        (b"WEBVTT\n\n00:01.000 --> 00:04.000\nHi".to_vec(), "text/vtt", "vtt"),
        (b"WEBVTT".to_vec(), "text/vtt", "vtt"),
        (b"\n <!DOCTYPE html><title>403</title>".to_vec(), "text/html", "html"),
        (b"<html lang=en>".to_vec(), "text/html", "html"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied".to_vec(), "application/xml", "xml"),
        (b"<Error><Code>NoSuchKey".to_vec(), "application/xml", "xml"),
        (b"{\"error\": \"expired\"}".to_vec(), "application/json", "json"),
        (b" {\n}".to_vec(), "application/json", "json"),
        (b"[{\"a\":1}]".to_vec(), "application/json", "json"),
    ] {
        let found = sniff(&bytes);
        let named = found.map(|media_type| (media_type.mime, media_type.extension));
        assert_eq!(named, Some((mime, extension)), "{:?}", String::from_utf8_lossy(&bytes));
        let large = found.filter(|found| !matches!(found.kind, MediaKind::Subtitles | MediaKind::Document));
        assert_eq!(MediaType::recorded(mime, extension), large, "what is recorded of it leads back to it");
    }
}

#[test]
fn what_is_not_sure_is_unknown() {
    for bytes in [
        &b""[..],
        b"a",
        b"BM, she said, is short for nothing",
        b"ID3",
        b"ID3 tags are fun to read",
        b"GIF88a",
        b"RIFF\x10\0\0\0AVI LIST",
        b"\xff\xfbdoes not go on like MP3 does",
        b"\xff\xfe<\0h\0t\0m\0l\0",
        b"\xff\xf1 no second frame",
        b"OggS",
        b"\x1a\x45\xdf\xa3",
        b"WEBVTTX",
        b"<htmlish",
        b"<svg xmlns='x'/>",
        b"{hello}",
        b"[hello]",
        b"1\nnot a time\n",
        b"12345",
        b"plain text",
        b"{\"a\"\0: binary}",
        b"\0\0\0\x18ftypzzzz\0\0\0\0zzzzyyyy",
        b"\0\0\0\x08ftyp",
        b"\0\0\0\0ftypisom",
    ] {
        assert_eq!(sniff(bytes), None, "{:?}", String::from_utf8_lossy(bytes));
    }
}

proptest! {
    #[test]
    fn it_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0usize..12) {
        const STARTS: [&[u8]; 12] = [
            b"", b"\x1a\x45\xdf\xa3", b"ID3", b"OggS\0", b"\xff\xfb", b"\xff\xf1", b"BM", b"RIFF",
            b"\0\0\0\x40ftyp", b"<", b"{", b"1\n00:",
        ];
        let mut input = STARTS[start].to_vec();
        input.extend(bytes);
        let _ = sniff(&input);
    }

    #[test]
    fn random_bytes_are_nothing(bytes in proptest::collection::vec(0x80u8..0xff, 16..200)) {
        prop_assert_eq!(sniff(&bytes), None);
    }
}
