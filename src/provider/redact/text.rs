use std::ops::Range;

use memchr::memmem;

use crate::domain::{MediaUrl, Target};
use crate::provider::escapes::{Cell, layers};

/// A text with what is secret hidden, wherever in it that stands.
pub(in crate::provider) fn redacted_text(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut hidden = Vec::new();
    for layer in layers(text.as_bytes()) {
        signatures(text, &layer, &mut hidden);
        for run in runs(&layer) {
            url(run, &mut hidden);
            named_secrets(run, &mut hidden);
        }
        bearer_tokens(&layer, &mut hidden);
        hidden.extend(layer.split(|cell| cell.byte == b'"').filter_map(query_with_spaces));
    }
    without(text, hidden)
}

/// Whether a text shows one of our reply URLs, its signature hidden or not.
pub(super) fn is_reply_url(text: &str) -> bool {
    let mut hidden = Vec::new();
    layers(text.as_bytes()).for_each(|layer| signatures(text, &layer, &mut hidden));
    !hidden.is_empty()
}

/// Every secret stands beside one of these; most texts have none.
fn is_plain(text: &str) -> bool {
    let marks = |byte: u8| matches!(byte, b'?' | b'%' | b'\\' | b'&' | b'@' | b'#' | b'=' | b';' | b'/' | 0);
    !text.bytes().any(marks) && !text.to_ascii_lowercase().contains("bearer") && !text.contains("ref_")
}

fn without(text: &str, mut hidden: Vec<Range<usize>>) -> String {
    hidden.sort_by_key(|range| (range.start, range.end));
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for range in hidden {
        // One that begins within another only makes that longer.
        if range.start > done || done == 0 {
            shown.push_str(text.get(done..range.start).unwrap_or_default());
            shown.push('…');
        }
        done = done.max(range.end);
    }
    shown.push_str(text.get(done..).unwrap_or_default());
    shown
}

/// The bytes of some cells that follow one another.
fn span(cells: &[Cell]) -> Option<Range<usize>> {
    Some(cells.first()?.span().start..cells.last()?.span().end)
}

fn is_token(cell: &Cell) -> bool {
    cell.byte.is_ascii_alphanumeric() || matches!(cell.byte, b'-' | b'_')
}

fn is_slash(cell: &Cell) -> bool {
    matches!(cell.byte, b'/' | b'\\')
}

/// The most characters between the parts of a reply URL.
const MAX_GAP: usize = 8;
/// A target has 30 characters at most.
const MAX_TARGET: usize = 30;

/// Behind a target, where it stands in the path of a reply URL, or the rest is long enough to be a signature.
fn signatures(text: &str, cells: &[Cell], hidden: &mut Vec<Range<usize>>) {
    const WORD: &[u8] = b"reply";
    for at in 0..cells.len() {
        let begins = |word: &[u8]| {
            let found = cells.get(at..at + word.len());
            found.is_some_and(|found| found.iter().map(|cell| cell.byte.to_ascii_lowercase()).eq(word.iter().copied()))
        };
        let (target, least) = if begins(WORD) {
            let Some(behind) = behind_gap(cells, at + WORD.len(), true) else { continue };
            (behind, 1)
        } else if begins(b"ref_") {
            (at, 16)
        } else if begins(Target::CHANNEL.as_bytes()) || begins(Target::USEAPI.as_bytes()) {
            (at, 43)
        } else {
            continue;
        };
        let Some(end) = target_end(cells, target) else { continue };
        if let Some(mark) = hidden_already(text, &cells[end..]) {
            hidden.push(mark);
            continue;
        }
        let Some(start) = behind_gap(cells, end, least != 16) else { continue };
        let length = cells[start..].iter().take_while(|cell| is_token(cell)).count();
        if length >= least {
            hidden.extend(span(&cells[start..start + length]));
        }
    }
}

/// Behind a few characters that are part of no word, among them a slash where one is needed.
fn behind_gap(cells: &[Cell], from: usize, needs_slash: bool) -> Option<usize> {
    let rest = cells.get(from..)?;
    let length = rest.iter().take_while(|cell| !is_token(cell) && cell.byte > b' ').count();
    let has_slash = rest[..length].iter().any(is_slash);
    ((1..=MAX_GAP).contains(&length) && (has_slash || !needs_slash)).then_some(from + length)
}

