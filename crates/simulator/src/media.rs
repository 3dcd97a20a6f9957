//! Real, small, playable files, each made unique without breaking it, and as large as a test wants.

mod checksums;
mod chunks;
mod documents;
mod padding;
mod png;

use std::ops::Range;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};

use checksums::Summer;
pub(super) use checksums::{Declared, Sums};
use replyvault_domain::Digest;

static CLIP: &[u8] = include_bytes!("media/clip.mp4");
static TONE: &[u8] = include_bytes!("media/tone.mp3");
static POSTER: &[u8] = include_bytes!("media/poster.jpg");

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Mp4,
    Mp3,
    Png,
    Jpeg,
    /// Sound in the container of MP4.
    M4a,
    Wav,
    Webp,
    Pdf,
    Pptx,
}

impl Form {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::Mp3 => "audio/mpeg",
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::M4a => "audio/mp4",
            Self::Wav => "audio/wav",
            Self::Webp => "image/webp",
            Self::Pdf => "application/pdf",
            Self::Pptx => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        }
    }

    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mp3 => "mp3",
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::M4a => "m4a",
            Self::Wav => "wav",
            Self::Webp => "webp",
            Self::Pdf => "pdf",
            Self::Pptx => "pptx",
        }
    }
}

/// One file of the CDN: some bytes held in memory, then padding that is made while it is read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) form: Form,
    parts: Vec<Bytes>,
    padding: u64,
    sums: OnceLock<Sums>,
}

impl File {
    /// A file that carries `stamp` inside. Only an MP4 grows to `size`; it never gets smaller than it is.
    pub(super) fn new(form: Form, stamp: &str, size: Option<u64>) -> Self {
        let fixed = Bytes::from_static;
        let (parts, padding) = match form {
            Form::Mp4 => {
                let (header, padding) = chunks::free_box(stamp, CLIP.len() as u64, size);
                (vec![fixed(CLIP), header], padding)
            }
            Form::Mp3 => (vec![chunks::id3_comment(stamp), fixed(TONE)], 0),
            Form::Png => (png::parts(stamp), 0),
            Form::M4a => {
                // The clip's box of brands, with another brand in front.
                let (header, padding) = chunks::free_box(stamp, CLIP.len() as u64, None);
                (vec![fixed(&CLIP[..8]), fixed(b"M4A "), fixed(&CLIP[12..]), header], padding)
            }
            Form::Wav => (vec![documents::wav(stamp)], 0),
            Form::Webp => (vec![documents::webp(stamp)], 0),
            Form::Pdf => (vec![documents::pdf(stamp)], 0),
            Form::Pptx => (vec![documents::pptx(stamp)], 0),
            Form::Jpeg => (vec![fixed(&POSTER[..2]), chunks::jpeg_comment(stamp), fixed(&POSTER[2..])], 0),
        };
        Self { form, parts, padding, sums: OnceLock::new() }
    }

    pub(super) fn len(&self) -> u64 {
        self.held() + self.padding
    }

    fn held(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Some bytes from the start of `range`, at least one and at most `most`; empty only where `range` is.
    pub(super) fn read(&self, range: &Range<u64>, most: usize) -> Bytes {
        let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(most).min(most);
        let mut offset = range.start;
        for part in &self.parts {
            match usize::try_from(offset) {
                Ok(at) if at < part.len() => return part.slice(at..part.len().min(at + wanted)),
                _ => offset -= part.len() as u64,
            }
        }
        padding::read(offset, wanted)
    }

    /// The sums of the whole file. Takes as long as reading it does, the first time.
    pub(super) fn sums(&self) -> &Sums {
        self.sums.get_or_init(|| {
            let mut summer = Summer::new(self.len());
            let mut range = 0..self.len();
            while !range.is_empty() {
                let chunk = self.read(&range, 1 << 20);
                range.start += chunk.len() as u64;
                summer.update(&chunk);
            }
            summer.finish()
        })
    }

    /// All of its bytes.
    pub(super) fn whole(&self) -> Vec<u8> {
        let (mut bytes, mut range) = (Vec::new(), 0..self.len());
        while !range.is_empty() {
            let chunk = self.read(&range, 1 << 20);
            range.start += chunk.len() as u64;
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    pub(super) fn sha256(&self) -> Digest {
        self.sums().sha256
    }

    /// A strong validator that costs no reading: the held bytes and the length decide the file.
    pub(super) fn etag(&self) -> String {
        let mut held = BytesMut::new();
        self.parts.iter().for_each(|part| held.extend_from_slice(part));
        held.extend_from_slice(&self.len().to_le_bytes());
        format!("\"{}\"", hex::encode_upper(&Digest::of(&held).as_bytes()[..16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [Form; 9] =
        [Form::Mp4, Form::Mp3, Form::Png, Form::Jpeg, Form::M4a, Form::Wav, Form::Webp, Form::Pdf, Form::Pptx];

    #[test]
    fn stamps_make_files_unique_and_the_sums_are_those_of_the_bytes() {
        for form in FORMS {
            let (one, other) = (File::new(form, "one", None), File::new(form, "other", None));
            assert_eq!(Digest::of(&one.whole()), one.sha256());
            assert_ne!(one.sha256(), other.sha256());
            assert_ne!(one.etag(), other.etag());
            assert_eq!(one.sha256(), File::new(form, "one", None).sha256());
        }
    }

    #[test]
    fn an_mp4_grows_to_the_size_asked_for_and_stays_a_row_of_boxes() {
        let held = File::new(Form::Mp4, "id", None).len();
        for size in [held, held + 1, 3_000_000, 5 << 30] {
            assert_eq!(File::new(Form::Mp4, "id", Some(size)).len(), size);
        }
        assert_eq!(File::new(Form::Mp4, "id", Some(5)).len(), held);

        let bytes = File::new(Form::Mp4, "id", Some(3_000_000)).whole();
        let (mut at, mut names) = (0, Vec::new());
        while at < bytes.len() {
            let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            names.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
            at += size;
        }
        assert_eq!(at, bytes.len());
        assert_eq!((names.first().unwrap().as_str(), names.last().unwrap().as_str()), ("ftyp", "free"));
        assert!(names.contains(&"moov".into()) && names.contains(&"mdat".into()));
    }

    #[test]
    fn a_huge_file_is_read_anywhere_without_being_held() {
        let file = File::new(Form::Mp4, "id", Some(5 << 30));
        let chunk = file.read(&((5 << 30) - 10..5 << 30), 1000);
        assert_eq!(chunk.len(), 10);
        assert_ne!(file.read(&((1 << 30)..(2 << 30)), 64), file.read(&((2 << 30)..(3 << 30)), 64));
    }
}
