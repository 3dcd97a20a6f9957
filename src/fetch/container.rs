use serde::{Deserialize, Serialize};

use super::sniff::{Format, MediaType, SNIFF_LENGTH, sniff};

mod bmff;
mod jpeg;
mod png;

use bmff::Bmff;
use jpeg::Jpeg;
use png::Png;

/// Why bytes are not a whole file of their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It ends before its own structure says it does.
    #[error("the file is cut short, expected {expected}")]
    Truncated {
        /// What was still to come.
        expected: &'static str,
    },
    /// Its structure does not fit.
    #[error("the file is damaged, expected {expected}")]
    Malformed {
        /// What should have been there.
        expected: &'static str,
    },
}

impl ContainerError {
    /// The stable name, for records and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated { .. } => "truncated",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// Checks, while the bytes go by and in constant memory, that a file is whole by its own structure.
///
/// MP4, QuickTime, HEIF: all top-level boxes, the required ones among them. PNG: all chunks up to IEND. JPEG: all
/// segments and scans up to EOI. WebP, WAV: as long as their header says. Of other kinds, known or not, only that there
/// is something. Whatever follows the end of a PNG, JPEG, WebP or WAV is let be; so is zero padding after an MP4.
///
/// Not to be seen from within: a cut exactly between two fragments of a fragmented MP4, or inside a last box whose size
/// of 0 means "to the end of the file".
#[derive(Debug, Default)]
pub struct Container {
    head: Vec<u8>,
    total: u64,
    body: Option<Body>,
}

/// How far the check of a file is, beyond the bytes that its kind is recognised by: what it can be gone on with from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checked {
    total: u64,
    /// MIME type and extension.
    media_type: Option<(String, String)>,
    checker: Checker,
}

#[derive(Debug)]
struct Body {
    media_type: Option<MediaType>,
    checker: Checker,
}

/// What should have been there. A name of its own, since such states are never recorded.
type Expected = &'static str;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Checker {
    Bmff(Bmff),
    Png(Png),
    Jpeg(Jpeg),
    Riff { length: Option<u64> },
    None,
}

impl Container {
    /// A checker that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes, in pieces of any size.
    pub fn update(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len() as u64);
        if let Some(body) = &mut self.body {
            return body.checker.update(bytes);
        }
        let (head, rest) = bytes.split_at(bytes.len().min(SNIFF_LENGTH - self.head.len()));
        self.head.extend_from_slice(head);
        if self.head.len() == SNIFF_LENGTH {
            self.body = Some(Body::start(&std::mem::take(&mut self.head), rest));
        }
    }

    /// Where the check is. `None` while the kind is not recognised, when it is one that is never large, and when what came
    /// is damaged already: then going on is of no use.
    pub(super) fn checked(&self) -> Option<Checked> {
        let body = self.body.as_ref().filter(|body| !body.checker.is_malformed())?;
        let media_type = match body.media_type {
            Some(found) if MediaType::recorded(found.mime, found.extension) != Some(found) => return None,
            found => found.map(|found| (found.mime.to_owned(), found.extension.to_owned())),
        };
        Some(Checked { total: self.total, media_type, checker: body.checker.clone() })
    }

    /// Goes on from where a check was; `None` for a kind that this version does not know.
    pub(super) fn go_on(checked: &Checked) -> Option<Self> {
        let media_type = match &checked.media_type {
            Some((mime, extension)) => Some(MediaType::recorded(mime, extension)?),
            None => None,
        };
        let body = Body { media_type, checker: checked.checker.clone() };
        Some(Self { head: Vec::new(), total: checked.total, body: Some(body) })
    }

    /// Says what it was and that it is whole; `Ok(None)` for a kind that is not known.
    ///
    /// # Errors
    /// When it is empty, cut short or damaged.
    pub fn finish(self) -> Result<Option<MediaType>, ContainerError> {
        if self.total == 0 {
            return Err(ContainerError::Empty);
        }
        let body = self.body.unwrap_or_else(|| Body::start(&self.head, &[]));
        match body.checker {
            Checker::Bmff(bmff) => bmff.finish(),
            Checker::Png(png) => png.finish(),
            Checker::Jpeg(jpeg) => jpeg.finish(),
            Checker::Riff { length: Some(length) } if self.total < length => {
                Err(ContainerError::Truncated { expected: "as many bytes as the RIFF header declares" })
            }
            Checker::Riff { .. } | Checker::None => Ok(()),
        }?;
        Ok(body.media_type)
    }
}

impl Body {
    fn start(head: &[u8], rest: &[u8]) -> Self {
        let media_type = sniff(head);
        let checker = match media_type.map_or(Format::Other, |media_type| media_type.format) {
            Format::Movie => Checker::Bmff(Bmff::movie()),
            Format::Heif => Checker::Bmff(Bmff::heif()),
            Format::Png => Checker::Png(Png::new()),
            Format::Jpeg => Checker::Jpeg(Jpeg::new()),
            Format::Riff => Checker::Riff { length: riff_length(head) },
            Format::Other => Checker::None,
        };
        let mut body = Self { media_type, checker };
        body.checker.update(head);
        body.checker.update(rest);
        body
    }
}

impl Checker {
    fn is_malformed(&self) -> bool {
        match self {
            Self::Bmff(bmff) => bmff.is_malformed(),
            Self::Png(png) => png.is_malformed(),
            Self::Jpeg(jpeg) => jpeg.is_malformed(),
            Self::Riff { .. } | Self::None => false,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Bmff(bmff) => bmff.update(bytes),
            Self::Png(png) => png.update(bytes),
            Self::Jpeg(jpeg) => jpeg.update(bytes),
            Self::Riff { .. } | Self::None => {}
        }
    }
}

/// The length of the whole file; `None` where a writer that could not seek back left a placeholder.
fn riff_length(head: &[u8]) -> Option<u64> {
    let size = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    (size != 0 && size != u32::MAX).then_some(u64::from(size) + 8)
}

#[cfg(test)]
pub(super) mod tests;
