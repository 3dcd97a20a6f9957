use serde::{Deserialize, Serialize};

use super::ContainerError;

/// What has its end marked, and is read from there: PDF and ZIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    kind: Kind,
    position: u64,
    /// Where the last mark begins.
    last: Option<u64>,
    window: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Pdf,
    Zip,
}

impl Kind {
    fn mark(self) -> &'static [u8] {
        match self {
            Self::Pdf => b"%%EOF",
            Self::Zip => b"PK\x05\x06",
        }
    }

    /// How far behind the mark the file may go on: what readers of PDF look through, the longest comment of a ZIP.
    fn room(self) -> u64 {
        match self {
            Self::Pdf => 1024,
            Self::Zip => 22 + 65_535,
        }
    }
}

impl Tail {
    /// For a PDF.
    pub(super) fn pdf() -> Self {
        Self { kind: Kind::Pdf, position: 0, last: None, window: Vec::new() }
    }

    /// For a ZIP, or what is made of one.
    pub(super) fn zip() -> Self {
        Self { kind: Kind::Zip, position: 0, last: None, window: Vec::new() }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mark = self.kind.mark();
        for piece in bytes.chunks(1 << 16) {
            let start = self.position - self.window.len() as u64;
            self.window.extend_from_slice(piece);
            if let Some(place) = memchr::memmem::rfind(&self.window, mark) {
                self.last = Some(start + place as u64);
            }
            self.position += piece.len() as u64;
            self.window.drain(..self.window.len().saturating_sub(mark.len() - 1));
        }
    }

    /// A document whose server told its length, and kept to it, is as it was made.
    pub(super) fn finish(&self, length: u64, is_proven: bool) -> Result<(), ContainerError> {
        let is_whole = self.last.is_some_and(|last| match self.kind {
            Kind::Pdf => length - last <= self.kind.room(),
            Kind::Zip => (22..=self.kind.room()).contains(&(length - last)),
        });
        let expected = match self.kind {
            Kind::Pdf => "%%EOF near its end",
            Kind::Zip => "the end of its directory",
        };
        if is_whole || is_proven { Ok(()) } else { Err(ContainerError::Truncated { expected }) }
    }
}
