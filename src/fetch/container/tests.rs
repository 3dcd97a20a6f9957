use proptest::prelude::*;

use super::make::*;
use super::*;
use crate::fetch::sniff;

type Verdict = Result<Option<&'static str>, &'static str>;

pub(crate) fn verdict(bytes: &[u8]) -> Verdict {
    split_verdict(bytes, bytes.len().max(1), true)
}

/// The verdict when the server says nothing about where the file ends.
fn unproven(bytes: &[u8]) -> Verdict {
    split_verdict(bytes, bytes.len().max(1), false)
}

fn split_verdict(bytes: &[u8], piece: usize, is_proven: bool) -> Verdict {
    let mut container = Container::new();
    bytes.chunks(piece).for_each(|piece| container.update(piece));
    container.finish(is_proven).map(|found| found.map(|found| found.extension)).map_err(|error| error.name())
}

/// The verdict when the check is written down and read again after every piece.
fn recorded_verdict(bytes: &[u8], piece: usize, is_proven: bool) -> Verdict {
    let mut container = Container::new();
    for piece in bytes.chunks(piece) {
        container.update(piece);
        if let Some(checked) = container.checked() {
            let recorded = serde_json::to_string(&checked).unwrap();
            assert!(recorded.len() < 1000, "{recorded}");
            container = Container::resume(&serde_json::from_str(&recorded).unwrap()).unwrap();
        }
    }
    container.finish(is_proven).map(|found| found.map(|found| found.extension)).map_err(|error| error.name())
}

fn is_cut(verdict: Verdict) -> bool {
    verdict == Err("truncated")
}

