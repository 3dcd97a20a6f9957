//! What of a text may be shown: what is secret in it reads `…`.
//!
//! Whoever sends a text chooses it, so each rule takes a time that grows with its length and no faster: a rule measures no
//! stretch twice.

use std::ops::Range;

use super::escapes::{Cell, layers};
use super::{MediaUrl, Target};

/// A text with what is secret hidden, wherever in it that stands.
pub fn redacted_text(text: &str) -> String {
    redacted_up_to(text, text.len())
}

/// The same for a text of which more may follow: what stands behind its first `end` bytes is looked at, and hidden as a
/// whole, so that of what begins before them nothing is shown because its end is missing.
pub fn redacted_up_to(text: &str, end: usize) -> String {
    let mut hidden = if is_plain(text) { Vec::new() } else { secrets(text) };
    hidden.extend((end < text.len()).then_some(end..text.len()));
    without(text, hidden)
}

/// A text with our signatures hidden, and nothing else.
pub fn without_signatures(text: &str) -> String {
    let mut hidden = Vec::new();
    if !is_plain(text) {
        layers(text.as_bytes()).for_each(|layer| signatures(text, &layer, |length| length == SIGNATURE, &mut hidden));
    }
    without(text, hidden)
}

/// The path of a URL with what is secret in its segments hidden, and our signatures.
pub fn redacted_path(path: &str) -> String {
    let is_place = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~');
    // Most paths have nothing to hide, and they are shown often.
    if path.bytes().all(is_place)
        && !has_word(path, &["reply", "ref_", Target::CHANNEL, Target::USEAPI, "bearer", "basic"])
    {
        return path.to_owned();
    }
    let mut hidden = Vec::new();
    layers(path.as_bytes()).for_each(|layer| signatures(path, &layer, |_| true, &mut hidden));
    let path = without(path, hidden);
    // A slash in front shows that it is of a URL.
    let shown = path.split('/').map(|segment| redacted_text(&format!("/{segment}")));
    shown.collect::<String>().chars().skip(1).collect()
}

/// Whether a text shows one of our reply URLs, its signature hidden or not.
pub fn shows_reply_url(text: &str) -> bool {
    let mut hidden = Vec::new();
    layers(text.as_bytes()).for_each(|layer| signatures(text, &layer, |_| true, &mut hidden));
    !hidden.is_empty()
}

/// Whether a member of this name holds a credential, as which a text with spaces only counts where the name leaves no doubt.
pub fn is_credential(name: &str, value: &str) -> bool {
    match promise(name.bytes().rev()) {
        Promise::Credential => true,
        Promise::Perhaps => !value.contains(char::is_whitespace),
        Promise::None => false,
    }
}

fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    for layer in layers(text.as_bytes()) {
        signatures(text, &layer, |_| true, &mut hidden);
        runs(&layer).for_each(|run| url(run, &mut hidden));
        named_secrets(text, &layer, &mut hidden);
        for word in ["bearer", "basic"] {
            tokens_behind(word.as_bytes(), &layer, &mut hidden);
        }
        hidden.extend(layer.split(|cell| cell.byte == b'"').filter_map(query_with_spaces));
        // Most stand in each layer.
        merge(&mut hidden);
    }
    hidden
}

/// Every secret stands beside one of these; many texts have none.
fn is_plain(text: &str) -> bool {
    let marks = |byte: u8| matches!(byte, b'?' | b'%' | b'\\' | b'&' | b'@' | b'#' | b'=' | b':' | b';' | b'/' | 0);
    !text.bytes().any(marks) && !has_word(text, &["bearer", "basic", "ref_"])
}

