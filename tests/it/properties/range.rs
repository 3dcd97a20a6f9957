//! `Range` as clients ask for it, and `Content-Range` as servers answer.

use replyvault::api::range::{RequestedRange, read};
use replyvault::fetch::ContentRange;

/// The first byte says how long the thing is, the rest is the header; some of the input as numbers, too.
pub(crate) fn check(input: &[u8]) {
    let Some((size, header)) = input.split_first() else { return };
    let header = String::from_utf8_lossy(header);
    for length in [u64::from(*size), 0, 1, u64::MAX] {
        within(&header, length);
        within(&format!("bytes={header}"), length);
    }
    if let Some(range) = ContentRange::parse(&header) {
        assert!(range.first <= range.last && range.last < range.total);
        let again = format!("bytes {}-{}/{}", range.first, range.last, range.total);
        assert_eq!(ContentRange::parse(&again), Some(range));
    }
    if let Some(numbers) = input.first_chunk::<16>() {
        let (first, last) = numbers.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        canonical(number(first), number(last), number(&input[input.len() - 8..]));
        canonical(u64::from(numbers[0]), u64::from(numbers[1]), u64::from(numbers[2]));
    }
}

fn within(header: &str, length: u64) {
    match read(header, length) {
        RequestedRange::Part(range) => {
            assert!(range.start < range.end && range.end <= length, "{header}: {range:?} of {length}");
            let again = format!("bytes={}-{}", range.start, range.end - 1);
            assert_eq!(read(&again, length), RequestedRange::Part(range));
        }
        RequestedRange::Whole | RequestedRange::Unsatisfiable => {}
    }
    if length == 0 {
        assert!(!matches!(read(header, length), RequestedRange::Part(_)));
    }
}

/// What the numbers say, worked out with more room.
fn canonical(first: u64, last: u64, length: u64) {
    let expected = match () {
        () if last < first => RequestedRange::Whole,
        () if first >= length => RequestedRange::Unsatisfiable,
        () => RequestedRange::Part(first..u128::min(u128::from(last) + 1, length.into()) as u64),
    };
    assert_eq!(read(&format!("bytes={first}-{last}"), length), expected);
    let open = if first < length { RequestedRange::Part(first..length) } else { RequestedRange::Unsatisfiable };
    assert_eq!(read(&format!("bytes={first}-"), length), open);
    let tail = length.min(last);
    let expected = if tail == 0 { RequestedRange::Unsatisfiable } else { RequestedRange::Part(length - tail..length) };
    assert_eq!(read(&format!("bytes=-{last}"), length), expected);
    let range = ContentRange::parse(&format!("bytes {first}-{last}/{length}"));
    assert_eq!(range.is_some(), first <= last && last < length);
}
