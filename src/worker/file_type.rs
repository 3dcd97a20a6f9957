//! What a file that has come is kept as, or why it is not what was asked for.
//!
//! A CDN answers 200 with an error page, a line of text or nothing sensible. Where media are expected, only bytes known to be
//! media count, or bytes of no known type that are no text and whose server says that they are media. An agent's document is
//! kept under its name; only what its name calls media must prove to be that.

use mime::Mime;

use super::attempt_error::AttemptError;
use crate::domain::{FileName, Kind, Role};
use crate::fetch::{MediaKind, MediaType};

/// No registered type has a longer name.
const MAX_TYPE_BYTES: usize = 255;

const OCTETS: &str = "application/octet-stream";

/// The name and the MIME type to store a file under: those of the bytes where they are known, else what its name and its
/// server say, as far as that fits.
pub(super) fn judge(
    kind: Kind,
    role: Role,
    file: &FileName,
    found: Option<MediaType>,
    declared: Option<&str>,
) -> Result<(FileName, String), AttemptError> {
    let declared = declared.and_then(|declared| declared.trim().parse::<Mime>().ok());
    let declared = declared.filter(|declared| declared.essence_str().len() <= MAX_TYPE_BYTES);
    let extension = file.extension().to_ascii_lowercase();
    if let Some(found) = found.filter(|found| found.kind.is_media()) {
        return match role {
            Role::Subtitle => Err(AttemptError::NotSubtitles(found.mime)),
            _ => Ok((renamed(file, &extension, found.extension), found.mime.to_owned())),
        };
    }
    match (role, kind) {
        (Role::Subtitle, _) => match found {
            Some(found) if found.kind == MediaKind::Subtitles => {
                Ok((renamed(file, &extension, found.extension), found.mime.to_owned()))
            }
            Some(found) => Err(AttemptError::NotSubtitles(found.mime)),
            None => Err(AttemptError::NotSubtitles(UNKNOWN)),
        },
        (Role::Media, Kind::Agent | Kind::Other) => document(file, &extension, found, declared),
        _ => unknown_media(file, &extension, found, declared),
    }
}

const UNKNOWN: &str = "bytes of no known type";

/// Bytes that are not known to be media, where media are expected.
fn unknown_media(
    file: &FileName,
    extension: &str,
    found: Option<MediaType>,
    declared: Option<Mime>,
) -> Result<(FileName, String), AttemptError> {
    let declared = match (found, declared) {
        (Some(found), _) => return Err(AttemptError::NotMedia(found.mime)),
        (None, Some(declared)) if says_media(&declared) => declared.essence_str().to_ascii_lowercase(),
        (None, _) => return Err(AttemptError::NotMedia(UNKNOWN)),
    };
    let fits = |extension: &str| mime_guess::from_ext(extension).iter().any(|known| known.essence_str() == declared);
    let real = match MediaType::extension_of(&declared) {
        Some(real) => real,
        None if fits(extension) => extension,
        None => "bin",
    };
    Ok((renamed(file, extension, real), declared))
}

/// A type whose media are bytes: markup that draws something is text, and can hold a script.
fn says_media(declared: &Mime) -> bool {
    matches!(declared.type_(), mime::VIDEO | mime::AUDIO | mime::IMAGE)
        && declared.suffix().is_none()
        && declared.subtype() != mime::SVG
        && !matches!(declared.subtype().as_str(), "x-mpegurl" | "mpegurl" | "vnd.dxf")
}

/// An agent's file that is no media.
fn document(
    file: &FileName,
    extension: &str,
    found: Option<MediaType>,
    declared: Option<Mime>,
) -> Result<(FileName, String), AttemptError> {
    if MEDIA.contains(&extension) {
        return unknown_media(file, extension, found, declared);
    }
    let Some(found) = found else {
        let name = if extension.is_empty() { file.with_extension("bin") } else { file.clone() };
        let declared = declared.filter(|declared| !is_generic(declared, extension));
        return Ok((name, declared.as_ref().map_or_else(|| by_name(extension).unwrap_or(OCTETS.to_owned()), essence)));
    };
    let contradicts = match extension {
        "" => found.is_text() && !is_named_as_document(file, found),
        "svg" => found.extension != "svg",
        _ => BINARY.contains(&extension) && matches!(found.extension, "html" | "xml" | "json"),
    };
    if contradicts {
        return Err(AttemptError::NotMedia(found.mime));
    }
    let keeps_name = !extension.is_empty() || found.is_text();
    let name = if keeps_name { file.clone() } else { file.with_extension(found.extension) };
    let is_sure = name.extension().eq_ignore_ascii_case(found.extension) || found.extension == "pdf";
    if is_sure {
        return Ok((name, found.mime.to_owned()));
    }
    // Media is what the bytes would show, and a page what the name would tell.
    let believed = |declared: &Mime| {
        let is_markup = declared.essence_str() == "text/html" && found.extension != "html";
        !is_generic(declared, extension) && !is_media(declared) && !is_markup
    };
    let declared = declared.filter(believed).as_ref().map(essence);
    let content_type = declared.or_else(|| by_name(extension)).unwrap_or_else(|| {
        // What is made of text or in an archive has no better name for what it is than that.
        if found.is_text() { "text/plain".to_owned() } else { found.mime.to_owned() }
    });
    Ok((name, content_type))
}

