use proptest::prelude::*;

use super::*;
use crate::fetch::container::make::{self, frames, ftyp_box, id3, moov};

fn bmp() -> Vec<u8> {
    let mut bytes = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.resize(58, 0);
    bytes
}

fn ebml(doc_type: &[u8]) -> Vec<u8> {
    make::ebml(doc_type, &[1, 2], true, b"data")
}

fn ogg(packet: &[u8]) -> Vec<u8> {
    make::ogg_page(2, packet)
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
        (ftyp_box(b"xxxx", &[]), "video/mp4", "mp4"),
        (ftyp_box(b"3gp5", &[b"isom"]), "video/3gpp", "3gp"),
        (ftyp_box(b"3g2a", &[]), "video/3gpp2", "3g2"),
        (ftyp_box(b"crx ", &[]), "image/x-canon-cr3", "cr3"),
        (moov(&[b"vide"]), "video/quicktime", "mov"),
        (b"\0\0\0\x08wide\0\0\0\0mdat".to_vec(), "video/quicktime", "mov"),
        (b"\0\0\x01\0mdatabc".to_vec(), "video/quicktime", "mov"),
        (b"\0\0\0\x0cJXL \r\n\x87\n".to_vec(), "image/jxl", "jxl"),
        (b"\xff\x0a\xfa\x7f\x01\x90\x08\x06\x01\0\xbc\0\x4b".to_vec(), "image/jxl", "jxl"),
        (b"\0\0\0\x0cjP  \r\n\x87\n".to_vec(), "image/jp2", "jp2"),
        (b"\xff\x4f\xff\x51\0\x29".to_vec(), "image/j2c", "j2k"),
        (b"II*\0\x08\0\0\0\x0e\0".to_vec(), "image/tiff", "tif"),
        (b"MM\0*\0\0\0\x08\0\x0e".to_vec(), "image/tiff", "tif"),
        (make::ico(b"icon"), "image/vnd.microsoft.icon", "ico"),
        (b"8BPS\0\x01\0\0\0\0\0\0\0\x03".to_vec(), "image/vnd.adobe.photoshop", "psd"),
        (b"\x76\x2f\x31\x01\x02\0\0\0channels".to_vec(), "image/x-exr", "exr"),
        (b"II\xbc\x01\x20\0\0\0".to_vec(), "image/vnd.ms-photo", "jxr"),
        (b"qoif\0\0\0\x20".to_vec(), "image/x-qoi", "qoi"),
        (b"RIFF\x10\0\0\0AVI LIST".to_vec(), "video/x-msvideo", "avi"),
        (b"RIFX\0\0\0\x10WAVEfmt ".to_vec(), "audio/wav", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64".to_vec(), "audio/wav", "wav"),
        (b"FORM\0\0\0\x10AIFFCOMM".to_vec(), "audio/aiff", "aiff"),
        (b"FORM\0\0\0\x10AIFCFVER".to_vec(), "audio/aiff", "aiff"),
        (b"#!AMR\n\x3c\x48\x1e\0\x01".to_vec(), "audio/amr", "amr"),
        (b"#!AMR-WB\n\x44\x48\x1e\0\x01".to_vec(), "audio/amr-wb", "awb"),
        (b".snd\0\0\0\x18\0\0\0\x08".to_vec(), "audio/basic", "au"),
        (b"caff\0\x01\0\0desc".to_vec(), "audio/x-caf", "caf"),
        (b"MThd\0\0\0\x06\0\x01".to_vec(), "audio/midi", "mid"),
        (b"wvpk\x10\0\0\0\x02\x04".to_vec(), "audio/x-wavpack", "wv"),
        (b"MAC \x96\x0f\0\0".to_vec(), "audio/x-ape", "ape"),
        (b"TTA1\x01\0\x02\0".to_vec(), "audio/x-tta", "tta"),
        (b"DSD \x1c\0\0\0\0".to_vec(), "audio/x-dsf", "dsf"),
        (make::asf(&[], b"x"), "video/x-ms-wmv", "wmv"),
        (make::flv(b"x"), "video/x-flv", "flv"),
        ([&b"\x47\x40"[..], &[0xff; 186]].concat().repeat(3), "video/mp2t", "ts"),
        ([&b"abcd\x47\x40"[..], &[0xff; 186]].concat().repeat(3), "video/mp2t", "ts"),
        (b"\0\0\x01\xba\x44\0\x04".to_vec(), "video/mpeg", "mpg"),
        (b"\0\0\x01\xb3\x16\0\xf0".to_vec(), "video/mpeg", "mpg"),
        (b"DKIF\0\0\x20\0VP80".to_vec(), "video/x-ivf", "ivf"),
        (b"glTF\x02\0\0\0".to_vec(), "model/gltf-binary", "glb"),
        (make::pdf(b"text alone"), "application/pdf", "pdf"),
        (make::zip(b"text alone"), "application/zip", "zip"),
        (b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), "application/gzip", "gz"),
        (b"7z\xbc\xaf\x27\x1c\0\x04".to_vec(), "application/x-7z-compressed", "7z"),
        (b"\x28\xb5\x2f\xfd\x04\0".to_vec(), "application/zstd", "zst"),
        (b"SQLite format 3\0\x10\0\x01\x01".to_vec(), "application/vnd.sqlite3", "sqlite"),
        (frames(b"\xff\xfd\xb0\0", 731, 3), "audio/mpeg", "mp2"),
        (id3(4, b"\xff\xfb\x90\0"), "audio/mpeg", "mp3"),
        (id3(4, b"fLaC\0\0\0\x22"), "audio/flac", "flac"),
        (id3(127, b""), "audio/mpeg", "mp3"),
        (id3(4, &make::aac(2)), "audio/aac", "aac"),
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
        (b"{\"a\":1}\n{\"a\":2}\n".to_vec(), "application/json", "json"),
        (b"<!-- a comment --><html>".to_vec(), "text/html", "html"),
        (b"<!-- a comment without an end".to_vec(), "text/html", "html"),
        (b"<br />\n<b>Warning</b>:  readfile()".to_vec(), "text/html", "html"),
        (b"<pre>Not found</pre>".to_vec(), "text/html", "html"),
        (b"<p>Not found".to_vec(), "text/html", "html"),
        (b"<ErrorResponse><Error><Code>x</Code></Error></ErrorResponse>".to_vec(), "application/xml", "xml"),
        (b"<?xml version='1.0'?><gpx version='1.1'/>".to_vec(), "application/xml", "xml"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "image/svg+xml", "svg"),
        (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg width='1'>".to_vec(), "image/svg+xml", "svg"),
        (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x' 'y' [<!ENTITY a 'b'>]><svg>".to_vec(), "image/svg+xml", "svg"),
        (b"<?xml version='1.0'?><tt xmlns='http://www.w3.org/ns/ttml'>".to_vec(), "application/ttml+xml", "ttml"),
        (b"[Script Info]\nTitle: x\n".to_vec(), "text/x-ssa", "ass"),
        (b"[ar:someone]\n[00:12.00]A line\n".to_vec(), "text/x-lrc", "lrc"),
        (b"0:00:01.000,0:00:02.000\nA line\n".to_vec(), "text/x-sbv", "sbv"),
        (b"00:00:01,000 --> 00:00:04,000\nNo number\n".to_vec(), "application/x-subrip", "srt"),
        (
            b"\xff\xfe1\0\n\x000\x000\0:\x000\x000\0:\x000\x001\0,\x000\x000\x000\0 \0-\0-\0>\0 \x000\0".to_vec(),
            "application/x-subrip",
            "srt",
        ),
        (b"\xff\xfe<\0h\0t\0m\0l\0>\0".to_vec(), "text/html", "html"),
        (b"\0<\0p\0>\0x".to_vec(), "text/html", "html"),
        (b"Link expired".to_vec(), "text/plain", "txt"),
        (b"null".to_vec(), "text/plain", "txt"),
        (b"[1] first source".to_vec(), "text/plain", "txt"),
        (b"BM, she said, is short for nothing".to_vec(), "text/plain", "txt"),
        (b"MAC addresses".to_vec(), "text/plain", "txt"),
        (b"12345".to_vec(), "text/plain", "txt"),
        (b"ID3 tags are fun to read".to_vec(), "text/plain", "txt"),
        (b"<?php echo 1;".to_vec(), "text/plain", "txt"),
        (b"{hello}".to_vec(), "text/plain", "txt"),
    ] {
        let found = sniff(&bytes);
        let named = found.map(|media_type| (media_type.mime, media_type.extension));
        assert_eq!(named, Some((mime, extension)), "{:?}", String::from_utf8_lossy(&bytes));
        assert_eq!(MediaType::find(mime, extension), found, "what is recorded of it leads back to it");
    }
}

#[test]
fn bytes_of_no_certain_kind_are_unknown() {
    for bytes in [
        &b""[..],
        b"GIF88a\x01\0",
        b"\xff\xfb\x90\0does not go on like MP3 does",
        b"\xff\xf1\x50\x80\x01no second frame",
        b"\x1a\x45\xdf\xa3",
        b"\0\0\0\x08ftyp",
        b"\0\0\0\0ftypisom",
        b"\0\0\0\x18ftyp\x01\x02\x03\x04\0\0\0\0",
        b"\0\0\x01\0\x01\0\x10\x10\0\0",
        b"\0\0\0\x08moov\0\0\0\x08udat",
        &[0; 4096],
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
    fn random_bytes_are_no_media(bytes in proptest::collection::vec(0x80u8..0xff, 16..200)) {
        prop_assert!(sniff(&bytes).is_none_or(|found| found.is_text()));
    }
}
