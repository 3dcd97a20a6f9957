//! Event streams, read line by line as they pass.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};

use super::Gateway;
use super::call::{Call, Created};
use crate::domain::{JobId, RefId};
use crate::egress::EgressError;
use crate::provider::{Answer, told_of};

/// The longest line that is read, in bytes; the rest of a longer one passes as it is.
const MAX_LINE: usize = 1 << 20;

/// Bytes that pass, and the lines among them.
#[derive(Default)]
struct Lines {
    begun: BytesMut,
    /// The line is too long to be read.
    passes: bool,
}

impl Lines {
    /// Takes a piece of the stream; gives whole lines, line ends included, each with whether it can be read.
    fn feed(&mut self, mut piece: Bytes) -> Vec<(Bytes, bool)> {
        let mut lines = Vec::new();
        while let Some(at) = memchr::memchr(b'\n', &piece) {
            self.begun.extend_from_slice(&piece.split_to(at + 1));
            lines.push((self.begun.split().freeze(), !std::mem::take(&mut self.passes)));
        }
        self.begun.extend_from_slice(&piece);
        if self.begun.len() > MAX_LINE {
            self.passes = true;
        }
        if self.passes && !self.begun.is_empty() {
            lines.push((self.begun.split().freeze(), false));
        }
        lines
    }
}

struct Passing {
    gateway: Gateway,
    reference: Arc<RefId>,
    stream: BoxStream<'static, Result<Bytes, EgressError>>,
    lines: Lines,
    ready: VecDeque<Bytes>,
    known: Option<JobId>,
    is_over: bool,
}

impl Gateway {
    /// A stream of events that tells of a job made over `reference`.
    pub(super) fn events(
        &self,
        reference: RefId,
        stream: BoxStream<'static, Result<Bytes, EgressError>>,
    ) -> BoxStream<'static, Result<Bytes, EgressError>> {
        let (gateway, reference) = (self.clone(), Arc::new(reference));
        let (lines, ready) = Default::default();
        let passing = Passing { gateway, reference, stream, lines, ready, known: None, is_over: false };
        unfold(passing, |mut passing| async { passing.next().await.map(|piece| (piece, passing)) }).boxed()
    }
}

impl Passing {
    async fn next(&mut self) -> Option<Result<Bytes, EgressError>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            if self.is_over {
                return None;
            }
            match self.stream.next().await {
                Some(Ok(piece)) => {
                    let lines = self.lines.feed(piece);
                    let mut passed = BytesMut::new();
                    for (line, is_read) in lines {
                        passed.extend_from_slice(&if is_read { self.read(line) } else { line });
                    }
                    self.ready.extend((!passed.is_empty()).then(|| passed.freeze()));
                }
                Some(Err(error)) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
                None => {
                    self.is_over = true;
                    let rest = self.lines.begun.split().freeze();
                    self.ready.extend((!rest.is_empty()).then_some(rest));
                }
            }
        }
    }

    /// A line as its caller is to see it.
    fn read(&mut self, line: Bytes) -> Bytes {
        let Some(data) = line.strip_prefix(b"data:") else { return line };
        let data = Bytes::copy_from_slice(data.trim_ascii());
        for told in told_of(&data) {
            if self.known.as_ref() != Some(&told.job) {
                // The event is not kept waiting for the disk: the job's callback tells of it, too.
                let (gateway, reference, job) =
                    (self.gateway.clone(), self.reference.clone(), Answer::naming(&told.job, None));
                tokio::spawn(async move { gateway.learn_own(&reference, job).await });
                self.known = Some(told.job);
            }
        }
        let shown = std::str::from_utf8(&data)
            .ok()
            .and_then(|text| self.gateway.shown_text(Call::Create(Created::Events), text));
        match shown {
            Some(shown) => {
                let ending = &line[line.trim_ascii_end().len()..];
                [b"data: ", shown.as_bytes(), ending].concat().into()
            }
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_passes_and_lines_come_whole(text in "[ab\n]{0,60}", size in 1usize..20) {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                for (line, is_read) in lines.feed(Bytes::copy_from_slice(piece)) {
                    prop_assert!(is_read && line.ends_with(b"\n"));
                    seen.extend_from_slice(&line);
                }
            }
            seen.extend_from_slice(&lines.begun);
            prop_assert_eq!(String::from_utf8(seen).unwrap(), text);
        }
    }

    #[test]
    fn a_line_without_end_is_not_held() {
        let mut lines = Lines::default();
        let piece = Bytes::from(vec![b'a'; MAX_LINE / 2]);
        assert!(lines.feed(piece.clone()).is_empty() && lines.feed(piece.clone()).is_empty());
        assert_eq!(lines.feed(piece.clone()).len(), 1);
        assert_eq!(lines.feed(piece.clone()), [(piece, false)]);
        assert_eq!(lines.feed(Bytes::from_static(b"\nx\n")), [("\n".into(), false), ("x\n".into(), true)]);
    }
}
