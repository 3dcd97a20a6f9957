//! Words as numbers.
//!
//! A word's code is 16 bits of a hash of its first three letters and 16 bits of a hash of all of it, so that words that begin
//! alike are found without being kept. Of a million jobs with twenty words each, less than one in a hundred queries finds a
//! job that has not the word.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

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
}

impl Text {
    /// The most words that are looked for; more are left out.
    const MAX_WORDS: usize = 16;

    /// Reads what somebody looks for: words, all of which a job must have, in any case and order. `boa*` stands for every
    /// word that begins so; it needs three letters.
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        for part in text.split_whitespace() {
            let mut words: Vec<String> = words(part).take(Self::MAX_WORDS).collect();
            let last = if part.ends_with('*') { words.pop() } else { None };
            match last {
                Some(word) if word.chars().count() >= PREFIX_CHARS => read.beginnings.push(word),
                last => words.extend(last),
            }
            read.whole.extend(words);
        }
        read.whole.truncate(Self::MAX_WORDS);
        read.beginnings.truncate(Self::MAX_WORDS);
        read
    }

    /// True when every text has it.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.beginnings.is_empty()
    }

    /// True when what is found has to be looked at: of words that are given by how they begin, the index knows three letters.
    pub fn is_vague(&self) -> bool {
        self.beginnings.iter().any(|word| word.chars().count() > PREFIX_CHARS)
    }

    /// Whether a job has what is looked for in its reference and its prompt.
    pub fn is_in(&self, job: &Job) -> bool {
        let texts = [job.reply_ref.as_ref().map(|name| name.as_str()), job.prompt.as_deref()];
        let found: Vec<String> = texts.into_iter().flatten().flat_map(words).collect();
        let begins = |beginning: &String| found.iter().any(|word| word.starts_with(beginning.as_str()));
        self.whole.iter().all(|word| found.contains(word)) && self.beginnings.iter().all(begins)
    }

    pub(super) fn codes(&self) -> impl Iterator<Item = u32> + '_ {
        self.whole.iter().map(|word| word_code(word))
    }

    /// The upper halves of codes.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = u16> + '_ {
        self.beginnings.iter().map(|word| beginning_code(word))
    }
}

/// The words of a text: runs of letters and digits, in lower case. A word of a language that leaves no space between them is
/// the whole run.
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

/// The code of a label, which no word has but by chance.
pub(super) fn label_code(name: &str, text: &str) -> u32 {
    hash(&format!("\0label\0{name}\0{text}"))
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
    let mut codes: Vec<u32> = labels.iter().map(|(name, text)| label_code(name, text)).collect();
    codes.extend(job.reply_ref.as_ref().map(|name| reference_code(name.as_str())));
    codes.extend(job.details.model.as_deref().map(model_code));
    codes.extend(job.details.batch_id.as_deref().map(batch_code));
    let texts = [job.reply_ref.as_ref().map(|name| name.as_str()), job.prompt.as_deref()];
    for word in texts.into_iter().flatten().flat_map(words) {
        let code = word_code(&word);
        if codes.len() == MAX_CODES {
            break;
        }
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}