#[test]
fn whole_files_are_whole() {
    let body = b"\xff\xd9 some bytes \xff\xd9";
    for (bytes, extension) in [
        (mp4(body, body, true), "mp4"),
        (mp4(b"", b"", false), "mp4"),
        ([ftyp(), small_box(b"moov", body), open_box(b"mdat", body)].concat(), "mp4"),
        ([ftyp_box(b"qt  ", &[]), small_box(b"mdat", body), small_box(b"moov", body)].concat(), "mov"),
        ([ftyp_box(b"XAVC", &[]), small_box(b"mdat", body), small_box(b"moov", body)].concat(), "mp4"),
        ([ftyp_box(b"3gp5", &[]), small_box(b"mdat", body), small_box(b"moov", body)].concat(), "3gp"),
        ([small_box(b"mdat", body), moov(&[b"vide"])].concat(), "mov"),
        ([moov(&[b"vide"]), small_box(b"mdat", body)].concat(), "mov"),
        ([small_box(b"wide", b""), small_box(b"mdat", body), moov(&[b"vide"])].concat(), "mov"),
        ([small_box(b"free", body), small_box(b"mdat", body), moov(&[b"vide"])].concat(), "mov"),
        ([small_box(b"skip", b""), mp4(body, body, true)].concat(), "mp4"),
        ([ftyp_box(b"avif", &[]), small_box(b"meta", body), small_box(b"mdat", body)].concat(), "avif"),
        (png(body), "png"),
        ([png(body), b"appended".to_vec()].concat(), "png"),
        (jpeg(body), "jpg"),
        ([jpeg(body), vec![0; 300], b"appended \xff\xff".to_vec()].concat(), "jpg"),
        (riff(b"WEBP", &[(b"VP8X", &[0; 10]), (b"VP8L", body)]), "webp"),
        (riff(b"AVI ", &[(b"LIST", body), (b"LIST", body), (b"idx1", body)]), "avi"),
        (gif(&[7; 700]), "gif"),
        ([gif(body), b"appended".to_vec()].concat(), "gif"),
        (bmp(3, 5, 24), "bmp"),
        (bmp(33, -5, 1), "bmp"),
        (ogg(b"OpusHead\x01", body), "opus"),
        (ogg(b"\x01vorbis", &[9; 50_000]), "ogg"),
        (ogg(b"\x80theora", body), "ogv"),
        ([ogg_page(2, b"fishead\0\x03\0\0"), ogg_page(2, b"\x80theora..."), ogg_page(4, b"end")].concat(), "ogv"),
        (flac(8192, &[body, body]), "flac"),
        (flac(0, &[body, body]), "flac"),
        (mp3(3), "mp3"),
        (mp3_with_length(417 * 9, 9), "mp3"),
        ([mp3_with_length(417 * 9, 9), b"TAG".to_vec(), vec![0; 125]].concat(), "mp3"),
        (frames(b"\xff\xfd\xb0\0", 144 * 224_000 / 44_100, 3), "mp2"),
        (aac(4), "aac"),
        (flv(body), "flv"),
        (pdf(body), "pdf"),
        (zip(body), "zip"),
        (ico(body), "ico"),
        ([&b"\x47"[..], &[0; 187]].concat().repeat(4), "ts"),
        (b"<html>".to_vec(), "html"),
    ] {
        for verdict in [verdict(&bytes), unproven(&bytes)] {
            assert_eq!(verdict, Ok(Some(extension)), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
    assert_eq!(verdict(b"who\0knows\x01\x02"), Ok(None));
}

/// 1 to 7 zeros, tags of sound, what cameras, forms and editors leave.
#[test]
fn bytes_behind_the_last_box_are_let_be() {
    let picture = [ftyp_box(b"heic", &[]), small_box(b"meta", b"m"), small_box(b"mdat", b"m")].concat();
    for file in [
        mp4(b"moov", b"mdat", true),
        mp4(b"moov", b"mdat", false),
        movie(b"M4A ", &[b"soun"]),
        [ftyp_box(b"qt  ", &[]), small_box(b"mdat", b"m"), moov(&[b"vide"])].concat(),
        [ftyp_box(b"avif", &[]), small_box(b"meta", b"m"), small_box(b"mdat", b"m")].concat(),
        [ftyp(), moov(&[b"vide"]), small_box(b"moof", b"m"), small_box(b"mdat", b"m")].concat(),
        picture,
    ] {
        let expected = verdict(&file);
        assert!(expected.is_ok());
        for tail in [
            &b"\0"[..],
            &[0; 2],
            &[0; 3],
            &[0; 4],
            &[0; 7],
            &[0; 8],
            &[0; 9],
            &[0; 5000],
            b"\n",
            b"\r\n",
            b"\r\n\r\n",
            b"\xff",
            b"x",
            b"\r\n--boundary--\r\n",
            b"\r\n------WebKitFormBoundary7MA4YWxkTrZu0gW--\r\n",
            b"--b--",
            &[&b"TAG"[..], b"A title of thirty characters..", &[0; 95]].concat(),
            &[&b"TAG"[..], &[0; 125]].concat(),
            b"APETAGEX\xd0\x07\0\0\x40\0\0\0\x01\0\0\0\0\0\0\xa0\0\0\0\0\0\0\0\0",
            b"LYRICSBEGININD0000200LYRICS200",
            b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_DataSEFHj\0\0\0\x01\0\0\0SEFT",
            b"ID3\x04\0\0\0\0\0\0",
            b"<!-- served by cache 7 -->",
            &[0xff; 600],
            b"\0\0\0\0\0\0\0\0and then this",
        ] {
            assert_eq!(verdict(&[&file[..], tail].concat()), expected, "{:?}", String::from_utf8_lossy(tail));
        }
    }
}

#[test]
fn a_box_that_was_cut_is_found_wherever_it_stands() {
    let fragment = [small_box(b"moof", &[1; 90]), small_box(b"mdat", &[2; 90])].concat();
    let file = [ftyp(), moov(&[b"vide"]), fragment.clone(), fragment, small_box(b"mfra", &[3; 40])].concat();
    let borders = [8, 98 + 8, 196 - 90, 0];
    for cut in 12..file.len() {
        // At a border between two fragments nothing is to be seen, nor in the first bytes of a length.
        let is_visible = is_cut(verdict(&file[..cut]));
        let hidden = !is_visible;
        assert!(is_visible || hidden && cut > file.len() - 48 - 196 - 4, "{cut} of {} {borders:?}", file.len());
    }
    for last in [1, 2, 30, 39, 40, 41] {
        assert!(is_cut(verdict(&file[..file.len() - last])), "{last}");
    }
    for file in [
        [small_box(b"mdat", &[1; 300]), moov(&[b"vide"])].concat(),
        [moov(&[b"vide"]), small_box(b"mdat", &[1; 300])].concat(),
        [ftyp_box(b"msf1", &[b"hevc"]), moov(&[b"pict"]), small_box(b"mdat", &[1; 300])].concat(),
        [ftyp_box(b"avis", &[b"avif"]), moov(&[b"pict"]), small_box(b"mdat", &[1; 300])].concat(),
    ] {
        assert!(verdict(&file).is_ok());
        assert!((20..file.len()).all(|cut| is_cut(verdict(&file[..cut]))));
    }
}

/// HEIF and AVIF: pictures within their item box, beside it, and sequences without one.
#[test]
fn pictures_are_whole_with_their_data_wherever_it_is() {
    let meta = small_box(b"meta", &[&[0; 4][..], &small_box(b"hdlr", &[0; 24]), &small_box(b"idat", b"data")].concat());
    let bare = small_box(b"meta", &[&[0; 4][..], &small_box(b"hdlr", &[0; 24])].concat());
    let (mdat, moov) = (small_box(b"mdat", b"m"), moov(&[b"pict"]));
    for (brand, extension) in
        [(b"heic", "heic"), (b"msf1", "heif"), (b"hevc", "heic"), (b"avis", "avif"), (b"mif1", "heif")]
    {
        for (boxes, whole) in [
            (vec![&meta], true),
            (vec![&bare, &mdat], true),
            (vec![&moov, &mdat], true),
            (vec![&mdat, &moov], true),
            (vec![&bare, &moov, &mdat], true),
            (vec![&bare], false),
            (vec![&moov], false),
            (vec![&mdat], false),
        ] {
            let boxes: Vec<u8> = boxes.into_iter().flatten().copied().collect();
            let found = verdict(&[ftyp_box(brand, &[]), boxes].concat());
            assert_eq!(found, if whole { Ok(Some(extension)) } else { Err("truncated") });
        }
    }
}

#[test]
fn sound_alone_is_sound() {
    let pieces: &[&[u8; 4]] = &[b"soun", b"soun", b"text", b"meta"];
    for (bytes, mime, extension) in [
        (movie(b"isom", &[b"soun"]), "audio/mp4", "m4a"),
        (movie(b"mp42", pieces), "audio/mp4", "m4a"),
        (movie(b"dash", &[b"soun"]), "audio/mp4", "m4a"),
        (movie(b"3gp4", &[b"soun"]), "audio/3gpp", "3gp"),
        (movie(b"3g2a", &[b"soun"]), "audio/3gpp2", "3g2"),
        (movie(b"M4A ", &[b"soun"]), "audio/mp4", "m4a"),
        (movie(b"M4B ", &[b"soun", b"vide"]), "audio/mp4", "m4a"),
        (movie(b"isom", &[b"soun", b"vide"]), "video/mp4", "mp4"),
        (movie(b"isom", &[b"vide", b"soun"]), "video/mp4", "mp4"),
        (movie(b"isom", &[b"vide"]), "video/mp4", "mp4"),
        (movie(b"isom", &[b"meta"]), "video/mp4", "mp4"),
        (movie(b"isom", &[]), "video/mp4", "mp4"),
        (movie(b"qt  ", &[b"soun"]), "video/quicktime", "mov"),
        (ebml(b"webm", &[2], true, b"data"), "audio/webm", "weba"),
        (ebml(b"webm", &[2, 0x11], false, b"data"), "audio/webm", "weba"),
        (ebml(b"webm", &[1, 2], true, b"data"), "video/webm", "webm"),
        (ebml(b"webm", &[2, 1], false, b"data"), "video/webm", "webm"),
        (ebml(b"matroska", &[2, 2], false, b"data"), "audio/x-matroska", "mka"),
        (ebml(b"matroska", &[1], false, b"data"), "video/x-matroska", "mkv"),
        (ebml(b"matroska", &[0x11], false, b"data"), "video/x-matroska", "mkv"),
        (asf(&[ASF_SOUND], b"data"), "audio/x-ms-wma", "wma"),
        (asf(&[ASF_SOUND, ASF_PICTURES], b"data"), "video/x-ms-wmv", "wmv"),
    ] {
        for piece in [1, 7, 4095, bytes.len()] {
            let mut container = Container::new();
            bytes.chunks(piece).for_each(|piece| container.update(piece));
            let found = container.finish(true).unwrap().unwrap();
            assert_eq!((found.mime, found.extension), (mime, extension));
        }
    }
}

/// As sox, espeak-ng, ffmpeg, arecord, RecordRTC, ElevenLabs and MiniMax write them.
#[test]
fn the_lengths_in_a_wav_are_not_believed_when_its_data_are_there() {
    let data = [5; 2000];
    let whole = 36 + 2000;
    let placeholders = [
        0_u32,
        0x7fff_ffff,
        0x7fff_fffe,
        0x8000_0000,
        0x7fff_f000,
        0x7fff_f024,
        0x7fff_f048,
        0x7fff_ff00,
        0x8000_0024,
        0xffff_ffff,
        0xffff_fffe,
        0xffff_f7ff,
        0xffff_ffdb,
        0xffff_0000,
        2_000_000_000,
        2_000_000_036,
        2_000_000_044,
        0x4000_0000,
        1_000_000_000,
    ];
    for size in placeholders {
        for (riff_size, data_size) in
            [(size, size), (size, size.wrapping_sub(36)), (size, 2000), (whole, size), (0, size)]
        {
            assert_eq!(
                unproven(&wav(riff_size, data_size, &data, b"")),
                Ok(Some("wav")),
                "{riff_size:x} {data_size:x}"
            );
        }
        let tagged = wav(size, size, &data, &[&b"TAG"[..], &[0; 125]].concat());
        assert_eq!(unproven(&tagged), Ok(Some("wav")));
    }
    for (riff_size, data_size, behind) in [
        // The whole length, off by one or two, padding counted or not.
        (whole + 8, 2000, &b""[..]),
        (whole + 1, 2000, b""),
        (whole - 1, 2000, b""),
        (whole - 36, 2000, b""),
        (whole + 2, 2000, b""),
        (whole, 2000, b"LIST\x04\0\0\0INFO"),
        (whole + 12, 2000, b"LIST\x04\0\0\0INFO"),
        (whole, 1999, b""),
        // Data that count a header as well.
        (whole, 2044, b""),
        (whole, 2036, b""),
        (whole, 2008, b""),
        (whole + 8, 2001, b""),
    ] {
        assert_eq!(unproven(&wav(riff_size, data_size, &data, behind)), Ok(Some("wav")), "{riff_size} {data_size}");
    }
    let odd = wav(36 + 1999, 1999, &data[..1999], b"");
    assert_eq!(unproven(&odd), Ok(Some("wav")), "the padding is missing");
    let mut unpadded = wav(36 + 1999 + 26, 1999, &data[..1999], b"LIST\x12\0\0\0INFOISFT\x06\0\0\0abcde\0");
    assert_eq!(unproven(&unpadded), Ok(Some("wav")));
    unpadded[..4].copy_from_slice(b"RIFX");
    assert!(is_cut(unproven(&unpadded)), "other lengths");
}

#[test]
fn a_wav_whose_data_are_cut_is_cut() {
    let data = [5; 2000];
    let file = wav(36 + 2000, 2000, &data, b"");
    for cut in 12..file.len() {
        assert!(is_cut(verdict(&file[..cut])), "{cut}");
    }
    for (riff_size, data_size) in [(36 + 20_000, 20_000), (0x7fff_ffff, 20_000), (36 + 20_000, 20_036)] {
        assert!(is_cut(verdict(&wav(riff_size, data_size, &data, b""))), "{riff_size} {data_size}");
    }
    let listed = wav(36 + 2000 + 100, 2000, &data, b"LIST\x5c\0\0\0INFO");
    assert!(is_cut(verdict(&listed)), "within the list behind");
    for (declared, data_length, whole) in
        [(2000, 2000, true), (2000, 1999, false), (20_000, 2000, false), (0, 2000, true)]
    {
        let found = verdict(&rf64(declared, &data[..data_length]));
        assert_eq!(found, if whole { Ok(Some("wav")) } else { Err("truncated") });
    }
    for (form, sound, whole) in [
        (46 + 2000, 2000, true),
        (0x7fff_ffff, 0x7fff_f000, true),
        (0, 0, true),
        (46 + 2000 + 8, 2000, true),
        (46 + 20_000, 20_000, false),
    ] {
        let found = verdict(&aiff(form, sound, &data));
        assert_eq!(found, if whole { Ok(Some("aiff")) } else { Err("truncated") }, "{form} {sound}");
    }
}

#[test]
fn stray_bytes_between_the_segments_of_a_jpeg_are_let_be() {
    for stray in [&b"\0"[..], &[0; 14], b"\xff", b"\0\xff\0", b"junk", b"\xff\0\xff\0", &[0x20; 900]] {
        assert_eq!(verdict(&stray_jpeg(b"data \xff", stray)), Ok(Some("jpg")), "{stray:x?}");
    }
    let file = stray_jpeg(b"data \xff", b"stray");
    assert!((12..file.len()).all(|cut| is_cut(verdict(&file[..cut]))));
}

#[test]
fn a_tag_in_front_hides_nothing() {
    for (file, extension) in [
        (mp3(5), "mp3"),
        (flac(8192, &[b"one", b"two"]), "flac"),
        (aac(5), "aac"),
        (ogg(b"OpusHead\x01", b"data"), "opus"),
        (wav(36 + 8, 8, &[1; 8], b""), "wav"),
        (aiff(46 + 8, 8, &[1; 8]), "aiff"),
        (movie(b"isom", &[b"soun"]), "m4a"),
        (id3(20, &mp3(5)), "mp3"),
        ([vec![0; 900], mp3(5)].concat(), "mp3"),
        // One frame that nothing follows.
        (mp3(1), "mp3"),
    ] {
        for length in [0, 1, 117, 4076, 4085, 4086, 4087, 6000, 70_000] {
            let tagged = id3(length, &file);
            for piece in [1, 4096, tagged.len()] {
                assert_eq!(split_verdict(&tagged, piece, false), Ok(Some(extension)), "{length}");
            }
            let cut = &tagged[..tagged.len() - file.len()];
            assert!(is_cut(verdict(cut)) && is_cut(verdict(&cut[..cut.len() / 2 + 5])), "{length}");
        }
    }
    let page = id3(200, b"<html><body>Access denied</body></html>");
    assert_eq!(verdict(&page), Ok(Some("html")));
}

#[test]
fn tags_without_an_end_are_not_looked_at_one_by_one() {
    let tags = [id3(0, b"\0"), id3(0, b"")].map(|tag| tag.repeat(1000));
    for bytes in tags {
        let mut container = Container::new();
        container.update(&bytes);
        assert!(matches!(container.stage, Stage::Body(_)));
    }
}

#[test]
fn cut_files_are_found_where_their_container_allows_it() {
    let body = &[0x5a; 900][..];
    for (file, recognised_from) in [
        (gif(body), 6),
        (bmp(20, 20, 32), 54),
        (ebml(b"webm", &[1, 2], false, body), 44),
        (ebml(b"webm", &[2], false, body), 44),
        (flac(8192, &[body, body]), 12),
        (riff(b"WEBP", &[(b"VP8X", &[0; 10]), (b"VP8L", body)]), 16),
        (ico(body), 22),
        (asf(&[ASF_SOUND], body), 20),
        (pdf(body), 6),
        (zip(body), 6),
        (mp3_with_length(417 * 9, 9), 900),
    ] {
        let whole = unproven(&file);
        assert!(whole.is_ok(), "{whole:?}");
        // The last byte of a riff's padding, of a line's end, of a comment may be missing.
        for cut in (recognised_from..file.len() - 8).chain([file.len() / 2]) {
            assert!(is_cut(unproven(&file[..cut])), "{cut} of {} {whole:?}", file.len());
        }
    }
}

/// Nothing is to be seen of a cut at a border between two pages, frames or tags.
#[test]
fn cuts_within_a_page_or_a_frame_are_found() {
    for (file, border) in [
        (ogg(b"OpusHead\x01", &[9; 900]), b"OggS".to_vec()),
        (mp3(9), b"\xff\xfb\x90\0".to_vec()),
        (aac(9), b"\xff\xf1\x50\x80".to_vec()),
    ] {
        for cut in 900..file.len() {
            let at_border = (0..8).any(|back| file[cut - back..].starts_with(&border));
            assert!(at_border || is_cut(unproven(&file[..cut])), "{cut}");
        }
    }
    let open = ebml(b"webm", &[1], true, &[0x5a; 900]);
    let half = open.len() / 2;
    for cut in (half - 300..half + 300).chain([open.len() - 1, open.len() - 700]) {
        let found = is_cut(unproven(&open[..cut]));
        let at_border = [&b"\x1f\x43"[..], b"\xa0", b"\xa3", b"\xe7"].iter().any(|id| open[cut..].starts_with(id));
        assert!(found || at_border, "{cut}");
    }
    // What the server proves is as it was made.
    for file in [mp3(9), aac(9)] {
        assert!(verdict(&file[..file.len() - 20]).is_ok());
    }
    assert!(is_cut(verdict(&mp3_with_length(417 * 9, 9)[..417 * 5 + 50])));
}

/// With a chunk behind the data, what was cut has lengths that do not agree.
#[test]
fn a_wav_with_a_chunk_behind_its_data_is_cut_when_both_end_early() {
    let list = [&b"LIST\x09\0\0\0"[..], b"behind it\0"].concat();
    let file = wav(36 + 300 + list.len() as u32, 300, &[5; 300], &list);
    assert_eq!(unproven(&file), Ok(Some("wav")));
    for cut in [1, 9, 40, 64, 200] {
        assert!(is_cut(unproven(&file[..file.len() - list.len() - cut])), "{cut}");
    }
}

#[test]
fn chunks_and_packets_are_whole() {
    let data = [5; 300];
    for (bytes, extension) in [
        (caf(300, &data, b""), "caf"),
        (caf(-1, &data, b""), "caf"),
        (caf(300, &data, b"info\0\0\0\0\0\0\0\x02ab"), "caf"),
        (caf(300, &data, b"\0\0\0strays"), "caf"),
        (wave64(300, &data), "w64"),
        (wave64(300, &[&data[..], &[0; 4]].concat()), "w64"),
        (wave64(304, &[&data[..], &[0; 4], b"stray"].concat()), "w64"),
        (transport_stream(9, 0), "ts"),
        (transport_stream(9, 4), "ts"),
        ([&transport_stream(9, 0)[..], b"strays"].concat(), "ts"),
    ] {
        assert_eq!(unproven(&bytes), Ok(Some(extension)), "{extension} {}", bytes.len());
    }
    for bytes in [
        caf(300, &data[..299], b""),
        caf(300, b"", b""),
        caf(300, &data, b"info\0\0\0\0\0\0\0\x03ab"),
        caf(0, b"", b"")[..52].to_vec(),
        wave64(300, &data[..299]),
        wave64(1 << 61, &data),
    ] {
        assert!(is_cut(verdict(&bytes)), "{}", bytes.len());
    }
    for (lead, step) in [(0, 188), (4, 192)] {
        let stream = transport_stream(9, lead);
        for cut in [1, 5, 100, step - 1] {
            let cut = &stream[..8 * step + cut];
            assert!(is_cut(unproven(cut)), "{step} {}", cut.len());
            assert_eq!(verdict(cut), Ok(Some("ts")), "its server proves it");
        }
        assert_eq!(unproven(&stream[..8 * step]), Ok(Some("ts")));
    }
}

#[test]
fn damage_has_a_name() {
    let (moov, mdat) = (small_box(b"moov", b"m"), small_box(b"mdat", b"m"));
    let header = b"\x89PNG\r\n\x1a\n".to_vec();
    for (bytes, name) in [
        (vec![], "empty"),
        (ftyp(), "truncated"),
        ([ftyp(), moov.clone()].concat(), "truncated"),
        ([ftyp(), mdat.clone()].concat(), "truncated"),
        ([mp4(b"m", b"m", true), small_box(b"free", b"cut off")[..12].to_vec()].concat(), "truncated"),
        ([mp4(b"m", b"m", true), small_box(b"moof", b"cut off")[..5].to_vec()].concat(), "truncated"),
        ([ftyp(), moov.clone(), vec![0; 8], mdat.clone()].concat(), "malformed"),
        ([ftyp(), moov.clone(), b"\0\0\0\x07mdat".to_vec()].concat(), "malformed"),
        ([ftyp(), moov.clone(), b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0f".to_vec()].concat(), "malformed"),
        ([ftyp(), moov.clone(), b"\0\0\0\x10\x01\x02\x03\x04".to_vec()].concat(), "malformed"),
        ([ftyp(), moov, b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()].concat(), "truncated"),
        ([header.clone(), chunk(b"IDAT", b"")].concat(), "malformed"),
        ([header.clone(), chunk(b"IHDR", &[0; 13]), chunk(b"IEND", b"")].concat(), "malformed"),
        ([header.clone(), chunk(b"IHDR", &[0; 13]), chunk(b"IDAT", b""), chunk(b"IEND", b"x")].concat(), "malformed"),
        ([header.clone(), chunk(b"IHDR", &[0; 13]), chunk(b"I AT", b"")].concat(), "malformed"),
        ([header, chunk(b"IHDR", &[0; 13]), b"\x80\0\0\0IDAT".to_vec()].concat(), "malformed"),
        (b"\xff\xd8\xff\xd9".to_vec(), "malformed"),
        (b"\xff\xd8\xff\xe0\0\x01".to_vec(), "malformed"),
        (b"\xff\xd8\xff\xe0\0\x02junk".to_vec(), "truncated"),
        (b"\xff\xd8\xff\xe0\0\x02\xff\xd9".to_vec(), "malformed"),
        (b"RIFF\x05\0\0\0WAVE".to_vec(), "truncated"),
        (b"RIFF\xff\xff\xff\xffWAVE".to_vec(), "truncated"),
        (b"GIF89a".to_vec(), "truncated"),
        (b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), "malformed"),
        (id3(127, b""), "truncated"),
    ] {
        assert_eq!(verdict(&bytes), Err(name), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// Files whose every cut is found.
pub(crate) fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let data = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (data(), data(), any::<bool>()).prop_map(|(moov, mdat, moov_first)| mp4(&moov, &mdat, moov_first)),
        // Beyond what is sniffed at.
        (0usize..9000).prop_map(|length| mp4(b"m", &vec![0xff; length], true)),
        data().prop_map(|data| png(&data)),
        data().prop_map(|data| jpeg(&data)),
        (0usize..9000).prop_map(|length| jpeg(&vec![0xff; length])),
        (data(), data()).prop_map(|(data, stray)| stray_jpeg(
            &data,
            &stray.into_iter().filter(|byte| *byte != 0xff).collect::<Vec<_>>()
        )),
    ]
}

/// Files of all kinds.
fn any_kind() -> impl Strategy<Value = Vec<u8>> {
    let data = || proptest::collection::vec(any::<u8>(), 0..300);
    let more = prop_oneof![
        (data(), any::<u32>(), any::<u32>()).prop_map(|(data, riff, size)| wav(riff, size, &data, b"")),
        data().prop_map(|data| wav(36 + data.len() as u32, data.len() as u32, &data, b"")),
        (data(), 0u64..500).prop_map(|(data, size)| rf64(size, &data)),
        data().prop_map(|data| aiff(46 + data.len() as u32, data.len() as u32, &data)),
        data().prop_map(|data| riff(b"WEBP", &[(b"VP8X", &data), (b"ANMF", &data)])),
        data().prop_map(|data| gif(&data)),
        (data(), any::<bool>()).prop_map(|(data, open)| ebml(b"webm", &[1, 2], open, &data)),
        data().prop_map(|data| ogg(b"\x01vorbis", &data)),
        (data(), data(), 0u64..9000).prop_map(|(one, two, declared)| flac(declared, &[&one, &two])),
        (0usize..30, 0u32..9000).prop_map(|(count, declared)| mp3_with_length(declared, count + 1)),
        data().prop_map(|data| asf(&[ASF_SOUND], &data)),
        data().prop_map(|data| flv(&data)),
        data().prop_map(|data| pdf(&data)),
        data().prop_map(|data| zip(&data)),
        data().prop_map(|data| ico(&data)),
        (data(), -1i64..400).prop_map(|(data, declared)| caf(declared, &data, b"")),
        (data(), 0u64..400).prop_map(|(data, declared)| wave64(declared, &data)),
        (3usize..9, 0usize..2).prop_map(|(count, lead)| transport_stream(count, 4 * lead)),
        data().prop_map(|data| movie(b"isom", &[b"soun"]).into_iter().chain(data).collect()),
        data().prop_map(|data| [ftyp_box(b"avif", &[]), small_box(b"meta", &data), small_box(b"mdat", &data)].concat()),
    ];
    let file = prop_oneof![any_file(), more.boxed()];
    (file, prop::option::of(0usize..9000)).prop_map(|(file, tag)| match tag {
        Some(length) => id3(length, &file),
        None => file,
    })
}

proptest! {
    #[test]
    fn a_truncated_file_is_never_whole(file in any_file(), cut: prop::sample::Index) {
        prop_assert!(verdict(&file).is_ok());
        let cut = cut.index(file.len());
        let unrecognised = cut < 24 && !matches!(verdict(&file[..cut]), Ok(Some("mp4" | "png" | "jpg")));
        prop_assert!(verdict(&file[..cut]).is_err() || unrecognised, "cut at {}", cut);
    }

    #[test]
    fn neither_pieces_nor_records_make_a_difference(
        mut file in any_kind(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index,
        piece in 1usize..5000,
        is_proven: bool,
    ) {
        for (place, byte) in changes {
            let place = place.index(file.len());
            file[place] = byte;
        }
        for bytes in [&file[..], &file[..cut.index(file.len())]] {
            let whole = split_verdict(bytes, bytes.len().max(1), is_proven);
            prop_assert_eq!(split_verdict(bytes, piece, is_proven), whole);
            prop_assert_eq!(split_verdict(bytes, piece % 17 + 1, is_proven), whole);
            prop_assert_eq!(recorded_verdict(bytes, piece, is_proven), whole);
        }
    }

    #[test]
    fn any_bytes_never_panic_and_pieces_make_no_difference(
        start in 0usize..22, bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..20,
    ) {
        const STARTS: [&[u8]; 22] = [
            b"", b"\0\0\0\x10ftypisom\0\0\0\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"RIFF\0\0\0\0WAVE",
            b"RF64\0\0\0\0WAVEds64\x1c\0\0\0", b"GIF89a", b"\x1a\x45\xdf\xa3\x84\x42\x82\x81w", b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm",
            b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x08OpusHead", b"fLaC\0\0\0\x22", b"ID3\x04\0\0\0\0\0\x10",
            b"FLV\x01\x05\0\0\0\x09", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", b"%PDF-", b"PK\x03\x04",
            b"\0\0\x01\0", b"FORM\0\0\0\0AIFF", b"II*\0", b"\0\0\0\x0cJXL \r\n\x87\n", b"BM",
        ];
        let bytes = [STARTS[start], &bytes].concat();
        prop_assert_eq!(split_verdict(&bytes, piece, true), verdict(&bytes));
        prop_assert_eq!(recorded_verdict(&bytes, piece, false), unproven(&bytes));
    }
}

#[test]
fn every_cut_of_small_files_is_found() {
    for (file, recognised_from) in [(mp4(b"abc", b"defg", true), 12), (png(b"abc"), 8), (jpeg(b"abc"), 3)] {
        for cut in recognised_from..file.len() {
            let cut_file = &file[..cut];
            assert!(verdict(cut_file).is_err() || sniff(cut_file).is_none(), "{cut} of {}", file.len());
        }
    }
}

/// What an earlier version wrote down is begun anew.
#[test]
fn a_state_of_other_rules_is_not_gone_on_with() {
    let mut container = Container::new();
    container.update(&mp4(b"moov", &[0; 9000], true)[..5000]);
    let checked = container.checked().unwrap();
    assert!(Container::resume(&checked).is_some());
    assert!(Container::resume(&ContainerState { rules: RULES - 1, ..checked }).is_none());
    let old = r#"{"total":5000,"media_type":["video/mp4","mp4"],"checker":{"Bmff":{"kind":"Movie","seen":1,
        "state":{"Content":{"left":5024,"kind":[109,100,97,116]}}}}}"#;
    assert!(serde_json::from_str::<ContainerState>(old).is_err());
}
