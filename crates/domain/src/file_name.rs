use std::fmt;

use super::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A file's name within a job's folder, made safe out of whatever a caller or the provider wrote.
///
/// ASCII letters, digits, `-`, `_` and `.` only; 1 to [`FileName::MAX_BYTES`] bytes; never hidden, never a device name
/// of Windows, never [`FileName::MANIFEST`] in any case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Box<str>);

/// The text is not a file name as [`FileName::clean`] makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a file name of ASCII letters, digits, '-', '_' and '.', at most {} bytes", FileName::MAX_BYTES)]
pub struct FileNameParseError;

impl FileName {
    /// The longest name, in bytes, extension included.
    pub const MAX_BYTES: usize = 100;
    /// The one name in a job's folder that is not media.
    pub const MANIFEST: &str = "manifest.json";

    const MAX_EXTENSION: usize = 10;

    /// The nearest safe name: of a path the last segment, anything else outside the alphabet as `_`, runs collapsed.
    /// `file` where nothing is left.
    pub fn clean(untrusted: &str) -> Self {
        let last = untrusted.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
        let mut kept = String::with_capacity(last.len().min(4 * Self::MAX_BYTES));
        for char in last.chars() {
            let char = if char.is_ascii_alphanumeric() || matches!(char, '-' | '.') { char } else { '_' };
            if !(matches!(char, '_' | '.') && kept.ends_with(char)) {
                kept.push(char);
            }
        }
        let (stem, extension) = split(&kept);
        Self::build(stem, extension)
    }

    /// This name with `extension` (without its dot) in place of the one it has. What is no ASCII letter or digit in
    /// it is left out; empty removes the extension.
    #[must_use]
    pub fn with_extension(&self, extension: &str) -> Self {
        let extension: String =
            extension.chars().filter(char::is_ascii_alphanumeric).take(Self::MAX_EXTENSION).collect();
        Self::build(split(&self.0).0, &extension)
    }

    /// This name with its place in front, as in `01-rain.mp4`.
    #[must_use]
    pub fn numbered(&self, place: usize) -> Self {
        let (stem, extension) = split(&self.0);
        Self::build(&format!("{place:02}-{stem}"), extension)
    }

    /// This name with part of a digest in it, as in `video-418bc2f0a9d3e571.mp4`: the same for the same bytes only.
    #[must_use]
    pub fn apart(&self, digest: &Digest) -> Self {
        const DIGITS: usize = 16;
        let (stem, extension) = split(&self.0);
        let stem = &stem[..stem.len().min(Self::MAX_BYTES - 3 - Self::MAX_EXTENSION - DIGITS)];
        Self::build(&format!("{stem}-{}", &digest.to_string()[..DIGITS]), extension)
    }

    /// The name without its extension.
    pub fn stem(&self) -> &str {
        split(&self.0).0
    }

    /// The extension, without its dot; empty when there is none. At most ten letters and digits, one a letter.
    pub fn extension(&self) -> &str {
        split(&self.0).1
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that can be read back from its text.
    fn build(stem: &str, extension: &str) -> Self {
        let edges = ['.', '_', '-'];
        let room = Self::MAX_BYTES - 2 - extension.len();
        let stem = stem.trim_start_matches(edges);
        let stem = stem[..stem.len().min(room)].trim_end_matches(edges);
        let mut name = if stem.is_empty() { "file".to_owned() } else { stem.to_owned() };
        if !extension.is_empty() {
            name.push('.');
            name.push_str(extension);
        }
        if is_reserved(&name) {
            name.insert(base(&name).len(), '_');
        }
        Self(name.into())
    }
}

/// Stem and extension. Digits alone are no extension: `v1.2` has none.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((stem, extension))
            if (1..=FileName::MAX_EXTENSION).contains(&extension.len())
                && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && extension.bytes().any(|byte| byte.is_ascii_alphabetic()) =>
        {
            (stem, extension)
        }
        _ => (name, ""),
    }
}

