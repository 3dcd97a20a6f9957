//! Hides the signatures of our reply URLs in what passes. They are found by value, whichever of our keys made them, in
//! whatever is written with the characters of ASCII, and behind any escapes.
//!
//! Each byte of a signature becomes a `*`, so lengths, and with them all that frames a body, stay as they are. Bytes are
//! held back only from the first character of what may be a signature on: there are 43 of those.

use std::ops::Range;

use bytes::Bytes;

use crate::domain::Target;
use crate::domain::escapes::{Cell, cut_escape, layers};
use crate::intake::ReplyUrls;

/// Characters of a signature: base64 of 32 bytes.
const SIGNATURE: usize = 43;
/// The most characters between a target and its signature: a slash, and what escapes may leave of it.
const MAX_GAP: usize = 8;
/// The shortest target, a gap, and a signature, in characters.
const SHORTEST: usize = SHORTEST_NAME + 1 + SIGNATURE;
/// The names of channels, in characters: the shortest and the longest.
const SHORTEST_NAME: usize =
    if Target::CHANNEL.len() < Target::USEAPI.len() { Target::CHANNEL } else { Target::USEAPI }.len();
const LONGEST_NAME: usize =
    if Target::CHANNEL.len() > Target::USEAPI.len() { Target::CHANNEL } else { Target::USEAPI }.len();
/// The longest way of writing one with all its escapes, in bytes.
const MAX_WRITTEN: usize = 16 << 10;
/// How much is looked at in one go, in bytes.
const PIECE: usize = 64 << 10;

/// Something looks like a reply URL and goes on for too long to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be told whether it shows a reply URL")]
pub struct Unclear;

/// Hides signatures in bytes that come piece by piece.
#[derive(Debug)]
pub struct Veil {
    urls: ReplyUrls,
    /// What was passed on last, as far as what comes may belong to it.
    passed: Vec<u8>,
    /// What may be the beginning of a signature.
    held: Vec<u8>,
    has_hidden: bool,
}

impl Veil {
    /// For the signatures that any key of `urls` made.
    pub fn new(urls: &ReplyUrls) -> Self {
        Self { urls: urls.clone(), passed: Vec::new(), held: Vec::new(), has_hidden: false }
    }

