use serde::de::IgnoredAny;

use super::{MediaType, encoding, named};

/// What kind of text it is; `text/plain` if no more can be said.
pub(super) fn sniff(bytes: &[u8]) -> Option<MediaType> {
    let decoded = encoding::decode(bytes)?;
    let text = decoded.trim_start_matches(|char: char| char.is_whitespace() || char == '\u{feff}');
    let extension = match text.as_bytes() {
        [b'W', b'E', b'B', b'V', b'T', b'T', rest @ ..] if rest.first().is_none_or(u8::is_ascii_whitespace) => "vtt",
        [b'<', ..] => markup(text),
        [b'{' | b'[', ..] if is_json(text) => {
            return if tells_times(text) { MediaType::timed_json() } else { named("json") };
        }
        [b'{' | b'[' | b'0'..=b'9', ..] => timed(text).unwrap_or("txt"),
        _ => "txt",
    };
    named(extension)
}

/// The name of the first element decides, behind declarations and comments.
fn markup(text: &str) -> &'static str {
    let mut rest = text;
    let mut is_xml = false;
    loop {
        rest = rest.trim_start();
        let end = if rest.starts_with("<!--") {
            "-->"
        } else if starts(rest, "<?xml") {
            is_xml = true;
            "?>"
        } else if starts(rest, "<!doctype html") {
            return "html";
        } else if starts(rest, "<!doctype svg") {
            return "svg";
        } else if rest.starts_with("<!") {
            is_xml = true;
            ">"
        } else if rest.starts_with("<?") && is_xml {
            "?>"
        } else {
            break;
        };
        let Some((_, behind)) = rest.split_once(end) else { return if is_xml { "xml" } else { "html" } };
        // A document type may have a subset of its own, in brackets.
        rest = behind.trim_start().strip_prefix("]>").unwrap_or(behind);
    }
    let Some(name) = rest.strip_prefix('<') else { return if is_xml { "xml" } else { "txt" } };
    let end = name.find(|char: char| !char.is_alphanumeric() && !matches!(char, ':' | '-' | '_' | '.'));
    let name = name[..end.unwrap_or(name.len())].to_ascii_lowercase();
    match name.rsplit(':').next().unwrap_or_default() {
        "html" => "html",
        "svg" => "svg",
        "tt" => "ttml",
        "sami" => "smi",
        "" => "txt",
        _ if is_xml => "xml",
        name if HTML.contains(&name) => "html",
        // Alibaba OSS and S3 answer errors as XML with the root `Error`, others with one that ends in it.
        name if name.ends_with("error") || name.ends_with("errorresponse") => "xml",
        _ if rest.contains("</") || rest.contains("/>") || rest.contains("xmlns") => "xml",
        _ => "txt",
    }
}

/// What a page, or a message in place of one, begins with.
const HTML: [&str; 36] = [
    "a",
    "article",
    "b",
    "base",
    "big",
    "blockquote",
    "body",
    "br",
    "center",
    "code",
    "div",
    "em",
    "font",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "head",
    "hr",
    "i",
    "iframe",
    "img",
    "link",
    "main",
    "meta",
    "p",
    "pre",
    "script",
    "section",
    "span",
    "strong",
    "style",
    "table",
    "title",
    "ul",
];

fn starts(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

/// An object or an array by grammar, as far as it can be seen; or several, one behind the other.
fn is_json(text: &str) -> bool {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut seen = false;
    loop {
        match values.next() {
            Some(Ok(_)) => seen = true,
            None => return seen,
            Some(Err(error)) => return error.is_eof(),
        }
    }
}

/// Whether it has words and times, as speech services write subtitles, and not an error.
fn tells_times(text: &str) -> bool {
    const TIMES: [&str; 11] = [
        "start",
        "begin",
        "from",
        "start_time",
        "startTime",
        "startMs",
        "time_begin",
        "begin_time",
        "timestamp_begin",
        "offset",
        "bg",
    ];
    let has = |name: &str| text.contains(&format!("\"{name}\""));
    TIMES.iter().any(|name| has(name)) && !has("error") && !has("Error")
}

/// Subtitles that are no markup: SubRip, LRC, SubViewer, SubStation Alpha.
fn timed(text: &str) -> Option<&'static str> {
    if starts(text, "[script info]") {
        return Some("ass");
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (first, second) = (lines.next()?, lines.next().unwrap_or_default());
    let is_number = first.len() <= 9 && first.bytes().all(|byte| byte.is_ascii_digit());
    if is_shaped(first, "00:00:00,000 --> ") || is_number && is_shaped(second, "00:00:00,000 --> ") {
        Some("srt")
    } else if is_shaped(first, "0:00:00.000,0:00:00.000") {
        Some("sbv")
    } else if lines_are_lyrics(text) {
        Some("lrc")
    } else {
        None
    }
}

/// `[00:12.00]` in one of the first lines, which may be of `[ar:…]` and the like.
fn lines_are_lyrics(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(20);
    lines
        .by_ref()
        .take_while(|line| line.starts_with('['))
        .any(|line| is_shaped(line, "[00:00.00") || is_shaped(line, "[00:00]"))
}

/// Zeros stand for digits, a comma for a point too.
fn is_shaped(line: &str, shape: &str) -> bool {
    line.as_bytes().get(..shape.len()).is_some_and(|start| {
        start.iter().zip(shape.bytes()).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            b',' => matches!(byte, b',' | b'.'),
            _ => *byte == shape,
        })
    })
}