/// The part of a whole name in front of its first dot.
fn base(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// Whether a whole name is the manifest's or a device's. Windows takes a device's name with any extension for the device.
fn is_reserved(name: &str) -> bool {
    is_device(base(name)) || name.eq_ignore_ascii_case(FileName::MANIFEST)
}

/// <https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions>
fn is_device(base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    match base.as_str() {
        "con" | "prn" | "aux" | "nul" => true,
        _ => {
            base.len() == 4
                && (base.starts_with("com") || base.starts_with("lpt"))
                && base.as_bytes()[3].is_ascii_digit()
        }
    }
}

impl std::str::FromStr for FileName {
    type Err = FileNameParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= Self::MAX_BYTES
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && !text.ends_with('.')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && !is_reserved(text);
        if valid { Ok(Self(text.into())) } else { Err(FileNameParseError) }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for FileName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_become_sane_ones() {
        for (untrusted, expected) in [
            ("rain.mp4", "rain.mp4"),
            ("", "file"),
            ("...", "file"),
            ("/", "file"),
            ("../../etc/passwd", "passwd"),
            ("C:\\videos\\rain.mp4", "rain.mp4"),
            (".htaccess", "file.htaccess"),
            ("..mp4", "file.mp4"),
            ("a\0b.mp4", "a_b.mp4"),
            ("Rain over Kyoto (final) 🌧️🌧️.mp4", "Rain_over_Kyoto_final.mp4"),
            ("雨.mp4", "file.mp4"),
            ("v1.2", "v1.2"),
            ("a#1", "a_1"),
            ("a.mp4#1", "a.mp4_1"),
            ("con", "con_"),
            ("NUL.tar.gz", "NUL_.tar.gz"),
            ("lpt9.txt", "lpt9_.txt"),
            ("manifest.json", "manifest_.json"),
            ("Manifest.JSON", "Manifest_.JSON"),
            ("manifest.json.", "manifest_.json"),
            ("manifest.json_", "manifest_.json"),
            ("Manifest.json-", "Manifest_.json"),
            ("manifest.json ", "manifest_.json"),
            ("con.", "con_"),
            ("-rf", "rf"),
        ] {
            let name = FileName::clean(untrusted);
            assert_eq!(name.as_str(), expected, "{untrusted:?}");
            assert_eq!(name.as_str().parse(), Ok(name), "{untrusted:?}");
        }
        let long = FileName::clean(&format!("{}.mp4", "x".repeat(900)));
        assert!(long.as_str().len() <= FileName::MAX_BYTES && long.as_str().ends_with("x.mp4"), "{long}");
    }

    #[test]
    fn extensions_and_places_are_put_on() {
        let name = FileName::clean("rain.jpeg");
        assert_eq!(name.with_extension("png").as_str(), "rain.png");
        assert_eq!(name.with_extension("").as_str(), "rain");
        assert_eq!(name.numbered(1).as_str(), "01-rain.jpeg");
        assert_eq!(name.numbered(100).as_str(), "100-rain.jpeg");
        assert_eq!(FileName::clean("v1.2").with_extension("mp4").as_str(), "v1.2.mp4");
        assert_eq!(FileName::clean("manifest").with_extension("json").as_str(), "manifest_.json");
        assert_eq!(FileName::clean(&"x".repeat(300)).with_extension("mp4").numbered(7).extension(), "mp4");
    }

    #[test]
    fn a_name_that_was_not_cleaned_is_not_read() {
        let long = "x".repeat(FileName::MAX_BYTES + 1);
        for bad in ["", ".a", "-a", "a/b", "a.", "ä", "a b", "con.txt", "manifest.json", &long] {
            assert_eq!(bad.parse::<FileName>(), Err(FileNameParseError), "{bad:?}");
        }
    }

    /// Any text, and what becomes a reserved name once it is cleaned, or nearly does.
    fn any_text() -> impl Strategy<Value = String> {
        const RESERVED: &[&str] = &["manifest.json", "MANIFEST", "json", "con", "NUL", "lpt9", "file"];
        let reserved = proptest::sample::select(RESERVED).prop_map(str::to_owned);
        let piece = prop_oneof!["[a-zA-Z0-9]{0,3}", "[ ._/-]{0,2}", reserved];
        prop_oneof![any::<String>(), proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_name_is_safe_and_stays_itself(untrusted in any_text(), extension in any_text(), place: u16) {
            let clean = FileName::clean(&untrusted);
            let apart = clean.apart(&Digest::of(b"abc"));
            for name in [clean.clone(), clean.with_extension(&extension), clean.numbered(place.into()), apart] {
                let text = name.as_str();
                prop_assert!((1..=FileName::MAX_BYTES).contains(&text.len()));
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
                prop_assert!(!text.starts_with('.') && !text.eq_ignore_ascii_case(FileName::MANIFEST));
                prop_assert_eq!(text.parse(), Ok(name.clone()));
            }
        }
    }
}
