//! The rows, by the day that jobs were made on.

mod chunk;
mod code_file;
mod saved;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use self::chunk::{Chunk, Row, RowCodes};
use self::code_file::CodeFile;
use super::codes::{self, Text};
use super::{DayCount, Entry};
use crate::domain::{JobState, Kind, ReplyRef, Timestamp};

const DAY_MS: u64 = 86_400_000;

/// Where a job stands in the order of the index: when it was made, then when it was first heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was made.
    pub made: Timestamp,
    /// See [`JobRecord::sequence`](crate::state::JobRecord::sequence).
    pub sequence: u64,
}

/// Which jobs are looked for. What is not said matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Made on this day or later.
    pub from: Option<Timestamp>,
    /// Made on this day or earlier.
    pub to: Option<Timestamp>,
    /// In one of these states.
    pub states: Vec<JobState>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this provider.
    pub provider: Option<String>,
    /// With this reference.
    pub reply_ref: Option<ReplyRef>,
    /// Whose ref has all these labels, each as `name:text`.
    pub labels: Vec<String>,
    /// Made with this model.
    pub model: Option<String>,
    /// Of this batch.
    pub batch_id: Option<String>,
    /// With these words.
    pub text: Text,
}

/// All rows. What changes them or looks at codes fails when the disk does.
#[derive(Debug)]
pub(super) struct Rows {
    days: BTreeMap<u32, Day>,
    /// When jobs were made that may still move: all but archived ones. A tree grows by little at a time.
    unsettled: BTreeMap<u64, Timestamp>,
    by_state: [u64; JobState::ALL.len()],
    /// By their number.
    providers: Vec<String>,
    /// Where codes are that are not in memory.
    file: CodeFile,
    in_memory: usize,
    /// When more codes than these are in memory, all of them are written to the file.
    max_in_memory: usize,
}

impl Rows {
    /// None yet. Codes that have no room in memory go to a file that is made at `path`.
    pub(super) fn new(path: PathBuf, max_in_memory: usize) -> Self {
        let (days, unsettled, providers) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (file, by_state) = (CodeFile::new(path), Default::default());
        Self { days, unsettled, by_state, providers, file, in_memory: 0, max_in_memory }
    }

    /// Writes the codes that are in memory to the file.
    fn spill(&mut self) -> io::Result<()> {
        for chunk in self.days.values_mut().flat_map(|day| &mut day.chunks) {
            let codes = chunk.codes_in_memory();
            chunk.spill(&mut self.file)?;
            self.in_memory -= codes;
        }
        if self.file.is_sparse() { self.compact() } else { Ok(()) }
    }

    /// Copies the codes in the file to another one, without what is of no use any more.
    fn compact(&mut self) -> io::Result<()> {
        let mut copy = CodeFile::new(self.file.path().to_owned());
        let (mut places, mut buffer) = (Vec::new(), Vec::new());
        for chunk in self.days.values().flat_map(|day| &day.chunks) {
            places.push(chunk.copy_codes(&self.file, &mut copy, &mut buffer)?);
        }
        for (chunk, place) in self.days.values_mut().flat_map(|day| &mut day.chunks).zip(places) {
            place.into_iter().for_each(|at| chunk.use_copy(at));
        }
        self.file = copy;
        Ok(())
    }

