use super::*;
use crate::fetch::sniff;

fn judged(kind: Kind, role: Role, name: &str, bytes: &[u8], declared: &str) -> Option<(String, String)> {
    let declared = Some(declared).filter(|declared| !declared.is_empty());
    let judged = judge(kind, role, &FileName::clean(name), sniff(bytes), declared);
    judged.ok().map(|(file, content_type)| (file.as_str().to_owned(), content_type))
}

fn agents(name: &str, bytes: &[u8], declared: &str) -> Option<(String, String)> {
    judged(Kind::Agent, Role::Media, name, bytes, declared)
}

const GIF: &[u8] = b"GIF89a\x01\0";
const NOISE: &[u8] = b"\x01\x02\x03\x04\0\0\0\x05noise";
const OSS_ERROR: &[u8] = b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>";

#[test]
fn no_text_is_kept_as_media_in_whatever_encoding_and_under_whatever_type() {
    let message = "The link has expired. L\u{ed}nk \u{4e0d}\u{5b58}\u{5728}";
    let utf16: Vec<u16> = message.encode_utf16().collect();
    let texts: Vec<Vec<u8>> = vec![
        b"Link expired".to_vec(),
        b"null".to_vec(),
        b"403".to_vec(),
        b" ".to_vec(),
        b"\n".to_vec(),
        b"{}".to_vec(),
        b"\"denied\"".to_vec(),
        b"<pre>NoSuchKey</pre>".to_vec(),
        b"<p>gone</p>".to_vec(),
        b"<!-- x --><!-- y --><html>".to_vec(),
        b"<br />\n<b>Warning</b>: readfile()".to_vec(),
        b"<ErrorResponse><Code>x</Code></ErrorResponse>".to_vec(),
        b"<x:Fault xmlns:x='y'/>".to_vec(),
        b"1\n00:00:01,000 --> 00:00:02,000\nNot a video\n".to_vec(),
        b"WEBVTT\n\n".to_vec(),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
        b"#EXTM3U\n#EXT-X-VERSION:3\n".to_vec(),
        b"Acc\xe8s refus\xe9".to_vec(),
        b"expired\0".to_vec(),
        OSS_ERROR.to_vec(),
        message.as_bytes().to_vec(),
        [b"\xef\xbb\xbf", message.as_bytes()].concat(),
        utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        [vec![0xff, 0xfe], utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect()].concat(),
        message.chars().flat_map(|char| u32::from(char).to_le_bytes()).collect(),
        message.chars().flat_map(|char| u32::from(char).to_be_bytes()).collect(),
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03a page that was compressed".to_vec(),
        b"PK\x03\x04\x14\0\0\0".to_vec(),
        b"%PDF-1.4\n".to_vec(),
    ];
    for text in texts {
        for declared in
            ["", "text/plain", "application/json", "video/mp4", "image/png", "audio/mpeg", "application/octet-stream"]
        {
            for (kind, role, name) in [
                (Kind::Video, Role::Media, "video.mp4"),
                (Kind::Image, Role::Media, "image.png"),
                (Kind::Music, Role::Media, "audio.mp3"),
                (Kind::Speech, Role::Media, "audio.mp3"),
                (Kind::Video, Role::Poster, "poster.jpg"),
                (Kind::Agent, Role::Thumbnail, "01-thumbnail.jpg"),
                (Kind::Agent, Role::Media, "01-clip.mp4"),
                (Kind::Agent, Role::Media, "01-photo.JPEG"),
                (Kind::Agent, Role::Media, "01-song.flac"),
            ] {
                let kept = judged(kind, role, name, &text, declared);
                assert_eq!(kept, None, "{:?} as {declared} for {name}", String::from_utf8_lossy(&text));
            }
        }
    }
}

#[test]
fn bytes_of_no_known_type_are_media_only_when_their_server_says_so() {
    for (declared, expected) in [
        ("video/mp4", Some(("video.mp4", "video/mp4"))),
        ("Video/MP4; codecs=\"x\"", Some(("video.mp4", "video/mp4"))),
        ("video/webm", Some(("video.webm", "video/webm"))),
        ("audio/x-wav", Some(("video.wav", "audio/x-wav"))),
        ("video/x-unheard-of", Some(("video.bin", "video/x-unheard-of"))),
        ("application/octet-stream", None),
        ("binary/octet-stream", None),
        ("text/plain", None),
        ("image/svg+xml", None),
        ("image/x+xml", None),
        ("video/foo+xml", None),
        ("application/vnd.apple.mpegurl", None),
        ("audio/x-mpegurl", None),
        ("nonsense", None),
        ("", None),
    ] {
        let kept = judged(Kind::Video, Role::Media, "video.mp4", NOISE, declared);
        assert_eq!(kept, expected.map(|(name, mime)| (name.to_owned(), mime.to_owned())), "{declared}");
    }
}

