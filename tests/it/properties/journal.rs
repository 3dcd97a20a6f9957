//! The journal over what a crash, a bad disk or an attacker could have left in its files.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use replyvault::domain::{JobId, Target, Timestamp};
use replyvault::journal::{CallbackEntry, Durability, Entry, Event, Journal, Writer};

/// Of the first form and of the second.
const HEADER_SIZES: [usize; 2] = [64, 4160];

/// The input says what is done to files, and what goes through the writer.
pub(crate) fn check(input: &[u8]) {
    segments_of_any_content(input);
    appended_records_are_found_again(input);
}

/// A segment as the format is documented, made by other code than the journal's own.
struct Segment {
    base: u64,
    /// What of the segment before this one counts.
    previous_end: u64,
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// What was done to bytes, by their place.
    flips: BTreeMap<usize, u8>,
    /// Whether it has records that were written with another salt, where no body is.
    has_strangers: bool,
}

struct Record {
    from: usize,
    to: usize,
    /// `None` for an intact record of any content.
    entry: Option<Entry>,
}

impl Segment {
    fn new(base: u64, previous_end: u64, salt: u32) -> Self {
        // The second form has its copy in another block.
        let is_first_form = salt & 1 == 0;
        let mut copy = if is_first_form { b"RVJOURN1".to_vec() } else { b"RVJOURN2".to_vec() };
        copy.extend(base.to_le_bytes());
        copy.extend(previous_end.to_le_bytes());
        copy.extend(salt.to_le_bytes());
        copy.extend(crc32c::crc32c(&copy).to_le_bytes());
        let mut bytes = copy.clone();
        bytes.resize(HEADER_SIZES[usize::from(!is_first_form)], 0);
        if !is_first_form {
            bytes[4096..4128].copy_from_slice(&copy);
        }
        Self { base, previous_end, bytes, records: Vec::new(), flips: BTreeMap::new(), has_strangers: false }
    }

    fn record(&mut self, salt: u32, payload: &[u8], entry: Option<Entry>) {
        let from = self.bytes.len();
        self.bytes.extend(frame(salt, payload));
        self.records.push(Record { from, to: self.bytes.len(), entry });
    }

    fn header_is_intact(&self) -> bool {
        self.are_intact(0..32) || (self.bytes[7] == b'2' && self.are_intact(4096..4128))
    }

    /// What the header does not say the records tell, if some are there and nothing else looks like records.
    fn tells_its_salt(&self) -> bool {
        self.header_is_intact() || !self.has_strangers
    }

    fn are_intact(&self, bytes: Range<usize>) -> bool {
        // Done twice, a flip is undone.
        self.flips.range(bytes).all(|(_, flip)| *flip == 0)
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}

fn frame(salt: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c_append(salt, &length), payload);
    [b"\xF5rv\xF6", &length, &checksum.to_le_bytes(), payload].concat()
}

fn callback(at: u64, body: &[u8]) -> (Vec<u8>, Entry) {
    let payload = [&[1][..], &at.to_le_bytes(), &[1], &u64::MAX.to_le_bytes(), &[7], b"minimax", body].concat();
    let entry = CallbackEntry {
        at: Timestamp::from_millis(at).unwrap(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: Bytes::copy_from_slice(body),
    };
    (payload, Entry::Callback(entry))
}

fn repeated(number: u8) -> Entry {
    let job: JobId = format!("user:1-minimax:2-video:{number}").parse().unwrap();
    Entry::Event(Event::Repeated { at: Timestamp::from_millis(1).unwrap(), job, times: 1 })
}

/// Reads a number and that many bytes off the front.
fn piece<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, rest)) = input.split_first() else { return &[] };
    let (piece, rest) = rest.split_at(rest.len().min((*length).into()));
    *input = rest;
    piece
}

