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
    for (of, key) in
        [(OF_REF, "new"), (OF_REF, "old"), ("minimax", "new"), ("minimax", "old"), ("useapi", "new"), ("useapi", "old")]
    {
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
    for text in ["data: r", "\n\n", "user:1-minimax", ":2-vid", "minimax", " ", "x", "100%", " & \\", "ref_", "01"] {
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

#[test]
fn small_pieces_have_what_came_before_them_looked_at_a_bounded_number_of_times() {
    for (begin, rest) in [("\\", "\\\\"), ("%", "25"), ("&", "amp;")] {
        let text = format!("{begin}{}", rest.repeat(16_000 / rest.len())).repeat(2);
        let mut veil = Veil::new(&urls());
        let (mut out, mut looked_at) = (Vec::new(), 0);
        for byte in text.bytes() {
            out.extend_from_slice(&veil.feed(&[byte]).unwrap());
            if veil.fresh == 0 {
                looked_at += veil.passed.len() + 1;
            }
        }
        out.extend_from_slice(&veil.finish());
        assert_eq!(out, text.as_bytes());
        assert!(looked_at < 40 * text.len(), "{begin}: {looked_at}");
    }
}

#[test]
fn what_waits_for_more_goes_with_the_end_of_its_line() {
    let mut veil = Veil::new(&urls());
    veil.feed(&[b'\\'; 2000]).unwrap();
    assert_eq!(veil.feed(b"a").unwrap(), "");
    assert_eq!(veil.feed(b"b\n").unwrap(), "ab\n");
    assert_eq!(veil.feed(b"c").unwrap(), "c");
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
