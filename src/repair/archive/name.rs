//! What archived segments are called.

use crate::bucket::ObjectKey;
use crate::domain::{Digest, FileName};
use crate::journal::Archived;

/// After base, end and digest of an encrypted segment.
const SEALED: &str = ".journal.enc";
/// After the base of one that was archived before segments were encrypted.
const CLEAR: &str = ".journal.zst";

/// A segment that begins at `base`. Other bytes have another name, so nothing is ever replaced by something else.
pub(super) fn sealed(base: u64, bytes: &[u8]) -> FileName {
    let digest = Digest::of(bytes).to_string();
    let end = base + bytes.len() as u64;
    FileName::clean(&format!("{base:020}-{end:020}-{}{SEALED}", digest.get(..8).unwrap_or_default()))
}

/// What sorts before all segments that begin at `base` or beyond, and behind all others.
pub(super) fn before(base: u64) -> FileName {
    FileName::clean(&format!("{base:020}"))
}

/// The segment of this name; `None` when it is none.
pub(super) fn parse(name: &str) -> Option<Archived> {
    let number = |digits: &str| {
        let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let (base, end) = match name.strip_suffix(SEALED) {
        Some(rest) => {
            let mut parts = rest.split('-');
            let (base, end) = (number(parts.next()?)?, number(parts.next()?)?);
            let digest = parts.next()?;
            let is_hex = digest.len() == 8 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hex || parts.next().is_some() || end < base {
                return None;
            }
            (base, Some(end))
        }
        None => (number(name.strip_suffix(CLEAR)?)?, None),
    };
    Some(Archived { base, end, name: name.to_owned() })
}

/// Whether a segment's name says that it is not encrypted.
pub(super) fn is_clear(segment: &Archived) -> bool {
    segment.name.ends_with(CLEAR)
}

pub(super) fn file_name(segment: &Archived) -> FileName {
    FileName::clean(&segment.name)
}

pub(super) fn key(segment: &Archived) -> ObjectKey {
    ObjectKey::journal(&file_name(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_base_and_end_and_sort_by_base() {
        let name = sealed(7, b"bytes");
        let segment = parse(name.as_str()).unwrap();
        assert_eq!((segment.base, segment.end, is_clear(&segment)), (7, Some(12), false));
        assert_eq!(key(&segment).file_name(), name.as_str());
        assert_ne!(sealed(7, b"other"), name);
        let old = parse("00000000000000000007.journal.zst").unwrap();
        assert_eq!((old.base, old.end, is_clear(&old)), (7, None, true));
        for segment in [&segment, &old] {
            assert!(segment.name.as_str() > before(7).as_str() && segment.name.as_str() < before(8).as_str());
        }
        let last = sealed(u64::MAX - 5, b"bytes");
        assert_eq!(parse(last.as_str()).unwrap().end, Some(u64::MAX));
    }

    #[test]
    fn any_other_name_is_no_segments() {
        for other in [
            "",
            "probe",
            "7.journal.zst",
            "00000000000000000007.journal",
            "0000000000000000000x.journal.zst",
            "+0000000000000000007.journal.zst",
            "00000000000000000007.journal.enc",
            "00000000000000000012-00000000000000000007-00112233.journal.enc",
            "00000000000000000007-00000000000000000012-0011223.journal.enc",
            "00000000000000000007-00000000000000000012-00112233-1.journal.enc",
            "99999999999999999999-99999999999999999999-00112233.journal.enc",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
