//! What the gateway lets through of the provider's answers: no signature of ours, however it is written and cut.

use replyvault::domain::Target;
use replyvault::domain::escapes::layers;
use replyvault::gateway::Veil;
use replyvault::intake::{ReplyKeys, ReplyUrls};
use secrecy::SecretString;
use url::Url;

/// Characters of a signature.
const SIGNATURE: usize = 43;

/// Four bytes say how the text comes in pieces, whose URL stands in its middle, and how it is wrapped; the rest is the text.
pub(crate) fn check(input: &[u8]) {
    let Some(([first, second, whose, ways], text)) = input.split_first_chunk::<4>() else { return };
    let sizes = [usize::from(*first) + 1, usize::from(*second) + 1];
    // Whoever makes the input does not know the keys.
    let secrets = ["new", "old"].map(|name| SecretString::from(format!("{name} {text:?}")));
    let public = Url::parse("https://vault.example.com/in").unwrap();
    let urls = ReplyUrls::new(public.clone(), ReplyKeys::new(&secrets).unwrap());
    if let Some(passed) = through(&urls, text, &sizes) {
        assert!(passed == text, "nothing of ours is changed");
    }
    let signer = ReplyUrls::new(public, ReplyKeys::new(&secrets[usize::from(whose & 1)..]).unwrap());
    let target =
        if whose & 2 == 0 { Target::Channel } else { Target::parse("ref_01jd0000000000000000000000").unwrap() };
    let url = signer.reply_url(&target);
    let signature = &url[url.len() - SIGNATURE..];
    let wrapped = wrapped(ways & 15, wrapped(ways >> 4, url.clone()));
    let (before, after) = text.split_at(text.len() / 2);
    // What touches a URL may be a part of it, or of an escape.
    let answer = [before, b"\n", wrapped.as_bytes(), b"\n", after].concat();
    let Some(passed) = through(&urls, &answer, &sizes) else { return };
    assert_eq!(passed.len(), answer.len());
    assert_eq!(Some(&passed), through(&urls, &answer, &[answer.len()]).as_ref(), "pieces make a difference");
    let start = before.len() + 1;
    let shown = &passed[start..start + wrapped.len()];
    for layer in layers(shown) {
        let read: String = layer.iter().map(|cell| char::from(cell.byte)).collect();
        assert!(!read.contains(signature), "{wrapped} shows as {read}");
    }
    let around = [&passed[..start], &passed[start + wrapped.len()..]].concat();
    assert!(around == [before, b"\n\n", after].concat(), "what stands around it passes");
    let whole = Veil::over(&urls, &answer).ok().flatten();
    assert_eq!(whole.as_deref(), Some(&passed[..]));
}

/// `None` when it cannot be told what it shows.
fn through(urls: &ReplyUrls, bytes: &[u8], sizes: &[usize]) -> Option<Vec<u8>> {
    let mut veil = Veil::new(urls);
    let (mut out, mut rest, mut turn) = (Vec::new(), bytes, 0);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(sizes[turn % sizes.len()].clamp(1, rest.len()));
        out.extend_from_slice(&veil.feed(piece).ok()?);
        (rest, turn) = (behind, turn + 1);
    }
    out.extend_from_slice(&veil.finish());
    Some(out)
}

fn wrapped(way: u8, text: String) -> String {
    match way {
        1 => text.replace('/', "\\/"),
        2 => text.replace('/', "%2F").replace('_', "%5f"),
        3 => text.replace('%', "%25").replace('/', "%2f"),
        4 => text.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
        5 => text.bytes().map(|byte| format!("&#{byte};")).collect(),
        6 => text.replace('\\', "\\\\").replace('/', "\\u002F"),
        7 => text.replace('&', "&amp;").replace('/', "&sol;"),
        8 => text.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        9 => text.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        10 => text.bytes().map(|byte| format!("&#x{byte:x};")).collect(),
        _ => text,
    }
}
