use proptest::prelude::*;

use super::*;
use crate::fetch::sniff::tests::ftyp_box;

pub(crate) fn verdict(bytes: &[u8]) -> Result<Option<&'static str>, &'static str> {
    split_verdict(bytes, bytes.len().max(1))
}

fn split_verdict(bytes: &[u8], piece: usize) -> Result<Option<&'static str>, &'static str> {
    let mut container = Container::new();
    bytes.chunks(piece).for_each(|piece| container.update(piece));
    container.finish().map(|found| found.map(|found| found.extension)).map_err(|error| error.name())
}

fn small_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(8 + content.len() as u32).to_be_bytes()[..], kind, content].concat()
}

fn large_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], kind, &(16 + content.len() as u64).to_be_bytes(), content].concat()
}

fn open_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&[0; 4][..], kind, content].concat()
}

fn ftyp() -> Vec<u8> {
    ftyp_box(b"isom", &[b"mp42"])
}

fn mp4(moov: &[u8], mdat: &[u8], moov_first: bool) -> Vec<u8> {
    let (moov, mdat) = (small_box(b"moov", moov), large_box(b"mdat", mdat));
    let (first, second) = if moov_first { (moov, mdat) } else { (mdat, moov) };
    [ftyp(), small_box(b"free", b""), first, second].concat()
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[..], kind, data, b"crc."].concat()
}

fn png(data: &[u8]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &[1; 13]), chunk(b"tEXt", data), chunk(b"IDAT", data)]
        .into_iter()
        .chain([chunk(b"IEND", b"")])
        .flatten()
        .collect()
}

fn segment(code: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, code], &(2 + data.len() as u16).to_be_bytes()[..], data].concat()
}

/// A progressive file: a thumbnail in its metadata, two scans with stuffing and a restart marker.
fn jpeg(data: &[u8]) -> Vec<u8> {
    let thumbnail = [b"\xff\xd8\xff\xdb", data, b"\xff\xd9"].concat();
    let scan: Vec<u8> = data.iter().flat_map(|byte| if *byte == 0xff { vec![0xff, 0] } else { vec![*byte] }).collect();
    [
        &[0xff, 0xd8][..],
        &segment(0xe1, &thumbnail),
        &segment(0xc2, data),
        &segment(0xda, &[1, 2, 3]),
        &scan,
        &[0xff, 0xd0],
        &scan,
        &[0xff, 0xff],
        &segment(0xc4, data)[1..],
        &segment(0xda, b""),
        &scan,
        &[0xff, 0xd9],
    ]
    .concat()
}

#[test]
fn whole_files_are_whole() {
    let body = b"\xff\xd9 some bytes \xff\xd9";
    for (bytes, extension) in [
        (mp4(body, body, true), "mp4"),
        (mp4(b"", b"", false), "mp4"),
        ([ftyp(), small_box(b"moov", body), open_box(b"mdat", body)].concat(), "mp4"),
        ([mp4(body, body, true), vec![0; 8]].concat(), "mp4"),
        ([mp4(body, body, true), vec![0; 5000]].concat(), "mp4"),
        ([ftyp_box(b"qt  ", &[]), small_box(b"mdat", body), small_box(b"moov", body)].concat(), "mov"),
        ([ftyp_box(b"avif", &[]), small_box(b"meta", body), small_box(b"mdat", body)].concat(), "avif"),
        (png(body), "png"),
        ([png(body), b"appended".to_vec()].concat(), "png"),
        (jpeg(body), "jpg"),
        ([jpeg(body), vec![0; 300], b"appended \xff\xff".to_vec()].concat(), "jpg"),
        (b"RIFF\x04\0\0\0WAVE".to_vec(), "wav"),
        (b"RIFF\xff\xff\xff\xffWAVE".to_vec(), "wav"),
        (b"RIFF\x0c\0\0\0WEBPVP8X\0\0\0\0".to_vec(), "webp"),
        (b"GIF89a".to_vec(), "gif"),
        (b"<html>".to_vec(), "html"),
    ] {
        assert_eq!(verdict(&bytes), Ok(Some(extension)), "{:?}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(verdict(b"who knows"), Ok(None));
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
        ([ftyp(), moov.clone(), mdat.clone(), vec![0; 7]].concat(), "truncated"),
        ([mp4(b"m", b"m", true), small_box(b"free", b"cut off")[..12].to_vec()].concat(), "truncated"),
        ([ftyp(), moov.clone(), vec![0; 8], mdat.clone()].concat(), "malformed"),
        ([ftyp(), moov.clone(), mdat.clone(), vec![0; 8], b"x".to_vec()].concat(), "malformed"),
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
        (b"\xff\xd8\xff\xe0\0\x02junk".to_vec(), "malformed"),
        (b"\xff\xd8\xff\xe0\0\x02\xff\xd9".to_vec(), "malformed"),
        (b"RIFF\x05\0\0\0WAVE".to_vec(), "truncated"),
    ] {
        assert_eq!(verdict(&bytes), Err(name), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

pub(crate) fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let data = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (data(), data(), any::<bool>()).prop_map(|(moov, mdat, moov_first)| mp4(&moov, &mdat, moov_first)),
        // Beyond what is sniffed at.
        (0usize..9000).prop_map(|length| mp4(b"m", &vec![0xff; length], true)),
        data().prop_map(|data| png(&data)),
        data().prop_map(|data| jpeg(&data)),
        (0usize..9000).prop_map(|length| jpeg(&vec![0xff; length])),
    ]
}

proptest! {
    #[test]
    fn a_truncated_file_is_never_whole(file in any_file(), cut: prop::sample::Index) {
        prop_assert!(verdict(&file).is_ok());
        let cut = cut.index(file.len());
        prop_assert!(verdict(&file[..cut]).is_err() || cut < 24 && verdict(&file[..cut]) == Ok(None), "cut at {}", cut);
    }

    #[test]
    fn pieces_make_no_difference(file in any_file(), cut: prop::sample::Index, piece in 1usize..50) {
        for bytes in [&file[..], &file[..cut.index(file.len())]] {
            prop_assert_eq!(split_verdict(bytes, piece), verdict(bytes));
        }
    }

    #[test]
    fn any_bytes_never_panic_and_pieces_make_no_difference(
        start in 0usize..5, bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..20,
    ) {
        let start = [vec![], ftyp(), b"\x89PNG\r\n\x1a\n".to_vec(), b"\xff\xd8\xff".to_vec(), b"RIFF".to_vec()][start].clone();
        let bytes = [start, bytes].concat();
        prop_assert_eq!(split_verdict(&bytes, piece), verdict(&bytes));
    }
}

#[test]
fn every_cut_of_small_files_is_found() {
    for (file, recognised_from) in [(mp4(b"abc", b"defg", true), 12), (png(b"abc"), 8), (jpeg(b"abc"), 3)] {
        for cut in recognised_from..file.len() {
            let cut_file = &file[..cut];
            assert!(verdict(cut_file).is_err() || sniff(cut_file).is_none(), "{cut} of {}", file.len());
        }
        assert!((1..recognised_from).all(|cut| matches!(verdict(&file[..cut]), Ok(None))));
    }
}
