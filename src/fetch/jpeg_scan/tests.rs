use proptest::prelude::*;

use super::*;

/// Photographs in miniature: a baseline picture, and a progressive one with its chroma halved.
const BASELINE: &[u8] = include_bytes!("../../../crates/simulator/src/media/poster.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("progressive.jpg");

fn is_whole(bytes: &[u8]) -> bool {
    ends_in_a_whole_picture(bytes.iter().copied())
}

fn without_end(picture: &[u8]) -> &[u8] {
    picture.strip_suffix(b"\xff\xd9").unwrap()
}

fn segment(code: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, code], &(2 + data.len() as u16).to_be_bytes()[..], data].concat()
}

/// A grey picture of `columns` by `rows` blocks without detail, two bits each, a restart marker after every `restart`.
fn grey(columns: u16, rows: u16, restart: u16, code: u8) -> Vec<u8> {
    let one_symbol: Vec<u8> = [1].into_iter().chain([0; 15]).chain([0]).collect();
    let tables = [&[0x00][..], &one_symbol, &[0x10], &one_symbol].concat();
    let [a, b] = (rows * 8).to_be_bytes();
    let [c, d] = (columns * 8).to_be_bytes();
    let blocks = usize::from(columns) * usize::from(rows);
    let each = if restart == 0 { blocks } else { usize::from(restart) };
    let mut data = Vec::new();
    for (place, from) in (0..blocks).step_by(each).enumerate() {
        if from > 0 {
            data.extend_from_slice(&[0xff, 0xd0 + ((place - 1) % 8) as u8]);
        }
        let bits = 2 * each.min(blocks - from);
        data.extend(vec![0; bits / 8]);
        data.extend((bits % 8 > 0).then_some(0xff >> (bits % 8)));
    }
    [
        b"\xff\xd8".to_vec(),
        segment(0xc4, &tables),
        segment(code, &[8, a, b, c, d, 1, 1, 0x11, 0]),
        segment(0xdd, &restart.to_be_bytes()),
        segment(0xda, &[1, 1, 0, 0, 63, 0]),
        data,
    ]
    .concat()
}

#[test]
fn a_picture_that_lacks_only_its_end_is_whole() {
    for picture in [BASELINE, PROGRESSIVE] {
        assert!(is_whole(picture) && is_whole(without_end(picture)));
        // Padding in the place of the end, as some cameras write it.
        assert!(is_whole(&[without_end(picture), &[0; 7]].concat()));
    }
    for (columns, rows, restart) in [(1, 1, 0), (4, 4, 0), (5, 3, 0), (16, 16, 16), (16, 9, 7), (40, 1, 3)] {
        for code in [0xc0, 0xc1] {
            assert!(is_whole(&grey(columns, rows, restart, code)), "{columns} {rows} {restart}");
        }
    }
}

#[test]
fn a_picture_that_was_cut_is_not() {
    for picture in [BASELINE, PROGRESSIVE] {
        let picture = without_end(picture);
        // The last byte may be of padding alone.
        for cut in (0..picture.len() - 1).step_by(7).chain([picture.len() - 2]) {
            assert!(!is_whole(&picture[..cut]), "{cut} of {}", picture.len());
        }
    }
    let picture = grey(16, 9, 7, 0xc0);
    assert!((0..picture.len()).all(|cut| !is_whole(&picture[..cut])));
}

#[test]
fn an_unreadable_picture_is_not_called_whole() {
    // Lossless, arithmetic, hierarchical.
    for code in [0xc3, 0xc5, 0xc9, 0xca, 0xcd] {
        assert!(!is_whole(&grey(2, 2, 0, code)), "{code:x}");
    }
    // Components without a size.
    let flat = grey(2, 2, 0, 0xc0);
    let factors = flat.windows(4).position(|bytes| bytes == [1, 1, 0x11, 0]).unwrap() + 2;
    for (place, byte) in [(factors, 0), (factors, 0x10), (factors, 0x01), (factors, 0x51)] {
        let mut flat = flat.clone();
        flat[place] = byte;
        assert!(!is_whole(&flat), "{byte:x}");
    }
    // More blocks than are kept note of.
    assert!(!is_whole(&grey(8191, 8191, 0, 0xc2)));
}

proptest! {
    #[test]
    fn hostile_pictures_do_no_harm(
        progressive: bool,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut: prop::sample::Index,
    ) {
        let mut picture = if progressive { PROGRESSIVE } else { BASELINE }.to_vec();
        for (place, byte) in changes {
            let place = place.index(picture.len());
            picture[place] = byte;
        }
        picture.truncate(cut.index(picture.len() + 1));
        let _ = is_whole(&picture);
    }
}