    /// Takes a piece; gives what can be passed on.
    ///
    /// # Errors
    /// When something looks like a reply URL for more than 16 KiB; the stream is to be broken off then.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Bytes, Unclear> {
        let mut out = Vec::with_capacity(self.held.len() + piece.len());
        for piece in piece.chunks(PIECE) {
            self.step(piece, &mut out)?;
        }
        Ok(out.into())
    }

    /// What was held back at the end.
    pub fn finish(&mut self) -> Bytes {
        let mut out = Vec::new();
        // No URL goes on behind it: an escape that needs no more is whole there, and nothing stays unclear.
        let _ = self.step(b"\n", &mut out);
        out.pop();
        out.into()
    }

    /// The whole of some bytes with signatures hidden; `None` when there are none.
    ///
    /// # Errors
    /// As for [`Veil::feed`].
    pub fn over(urls: &ReplyUrls, bytes: &[u8]) -> Result<Option<Bytes>, Unclear> {
        let mut veil = Self::new(urls);
        let mut out = Vec::new();
        for piece in bytes.chunks(PIECE) {
            veil.step(piece, &mut out)?;
        }
        out.extend_from_slice(&veil.finish());
        Ok(veil.has_hidden.then(|| out.into()))
    }

    fn step(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unclear> {
        let known = self.passed.len();
        let mut bytes = std::mem::take(&mut self.passed);
        bytes.append(&mut self.held);
        bytes.extend_from_slice(piece);
        let mut found = Found { hidden: Vec::new(), open: bytes.len(), begins: bytes.len() };
        self.look(&bytes, &mut found);
        for range in found.hidden {
            self.has_hidden = true;
            bytes[range.start.max(known)..range.end].fill(b'*');
        }
        let open = found.open.max(known);
        let begins = match found.begins.min(open) {
            begins if bytes.len() - begins <= MAX_WRITTEN => begins,
            _ if open < bytes.len() => return Err(Unclear),
            _ => bytes.len(),
        };
        out.extend_from_slice(&bytes[known..open]);
        self.held = bytes.split_off(open);
        self.passed = bytes.split_off(begins.min(open));
        Ok(())
    }

    /// Looks at each stretch that could hold a whole URL, and at the last, which could hold the beginning of one.
    fn look(&self, bytes: &[u8], found: &mut Found) {
        let is_written = |byte: &u8| matches!(byte, b' '..=b'~' | 0);
        let mut at = 0;
        while at < bytes.len() {
            let length = bytes[at..].iter().position(|byte| !is_written(byte)).unwrap_or(bytes.len() - at);
            let end = at + length;
            let is_last = end == bytes.len();
            if length >= SHORTEST || (is_last && length > 0) {
                self.look_at(&bytes[at..end], at, is_last, found);
            }
            at = end + 1;
        }
    }

    fn look_at(&self, stretch: &[u8], offset: usize, is_last: bool, found: &mut Found) {
        let has_escapes = memchr::memchr3(b'\\', b'%', b'&', stretch).is_some() || stretch.contains(&0);
        let names = [REF, Target::CHANNEL.as_bytes(), Target::USEAPI.as_bytes()];
        let has_name = || names.iter().any(|name| memchr::memmem::find(stretch, name).is_some());
        // Without both, only the end can be the beginning of one.
        let skipped = if has_escapes || has_name() { 0 } else { stretch.len().saturating_sub(LONGEST_NAME) };
        if skipped > 0 && !is_last {
            return;
        }
        let offset = offset + skipped;
        // Where an escape begins in one layer that the end cuts off, the next may have the beginning of another.
        let mut sure = stretch.len();
        for cells in layers(&stretch[skipped..]) {
            let end = cells.partition_point(|cell| cell.span().start < sure);
            let end = if is_last { cut_escape(&cells[..end]) } else { end };
            sure = sure.min(cells.get(end).map_or(sure, |cell| cell.span().start));
            let place =
                |cell: usize| cells.get(cell).map_or(stretch.len() - skipped, |cell| cell.span().start) + offset;
            for at in 0..end {
                match candidate(&cells[at..end]) {
                    Candidate::Whole { target, signature } => {
                        let text = |range: Range<usize>| {
                            cells[range].iter().map(|cell| char::from(cell.byte)).collect::<String>()
                        };
                        if self
                            .urls
                            .verify(&text(at..at + target), &text(at + signature..at + signature + SIGNATURE))
                            .is_some()
                        {
                            found
                                .hidden
                                .push(place(at + signature)..cells[at + signature + SIGNATURE - 1].span().end + offset);
                        }
                    }
                    Candidate::Begun { signature } if is_last => {
                        found.begins = found.begins.min(place(at));
                        if let Some(signature) = signature {
                            found.open = found.open.min(place(at + signature));
                        }
                    }
                    Candidate::Begun { .. } | Candidate::No => {}
                }
            }
            if end < cells.len() {
                found.begins = found.begins.min(place(end));
            }
        }
    }
}

struct Found {
    hidden: Vec<Range<usize>>,
    /// Where what may be a signature begins that the end cuts off.
    open: usize,
    /// Where what may be one of our URLs begins that the end cuts off.
    begins: usize,
}

const REF: &[u8] = b"ref_";
/// Letters and digits behind that.
const REF_ID: usize = 26;

enum Candidate {
    No,
    /// All that there is fits. `signature`: where it begins, once the target is there.
    Begun {
        signature: Option<usize>,
    },
    /// The target's length, and where the signature begins.
    Whole {
        target: usize,
        signature: usize,
    },
}