#[test]
fn the_extension_is_that_of_the_type() {
    for (name, bytes, expected, mime) in [
        ("video.mp4", &b"RIFF\x10\0\0\0AVI LIST"[..], "video.avi", "video/x-msvideo"),
        ("audio.mp3", b"RF64\xff\xff\xff\xffWAVEds64", "audio.wav", "audio/wav"),
        ("audio.mp3", b"FORM\0\0\0\x10AIFFCOMM", "audio.aiff", "audio/aiff"),
        ("audio.mp3", b"#!AMR\n\x3c\x48\0\x01", "audio.amr", "audio/amr"),
        ("image.png", b"II*\0\x08\0\0\0\x0e\0", "image.tif", "image/tiff"),
        ("image.tiff", b"II*\0\x08\0\0\0\x0e\0", "image.tiff", "image/tiff"),
        ("photo.jpeg", b"\xff\xd8\xff\xe0", "photo.jpeg", "image/jpeg"),
        ("photo.png", b"\xff\xd8\xff\xe0", "photo.jpg", "image/jpeg"),
        ("image.png", GIF, "image.gif", "image/gif"),
        ("clip.M4V", b"\0\0\0\x10ftypisom\0\0\0\0", "clip.M4V", "video/mp4"),
    ] {
        for kind in [Kind::Video, Kind::Agent] {
            let kept = judged(kind, Role::Media, name, bytes, "application/octet-stream");
            assert_eq!(kept, Some((expected.to_owned(), mime.to_owned())), "{name}");
        }
    }
}