fn make(mut input: &[u8]) -> Vec<Segment> {
    // As in a real journal, whoever writes a body does not know the salt.
    let salt = crc32c::crc32c_append(0x5a17, input).rotate_left(7) ^ 0x9e37_79b9;
    let mut segments = vec![Segment::new(0, 0, salt)];
    while let Some((what, rest)) = input.split_first() {
        input = rest;
        let Some(segment) = segments.last_mut() else { unreachable!("there is one from the start") };
        match what % 8 {
            0 => {
                let (payload, entry) = callback(segment.bytes.len() as u64, piece(&mut input));
                segment.record(salt, &payload, Some(entry));
            }
            1 => {
                let entry = repeated(*what);
                let Entry::Event(event) = &entry else { unreachable!() };
                let payload = [&[2][..], &serde_json::to_vec(event).unwrap()].concat();
                segment.record(salt, &payload, Some(entry));
            }
            2 => segment.bytes.extend(piece(&mut input)),
            3 => segment.record(salt, piece(&mut input), None),
            4 => {
                segment.has_strangers = true;
                segment.bytes.extend(frame(!salt, &callback(1, piece(&mut input)).0));
            }
            5 => segment.bytes.extend(vec![0; piece(&mut input).len()]),
            6 => {
                for flip in piece(&mut input).chunks_exact(3) {
                    let at = usize::from(u16::from_le_bytes([flip[0], flip[1]])) % segment.bytes.len();
                    segment.bytes[at] ^= flip[2];
                    *segment.flips.entry(at).or_default() ^= flip[2];
                }
            }
            _ => {
                let end = segment.end();
                // What is acknowledged never becomes less.
                let previous_end = end.saturating_sub(piece(&mut input).len() as u64).max(segment.previous_end);
                segments.push(Segment::new(end, previous_end, salt));
            }
        }
    }
    segments
}

fn segments_of_any_content(input: &[u8]) {
    let segments = make(input);
    let dir = tempfile::tempdir().unwrap();
    for segment in &segments {
        std::fs::write(dir.path().join(format!("{:020}.journal", segment.base)), &segment.bytes).unwrap();
    }
    let journal = Journal::open(dir.path()).unwrap();
    let end = segments.last().unwrap().end();
    assert_eq!(journal.end().unwrap(), end);
    let middle = input.iter().fold(0, |sum, byte| (sum * 31 + u64::from(*byte)) % (end + 1));
    for from in [0, middle, end] {
        let mut replay = journal.replay(from).unwrap();
        let found: Vec<(u64, Entry)> = replay.by_ref().map(Result::unwrap).collect();
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b), "not in order");
        for damage in replay.damage() {
            assert!(damage.from <= damage.to && damage.to <= end, "{damage:?}");
        }
        let found: BTreeMap<u64, Entry> = found.into_iter().collect();
        exactly_what_counts(&segments, &journal, from, &found);
    }
    assert!(journal.intact_end().unwrap() <= end);
}

fn exactly_what_counts(segments: &[Segment], journal: &Journal, from: u64, found: &BTreeMap<u64, Entry>) {
    let mut known = 0;
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1);
        for record in &segment.records {
            let (position, end) = (segment.base + record.from as u64, segment.base + record.to as u64);
            let found = found.get(&position);
            known += usize::from(found.is_some());
            let intact = segment.header_is_intact() && segment.are_intact(record.from..record.to);
            let counts = next.is_none_or(|next| end <= next.previous_end);
            let cut = next.is_some_and(|next| next.header_is_intact() && end > next.previous_end);
            match &record.entry {
                Some(entry) if intact && counts && position >= from => {
                    assert_eq!(found, Some(entry), "at {position}");
                    assert_eq!(journal.read(position).as_ref().ok(), Some(entry));
                }
                _ if !segment.tells_its_salt() => {}
                Some(entry) => {
                    let are_intact = segment.are_intact(record.from..record.to);
                    assert!(found.is_none_or(|found| are_intact && !cut && found == entry), "at {position}");
                }
                None => assert!(found.is_none() || !cut, "at {position}"),
            }
        }
    }
    if segments.iter().all(Segment::tells_its_salt) {
        assert_eq!(known, found.len(), "entries that nobody wrote: {found:?}");
    }
    assert!(found.keys().all(|position| *position >= from));
}

fn appended_records_are_found_again(mut input: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap().with_segment_size(8192);
    let mut written = Vec::new();
    while !input.is_empty() && written.len() < 8 {
        let piece = piece(&mut input);
        let event = serde_json::from_slice(piece).map(Entry::Event);
        let batch = [event.unwrap_or_else(|_| repeated(piece.len() as u8)), callback(piece.len() as u64, piece).1];
        let positions = writer.append(&batch, Durability::Buffered).unwrap();
        written.extend(positions.into_iter().zip(batch));
    }
    let mut replay = journal.replay(0).unwrap();
    let found: Vec<_> = replay.by_ref().map(Result::unwrap).collect();
    assert_eq!(found, written);
    assert!(replay.damage().is_empty());
    for (position, entry) in &written {
        assert_eq!(&journal.read(*position).unwrap(), entry);
    }
}