/// Whether one of these words, which are in lower case, is in a text in either case.
fn has_word(text: &str, words: &[&str]) -> bool {
    let text = text.as_bytes();
    let stands = |word: &str, at: usize, first: u8| {
        word.as_bytes().first() == Some(&first)
            && text.get(at..at + word.len()).is_some_and(|there| there.eq_ignore_ascii_case(word.as_bytes()))
    };
    let mut places = text.iter().map(u8::to_ascii_lowercase).enumerate();
    places.any(|(at, first)| words.iter().any(|word| stands(word, at, first)))
}

/// In order, each byte in one of them at most.
fn merge(ranges: &mut Vec<Range<usize>>) {
    ranges.sort_by_key(|range| (range.start, range.end));
    ranges.dedup_by(|next, last| {
        let joins = next.start <= last.end;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
}

fn without(text: &str, mut hidden: Vec<Range<usize>>) -> String {
    merge(&mut hidden);
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for range in hidden {
        shown.push_str(text.get(done..range.start).unwrap_or_default());
        shown.push('…');
        done = range.end;
    }
    shown.push_str(text.get(done..).unwrap_or_default());
    shown
}

/// The bytes of some cells that follow one another.
fn span(cells: &[Cell]) -> Option<Range<usize>> {
    Some(cells.first()?.span().start..cells.last()?.span().end)
}

fn begins(cells: &[Cell], word: &[u8]) -> bool {
    cells.len() >= word.len() && word.iter().zip(cells).all(|(byte, cell)| byte.eq_ignore_ascii_case(&cell.byte))
}

fn is_token(cell: &Cell) -> bool {
    cell.byte.is_ascii_alphanumeric() || matches!(cell.byte, b'-' | b'_')
}

/// Of credentials in headers, those encoded by base64 among them.
fn is_of_credential(cell: &Cell) -> bool {
    is_token(cell) || matches!(cell.byte, b'.' | b'~' | b'+' | b'/' | b'=')
}

fn is_slash(cell: &Cell) -> bool {
    matches!(cell.byte, b'/' | b'\\')
}

fn is_space(cell: &Cell) -> bool {
    cell.byte <= b' '
}

/// How many cells at the beginning are such.
fn length(cells: &[Cell], is_such: impl Fn(&Cell) -> bool) -> usize {
    cells.iter().position(|cell| !is_such(cell)).unwrap_or(cells.len())
}

/// Whether the mark of what was hidden before stands where the cells begin.
fn is_hidden(text: &str, cells: &[Cell]) -> bool {
    let rest = cells.first().and_then(|cell| text.get(cell.span().start..));
    rest.is_some_and(|rest| rest.starts_with('…'))
}

/// The most characters between the parts of a reply URL.
const MAX_GAP: usize = 8;
/// A target has 30 characters at most.
const MAX_TARGET: usize = 30;
/// Characters of a signature that is whole: base64 of 32 bytes.
const SIGNATURE: usize = 43;

/// What has a length that `fits` behind a target, where that stands in the path of a reply URL, or the rest is long enough to
/// be a signature.
fn signatures(text: &str, cells: &[Cell], fits: impl Fn(usize) -> bool, hidden: &mut Vec<Range<usize>>) {
    const WORD: &[u8] = b"reply";
    for at in 0..cells.len() {
        let rest = &cells[at..];
        let (target, least) = if begins(rest, WORD) {
            let Some(behind) = behind_gap(cells, at + WORD.len(), true) else { continue };
            (behind, 1)
        } else if begins(rest, b"ref_") {
            (at, 16)
        } else if begins(rest, Target::CHANNEL.as_bytes()) || begins(rest, Target::USEAPI.as_bytes()) {
            (at, SIGNATURE)
        } else {
            continue;
        };
        let Some(end) = target_end(cells, target) else { continue };
        if let Some(mark) = hidden_already(text, &cells[end..]) {
            hidden.push(mark);
            continue;
        }
        let Some(start) = behind_gap(cells, end, least != 16) else { continue };
        let length = length(&cells[start..], is_token);
        if length >= least && fits(length) {
            hidden.extend(span(&cells[start..start + length]));
        }
    }
}

/// Behind a few characters that are part of no word, among them a slash where one is needed.
fn behind_gap(cells: &[Cell], from: usize, needs_slash: bool) -> Option<usize> {
    let rest = cells.get(from..)?;
    let gap = &rest[..rest.len().min(MAX_GAP + 1)];
    let length = length(gap, |cell| !is_token(cell) && !is_space(cell));
    let has_slash = gap[..length].iter().any(is_slash);
    ((1..=MAX_GAP).contains(&length) && (has_slash || !needs_slash)).then_some(from + length)
}

/// The mark of a signature that was hidden before: what stands behind it is none.
fn hidden_already(text: &str, behind_target: &[Cell]) -> Option<Range<usize>> {
    let gap = (0..behind_target.len().min(MAX_GAP)).take_while(|at| {
        let cell = &behind_target[*at];
        !is_token(cell) && !is_space(cell)
    });
    let mark = gap.map(|at| &behind_target[at..]).find(|rest| is_hidden(text, rest))?;
    let start = mark.first()?.span().start;
    Some(start..start + '…'.len_utf8())
}

fn target_end(cells: &[Cell], from: usize) -> Option<usize> {
    let rest = cells.get(from..)?;
    let word = rest.iter().take(MAX_TARGET + 1).take_while(|cell| is_token(cell));
    let word: String = word.map(|cell| char::from(cell.byte.to_ascii_lowercase())).collect();
    Target::parse(&word).ok().map(|_| from + word.len())
}

/// What no URL has in it as it is.
fn ends_run(cell: &Cell) -> bool {
    matches!(cell.byte, b'"' | b'<' | b'>' | b'`' | 0x7f) || is_space(cell)
}

fn runs(cells: &[Cell]) -> impl Iterator<Item = &[Cell]> {
    cells.split(ends_run).filter(|run| run.len() > 1)
}

/// Without backslashes at the end: they belong to the quote behind them.
fn before_quote(cells: &[Cell]) -> &[Cell] {
    &cells[..cells.iter().rposition(|cell| cell.byte != b'\\').map_or(0, |last| last + 1)]
}

/// A URL's user and password, parameters, query and fragment, whether it has a scheme, a host, or neither.
fn url(run: &[Cell], hidden: &mut Vec<Range<usize>>) {
    let run = before_quote(run);
    let has = |cells: &[Cell], byte: u8| cells.iter().any(|cell| cell.byte == byte);
    let at = |byte: u8| run.iter().position(|cell| cell.byte == byte);
    let query = at(b'?').unwrap_or(run.len());
    let fragment = at(b'#').filter(|at| *at < query);
    let path = &run[..fragment.unwrap_or(query)];
    let is_url = path.windows(2).any(|two| two.iter().all(is_slash)) || path.first().is_some_and(is_slash);
    userinfo(path, hidden);
    // What a question mark ends in prose is no file; a URL may follow.
    let is_extension = |at: usize| run[at].byte == b'.' && run.get(at + 1).is_some_and(is_token);
    let file = (0..run.len()).find(|at| is_slash(&run[*at]) || is_extension(*at)).unwrap_or(run.len());
    let last_value = run.iter().rposition(|cell| cell.byte == b'=').unwrap_or_default();
    let begins_query = |at: &usize| run[*at].byte == b'?' && (file < *at || *at < last_value);
    if let Some(query) = (query..run.len()).find(begins_query) {
        hidden.extend(span(&run[query + 1..]));
    }
    if let Some(fragment) = fragment.filter(|fragment| is_url && has(&run[*fragment..], b'=')) {
        hidden.extend(span(&run[fragment + 1..]));
    }
    let begins_parameter = |index: &usize| {
        path[*index].byte == b';' && {
            let behind = &path[*index + 1..];
            let name = length(behind, is_token);
            name > 0 && behind.get(name).is_some_and(|cell| cell.byte == b'=')
        }
    };
    if let Some(first) = (0..path.len()).find(begins_parameter).filter(|_| is_url) {
        hidden.extend(span(&run[first + 1..]));
    }
}

/// What stands before an `@` in the place of a host, if it has a password or a URL around it.
fn userinfo(path: &[Cell], hidden: &mut Vec<Range<usize>>) {
    let ends = |cell: &Cell| is_slash(cell) || matches!(cell.byte, b'(' | b'[' | b',' | b'\'');
    let mut start = 0;
    for part in path.split(ends) {
        // Of several the last ends a user and password.
        let at = part.iter().rposition(|cell| cell.byte == b'@').unwrap_or_default();
        let user = &part[..at];
        let is_host = start >= 2 && path[start - 2..start].iter().all(is_slash);
        if is_host || (user.iter().any(|cell| cell.byte == b':') && !begins(user, b"mailto:")) {
            hidden.extend(span(user));
        }
        start += part.len() + 1;
    }
}

/// How names of credentials end, in lower case, without `-` and `_`.
const SECRET_NAMES: [&str; 9] =
    ["signature", "token", "secret", "password", "passwd", "apikey", "authkey", "credential", "sig"];

/// Those, and longer ones, that are never of anything else.
const SURE_NAMES: [&str; 12] = [
    "apitoken",
    "accesstoken",
    "refreshtoken",
    "sessiontoken",
    "authtoken",
    "bearertoken",
    "clientsecret",
    "apisecret",
    "password",
    "passwd",
    "apikey",
    "authkey",
];
/// Names of other things that end alike: music has them.
const OTHER_NAMES: [&str; 2] = ["timesignature", "keysignature"];

/// What a name promises of its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    Credential,
    Perhaps,
    None,
}

/// What a name promises whose bytes come from the last on.
fn promise(backwards: impl Iterator<Item = u8> + Clone) -> Promise {
    let letters = backwards.filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase());
    let ends_in = |names: &[&str]| {
        names.iter().any(|known| {
            let mut letters = letters.clone();
            known.bytes().rev().all(|byte| letters.next() == Some(byte))
        })
    };
    if !ends_in(&SECRET_NAMES) || ends_in(&OTHER_NAMES) {
        Promise::None
    } else if ends_in(&SURE_NAMES) {
        Promise::Credential
    } else {
        Promise::Perhaps
    }
}

