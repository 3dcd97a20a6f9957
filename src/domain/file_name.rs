use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A file's name within its job's folder: ASCII letters, digits, `-`, `_` and single dots, starting and ending with a
/// letter or digit, at most [`FileName::MAX_BYTES`] bytes, never `manifest.json`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Box<str>);

impl FileName {
    /// The longest name, extension and place included.
    pub const MAX_BYTES: usize = 100;

    const MAX_STEM: usize = 80;
    const MAX_EXTENSION: usize = 10;

    /// Makes a name of whatever someone wrote: of a path only the last part, without what is not portable.
    ///
    /// What has nothing usable becomes `file`.
    pub fn clean(untrusted: &str) -> Self {
        let last = untrusted.rsplit(['/', '\\']).next().unwrap_or_default();
        let (stem, extension) = last.rsplit_once('.').unwrap_or((last, ""));
        let extension = extension.to_ascii_lowercase();
        if (1..=Self::MAX_EXTENSION).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            Self::assemble(&portable(stem), &extension)
        } else {
            Self::assemble(&portable(last), "")
        }
    }

    /// The same name with another extension, given without its dot.
    #[must_use]
    pub fn with_extension(&self, extension: &str) -> Self {
        Self::assemble(self.stem(), extension)
    }

    /// The same name with its place in front: `01-rain.mp4`.
    #[must_use]
    pub fn numbered(&self, place: usize) -> Self {
        let stem = self.stem();
        Self::assemble(&format!("{place:02}-{}", &stem[..stem.len().min(Self::MAX_STEM)]), self.extension())
    }

    /// The same name with `-suffix` behind its stem.
    #[must_use]
    pub fn suffixed(&self, suffix: &str) -> Self {
        let stem = self.stem();
        Self::assemble(&format!("{}-{suffix}", &stem[..stem.len().min(Self::MAX_STEM)]), self.extension())
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its extension.
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }

    /// The extension without its dot; empty when there is none.
    pub fn extension(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn assemble(stem: &str, extension: &str) -> Self {
        let stem = match stem {
            "" => "file".to_owned(),
            // Names that some systems reserve whatever the extension, and the one name that is not a file's.
            _ if is_reserved(stem) || (stem == "manifest" && extension == "json") => format!("file-{stem}"),
            _ => stem.to_owned(),
        };
        if extension.is_empty() { Self(stem.into()) } else { Self(format!("{stem}.{extension}").into()) }
    }
}

/// Letters, digits and single separators of `text`, at most [`FileName::MAX_STEM`] bytes.
fn portable(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        let character =
            if character.is_ascii_alphanumeric() || matches!(character, '-' | '.') { character } else { '_' };
        let separates = !character.is_ascii_alphanumeric();
        if separates && out.chars().last().is_none_or(|last| !last.is_ascii_alphanumeric()) {
            continue;
        }
        if out.len() == FileName::MAX_STEM {
            break;
        }
        out.push(character);
    }
    out.truncate(out.trim_end_matches(['-', '_', '.']).len());
    out
}

fn is_reserved(stem: &str) -> bool {
    let base = stem.split('.').next().unwrap_or_default().to_ascii_lowercase();
    matches!(base.as_str(), "con" | "prn" | "aux" | "nul")
        || ((base.starts_with("com") || base.starts_with("lpt"))
            && base.len() == 4
            && base.as_bytes()[3].is_ascii_digit())
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
        let text = String::deserialize(deserializer)?;
        let safe = (1..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !text.starts_with('.')
            && !text.contains("..")
            && text != "manifest.json";
        if safe { Ok(Self(text.into())) } else { Err(de::Error::custom("expected a portable file name")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_become_plain_ones() {
        for (untrusted, clean) in [
            ("rain.mp4", "rain.mp4"),
            ("rain song.MP3", "rain_song.mp3"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("a\0b.png", "a_b.png"),
            ("🌧️.png", "file.png"),
            ("", "file"),
            ("...", "file"),
            (".htaccess", "file.htaccess"),
            ("con.mp4", "file-con.mp4"),
            ("manifest.json", "file-manifest.json"),
            ("a..b.tar.gz", "a.b.tar.gz"),
            ("-rf.mp4", "rf.mp4"),
        ] {
            assert_eq!(FileName::clean(untrusted).as_str(), clean, "{untrusted:?}");
        }
        assert_eq!(FileName::clean(&format!("{}.mp4", "x".repeat(900))).as_str().len(), 84);
        assert_eq!(FileName::clean("rain.mp4").numbered(1).with_extension("webm").as_str(), "01-rain.webm");
    }

    proptest! {
        #[test]
        fn every_text_becomes_a_portable_name(text in "\\PC{0,200}|.{0,200}", place in 0usize..100_000) {
            for name in [FileName::clean(&text), FileName::clean(&text).numbered(place)] {
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<FileName>(&json).unwrap(), name);
            }
        }
    }
}