/// Whether a target and a signature stand at the beginning of some characters.
fn candidate(cells: &[Cell]) -> Candidate {
    let is_target = |name: &[u8], id: usize| -> Option<Option<usize>> {
        let fits = |(at, cell): (usize, &Cell)| match name.get(at) {
            Some(expected) => cell.byte == *expected,
            None => cell.byte.is_ascii_lowercase() || cell.byte.is_ascii_digit(),
        };
        let length = name.len() + id;
        let there = &cells[..length.min(cells.len())];
        there.iter().enumerate().all(fits).then_some((there.len() == length).then_some(length))
    };
    let target = match cells.first().map(|cell| cell.byte) {
        Some(b'r') => is_target(REF, REF_ID),
        Some(b'm') => is_target(Target::CHANNEL.as_bytes(), 0),
        Some(b'u') => is_target(Target::USEAPI.as_bytes(), 0),
        _ => None,
    };
    let target = match target {
        None => return Candidate::No,
        Some(None) => return Candidate::Begun { signature: None },
        Some(Some(target)) => target,
    };
    let is_token = |cell: &&Cell| cell.byte.is_ascii_alphanumeric() || matches!(cell.byte, b'-' | b'_');
    let gap = cells[target..].iter().take_while(|cell| !is_token(cell)).count();
    let signature = target + gap;
    // The channel's name is a word of its own: in ids and prose no slash follows it.
    let has_slash = target > REF_ID || cells[target..signature].iter().any(|cell| matches!(cell.byte, b'/' | b'\\'));
    if gap > MAX_GAP || (signature < cells.len() && (gap == 0 || !has_slash)) {
        return Candidate::No;
    }
    let length = cells[signature..].iter().take(SIGNATURE).take_while(is_token).count();
    match length {
        SIGNATURE => Candidate::Whole { target, signature },
        _ if signature + length == cells.len() => Candidate::Begun { signature: Some(signature) },
        _ => Candidate::No,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::SecretString;
    use url::Url;

    use super::*;
    use crate::intake::ReplyKeys;

    fn urls() -> ReplyUrls {
        let secrets: Vec<SecretString> = ["new", "old"].map(SecretString::from).to_vec();
        ReplyUrls::new(Url::parse("https://vault.example.com/in").unwrap(), ReplyKeys::new(&secrets).unwrap())
    }

    fn url(of: &str, key: &str) -> (String, String) {
        let keys = ReplyKeys::new(&[SecretString::from(key)]).unwrap();
        let urls = ReplyUrls::new(Url::parse("http://other").unwrap(), keys);
        let url = urls.reply_url(&Target::parse(of).unwrap());
        let signature = url.rsplit('/').next().unwrap().to_owned();
        (url, signature)
    }

    const OF_REF: &str = "ref_01jd0000000000000000000000";

    fn through(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
        let mut veil = Veil::new(&urls());
        let (mut out, mut rest, mut turn) = (Vec::new(), bytes, 0);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(sizes[turn % sizes.len()].clamp(1, rest.len()));
            out.extend_from_slice(&veil.feed(piece).unwrap());
            (rest, turn) = (behind, turn + 1);
        }
        out.extend_from_slice(&veil.finish());
        out
    }

    fn wrapped(way: usize, text: &str) -> String {
        match way {
            0 => text.to_owned(),
            1 => text.replace('/', "\\/"),
            2 => text.replace('/', "%2F").replace('_', "%5f"),
            3 => text.replace('%', "%25").replace('/', "%2f"),
            4 => text.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
            5 => text.bytes().map(|byte| format!("&#{byte};")).collect(),
            6 => text.replace('\\', "\\\\").replace('/', "\\u002F"),
            7 => text.replace('&', "&amp;").replace('/', "&sol;"),
            8 => text.replace('/', "&#47"),
            _ => text.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        }
    }

    #[test]
    fn a_signature_is_hidden_whoever_signed_it_and_nothing_else_is() {
        for (of, key) in [
            (OF_REF, "new"),
            (OF_REF, "old"),
            ("minimax", "new"),
            ("minimax", "old"),
            ("useapi", "new"),
            ("useapi", "old"),
        ] {
            let (url, signature) = url(of, key);
            let text = format!("{{\"replyUrl\":\"{url}\",\"x\":\"user:1-minimax:2-video:3\"}}");
            let hidden = Veil::over(&urls(), text.as_bytes()).unwrap().unwrap();
            assert_eq!(std::str::from_utf8(&hidden).unwrap(), text.replace(&signature, &"*".repeat(43)));
        }
        let (foreign, _) = url(OF_REF, "another");
        let other = format!("{foreign} minimax/{} ref_{}", "a".repeat(60), "b".repeat(90));
        assert_eq!(Veil::over(&urls(), other.as_bytes()), Ok(None));
    }

    #[test]
    fn it_is_found_in_any_encoding_of_ascii_and_within_other_bytes() {
        let (url, signature) = url(OF_REF, "old");
        let wide = |text: &str| text.bytes().flat_map(|byte| [byte, 0]).collect::<Vec<u8>>();
        let bytes = [&[0xff, 0xfe][..], &wide(&url), &[0xd8, 0x3d], url.as_bytes(), &[0x80; 9], b"x"].concat();
        let hidden = Veil::over(&urls(), &bytes).unwrap().unwrap();
        assert_eq!(hidden.len(), bytes.len());
        assert!(memchr::memmem::find(&hidden, signature.as_bytes()).is_none());
        assert!(memchr::memmem::find(&hidden, &wide(&signature)).is_none());
    }

    #[test]
    fn nothing_is_held_but_what_may_be_a_signature() {
        let (url, signature) = url(OF_REF, "new");
        let mut veil = Veil::new(&urls());
        let target = &url[..url.len() - 43];
        assert_eq!(veil.feed(target.as_bytes()).unwrap(), target);
        assert_eq!(veil.feed(&signature.as_bytes()[..42]).unwrap(), "");
        assert_eq!(veil.feed(&signature.as_bytes()[42..]).unwrap(), "*".repeat(43));
        for text in ["data: r", "\n\n", "user:1-minimax", ":2-vid", "minimax", " ", "x", "100%", " & \\", "ref_", "01"]
        {
            assert_eq!(veil.feed(text.as_bytes()).unwrap(), text);
        }
        assert_eq!(veil.feed(format!("{target}abc").as_bytes()).unwrap(), target);
        assert_eq!(veil.feed(b" d").unwrap(), "abc d");
        assert_eq!(veil.feed(format!("{target}abc").as_bytes()).unwrap(), target);
        assert_eq!(veil.finish(), "abc");
    }

    #[test]
    fn a_signature_whose_last_escape_only_the_end_ends_is_hidden() {
        let (url, signature) = url(OF_REF, "new");
        let (begin, escape) = (&url[..url.len() - 1], format!("&#{}", signature.as_bytes()[42]));
        let hidden = format!("{}{}", &url[..url.len() - 43], "*".repeat(42 + escape.len()));
        assert_eq!(String::from_utf8(through(format!("{begin}{escape}").as_bytes(), &[1, 7])).unwrap(), hidden);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut veil = Veil::new(&urls());
        for _ in 0..40 {
            assert_eq!(veil.feed(&[b'\\'; 1000]).unwrap().len(), 1000);
            assert!(veil.passed.len() <= MAX_WRITTEN && veil.held.is_empty());
        }
        let (url, _) = url(OF_REF, "new");
        veil.feed(&url.as_bytes()[..url.len() - 20]).unwrap();
        veil.feed(b"%").unwrap();
        let cut = (0..40).map(|_| veil.feed("25".repeat(500).as_bytes())).find(Result::is_err);
        assert_eq!(cut, Some(Err(Unclear)));
    }

    proptest! {
        #[test]
        fn a_url_of_ours_is_found_in_any_wrapping_and_pieces(
            of_channel: bool,
            ways in proptest::collection::vec(0usize..10, 0..4),
            around in ("[ -~]{0,40}", "[ \"<&,.}]{1}[ -~]{0,40}"),
            sizes in proptest::collection::vec(1usize..200, 1..5),
        ) {
            let (url, signature) = url(if of_channel { "useapi" } else { OF_REF }, "old");
            let inner = ways.iter().fold(url.clone(), |text, way| wrapped(*way, &text));
            let marked = ways.iter().fold(format!("{}*", &url[..url.len() - 43]), |text, way| wrapped(*way, &text));
            let text = format!("{} {inner}{}", around.0, around.1);
            let out = through(text.as_bytes(), &sizes);
            prop_assert_eq!(out.len(), text.len());
            let out = String::from_utf8(out).unwrap();
            prop_assert!(!out.contains(&signature));
            prop_assert!(!out.contains(&inner), "{} {}", out, marked);
            prop_assert_eq!(&out, &String::from_utf8(through(text.as_bytes(), &[text.len()])).unwrap());
        }

        #[test]
        fn an_answer_without_a_signature_passes_byte_for_byte(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            text in "[ref_0minax/%\\\\&;u2f*-]{0,200}",
            sizes in proptest::collection::vec(1usize..50, 1..4),
        ) {
            prop_assert_eq!(&through(&bytes, &sizes), &bytes);
            prop_assert_eq!(through(text.as_bytes(), &sizes), text.into_bytes());
        }
    }
}
