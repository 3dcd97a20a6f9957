//! Event streams, read line by line as they pass, whatever their type is called.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use serde::Deserialize;

use super::answer::{Answers, Pieces};
use super::ask::Questions;
use super::observe::{Caller, Creation, Observer};
use super::restore_callback::restored_text;
use crate::domain::JobId;
use crate::egress::EgressError;
use crate::intake::Intake;
use crate::provider::{Created, Endpoint, mentioned_jobs};

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
        while let Some(at) = memchr::memchr2(b'\n', b'\r', &piece) {
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

struct SseBody {
    intake: Intake,
    observer: Arc<Observer>,
    questions: Arc<Questions>,
    creation: Creation,
    caller: Caller,
    stream: Pieces,
    lines: Lines,
    /// The data of an event whose end has not come.
    event: BytesMut,
    /// Whether the last line ended with a carriage return.
    after_cr: bool,
    ready: VecDeque<Bytes>,
    known: Option<JobId>,
    is_over: bool,
}

impl Answers {
    /// A stream of events that tells of a job of `creation`'s.
    pub(super) fn events(&self, creation: Creation, caller: Caller, stream: Pieces) -> Pieces {
        let (lines, event, after_cr, ready, known, is_over) = Default::default();
        let passing = SseBody {
            intake: self.intake.clone(),
            observer: Arc::clone(&self.observer),
            questions: Arc::clone(&self.questions),
            creation,
            caller,
            stream,
            lines,
            event,
            after_cr,
            ready,
            known,
            is_over,
        };
        unfold(passing, |mut passing| async { passing.next().await.map(|piece| (piece, passing)) }).boxed()
    }
}

impl SseBody {
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
                    self.heard();
                    self.is_over = true;
                    return Some(Err(error));
                }
                None => {
                    self.heard();
                    self.is_over = true;
                    let rest = self.lines.begun.split().freeze();
                    self.ready.extend((!rest.is_empty()).then_some(rest));
                }
            }
        }
    }

    /// A line as its caller is to see it.
    fn read(&mut self, line: Bytes) -> Bytes {
        let text = line.trim_ascii_end();
        let is_rest = std::mem::replace(&mut self.after_cr, line.ends_with(b"\r")) && line.as_ref() == b"\n";
        let data = match text.strip_prefix(b"data:") {
            Some(data) => data.trim_ascii_start(),
            // What is no event, but a refusal perhaps.
            None if text.starts_with(b"{") => text,
            None => {
                // A blank line ends an event, and one that is only the rest of a line's end is none.
                if text.is_empty() && !is_rest {
                    self.heard();
                    self.event.clear();
                }
                return line;
            }
        };
        let is_first = self.event.is_empty();
        if self.event.len() + data.len() < MAX_LINE {
            self.event.extend_from_slice(data);
        }
        // Most have one line. Of more, none has those before it read again: the event's end does that once.
        if is_first {
            self.heard();
        }
        let shown = std::str::from_utf8(data)
            .ok()
            .and_then(|text| restored_text(&self.intake, Endpoint::Create(Created::Events), text));
        match shown {
            Some(shown) => {
                let begins = &line[..text.len() - data.len()];
                [begins, shown.as_bytes(), &line[text.len()..]].concat().into()
            }
            None => line,
        }
    }

    /// Takes in what an event says, if all of its lines are there.
    fn heard(&mut self) {
        #[derive(Deserialize)]
        struct Event {
            status: Option<serde_json::Value>,
        }
        let Ok(event) = serde_json::from_slice::<Event>(&self.event) else { return };
        let data = std::mem::take(&mut self.event);
        let is_finished = event.status.is_some_and(|status| status == "finished");
        for told in mentioned_jobs(&data) {
            let (observer, questions) = (Arc::clone(&self.observer), Arc::clone(&self.questions));
            let (owner, caller) = (self.creation.owner.clone(), self.caller.clone());
            let is_new = self.known.as_ref() != Some(&told.job);
            self.known = Some(told.job.clone());
            if !is_new && !is_finished {
                continue;
            }
            // The event is not kept waiting for the disk: the job's callback tells of it, too.
            tokio::spawn(async move {
                if is_new {
                    observer.observe_own(&caller, &owner, owner.naming(&told.job)).await;
                }
                if is_finished {
                    questions.ask_finished(owner, caller, told.job).await;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_passes_and_lines_come_whole(text in "[ab\r\n]{0,60}", size in 1usize..20) {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                for (line, is_read) in lines.feed(Bytes::copy_from_slice(piece)) {
                    prop_assert!(is_read && (line.ends_with(b"\n") || line.ends_with(b"\r")));
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
