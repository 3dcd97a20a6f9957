use std::fmt;

use super::key::{MAX_SEGMENT, ObjectFolder, ObjectKey, RESERVED, is_key_char, is_path};
use crate::domain::{Digest, JobId, Kind, ReplyRef, Timestamp};

/// Where in the bucket a job's files go: the setting `storage.key`.
///
/// Built only when no job, date or `replyRef` whatever can make a key of it that is invalid, too long, or below
/// `_journal/`, `_replyvault/` and `_thumbs/`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyTemplate {
    text: Box<str>,
    folder: Vec<Piece>,
}

/// Why a text is no [`KeyTemplate`]; says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTemplateError {
    /// `{…}` around something unknown, or a brace without its partner.
    #[error(
        "unknown placeholder {{{0}}}: expected {{kind}}, {{yyyy}}, {{mm}}, {{dd}}, {{job}}, {{file}}, {{account}}, {{provider}} or {{ref}}"
    )]
    Placeholder(String),
    /// `{file}` is missing, repeated, or has company in its segment.
    #[error("expected {{file}} as the whole last part, as in {{job}}/{{file}}")]
    File,
    /// No `{job}` before the last part.
    #[error("expected {{job}} in a part before {{file}}, as in {{kind}}/{{job}}/{{file}}")]
    Job,
    /// A character, an empty segment, `.`, `..`, or a `/` in front.
    #[error(
        "expected a relative path of ASCII letters, digits and -_.=+@,!() between single slashes, without . and .."
    )]
    Path,
    /// Its first segment is, or may become, `_journal`, `_replyvault` or `_thumbs`.
    #[error("expected a first part other than _journal, _replyvault and _thumbs, which replyvault keeps for itself")]
    Journal,
    /// Some job's key would be longer than a key may be.
    #[error(
        "expected a template whose longest key has at most {} bytes, and {} in each part",
        ObjectKey::MAX_BYTES,
        MAX_SEGMENT
    )]
    TooLong,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Kind,
    Year,
    Month,
    Day,
    Job,
    Account,
    Provider,
    Ref,
}

/// The longest form of a `replyRef` in a key, in bytes, hash included.
const MAX_REF: usize = 80;
/// The longest name of an API, in bytes.
const MAX_API: usize = 32;

impl Piece {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "kind" => Self::Kind,
            "yyyy" => Self::Year,
            "mm" => Self::Month,
            "dd" => Self::Day,
            "job" => Self::Job,
            "account" => Self::Account,
            "provider" => Self::Provider,
            "ref" => Self::Ref,
            _ => return None,
        })
    }

    /// The longest text this can become: a job's folder is a kind, an API, the provider's own id, and separators.
    fn longest(&self) -> String {
        let length = match self {
            Self::Text(text) => return text.to_string(),
            Self::Kind => 6,
            Self::Year => 4,
            Self::Month | Self::Day => 2,
            Self::Job => 6 + 1 + MAX_API + 1 + JobId::MAX_NAME_BYTES + 9,
            Self::Account => JobId::MAX_DIGITS,
            Self::Provider => MAX_API,
            Self::Ref => MAX_REF,
        };
        "x".repeat(length)
    }
}

impl KeyTemplate {
    /// What the configuration has when it says nothing.
    pub const DEFAULT: &str = "{kind}/{yyyy}/{mm}/{dd}/{job}/{file}";

    /// The folder of one job. `made_on` is fixed per job; `disambiguate` gives it a folder of its own where another
    /// job, with the same kind and number, already holds the plain one.
    pub fn folder(
        &self,
        (job, kind): (&JobId, Kind),
        made_on: Timestamp,
        reply_ref: Option<&ReplyRef>,
        disambiguate: bool,
    ) -> ObjectFolder {
        let (year, month, day) = made_on.date();
        let mut folder = String::new();
        for piece in &self.folder {
            match piece {
                Piece::Text(text) => folder.push_str(text),
                Piece::Kind => folder.push_str(kind.as_str()),
                Piece::Year => folder.push_str(&format!("{year:04}")),
                Piece::Month => folder.push_str(&format!("{month:02}")),
                Piece::Day => folder.push_str(&format!("{day:02}")),
                Piece::Job => {
                    folder.push_str(&job.folder(kind));
                    if disambiguate {
                        folder.push_str(&short_hash(job.as_str()));
                    }
                }
                Piece::Account => folder.push_str(&job.account_name()),
                Piece::Provider => folder.push_str(&job.provider()),
                Piece::Ref => folder.push_str(&reply_ref.map_or("no-ref".to_owned(), plain)),
            }
        }
        ObjectFolder::of_template(folder)
    }
}