    /// The number that stands for a provider. Those beyond 255 share the last.
    pub(super) fn provider(&mut self, name: &str) -> u8 {
        let known = self.providers.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            if self.providers.len() < usize::from(u8::MAX) {
                self.providers.push(name.to_owned());
            }
            self.providers.len() - 1
        });
        number as u8
    }

    /// Puts a job where it belongs, in the place of what was known of it.
    pub(super) fn put(&mut self, entry: &Entry) -> io::Result<()> {
        let Entry { place, state, kind, provider, ref codes } = *entry;
        if let Some(made) = self.unsettled.get(&place.sequence).copied()
            && made != place.made
        {
            self.remove(Place { made, ..place })?;
        }
        let (at, count) = ((place.made.millis() % DAY_MS) as u32, codes.len() as u8);
        let row = Row { sequence: place.sequence, at, codes: count, state: state as u8, kind, provider };
        let day = self.days.entry(day_of(place.made)).or_default();
        let (before, more) = day.put(row, codes, &mut self.file)?;
        self.in_memory = self.in_memory.saturating_add_signed(more);
        if state == JobState::Archived {
            self.unsettled.remove(&place.sequence);
        } else {
            self.unsettled.insert(place.sequence, place.made);
        }
        if let Some(before) = before {
            self.count(before.state, -1);
        }
        self.count(state as u8, 1);
        if self.in_memory > self.max_in_memory { self.spill() } else { Ok(()) }
    }

    fn remove(&mut self, place: Place) -> io::Result<()> {
        let number = day_of(place.made);
        let Some(day) = self.days.get_mut(&number) else { return Ok(()) };
        let key = ((place.made.millis() % DAY_MS) as u32, place.sequence);
        let (removed, more) = day.remove(key, &mut self.file)?;
        self.in_memory = self.in_memory.saturating_add_signed(more);
        if day.chunks.is_empty() {
            self.days.remove(&number);
        }
        if let Some(row) = removed {
            self.unsettled.remove(&place.sequence);
            self.count(row.state, -1);
        }
        Ok(())
    }

    fn count(&mut self, state: u8, change: i64) {
        let count = &mut self.by_state[usize::from(state)];
        *count = count.saturating_add_signed(change);
    }

    /// How many jobs are in a state.
    pub(super) fn in_state(&self, state: JobState) -> u64 {
        self.by_state[state as usize]
    }

    /// The job that was heard of last.
    pub(super) fn newest(&self) -> Option<u64> {
        self.chunks().flat_map(|chunk| &chunk.rows).map(|row| row.sequence).max()
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.days.values().flat_map(|day| &day.chunks)
    }

    pub(super) fn unsettled(&self) -> Vec<u64> {
        self.unsettled.keys().copied().collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.file.path().to_owned(), self.max_in_memory);
    }

    #[cfg(test)]
    pub(super) fn file_bytes(&self) -> u64 {
        self.file.end()
    }

    pub(super) fn bytes(&self) -> usize {
        let rows = |chunk: &Chunk| size_of::<Chunk>() + chunk.rows.capacity() * size_of::<Row>();
        self.chunks().map(rows).sum::<usize>() + self.in_memory * size_of::<u32>() + self.unsettled.len() * 32
    }

    pub(super) fn find(
        &self,
        query: &Query,
        after: Option<Place>,
        skip: usize,
        limit: usize,
    ) -> io::Result<Vec<Place>> {
        let Some(filter) = self.filter(query) else { return Ok(Vec::new()) };
        let mut days = filter.days.clone();
        if let Some(after) = after {
            days = *days.start()..=day_of(after.made).min(*days.end());
        }
        let (mut left, mut found, mut buffer) = (skip, Vec::new(), RowCodes::default());
        if days.is_empty() {
            return Ok(found);
        }
        for (number, day) in self.days.range(days).rev() {
            // Of the day that the last page ended in, the rest.
            let end = after.filter(|after| day_of(after.made) == *number);
            let end = end.map(|Place { made, sequence }| ((made.millis() % DAY_MS) as u32, sequence));
            // A day of which nothing is asked but the time is passed over as a whole, and so is a chunk.
            if filter.takes_all && end.is_none() && left >= day.rows {
                left -= day.rows;
                continue;
            }
            for chunk in day.chunks.iter().rev() {
                let rows = match end {
                    Some(end) => chunk.rows.partition_point(|row| row.key() < end),
                    None => chunk.rows.len(),
                };
                if filter.takes_all && left >= rows {
                    left -= rows;
                    continue;
                }
                let mut matches = filter.in_chunk(chunk, &self.file, &mut buffer);
                for index in (0..rows).rev() {
                    if !matches.has(index)? {
                        continue;
                    }
                    if left > 0 {
                        left -= 1;
                        continue;
                    }
                    if found.len() == limit {
                        return Ok(found);
                    }
                    let row = &chunk.rows[index];
                    found.push(Place { made: time_of(*number, row.at), sequence: row.sequence });
                }
            }
        }
        Ok(found)
    }

    pub(super) fn days(&self, query: &Query) -> io::Result<Vec<DayCount>> {
        let Some(filter) = self.filter(query) else { return Ok(Vec::new()) };
        let (mut counts, mut buffer) = (Vec::new(), RowCodes::default());
        if filter.days.is_empty() {
            return Ok(counts);
        }
        for (number, day) in self.days.range(filter.days.clone()).rev() {
            let mut jobs = if filter.takes_all { day.rows as u64 } else { 0 };
            for chunk in day.chunks.iter().filter(|_| !filter.takes_all) {
                let mut matches = filter.in_chunk(chunk, &self.file, &mut buffer);
                for index in 0..chunk.rows.len() {
                    jobs += u64::from(matches.has(index)?);
                }
            }
            if jobs > 0 {
                counts.push(DayCount { day: time_of(*number, 0), jobs });
            }
        }
        Ok(counts)
    }

    /// `None` when nothing can match.
    fn filter(&self, query: &Query) -> Option<Filter> {
        let Query { from, to, states, kind, provider, reply_ref, labels, model, batch_id, text } = query;
        if text.is_wordless() {
            return None;
        }
        let provider = match provider {
            Some(name) => Some(self.providers.iter().position(|known| known == name)? as u8),
            None => None,
        };
        let mut codes: Vec<u32> = labels.iter().map(|label| codes::label_code(label)).collect();
        codes.extend(reply_ref.as_ref().map(|name| codes::reference_code(name.as_str())));
        codes.extend(model.as_deref().map(codes::model_code));
        codes.extend(batch_id.as_deref().map(codes::batch_code));
        codes.extend(text.codes());
        let beginnings: Vec<u16> = text.beginnings().collect();
        let states = states.iter().fold(0, |mask, state| mask | 1 << (*state as u8));
        let kind = kind.map(|kind| kind as u8);
        let takes_all =
            states == 0 && kind.is_none() && provider.is_none() && codes.is_empty() && beginnings.is_empty();
        let days = from.map_or(0, day_of)..=to.map_or(u32::MAX, day_of);
        Some(Filter { days, states, kind, provider, codes, beginnings, takes_all })
    }
}