/// Whether text may be what a name without an extension calls it. Where the name says nothing, an error page is more likely.
fn is_named_as_document(file: &FileName, found: MediaType) -> bool {
    let name = file.as_str().to_ascii_lowercase();
    let Some((_, suffix)) = name.rsplit_once('.') else {
        // Its place may stand in front.
        let name = name.trim_start_matches(|char: char| char.is_ascii_digit() || char == '-');
        return WELL_KNOWN.contains(&name) && !matches!(found.extension, "html" | "xml" | "json");
    };
    // It is too long for an extension, or has other characters, or no letter. It may still begin with one: `a.mp4_1`.
    let first = suffix.split(|char: char| !char.is_ascii_alphanumeric()).next().unwrap_or_default();
    found.extension != "html" && !MEDIA.contains(&first) && !BINARY.contains(&first)
}

fn essence(declared: &Mime) -> String {
    declared.essence_str().to_ascii_lowercase()
}

fn is_media(declared: &Mime) -> bool {
    matches!(declared.type_(), mime::VIDEO | mime::AUDIO | mime::IMAGE)
}

/// Whether a server says this of what it knows nothing about, or says less than the name does.
fn is_generic(declared: &Mime, extension: &str) -> bool {
    let by_name = by_name(extension);
    let is_better = |suffix: &str| by_name.as_deref().is_some_and(|by_name| by_name.ends_with(suffix));
    match declared.essence_str() {
        OCTETS
        | "binary/octet-stream"
        | "application/x-octet-stream"
        | "application/octetstream"
        | "application/unknown" => true,
        "application/force-download" | "application/download" | "application/x-download" | "application/binary" => true,
        "application/x-www-form-urlencoded" | "text/plain" if by_name.is_some() => true,
        "application/json" => is_better("json"),
        "application/xml" | "text/xml" => is_better("xml"),
        "application/zip" | "application/x-zip-compressed" => by_name.is_some(),
        "application/x-www-form-urlencoded" => true,
        _ => matches!(declared.type_().as_str(), "multipart" | "message" | "*" | "unknown"),
    }
}

/// What a name's extension means, when that is no media.
fn by_name(extension: &str) -> Option<String> {
    let known = match extension {
        "ipynb" => "application/x-ipynb+json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "ttml" | "dfxp" => "application/ttml+xml",
        "ts" | "mts" | "cts" | "tsx" => "text/x-typescript",
        "py" => "text/x-python",
        "php" => "text/x-php",
        "vue" | "svelte" | "astro" => "text/plain",
        "toml" => "application/toml",
        "yaml" | "yml" => "application/yaml",
        "ass" | "ssa" => "text/x-ssa",
        "svg" => "image/svg+xml",
        _ => {
            let guessed = mime_guess::from_ext(extension).first_raw()?;
            let is_media = ["video/", "audio/", "image/"].iter().any(|family| guessed.starts_with(family));
            return (!is_media).then(|| guessed.to_owned());
        }
    };
    Some(known.to_owned())
}

/// Extensions that call a file media. Not among them is what is also something else: TypeScript is `.ts` too.
const MEDIA: [&str; 64] = [
    "mp4", "m4v", "mov", "qt", "webm", "mkv", "avi", "wmv", "asf", "flv", "f4v", "mpg", "mpeg", "m2ts", "3gp", "3g2",
    "ogv", "gif", "png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "avif", "heic", "heif", "heics", "hif", "bmp",
    "tif", "tiff", "ico", "jp2", "jxl", "jxr", "psd", "exr", "dng", "cr2", "cr3", "nef", "arw", "mp3", "mp2", "wav",
    "wave", "m4a", "m4b", "aac", "flac", "ogg", "oga", "opus", "wma", "aif", "aiff", "aifc", "amr", "weba", "mka",
    "mid", "caf",
];

/// Extensions of documents that are no text.
const BINARY: [&str; 20] = [
    "pdf", "zip", "docx", "xlsx", "pptx", "epub", "odt", "ods", "odp", "doc", "xls", "ppt", "gz", "tgz", "7z", "rar",
    "tar", "glb", "parquet", "sqlite",
];

/// Names of texts that have no extension, in lower case. Those that are hidden have lost the dot in front.
const WELL_KNOWN: &[&str] = &[
    "authors",
    "changelog",
    "codeowners",
    "containerfile",
    "contributing",
    "copying",
    "dockerfile",
    "dockerignore",
    "editorconfig",
    "eslintignore",
    "gemfile",
    "gitattributes",
    "gnumakefile",
    "jenkinsfile",
    "licence",
    "license",
    "makefile",
    "node-version",
    "notice",
    "pipfile",
    "podfile",
    "prettierignore",
    "procfile",
    "python-version",
    "rakefile",
    "readme",
    "ruby-version",
    "todo",
    "vagrantfile",
    "version",
];

/// The name with the real extension, unless it has that in another spelling.
fn renamed(file: &FileName, given: &str, real: &str) -> FileName {
    let same = given == real
        || matches!(
            (given, real),
            ("jpeg" | "jpe" | "jfif", "jpg")
                | ("htm", "html")
                | ("tiff" | "dng" | "nef" | "arw" | "cr2", "tif")
                | ("aif" | "aifc", "aiff")
                | ("mpeg" | "vob", "mpg")
                | ("m4v" | "f4v", "mp4")
                | ("qt", "mov")
                | ("m4b" | "m4p", "m4a")
                | ("oga" | "spx", "ogg")
                | ("midi", "mid")
                | ("wave", "wav")
                | ("mts" | "m2ts" | "m2t", "ts")
                | ("heics" | "hif", "heic")
                | ("hif" | "heifs", "heif")
                | ("apng", "png")
                | ("asf", "wmv" | "wma")
                | ("jpx" | "jpf", "jp2")
                | ("cur", "ico")
                | ("ssa", "ass")
                | ("dfxp" | "xml", "ttml")
        );
    if same { file.clone() } else { file.with_extension(real) }
}

#[cfg(test)]
mod tests;