/// Values behind the name of a credential and `=` or `:`, as in queries, forms, headers, and JSON within a text.
fn named_secrets(text: &str, cells: &[Cell], hidden: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (at, _) in cells.iter().enumerate().filter(|(_, cell)| matches!(cell.byte, b'=' | b':')) {
        // What begins in a value ends with it.
        let Some(start) = named_value(cells, at).filter(|start| *start >= done) else { continue };
        let value = &cells[start..];
        if !is_hidden(text, value) {
            done = start + value_length(value, cells[start - 1].byte);
            hidden.extend(span(&cells[start..done]));
        }
    }
}

/// Where the value begins that is separated from a credential's name at `at`. In prose, a word behind a colon is none.
fn named_value(cells: &[Cell], at: usize) -> Option<usize> {
    let before = &cells[..at];
    let before = &before[..before.iter().rposition(|cell| !is_space(cell)).map_or(0, |last| last + 1)];
    let is_quoted = before.last().is_some_and(is_quote);
    let name = &before[..before.len() - usize::from(is_quoted)];
    let promise = promise(name.iter().rev().map(|cell| cell.byte));
    if promise == Promise::None {
        return None;
    }
    // Headers have lists of values in JSON.
    let behind = at + 1 + length(&cells[at + 1..], |cell| is_space(cell) || (is_quoted && cell.byte == b'['));
    let is_string = cells.get(behind).is_some_and(is_quote);
    let start = behind + usize::from(is_string);
    let is_parameter = cells[at].byte == b'=' && before.len() == at && behind == at + 1;
    let is_value = |value: &[Cell]| {
        promise == Promise::Credential || !value[..value_length(value, cells[start - 1].byte)].iter().any(is_space)
    };
    let is_one = is_parameter
        || (is_quoted && is_string && is_value(&cells[start..]))
        || looks_like_credential(&cells[start..], promise == Promise::Credential);
    is_one.then_some(start)
}