/// A query in the index's own terms.
struct Filter {
    days: RangeInclusive<u32>,
    /// A bit for each state; none stands for all.
    states: u8,
    kind: Option<u8>,
    provider: Option<u8>,
    codes: Vec<u32>,
    beginnings: Vec<u16>,
    takes_all: bool,
}

impl Filter {
    fn asks_for_codes(&self) -> bool {
        !self.codes.is_empty() || !self.beginnings.is_empty()
    }

    fn in_chunk<'a>(&'a self, chunk: &'a Chunk, file: &'a CodeFile, buffer: &'a mut RowCodes) -> Matches<'a> {
        Matches { filter: self, chunk, file, codes: None, buffer: Some(buffer) }
    }

    fn takes_row(&self, row: &Row) -> bool {
        (self.states == 0 || self.states & 1 << row.state != 0)
            && self.kind.is_none_or(|kind| kind == row.kind)
            && self.provider.is_none_or(|provider| provider == row.provider)
    }

    fn takes_codes(&self, codes: &[u32]) -> bool {
        self.codes.iter().all(|code| codes.contains(code))
            && self.beginnings.iter().all(|beginning| codes.iter().any(|code| (code >> 16) as u16 == *beginning))
    }
}

/// Which rows of a chunk match. Their codes are read when the first row asks for them.
struct Matches<'a> {
    filter: &'a Filter,
    chunk: &'a Chunk,
    file: &'a CodeFile,
    codes: Option<&'a RowCodes>,
    buffer: Option<&'a mut RowCodes>,
}

