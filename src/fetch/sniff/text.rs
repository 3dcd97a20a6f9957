use super::{Format, MediaKind, MediaType};

const fn document(mime: &'static str, extension: &'static str) -> Option<MediaType> {
    Some(MediaType::new(MediaKind::Document, mime, extension, Format::Other))
}

const fn subtitles(mime: &'static str, extension: &'static str) -> Option<MediaType> {
    Some(MediaType::new(MediaKind::Subtitles, mime, extension, Format::Other))
}

pub(super) fn sniff(bytes: &[u8]) -> Option<MediaType> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().any(|byte| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c)) {
        return None;
    }
    let text = bytes.trim_ascii_start();
    match text {
        [b'W', b'E', b'B', b'V', b'T', b'T', rest @ ..] if first_is_one_of(rest, b" \t\r\n") || rest.is_empty() => {
            subtitles("text/vtt", "vtt")
        }
        [b'0'..=b'9', ..] if is_srt(text) => subtitles("application/x-subrip", "srt"),
        [b'<', ..] => markup(text),
        [b'{', rest @ ..] if first_is_one_of(rest.trim_ascii_start(), b"\"}") => document("application/json", "json"),
        [b'[', rest @ ..] if first_is_one_of(rest.trim_ascii_start(), b"\"{[]-0123456789") => {
            document("application/json", "json")
        }
        _ => None,
    }
}

fn first_is_one_of(bytes: &[u8], set: &[u8]) -> bool {
    bytes.first().is_some_and(|first| set.contains(first))
}

fn markup(bytes: &[u8]) -> Option<MediaType> {
    const HTML: [&[u8]; 9] =
        [b"!doctype html", b"html", b"head", b"body", b"title", b"script", b"meta", b"center", b"h1"];
    let starts = |tag: &[u8]| {
        bytes.get(1..=tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag))
            && bytes.get(tag.len() + 1).is_none_or(|next| !next.is_ascii_alphanumeric())
    };
    if HTML.iter().any(|tag| starts(tag)) {
        document("text/html", "html")
    } else if starts(b"?xml") || starts(b"error") {
        // Alibaba OSS answers errors as XML with the root `Error`.
        document("application/xml", "xml")
    } else {
        None
    }
}

/// A number on its own line, then `00:00:00,000 --> `.
fn is_srt(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let numbered = lines.next().is_some_and(|line| line.len() <= 9 && line.iter().all(u8::is_ascii_digit));
    let timed = |line: &[u8]| {
        line.get(..17).is_some_and(|start| {
            start.iter().zip(b"00:00:00,000 --> ").all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                b',' => matches!(byte, b',' | b'.'),
                _ => byte == shape,
            })
        })
    };
    numbered && lines.next().is_some_and(timed)
}
