//! A text as whoever takes its escapes off would read it: those of JSON and JavaScript, of URLs, and of HTML, in any order
//! and one inside another.
//!
//! Every character knows the bytes it is written with, so that what is found in a layer can be replaced in the text itself.

use std::ops::Range;

/// A character of a layer that is ASCII, or [`Cell::OTHER`], with the bytes that it is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The character.
    pub byte: u8,
    start: u32,
    end: u32,
}

impl Cell {
    /// Stands for what is no ASCII.
    pub const OTHER: u8 = 0x80;

    /// Where the bytes are that it is written with.
    pub fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Layers with fewer escapes than the one before, at most; behind them comes one without any.
const MAX_LAYERS: usize = 6;

/// The text's layers: as it is, with its escapes taken off once, with theirs taken off, and so on. NUL characters are in
/// none, so UTF-16 and UTF-32 read like ASCII. The text must be shorter than 4 GiB.
pub fn layers(text: &[u8]) -> impl Iterator<Item = Vec<Cell>> {
    let cell = |(at, byte): (usize, &u8)| {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let byte = if byte.is_ascii() { *byte } else { Cell::OTHER };
        Cell { byte, start: at, end: at.saturating_add(1) }
    };
    let raw: Vec<Cell> = text.iter().enumerate().filter(|(_, byte)| **byte != 0).map(cell).collect();
    let mut number = 0;
    std::iter::successors(Some(raw), move |layer| {
        number += 1;
        match number {
            1..=MAX_LAYERS => without_escapes(layer, false),
            // However deep they are, this one takes a single walk.
            _ if number == MAX_LAYERS + 1 => without_escapes(layer, true),
            _ => None,
        }
    })
}

/// The place where an escape begins that the layer's end cuts off, else the layer's length.
pub fn cut_escape(cells: &[Cell]) -> usize {
    let from = cells.len().saturating_sub(LONGEST);
    let is_cut = |at: &usize| matches!(escape(|index| cells.get(at + index).map(|cell| cell.byte)), Escape::Cut);
    (from..cells.len()).find(is_cut).unwrap_or(cells.len())
}

/// `None` when there are no escapes. With `all`, what an escape stands for may be the beginning of the next.
fn without_escapes(cells: &[Cell], all: bool) -> Option<Vec<Cell>> {
    let mut left: Vec<Cell> = Vec::with_capacity(cells.len());
    let mut at = 0;
    let mut front = cells.first().copied();
    while let Some(cell) = front {
        let found = escape(|index| match index {
            0 => Some(cell.byte),
            // Behind the end stands what belongs to no escape: one that needs no more is whole there.
            _ => Some(cells.get(at + index).map_or(b' ', |cell| cell.byte)),
        });
        match found {
            Escape::Whole(byte, length) => {
                let made = Cell { byte, start: cell.start, end: cells[at + length - 1].end };
                if all {
                    // It takes the place of its last character, and is looked at again.
                    at += length - 1;
                    front = Some(made);
                    continue;
                }
                left.extend((byte != 0).then_some(made));
                at += length;
            }
            Escape::No | Escape::Cut => {
                left.extend((cell.byte != 0).then_some(cell));
                at += 1;
            }
        }
        front = cells.get(at).copied();
    }
    (left.len() < cells.len()).then_some(left)
}

enum Escape {
    /// What it stands for, and its length.
    Whole(u8, usize),
    /// It would be one if more came.
    Cut,
    No,
}

/// The longest escape, in characters: `&#x0000002f;`.
const LONGEST: usize = 12;

/// Names of HTML for characters that matter in URLs.
const NAMES: [(&str, u8); 16] = [
    ("amp", b'&'),
    ("AMP", b'&'),
    ("sol", b'/'),
    ("bsol", b'\\'),
    ("lowbar", b'_'),
    ("UnderBar", b'_'),
    ("percnt", b'%'),
    ("num", b'#'),
    ("quest", b'?'),
    ("equals", b'='),
    ("colon", b':'),
    ("commat", b'@'),
    ("semi", b';'),
    ("period", b'.'),
    ("quot", b'"'),
    ("QUOT", b'"'),
];

/// The escape that begins with the first of the characters that `at` gives.
fn escape(at: impl Fn(usize) -> Option<u8>) -> Escape {
    match at(0) {
        Some(b'%') => match at(1) {
            Some(b'u' | b'U') => hex(&at, 2, 4),
            Some(byte) if !byte.is_ascii_hexdigit() => Escape::No,
            _ => hex(&at, 1, 2),
        },
        Some(b'\\') => match at(1) {
            None => Escape::Cut,
            Some(byte @ (b'\\' | b'/' | b'"')) => Escape::Whole(byte, 2),
            Some(b'n' | b'r' | b't' | b'f' | b'b') => Escape::Whole(b'\n', 2),
            Some(b'x') => hex(&at, 2, 2),
            Some(b'u') if at(2) == Some(b'{') => delimited(&at, 3),
            Some(b'u') => hex(&at, 2, 4),
            Some(b'0'..=b'1') => octal(&at),
            _ => Escape::No,
        },
        Some(b'&') => match (at(1), at(2)) {
            (None, _) | (Some(b'#'), None) => Escape::Cut,
            (Some(b'#'), Some(b'x' | b'X')) => reference(&at, 3, 16),
            (Some(b'#'), _) => reference(&at, 2, 10),
            _ => named(&at),
        },
        _ => Escape::No,
    }
}

/// So many hexadecimal digits.
fn hex(at: &impl Fn(usize) -> Option<u8>, from: usize, length: usize) -> Escape {
    number(at, from..from + length, 16)
}

fn octal(at: &impl Fn(usize) -> Option<u8>) -> Escape {
    number(at, 1..4, 8)
}

fn number(at: &impl Fn(usize) -> Option<u8>, digits: Range<usize>, radix: u32) -> Escape {
    let end = digits.end;
    let mut value = 0;
    for index in digits {
        let Some(byte) = at(index) else { return Escape::Cut };
        let Some(digit) = char::from(byte).to_digit(radix) else { return Escape::No };
        value = value * radix + digit;
    }
    Escape::Whole(ascii(value), end)
}

/// The most digits of a number that something else ends.
const MAX_DIGITS: usize = 8;

/// Hexadecimal digits and the bracket that ends them.
fn delimited(at: &impl Fn(usize) -> Option<u8>, from: usize) -> Escape {
    match digits(at, from, 16) {
        Digits::Cut => Escape::Cut,
        Digits::Ended { value, end, by: b'}' } => Escape::Whole(ascii(value), end + 1),
        Digits::Ended { .. } | Digits::No => Escape::No,
    }
}

/// Digits and a semicolon; readers of HTML take them without one, too.
fn reference(at: &impl Fn(usize) -> Option<u8>, from: usize, radix: u32) -> Escape {
    match digits(at, from, radix) {
        Digits::Cut => Escape::Cut,
        Digits::Ended { value, end, by } => Escape::Whole(ascii(value), end + usize::from(by == b';')),
        Digits::No => Escape::No,
    }
}

enum Digits {
    /// Their value, where they end, and by which character.
    Ended { value: u32, end: usize, by: u8 },
    /// More may come.
    Cut,
    /// There are none, or too many.
    No,
}

fn digits(at: &impl Fn(usize) -> Option<u8>, from: usize, radix: u32) -> Digits {
    let mut value = 0_u32;
    for end in from..=from + MAX_DIGITS {
        let Some(by) = at(end) else { return Digits::Cut };
        match char::from(by).to_digit(radix) {
            Some(digit) => value = value.saturating_mul(radix).saturating_add(digit),
            None if end > from => return Digits::Ended { value, end, by },
            None => return Digits::No,
        }
    }
    Digits::No
}

fn named(at: &impl Fn(usize) -> Option<u8>) -> Escape {
    let mut is_cut = false;
    for (name, byte) in NAMES {
        let spelled = name.bytes().chain([b';']).enumerate();
        let mut same = spelled.map(|(index, expected)| at(index + 1).map(|byte| byte == expected));
        match same.find(|same| *same != Some(true)) {
            None => return Escape::Whole(byte, name.len() + 2),
            Some(None) => is_cut = true,
            Some(_) => {}
        }
    }
    if is_cut { Escape::Cut } else { Escape::No }
}

fn ascii(value: u32) -> u8 {
    match u8::try_from(value) {
        Ok(byte) if byte.is_ascii() => byte,
        _ => Cell::OTHER,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(layer: &[Cell]) -> String {
        layer.iter().map(|cell| char::from(cell.byte)).collect()
    }

    fn last(text: &str) -> String {
        read(&layers(text.as_bytes()).last().unwrap())
    }

    #[test]
    fn escapes_of_every_kind_are_taken_off_one_layer_at_a_time() {
        for text in [
            "a/b",
            r"a\/b",
            r"a\\/b",
            r"a\u002Fb",
            r"a\x2fb",
            r"a\u{2f}b",
            r"a\057b",
            "a%2Fb",
            "a%252fb",
            "a%25252525252525252525252Fb",
            "a%u002Fb",
            "a&#47;b",
            "a&#47b",
            "a&#x2F;b",
            "a&sol;b",
            "a&amp;#47;b",
            "a&amp;amp;sol;b",
            r"a%5cu002fb",
            r"a\u00252Fb",
            "a\0/\0b\0",
            r"\u0061&#x2f;%62",
        ] {
            assert_eq!(last(text), "a/b", "{text}");
        }
        let all: Vec<String> = layers(b"%2541 \\\\u0042").map(|layer| read(&layer)).collect();
        assert_eq!(all, ["%2541 \\\\u0042", "%41 \\u0042", "A B"]);
        assert_eq!(last("&#97&#x2fz&#47"), "a/z/");
        assert_eq!(last("100% &c \\d &unknown; %zz \u{e9}\\u00e9"), "100% &c \\d &unknown; %zz \u{80}\u{80}\u{80}");
    }

    #[test]
    fn a_character_knows_the_bytes_it_is_written_with() {
        let text = r"x\u0026#47;y";
        let layer = layers(text.as_bytes()).last().unwrap();
        assert_eq!(read(&layer), "x/y");
        assert_eq!(layer.iter().map(|cell| &text[cell.span()]).collect::<Vec<_>>(), ["x", r"\u0026#47;", "y"]);
    }

    #[test]
    fn nesting_without_end_takes_one_walk() {
        let text = format!("%{}2F", "25".repeat(500_000));
        assert_eq!(last(&text), "/");
        assert_eq!(last(&format!("{}/", "\\".repeat(1_000_001))), "/");
    }

    #[test]
    fn an_escape_that_the_end_cuts_off_is_noticed() {
        let cut = |text: &str| cut_escape(&layers(text.as_bytes()).next().unwrap());
        for text in
            ["ab%", "ab%2", "ab\\", "ab\\u00", "ab\\u{2", "ab&", "ab&#", "ab&#x2", "ab&so", "ab&#47", "ab\\x", "ab%u0"]
        {
            assert_eq!(cut(text), 2, "{text}");
        }
        for text in ["ab", "ab%2F", "a%z", "a&z", "a&#z", "a\\d"] {
            assert_eq!(cut(text), text.len(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn spans_follow_one_another_in_every_layer(text in "[%\\\\u0-9a-f&#;x2/s o]{0,60}") {
            for layer in layers(text.as_bytes()) {
                for two in layer.windows(2) {
                    prop_assert!(two[0].span().end <= two[1].span().start);
                }
                prop_assert!(layer.iter().all(|cell| cell.span().end <= text.len()));
            }
        }
    }
}