#[test]
fn an_agents_document_keeps_its_name_and_gets_the_type_that_fits() {
    let zip = b"PK\x03\x04\x14\0\0\0";
    for (name, bytes, declared, mime) in [
        ("map.geojson", &b"{\"type\":\"FeatureCollection\"}"[..], "", "application/geo+json"),
        ("map.geojson", b"{\"type\":\"FeatureCollection\"}", "application/json", "application/geo+json"),
        ("book.ipynb", b"{\"cells\":[]}", "application/json", "application/x-ipynb+json"),
        ("lines.jsonl", b"{\"a\":1}\n{\"a\":2}\n", "", "application/x-ndjson"),
        ("scene.gltf", b"{\"asset\":{}}", "", "model/gltf+json"),
        ("tt.ttml", b"<tt xmlns='http://www.w3.org/ns/ttml'/>", "", "application/ttml+xml"),
        ("track.gpx", b"<?xml version='1.0'?><gpx/>", "application/xml", "application/gpx+xml"),
        ("page.xhtml", b"<?xml version='1.0'?><html/>", "", "application/xhtml+xml"),
        ("index.php", b"<?php echo 1;", "", "text/x-php"),
        ("index.php", b"<html><?php echo 1;", "", "text/x-php"),
        ("App.vue", b"<template><p/></template>", "text/html", "text/plain"),
        ("index.html", b"<!doctype html>", "text/html; charset=utf-8", "text/html"),
        ("page.htm", b"<!doctype html>", "", "text/html"),
        ("notes.md", b"<h1 align=center>Title</h1>", "", "text/markdown"),
        ("notes.md", b"# Notes", "text/markdown", "text/markdown"),
        ("notes.md", b"# Notes", "text/plain", "text/markdown"),
        ("notes.md", b"# Notes", "text/html", "text/markdown"),
        ("num.csv", b"1\n00:00:01,000 --> 00:00:02,000\n", "", "text/csv"),
        ("data.csv", b"a,b\n1,2\n", "text/csv", "text/csv"),
        ("data.csv", b"a,b\n1,2\n", "application/octet-stream", "text/csv"),
        ("data.csv", b"\xff\xfea\0,\0b\0", "text/csv", "text/csv"),
        ("table.csv", b"a;b", "application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("text.txt", b"[1] first source", "", "text/plain"),
        ("text.txt", b"{\"a\": 1}", "", "text/plain"),
        ("logo.svg", b"<?xml version='1.0'?><svg/>", "", "image/svg+xml"),
        ("logo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text/plain", "image/svg+xml"),
        ("report.pdf", b"%PDF-1.3\n", "application/pdf", "application/pdf"),
        ("report.pdf", b"%PDF-1.3\n", "application/octet-stream", "application/pdf"),
        ("report.docx", zip, "", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (
            "report.docx",
            zip,
            "application/zip",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        ("sheet.xlsx", zip, "", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("book.epub", zip, "", "application/epub+zip"),
        ("all.zip", zip, "application/x-zip-compressed", "application/zip"),
        ("main.ts", b"export const a = 1;", "video/mp2t", "text/x-typescript"),
        ("main.py", b"print(1)", "", "text/x-python"),
        ("style.css", b"a { b: c }", "text/css", "text/css"),
        ("data.xml", b"<?xml version='1.0'?><a/>", "", "application/xml"),
        ("subs.srt", b"1\n00:00:01,000 --> 00:00:02,000\nHi\n", "", "application/x-subrip"),
        ("odd.unheardof", b"some text", "", "text/plain"),
        ("odd.unheardof", b"some text", "text/x-odd", "text/x-odd"),
        ("odd.unheardof", NOISE, "", "application/octet-stream"),
        ("model.glb", b"glTF\x02\0\0\0", "", "model/gltf-binary"),
        ("table.parquet", b"PAR1\x15\x04\0\0", "", "application/vnd.apache.parquet"),
        ("firmware.bin", NOISE, "application/x-firmware", "application/x-firmware"),
        ("a.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0", "", "application/gzip"),
        ("02-Dockerfile", b"FROM scratch\n", "", "text/plain"),
        ("02-Makefile", b"all:\n", "application/octet-stream", "text/plain"),
        ("LICENSE", b"MIT License\n", "text/plain", "text/plain"),
        ("03-02-README", b"# Boats\n", "text/markdown", "text/markdown"),
        ("02-gitattributes", b"* text=auto\n", "", "text/plain"),
        ("02-app.webmanifest", b"{\"name\":\"Boats\"}", "application/manifest+json", "application/manifest+json"),
        ("x.code-workspace", b"{\"folders\":[]}", "", "text/plain"),
        ("x.code-workspace", b"{\"folders\":[]}", "application/json", "application/json"),
        ("02-notes.2026", b"# Notes", "", "text/plain"),
        ("app.entitlements", b"<?xml version='1.0'?><plist/>", "", "text/plain"),
    ] {
        let kept = agents(name, bytes, declared);
        assert_eq!(kept, Some((name.to_owned(), mime.to_owned())), "{name} as {declared:?}");
    }
}

#[test]
fn an_agents_file_without_an_extension_gets_that_of_its_bytes() {
    for (bytes, declared, expected) in [
        (GIF, "", Some("01-result.gif")),
        (b"%PDF-1.3\n", "", Some("01-result.pdf")),
        (b"PK\x03\x04\x14\0\0\0", "", Some("01-result.zip")),
        (NOISE, "", Some("01-result.bin")),
        (OSS_ERROR, "", None),
        (b"Link expired", "text/plain", None),
    ] {
        assert_eq!(agents("01-result", bytes, declared).map(|(name, _)| name).as_deref(), expected, "{bytes:?}");
    }
    for (name, bytes, expected) in
        [("notes.2026", &b"%PDF-1.3\n"[..], "notes.2026.pdf"), ("Dockerfile", GIF, "Dockerfile.gif")]
    {
        assert_eq!(agents(name, bytes, "").map(|(name, _)| name).as_deref(), Some(expected));
    }
}

#[test]
fn a_page_is_no_agents_document_whose_name_has_no_extension() {
    let page = &b"<!doctype html><title>403</title>"[..];
    for name in ["02-Dockerfile", "LICENSE", "02-app.webmanifest", "x.code-workspace", "notes.2026"] {
        assert_eq!(agents(name, page, "text/plain"), None, "{name}");
    }
    for error in [OSS_ERROR, b"{\"error\":\"expired\"}"] {
        assert_eq!(agents("02-Dockerfile", error, "text/plain"), None);
    }
    for name in ["02-", "2026", "Dockerfiles", "clip.mp4#1", "photo.jpeg~tplv-x", "report.pdf#1"] {
        assert_eq!(agents(name, b"Link expired", "text/plain"), None, "{name}");
    }
}

#[test]
fn an_error_page_is_no_agents_document_of_a_binary_kind() {
    for name in ["report.pdf", "report.docx", "all.zip", "logo.svg"] {
        for page in [&b"<!doctype html><title>403</title>"[..], OSS_ERROR, b"{\"error\":\"expired\"}"] {
            assert_eq!(agents(name, page, "application/pdf"), None, "{name}");
        }
    }
}

#[test]
fn subtitles_are_timed_text() {
    let subtitles = |bytes, declared| judged(Kind::Agent, Role::Subtitle, "01-subtitle.srt", bytes, declared);
    for (bytes, expected) in [
        (&b"1\n00:00:01,000 --> 00:00:02,000\nHi\n"[..], "01-subtitle.srt"),
        (b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\nHi\r\n", "01-subtitle.srt"),
        (b"WEBVTT\n\n", "01-subtitle.vtt"),
        (b"[Script Info]\n", "01-subtitle.ass"),
        (b"[00:01.00]Hi\n", "01-subtitle.lrc"),
        (b"<tt xmlns='http://www.w3.org/ns/ttml'/>", "01-subtitle.ttml"),
        (b"[{\"text\":\"Hi\",\"time_begin\":0,\"time_end\":900}]", "01-subtitle.json"),
    ] {
        let kept = subtitles(bytes, "text/plain").map(|(name, _)| name);
        assert_eq!(kept.as_deref(), Some(expected), "{:?}", String::from_utf8_lossy(bytes));
    }
    for bytes in
        [OSS_ERROR, b"<html>", b"Link expired", b"{\"error\":\"x\"}", b"{\"code\":1}", b"null", GIF, NOISE, b""]
    {
        assert_eq!(subtitles(bytes, "application/x-subrip"), None, "{:?}", String::from_utf8_lossy(bytes));
    }
}
