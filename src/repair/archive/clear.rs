//! Segments that were archived before segments were encrypted: one zstd frame each.

use std::io::{self, Write};

use bytes::Bytes;

use super::MAX_SEGMENT;
use super::pieces::Pieces;
use crate::bucket::BucketError;
use crate::journal::{ArchivedBytes, SEGMENT_HEAD, may_be_segment};

/// As zstd's `--ultra` levels are wider, and nobody wrote such: what is needed to undo a frame is not more than this.
const WINDOW_LOG: u32 = 23;
/// By then it is clear whether it is a segment at all.
const BEGINNING: usize = 1 << 20;
/// In a frame's first bytes, says that a checksum follows. Records have their own, and what does not match is lost as a whole.
const CHECKSUM_FLAG: (usize, u8) = (4, 0b100);

/// Takes what a frame is made of, as far as it is wanted and a segment.
struct Sink {
    seen: u64,
    beginning: Vec<u8>,
    from: u64,
    to: u64,
    bytes: Vec<u8>,
    stopped: Option<&'static str>,
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let start = self.seen;
        self.seen += piece.len() as u64;
        if self.beginning.len() < BEGINNING {
            let wanted = piece.len().min(BEGINNING - self.beginning.len());
            self.beginning.extend_from_slice(&piece[..wanted]);
            if self.beginning.len() == BEGINNING && !may_be_segment(&self.beginning) {
                self.stopped = Some("it is no segment");
            }
        }
        if self.seen > MAX_SEGMENT {
            self.stopped = Some("it is longer than any segment");
        }
        if self.stopped.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let within =
            |position: u64| usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX).min(piece.len());
        self.bytes.extend_from_slice(&piece[within(self.from)..within(self.to).max(within(self.from))]);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The `length` bytes from `from` on. Whether the frame's checksum counts, `trusting` says.
pub(super) async fn read(
    mut pieces: Pieces,
    from: u64,
    length: u64,
    trusting: bool,
) -> Result<ArchivedBytes, BucketError> {
    let to = from.saturating_add(length);
    let sink = Sink { seen: 0, beginning: Vec::new(), from, to, bytes: Vec::new(), stopped: None };
    let Ok(mut decoder) = zstd::stream::write::Decoder::new(sink) else {
        return Ok(ArchivedBytes { problem: Some("zstd cannot be used".to_owned()), ..Default::default() });
    };
    let (mut problem, mut is_first) = (decoder.window_log_max(WINDOW_LOG).err(), true);
    while problem.is_none() && decoder.get_ref().seen < to {
        let Some(mut piece) = pieces.next().await? else {
            problem = decoder.do_finish().err();
            break;
        };
        if std::mem::take(&mut is_first) && !trusting {
            piece = without_checksum(&piece);
        }
        problem = decoder.write_all(&piece).err();
    }
    let sink = decoder.into_inner();
    let problem = match (sink.stopped, problem) {
        (Some(stopped), _) => Some(stopped.to_owned()),
        (None, problem) => problem.map(|error| format!("it is damaged: {error}")),
    };
    let head = Bytes::copy_from_slice(&sink.beginning[..sink.beginning.len().min(SEGMENT_HEAD)]);
    Ok(ArchivedBytes { head, bytes: sink.bytes.into(), problem })
}

fn without_checksum(piece: &Bytes) -> Bytes {
    let mut piece = piece.to_vec();
    if let Some(flags) = piece.get_mut(CHECKSUM_FLAG.0) {
        *flags &= !CHECKSUM_FLAG.1;
    }
    piece.into()
}