impl Matches<'_> {
    fn has(&mut self, index: usize) -> io::Result<bool> {
        let row = &self.chunk.rows[index];
        let takes_row = self.filter.takes_row(row);
        if !takes_row || !self.filter.asks_for_codes() {
            return Ok(takes_row);
        }
        if let Some(buffer) = self.buffer.take() {
            self.codes = Some(self.chunk.codes(self.file, buffer)?);
        }
        Ok(self.codes.is_some_and(|codes| self.filter.takes_codes(codes.of(index, row))))
    }
}

/// The jobs of a day.
#[derive(Debug, Default)]
struct Day {
    /// Oldest first, none of them empty.
    chunks: Vec<Chunk>,
    /// In all of them.
    rows: usize,
}

impl Day {
    /// Where a row is, or where it belongs: in which chunk, and where there.
    fn find(&self, key: (u32, u64)) -> (usize, Result<usize, usize>) {
        let behind = self.chunks.partition_point(|chunk| chunk.rows.first().is_some_and(|row| row.key() <= key));
        let at = behind.saturating_sub(1);
        let slot = self.chunks.get(at).map_or(Err(0), |chunk| chunk.rows.binary_search_by_key(&key, Row::key));
        (at, slot)
    }

    /// Puts a row in the place of the one of the same job. Returns that, and how many codes more are in memory.
    fn put(&mut self, row: Row, codes: &[u32], file: &mut CodeFile) -> io::Result<(Option<Row>, isize)> {
        let (at, slot) = self.find(row.key());
        if let Ok(index) = slot {
            let chunk = &mut self.chunks[at];
            let (before, known) = (chunk.codes_in_memory(), chunk.rows[index]);
            chunk.replace(index, row, codes, file)?;
            return Ok((Some(known), more(before, chunk)));
        }
        let (at, index, loaded) = self.make_room(at, slot.unwrap_or_else(|index| index), file)?;
        let chunk = &mut self.chunks[at];
        let before = chunk.codes_in_memory();
        chunk.insert(index, row, codes, file)?;
        self.rows += 1;
        Ok((None, loaded + more(before, chunk)))
    }

    /// Sees to it that there is a chunk for another row, which is not full. Returns which and where there, and how many codes
    /// more are in memory.
    fn make_room(&mut self, at: usize, index: usize, file: &mut CodeFile) -> io::Result<(usize, usize, isize)> {
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Chunk::new());
            return Ok((self.chunks.len() - 1, 0, 0));
        };
        if !chunk.is_full() {
            return Ok((at, index, 0));
        }
        // Jobs come at one end, and are indexed anew from it to the other: what is full there stays full.
        if index == 0 || index == chunk.rows.len() {
            let new = if index == 0 { at } else { at + 1 };
            self.chunks.insert(new, Chunk::new());
            return Ok((new, 0, 0));
        }
        let before = chunk.codes_in_memory();
        let later = chunk.split(file)?;
        let middle = chunk.rows.len();
        let loaded = more(before, chunk) + later.codes_in_memory() as isize;
        self.chunks.insert(at + 1, later);
        Ok(if index <= middle { (at, index, loaded) } else { (at + 1, index - middle, loaded) })
    }

    /// Takes a row away. Returns it, and how many codes more are in memory.
    fn remove(&mut self, key: (u32, u64), file: &mut CodeFile) -> io::Result<(Option<Row>, isize)> {
        let (at, Ok(index)) = self.find(key) else { return Ok((None, 0)) };
        let chunk = &mut self.chunks[at];
        let (before, row) = (chunk.codes_in_memory(), chunk.rows[index]);
        chunk.remove(index, file)?;
        let more = more(before, chunk);
        if chunk.rows.is_empty() {
            self.chunks.remove(at);
        }
        self.rows -= 1;
        Ok((Some(row), more))
    }
}

/// How many codes more a chunk has in memory than before.
fn more(before: usize, chunk: &Chunk) -> isize {
    chunk.codes_in_memory() as isize - before as isize
}

fn day_of(time: Timestamp) -> u32 {
    (time.millis() / DAY_MS) as u32
}

fn time_of(day: u32, at: u32) -> Timestamp {
    Timestamp::from_millis_clamped(u64::from(day) * DAY_MS + u64::from(at))
}
