//! The rows, by the day that jobs were made on.

mod saved;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;

use super::codes::{self, Text};
use super::{DayCount, Entry, MAX_CODE_BYTES};
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
    /// Whose ref has all these labels.
    pub labels: Vec<(String, String)>,
    /// Made with this model.
    pub model: Option<String>,
    /// Of this batch.
    pub batch_id: Option<String>,
    /// With these words.
    pub text: Text,
}

/// A job. What it is found by stands in the day's `codes`. There is one for every job, so it is not padded to a multiple of eight
/// bytes.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
struct Row {
    sequence: u64,
    /// Milliseconds since midnight.
    at: u32,
    first_code: u32,
    codes: u8,
    state: u8,
    kind: u8,
    provider: u8,
}

#[derive(Debug, Default)]
struct Day {
    /// Oldest first. All jobs are indexed from the newest on, later ones come at the other end: neither may move those that are
    /// here.
    rows: VecDeque<Row>,
    codes: Vec<u32>,
    /// Of `codes`, those that no row has any more.
    unused: usize,
}

/// All rows.
#[derive(Debug)]
pub(super) struct Rows {
    days: BTreeMap<u32, Day>,
    /// The first day of whose jobs words are known; of those before, rows alone.
    words_from: u32,
    /// Codes that there is memory for in all days together.
    codes: usize,
    /// The most of them.
    max_codes: usize,
    /// Where jobs stand that may still move: all but archived ones.
    unsettled: HashMap<u64, (Timestamp, JobState)>,
    by_state: [u64; JobState::ALL.len()],
    /// By their number.
    providers: Vec<String>,
}

impl Default for Rows {
    fn default() -> Self {
        Self::bounded(MAX_CODE_BYTES / size_of::<u32>())
    }
}

impl Rows {
    /// None yet, and of at most so many codes.
    pub(super) fn bounded(max_codes: usize) -> Self {
        let (days, unsettled, providers) = (BTreeMap::new(), HashMap::new(), Vec::new());
        Self { days, words_from: 0, codes: 0, max_codes, unsettled, by_state: Default::default(), providers }
    }

    /// Whether the query asks for more than rows tell, of jobs of which they are all there is.
    pub(super) fn is_vague(&self, query: &Query) -> bool {
        self.words_from > query.from.map_or(0, day_of)
            && self.filter(query).is_some_and(|filter| filter.asks_for_codes())
    }