fn is_quote(cell: &Cell) -> bool {
    matches!(cell.byte, b'"' | b'\'')
}

/// The length of a value: up to the next quote where it stands behind one, else to what separates values.
fn value_length(value: &[Cell], before: u8) -> usize {
    let ends = |cell: &Cell| ends_run(cell) || matches!(cell.byte, b'&' | b';' | b',' | b'\'' | b'\\');
    let mut is_escaped = false;
    let closes = |cell: &Cell| {
        let closes = !is_escaped && cell.byte == before;
        is_escaped = !is_escaped && cell.byte == b'\\';
        closes
    };
    let quoted = if matches!(before, b'"' | b'\'') { value.iter().position(closes) } else { None };
    quoted.or_else(|| value.iter().position(ends)).unwrap_or(value.len())
}

/// The fewest characters of a credential.
const SHORTEST: usize = 8;

/// Whether some cells begin with what is long enough for a credential, and no word of prose. Capitals within a word are as in
/// the names of errors, unless the name of the value is `sure`.
fn looks_like_credential(cells: &[Cell], sure: bool) -> bool {
    let value = &cells[..length(cells, is_of_credential)];
    let is_odd =
        |(at, cell): (usize, &Cell)| cell.byte.is_ascii_digit() || (sure && at > 0 && cell.byte.is_ascii_uppercase());
    value.len() >= SHORTEST && value.iter().enumerate().any(is_odd)
}