/// A `replyRef` as part of a segment: as it is when it is plain and short and begins with a letter or digit; else its
/// plain characters and a hash of the whole, so that different refs stay different. A signature of ours is in neither.
fn plain(reply_ref: &ReplyRef) -> String {
    let shown = reply_ref.shown();
    let kept: String = shown.as_str().chars().map(|char| if is_key_char(char) { char } else { '_' }).collect();
    let kept = kept.trim_start_matches(|char: char| !char.is_ascii_alphanumeric());
    if kept == reply_ref.as_str() && kept.len() <= MAX_REF {
        return kept.to_owned();
    }
    let hash = short_hash(reply_ref.as_str());
    let kept = &kept[..kept.len().min(MAX_REF - hash.len())];
    if kept.is_empty() { format!("ref{hash}") } else { format!("{kept}{hash}") }
}

/// `-` and the first eight hex digits of the text's SHA-256.
fn short_hash(text: &str) -> String {
    format!("-{}", &Digest::of(text.as_bytes()).to_string()[..8])
}

fn parse_folder(text: &str) -> Result<Vec<Piece>, KeyTemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(start);
        let closed = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (name, after) = closed.unwrap_or((&after[1..], ""));
        let piece = Piece::named(name).filter(|_| closed.is_some());
        pieces.push(Piece::Text(before.into()));
        pieces.push(piece.ok_or_else(|| match name {
            "file" => KeyTemplateError::File,
            _ => KeyTemplateError::Placeholder(name.escape_debug().take(40).collect()),
        })?);
        rest = after;
    }
    pieces.push(Piece::Text(rest.into()));
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    Ok(pieces)
}

/// Whether the first segment can turn out as a reserved one, in any case of its letters. What stands for a placeholder
/// begins with a letter or digit, so only the text in front of it matters.
fn may_be_reserved(folder: &str) -> bool {
    let first = folder.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match first.split_once('{') {
        Some((text, _)) => !text.is_empty() && RESERVED.iter().any(|reserved| reserved.starts_with(text)),
        None => RESERVED.contains(&&*first),
    }
}

impl std::str::FromStr for KeyTemplate {
    type Err = KeyTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(folder_text) = text.strip_suffix("/{file}") else {
            let before = text.strip_suffix("{file}").ok_or(KeyTemplateError::File)?;
            return Err(if before.is_empty() { KeyTemplateError::Job } else { KeyTemplateError::File });
        };
        let folder = parse_folder(folder_text)?;
        let longest: String = folder.iter().map(Piece::longest).collect();
        if longest.len() > ObjectFolder::MAX_BYTES || longest.split('/').any(|part| part.len() > MAX_SEGMENT) {
            return Err(KeyTemplateError::TooLong);
        }
        if !is_path(&longest) {
            return Err(KeyTemplateError::Path);
        }
        if may_be_reserved(folder_text) {
            return Err(KeyTemplateError::Journal);
        }
        if !folder.contains(&Piece::Job) {
            return Err(KeyTemplateError::Job);
        }
        Ok(Self { text: text.into(), folder })
    }
}

impl Default for KeyTemplate {
    fn default() -> Self {
        use Piece::{Day, Job, Kind, Month, Text, Year};
        let slash = || Text("/".into());
        let folder = vec![Kind, slash(), Year, slash(), Month, slash(), Day, slash(), Job];
        Self { text: Self::DEFAULT.into(), folder }
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