    /// Forgets the words of the oldest day that has any, until there are few enough.
    fn forget_words(&mut self) {
        while self.codes > self.max_codes {
            let Some((number, day)) = self.days.range_mut(self.words_from..).find(|(_, day)| day.codes.capacity() > 0)
            else {
                return;
            };
            self.codes -= day.codes.capacity();
            (day.codes, day.unused) = (Vec::new(), 0);
            day.rows.iter_mut().for_each(|row| (row.first_code, row.codes) = (0, 0));
            self.words_from = number + 1;
        }
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
    pub(super) fn put(&mut self, entry: &Entry) {
        self.put_row(entry);
        self.forget_words();
    }

    fn put_row(&mut self, entry: &Entry) {
        let Entry { place, state, kind, provider, ref codes } = *entry;
        let codes: &[u32] = if day_of(place.made) < self.words_from { &[] } else { codes };
        if let Some((made, _)) = self.unsettled.remove(&place.sequence)
            && made != place.made
        {
            self.remove(Place { made, ..place });
        }
        if state != JobState::Archived {
            self.unsettled.insert(place.sequence, (place.made, state));
        }
        let day = self.days.entry(day_of(place.made)).or_default();
        self.codes -= day.codes.capacity();
        let at = (place.made.millis() % DAY_MS) as u32;
        let slot = day.slot(at, place.sequence);
        let before = slot.ok().map(|index| day.rows[index]);
        let first_code = match before {
            Some(row) if day.codes_of(&row) == codes => row.first_code,
            before => {
                day.unused += before.map_or(0, |row| usize::from(row.codes));
                day.codes.extend_from_slice(codes);
                (day.codes.len() - codes.len()) as u32
            }
        };
        let codes = codes.len() as u8;
        let row = Row { sequence: place.sequence, at, first_code, codes, state: state as u8, kind, provider };
        match slot {
            Ok(index) => day.rows[index] = row,
            Err(index) => day.rows.insert(index, row),
        }
        if day.unused > 1024.max(day.codes.len() / 2) {
            day.compact();
        }
        self.codes += day.codes.capacity();
        if let Some(row) = before {
            self.count(row.state, -1);
        }
        self.count(state as u8, 1);
    }

    fn remove(&mut self, place: Place) {
        let Some(day) = self.days.get_mut(&day_of(place.made)) else { return };
        let Ok(index) = day.slot((place.made.millis() % DAY_MS) as u32, place.sequence) else { return };
        let Some(row) = day.rows.remove(index) else { return };
        day.unused += usize::from(row.codes);
        self.count(row.state, -1);
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
        self.days.values().flat_map(|day| &day.rows).map(|row| row.sequence).max()
    }

    pub(super) fn unsettled(&self) -> Vec<u64> {
        self.unsettled.keys().copied().collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::bounded(self.max_codes);
    }

    pub(super) fn bytes(&self) -> usize {
        let rows = |day: &Day| day.rows.capacity() * size_of::<Row>() + day.codes.capacity() * size_of::<u32>();
        self.days.values().map(rows).sum::<usize>() + self.unsettled.capacity() * 32
    }

    pub(super) fn find(&self, query: &Query, after: Option<Place>, skip: usize, limit: usize) -> Vec<Place> {
        let Some(filter) = self.filter(query) else { return Vec::new() };
        let mut days = filter.days.clone();
        if let Some(after) = after {
            days = *days.start()..=day_of(after.made).min(*days.end());
        }
        if days.is_empty() {
            return Vec::new();
        }
        let mut left = skip;
        let mut found = Vec::new();
        for (number, day) in self.days.range(days).rev() {
            // A day of which nothing is asked but the time is passed over as a whole.
            if filter.takes_all && after.is_none() && left >= day.rows.len() {
                left -= day.rows.len();
                continue;
            }
            // Of the day that the last page ended in, the rest.
            let end = match after.filter(|after| day_of(after.made) == *number) {
                Some(Place { made, sequence }) => {
                    day.slot((made.millis() % DAY_MS) as u32, sequence).unwrap_or_else(|index| index)
                }
                None => day.rows.len(),
            };
            let knows_words = *number >= self.words_from;
            for row in day.rows.range(..end).rev() {
                if !filter.takes(knows_words.then_some(day), row) {
                    continue;
                }
                let place = Place { made: time_of(*number, row.at), sequence: row.sequence };
                if left > 0 {
                    left -= 1;
                    continue;
                }
                if found.len() == limit {
                    return found;
                }
                found.push(place);
            }
        }
        found
    }

    pub(super) fn days(&self, query: &Query) -> Vec<DayCount> {
        let Some(filter) = self.filter(query) else { return Vec::new() };
        if filter.days.is_empty() {
            return Vec::new();
        }
        let count = |(number, day): (&u32, &Day)| {
            let jobs = match filter.takes_all {
                true => day.rows.len(),
                false => {
                    let words = (*number >= self.words_from).then_some(day);
                    day.rows.iter().filter(|row| filter.takes(words, row)).count()
                }
            };
            DayCount { day: time_of(*number, 0), jobs: jobs as u64 }
        };
        self.days.range(filter.days.clone()).rev().map(count).filter(|day| day.jobs > 0).collect()
    }

    /// `None` when nothing can match.
    fn filter(&self, query: &Query) -> Option<Filter> {
        let Query { from, to, states, kind, provider, reply_ref, labels, model, batch_id, text } = query;
        let provider = match provider {
            Some(name) => Some(self.providers.iter().position(|known| known == name)? as u8),
            None => None,
        };
        let mut codes: Vec<u32> = labels.iter().map(|(name, text)| codes::label_code(name, text)).collect();
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

    /// Whether a row matches, or may: without the words of its `day`.
    fn takes(&self, day: Option<&Day>, row: &Row) -> bool {
        if (self.states != 0 && self.states & 1 << row.state == 0)
            || self.kind.is_some_and(|kind| kind != row.kind)
            || self.provider.is_some_and(|provider| provider != row.provider)
        {
            return false;
        }
        let Some(day) = day.filter(|_| self.asks_for_codes()) else { return true };
        let codes = day.codes_of(row);
        self.codes.iter().all(|code| codes.contains(code))
            && self.beginnings.iter().all(|beginning| codes.iter().any(|code| (code >> 16) as u16 == *beginning))
    }
}

impl Day {
    fn slot(&self, at: u32, sequence: u64) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&(at, sequence), |row| (row.at, row.sequence))
    }

    fn codes_of(&self, row: &Row) -> &[u32] {
        let first = row.first_code as usize;
        &self.codes[first..first + usize::from(row.codes)]
    }

    fn compact(&mut self) {
        let mut codes = Vec::with_capacity(self.codes.len() - self.unused);
        for row in &mut self.rows {
            let first = row.first_code as usize;
            row.first_code = codes.len() as u32;
            codes.extend_from_slice(&self.codes[first..first + usize::from(row.codes)]);
        }
        (self.codes, self.unused) = (codes, 0);
    }
}

fn day_of(time: Timestamp) -> u32 {
    (time.millis() / DAY_MS) as u32
}

fn time_of(day: u32, at: u32) -> Timestamp {
    Timestamp::from_millis_clamped(u64::from(day) * DAY_MS + u64::from(at))
}