/// The mark of a signature that was hidden before: what stands behind it is none.
fn hidden_already(text: &str, behind_target: &[Cell]) -> Option<Range<usize>> {
    let gap = behind_target.iter().take(MAX_GAP).take_while(|cell| !is_token(cell) && cell.byte > b' ');
    let start =
        gap.map(|cell| cell.span().start).find(|at| text.get(*at..).is_some_and(|rest| rest.starts_with('…')))?;
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
    matches!(cell.byte, b'"' | b'<' | b'>' | b'`' | 0x7f) || cell.byte <= b' '
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
    let parameter = |index: &usize| {
        let name = path[*index + 1..].iter().take_while(|cell| is_token(cell)).count();
        path[*index].byte == b';' && name > 0 && path.get(*index + 1 + name).is_some_and(|cell| cell.byte == b'=')
    };
    if let Some(first) = (0..path.len()).find(parameter).filter(|_| is_url) {
        hidden.extend(span(&run[first + 1..]));
    }
}

/// What stands before an `@` in the place of a host, if it has a password or a URL around it.
fn userinfo(path: &[Cell], hidden: &mut Vec<Range<usize>>) {
    const MAIL: &[u8] = b"mailto:";
    for (at, _) in path.iter().enumerate().filter(|(_, cell)| cell.byte == b'@') {
        let begins =
            path[..at].iter().rposition(|cell| is_slash(cell) || matches!(cell.byte, b'(' | b'[' | b',' | b'\''));
        let begins = begins.map_or(0, |before| before + 1);
        let user = &path[begins..at];
        let is_host = begins >= 2 && path[begins - 2..begins].iter().all(is_slash);
        let is_mail = user.iter().map(|cell| cell.byte.to_ascii_lowercase()).take(MAIL.len()).eq(MAIL.iter().copied());
        if is_host || (user.iter().any(|cell| cell.byte == b':') && !is_mail) {
            hidden.extend(span(user));
        }
    }
}

/// How names of credentials end, in lower case.
const SECRET_NAMES: [&[u8]; 11] = [
    b"signature",
    b"token",
    b"secret",
    b"password",
    b"passwd",
    b"apikey",
    b"api_key",
    b"api-key",
    b"auth_key",
    b"credential",
    b"sig",
];

/// Values that stand behind the name of a credential, as in a query or a form.
fn named_secrets(run: &[Cell], hidden: &mut Vec<Range<usize>>) {
    for (at, _) in run.iter().enumerate().filter(|(_, cell)| cell.byte == b'=') {
        let name = run[..at].iter().rev().take_while(|cell| is_token(cell)).count();
        let name: Vec<u8> = run[at - name..at].iter().map(|cell| cell.byte.to_ascii_lowercase()).collect();
        let behind = &run[at + 1..];
        let ends = |cell: &Cell| matches!(cell.byte, b'&' | b';' | b',' | b'\'' | b'\\');
        let value = behind.iter().position(ends).unwrap_or(behind.len());
        if SECRET_NAMES.iter().any(|known| name.ends_with(known)) {
            hidden.extend(span(&behind[..value]));
        }
    }
}

/// `Bearer` and `Basic` with what follows.
fn bearer_tokens(cells: &[Cell], hidden: &mut Vec<Range<usize>>) {
    const SHORTEST: usize = 8;
    let lower: Vec<u8> = cells.iter().map(|cell| cell.byte.to_ascii_lowercase()).collect();
    for word in [&b"bearer"[..], b"basic"] {
        for at in memmem::find_iter(&lower, word) {
            let behind = &cells[at + word.len()..];
            let gap = behind.iter().take_while(|cell| matches!(cell.byte, b' ' | b'\t' | b'+' | b':')).count();
            let token = |cell: &&Cell| is_token(cell) || matches!(cell.byte, b'.' | b'~' | b'+' | b'/' | b'=');
            let length = behind[gap..].iter().take_while(token).count();
            let is_one = match word {
                b"bearer" => length >= SHORTEST,
                // A word of prose: what follows is a secret only if it looks like one.
                _ => length >= SHORTEST && looks_encoded(&behind[gap..gap + length]),
            };
            if gap > 0 && is_one {
                hidden.extend(span(&behind[gap..gap + length]));
            }
        }
    }
}

fn looks_encoded(cells: &[Cell]) -> bool {
    let has = |wanted: fn(&u8) -> bool| cells.iter().any(|cell| wanted(&cell.byte));
    has(u8::is_ascii_uppercase) && (has(u8::is_ascii_digit) || has(|byte| *byte == b'='))
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
