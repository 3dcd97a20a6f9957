//! Hides the signatures of our reply URLs in what passes. They are found by value, whichever of our keys made them, in
//! whatever is written with the characters of ASCII, and behind any escapes.
//!
//! Each byte of a signature becomes a `*`, so lengths, and with them all that frames a body, stay as they are. Bytes are
//! held back only from the first character of what may be a signature on: there are 43 of those. Where more than 256 bytes
//! may be a URL, up to a sixteenth of them waits as well, for more or for the line's end: not all are looked at for each.

use std::collections::HashMap;
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
/// So much that is unclear is looked at again with whatever comes, in bytes: more than a URL has that is not all escapes.
const MAX_LOOKED_AT_AGAIN: usize = 256;
/// More is looked at again once this part of it has come anew, so each byte is looked at about as often, however small the
/// pieces are.
const LOOKS: usize = 16;

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
    /// What may be the beginning of a signature, and behind it what was not looked at.
    held: Vec<u8>,
    /// How much that is, in bytes.
    fresh: usize,
    has_hidden: bool,
}

impl Veil {
    /// For the signatures that any key of `urls` made.
    pub fn new(urls: &ReplyUrls) -> Self {
        Self { urls: urls.clone(), passed: Vec::new(), held: Vec::new(), fresh: 0, has_hidden: false }
    }

    /// Takes a piece; gives what can be passed on.
    ///
    /// # Errors
    /// When something looks like a reply URL for more than 16 KiB; the stream is to be broken off then.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Bytes, Unclear> {
        let mut out = Vec::with_capacity(self.held.len() + piece.len());
        self.feed_to(piece, &mut out)?;
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
        veil.feed_to(bytes, &mut out)?;
        out.extend_from_slice(&veil.finish());
        Ok(veil.has_hidden.then(|| out.into()))
    }

    /// The same, with what can be passed on put behind `out`.
    ///
    /// # Errors
    /// As for [`Veil::feed`].
    pub fn feed_to(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unclear> {
        for piece in bytes.chunks(PIECE) {
            let unclear = self.passed.len() + self.held.len() - self.fresh;
            let fresh = self.fresh + piece.len();
            // What is unclear ends with the line at the latest, and an event ends with one.
            if unclear <= MAX_LOOKED_AT_AGAIN || fresh >= unclear / LOOKS || !piece.iter().all(is_written) {
                self.step(piece, out)?;
            } else {
                self.held.extend_from_slice(piece);
                self.fresh = fresh;
            }
        }
        Ok(())
    }

    /// Looks at all that came before and at `piece`; puts out what can be passed on.
    fn step(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unclear> {
        let known = self.passed.len();
        let mut bytes = std::mem::take(&mut self.passed);
        bytes.append(&mut self.held);
        bytes.extend_from_slice(piece);
        self.fresh = 0;
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
        // A signature stands in each layer behind the first that it is read in.
        let mut judged = HashMap::new();
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
                        let written = (text(at..at + target), text(at + signature..at + signature + SIGNATURE));
                        let is_ours = judged
                            .entry(written)
                            .or_insert_with_key(|(target, signature)| self.urls.verify(target, signature).is_some());
                        if *is_ours {
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

/// Whether a byte can belong to a URL, however it is written.
fn is_written(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~' | 0)
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
mod tests;
