//! The `Range` header of RFC 9110.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedRange {
    /// Everything: what is not one valid range of bytes is ignored, as RFC 9110 wants or allows.
    Whole,
    /// These bytes; never empty, never beyond the end.
    Part(Range<u64>),
    /// Nothing that there is.
    Unsatisfiable,
}

/// Reads the header for something `length` bytes long.
pub fn read(header: &str, length: u64) -> RequestedRange {
    let Some((unit, spec)) = header.split_once('=') else { return RequestedRange::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return RequestedRange::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return RequestedRange::Whole;
    }
    match (number(first), number(last), first, last) {
        (Some(first), Some(last), ..) if last < first => RequestedRange::Whole,
        (Some(first), Some(last), ..) => part(first..last.saturating_add(1).min(length)),
        (Some(first), None, _, "") => part(first..length),
        (None, Some(count), "", _) => part(length.saturating_sub(count)..length),
        _ => RequestedRange::Whole,
    }
}

fn part(range: Range<u64>) -> RequestedRange {
    if range.is_empty() { RequestedRange::Unsatisfiable } else { RequestedRange::Part(range) }
}

/// Digits alone, and more than any number as the largest one.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read() {
        for (header, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-9", 0..10),
            ("bytes=0-10", 0..10),
            ("bytes=3-", 3..10),
            ("bytes=9-", 9..10),
            ("bytes=-1", 9..10),
            ("bytes=-99", 0..10),
            ("Bytes= 2-4 ", 2..5),
            ("bytes=2-99999999999999999999999", 2..10),
        ] {
            assert_eq!(read(header, 10), RequestedRange::Part(expected), "{header}");
        }
    }

    #[test]
    fn reads_behind_the_end_find_nothing() {
        for header in ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(read(header, 10), RequestedRange::Unsatisfiable, "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(read(header, 0), RequestedRange::Unsatisfiable, "{header}");
        }
    }

    #[test]
    fn anything_else_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=0-1,3-4",
            "items=0-1",
        ] {
            assert_eq!(read(header, 10), RequestedRange::Whole, "{header}");
        }
    }
}
