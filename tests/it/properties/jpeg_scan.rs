//! Entropy-coded data of JPEGs, behind tables that make sense.

use replyvault::fetch::{Container, ends_in_a_whole_picture};

/// The tables for luminance of ITU-T T.81, annex K: lengths of codes, then symbols.
const DC: &[u8] = b"\x00\x01\x05\x01\x01\x01\x01\x01\x01\0\0\0\0\0\0\0\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b";
/// A short table: end of band, runs of blocks, one coefficient, 16 zeros.
const AC: &[u8] = b"\x00\x02\x03\x02\x02\0\0\0\0\0\0\0\0\0\0\0\x00\x01\x10\x11\x02\xf0\x20\xe0\x21";

/// Five bytes make the frame: coding and restart interval, size, sampling. The rest is pieces, each behind its length and a
/// byte for what it is: a scan's data, or a segment of any kind.
pub(crate) fn check(input: &[u8]) {
    let _ = ends_in_a_whole_picture(input.iter().copied());
    let Some((frame, pieces)) = input.split_first_chunk::<5>() else { return };
    let picture = picture(frame, pieces);
    let is_whole = ends_in_a_whole_picture(picture.iter().copied());
    let with_end = [&picture[..], b"\xff\xd9"].concat();
    if is_whole {
        assert!(ends_in_a_whole_picture(with_end.iter().copied()), "its end makes it less than whole");
    }
    for piece in [1, 7, picture.len()] {
        let mut container = Container::new();
        picture.chunks(piece).for_each(|piece| container.update(piece));
        let _ = container.finish(false);
    }
}

fn picture([coding, columns, rows, sampling, count]: &[u8; 5], mut pieces: &[u8]) -> Vec<u8> {
    let (count, restart) = (count % 4 + 1, coding >> 4);
    let code = [0xc0, 0xc1, 0xc2][usize::from(coding % 3)];
    let mut frame = vec![8, 0, rows % 64, 0, columns % 64, count];
    for id in 1..=count {
        frame.extend([id, if id == 1 { *sampling } else { 0x11 }, 0]);
    }
    let tables = [&[0x00][..], DC, &[0x10], AC].concat();
    let mut picture = b"\xff\xd8".to_vec();
    picture.extend(segment(0xc4, &tables));
    picture.extend(segment(code, &frame));
    picture.extend(segment(0xdd, &[0, restart]));
    while let [what, length, rest @ ..] = pieces {
        let (piece, behind) = rest.split_at(rest.len().min(usize::from(*length)));
        pieces = behind;
        match what % 8 {
            0 => picture.extend(segment(0xc0 | what >> 4, piece)),
            1 => picture.extend_from_slice(piece),
            // A scan of one component, or of all; its band and bits are the piece's first bytes.
            kind => {
                let (head, data) = piece.split_at(piece.len().min(3));
                let ids: Vec<u8> = if kind < 5 { vec![what >> 4 & 3] } else { (1..=count).collect() };
                let mut scan = vec![ids.len() as u8];
                ids.iter().for_each(|id| scan.extend([*id, 0]));
                scan.extend(
                    [0, 63, 0]
                        .iter()
                        .zip(head.iter().chain([&0, &0, &0]))
                        .map(|(usual, byte)| if kind % 2 == 0 { *usual } else { *byte }),
                );
                picture.extend(segment(0xda, &scan));
                picture.extend_from_slice(data);
            }
        }
    }
    picture
}

fn segment(code: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, code], &(2 + data.len() as u16).to_be_bytes()[..], data].concat()
}