/// What follows `Bearer` or `Basic`.
fn tokens_behind(word: &[u8], cells: &[Cell], hidden: &mut Vec<Range<usize>>) {
    let mut end = 0;
    for at in 0..cells.len() {
        if !begins(&cells[at..], word) {
            continue;
        }
        let behind = at + word.len();
        let gap = |cell: &Cell| matches!(cell.byte, b' ' | b'\t' | b'+' | b':');
        let start = behind + length(&cells[behind..], gap);
        // What begins in a token was judged with it.
        if start == behind || start < end {
            continue;
        }
        end = start + length(&cells[start..], is_of_credential);
        let token = &cells[start..end];
        // The other is a word of prose: what follows is a secret only if it looks like one.
        if token.len() >= SHORTEST && (word == b"bearer" || looks_encoded(token)) {
            hidden.extend(span(token));
        }
    }
}

fn looks_encoded(cells: &[Cell]) -> bool {
    let has = |wanted: fn(&u8) -> bool| cells.iter().any(|cell| wanted(&cell.byte));
    // Names that are written as one word have a capital letter or two.
    let turns = |two: &&[Cell]| two[0].byte.is_ascii_lowercase() && two[1].byte.is_ascii_uppercase();
    let is_mixed = cells.windows(2).filter(turns).count() > 1;
    is_mixed || (has(u8::is_ascii_uppercase) && (has(u8::is_ascii_digit) || has(|byte| *byte == b'=')))
}

/// What is a URL from one quote to the next, or as a whole, may have spaces in its query.
fn query_with_spaces(quoted: &[Cell]) -> Option<Range<usize>> {
    let quoted = before_quote(quoted);
    let at = quoted.iter().position(|cell| cell.byte == b'?')? + 1;
    let goes_on = quoted.get(at).is_some_and(|next| next.byte > b' ');
    let path = || quoted[..at].iter().map(|cell| char::from(cell.byte)).collect::<String>();
    let is_url = || quoted.first().is_some_and(is_slash) || MediaUrl::parse(&path()).is_ok();
    (goes_on && is_url()).then(|| span(&quoted[at..]))?
}
