//! Words as numbers.
//!
//! A word's code is 16 bits of a hash of its first three letters and 16 bits of a hash of all of it, so that words that begin
//! alike are found without being kept. Of a million jobs with twenty words each, less than one in a hundred queries for a whole
//! word finds a job that has not the word.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::domain::Job;

/// Words of a job beyond so many are not found.
pub(super) const MAX_CODES: usize = 255;
/// So many letters a beginning has at least.
const PREFIX_CHARS: usize = 3;

/// What a text has to have: words, whole or by how they begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    whole: Vec<String>,
    beginnings: Vec<String>,
    /// Set when what is looked for has no letter and no digit.
    is_wordless: bool,
}

/// So many words are not looked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected at most {} words", Text::MAX_WORDS)]
pub struct TooManyWords;

impl Text {
    /// The most different words that are looked for.
    const MAX_WORDS: usize = 16;

    /// Reads what somebody looks for: words, all of which a job must have, in any case and order. `boa*` stands for every
    /// word that begins so; it needs three letters. White space alone asks for nothing, and what else has no word no job has.
    ///
    /// # Errors
    /// When there are more than 16 different words.
    pub fn read(text: &str) -> Result<Self, TooManyWords> {
        let mut read = Self::default();
        for part in composed(text).split_whitespace() {
            let mut words: Vec<String> = words(part).collect();
            let begins = |word: &mut String| part.ends_with('*') && word.chars().count() >= PREFIX_CHARS;
            read.beginnings.extend(words.pop_if(begins));
            read.whole.extend(words);
        }
        for words in [&mut read.whole, &mut read.beginnings] {
            words.sort_unstable();
            words.dedup();
        }
        match read.whole.len() + read.beginnings.len() {
            0 => read.is_wordless = !text.trim().is_empty(),
            1..=Self::MAX_WORDS => {}
            _ => return Err(TooManyWords),
        }
        Ok(read)
    }

    /// True when no job has it.
    pub(super) fn is_wordless(&self) -> bool {
        self.is_wordless
    }

    /// True when what is found has to be looked at: of how a word begins, the index knows 16 bits, which other words and labels
    /// have, too.
    pub fn is_vague(&self) -> bool {
        !self.beginnings.is_empty()
    }

    /// Whether a job has what is looked for in its reference and its prompt.
    pub fn is_in(&self, job: &Job) -> bool {
        let found: Vec<String> = texts_of(job).flat_map(|text| words(&text).collect::<Vec<_>>()).collect();
        let begins = |beginning: &String| found.iter().any(|word| word.starts_with(beginning.as_str()));
        !self.is_wordless && self.whole.iter().all(|word| found.contains(word)) && self.beginnings.iter().all(begins)
    }

    pub(super) fn codes(&self) -> impl Iterator<Item = u32> + '_ {
        self.whole.iter().map(|word| word_code(word))
    }

    /// The upper halves of codes.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = u16> + '_ {
        self.beginnings.iter().map(|word| beginning_code(word))
    }
}

/// What a job is found by the words of.
fn texts_of(job: &Job) -> impl Iterator<Item = Cow<'_, str>> {
    let texts = [job.reply_ref.as_ref().map(|name| name.as_str()), job.prompt.as_deref()];
    texts.into_iter().flatten().map(composed)
}

/// The text with one character for a letter and its marks, where there is one: some keyboards and files write two.
fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

/// The words of a text that is composed: runs of letters and digits, in lower case. A word of a language that leaves no space
/// between them is the whole run.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn word_code(word: &str) -> u32 {
    u32::from(beginning_code(word)) << 16 | (hash(word) & 0xffff)
}

fn beginning_code(word: &str) -> u16 {
    let end = word.char_indices().nth(PREFIX_CHARS).map_or(word.len(), |(at, _)| at);
    (hash(&word[..end]) >> 16) as u16
}

/// The code of a label, given as `name:text`, which no word has but by chance. Both may have colons: where the name ends is
/// not asked.
pub(super) fn label_code(label: &str) -> u32 {
    hash(&format!("\0label\0{label}"))
}

pub(super) fn reference_code(reference: &str) -> u32 {
    hash(&format!("\0replyRef\0{reference}"))
}

pub(super) fn model_code(model: &str) -> u32 {
    hash(&format!("\0model\0{model}"))
}

pub(super) fn batch_code(batch: &str) -> u32 {
    hash(&format!("\0batch\0{batch}"))
}

/// Codes are compared with codes of the same process alone.
fn hash(text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish() as u32
}

/// The codes of a job: first what it is looked for exactly by, then its words.
pub(super) fn codes_of(job: &Job, labels: &BTreeMap<String, String>) -> Vec<u32> {
    let mut codes: Vec<u32> = labels.iter().map(|(name, text)| label_code(&format!("{name}:{text}"))).collect();
    codes.extend(job.reply_ref.as_ref().map(|name| reference_code(name.as_str())));
    codes.extend(job.details.model.as_deref().map(model_code));
    codes.extend(job.details.batch_id.as_deref().map(batch_code));
    for text in texts_of(job) {
        for word in words(&text) {
            let code = word_code(&word);
            if codes.len() == MAX_CODES {
                return codes;
            }
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
    }
    codes
}
