//! Reading the state, but for jobs and queues.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::keys::{self, META, Table};
use super::records::{
    Claim, Counters, MediaRecord, Meta, QuarantineRecord, RefRecord, Reference, StreamTokenRecord, UploadRecord,
};
use super::store::{Backwards, IVec, Store};
use super::{State, StateError};
use crate::domain::{AssetId, Digest, JobId, RefId, ReplyRef, Timestamp};

/// One page of a list, newest first, of about a MiB at the most.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// What is on it; may be fewer than asked for although there are more.
    pub items: Vec<T>,
    /// Where the next page starts, if there may be one.
    pub next: Option<u64>,
}

/// The most bytes that the records on one page have together, unless there is one alone.
const MAX_PAGE_BYTES: usize = 1 << 20;

fn is_full(items: usize, limit: usize, bytes: usize) -> bool {
    items == limit || (items > 0 && bytes > MAX_PAGE_BYTES)
}

/// Reads the records under some keys of one table, those that stand together in one walk, until `take` says no. Some of them
/// are left out: the walk ends where it would pass over too many others.
pub(super) fn read_neighbours<T>(
    store: &Store,
    wanted: &BTreeMap<Vec<u8>, T>,
    mut take: impl FnMut(&T, IVec) -> Result<bool, StateError>,
) -> Result<(), StateError> {
    /// To pass so many over for each that is wanted is cheaper than to look each up.
    const PASSED_FOR_EACH: usize = 4;
    /// About as many as are read together anyhow.
    const PASSED_IN_VAIN: usize = 16;
    let (Some((first, _)), Some((last, _))) = (wanted.first_key_value(), wanted.last_key_value()) else {
        return Ok(());
    };
    let (mut found, mut passed) = (0, 0);
    for record in store.range(first.clone()..=last.clone()) {
        let (key, value) = record?;
        match wanted.get(&*key) {
            Some(known) => {
                found += 1;
                if !take(known, value)? {
                    break;
                }
            }
            None => passed += 1,
        }
        if passed > PASSED_IN_VAIN + PASSED_FOR_EACH * found {
            break;
        }
    }
    Ok(())
}

/// From when on the provider is to be asked, and about which job.
type DueQuestion = (Timestamp, u64);

/// The most records one page looks at: what a filter passes over must not hold a request up without limit.
const MAX_LOOKED_AT: usize = 10_000;

impl State {
    /// A ref that is not deleted.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails; so for all that follow.
    pub fn reply_ref(&self, id: &RefId) -> Result<Option<RefRecord>, StateError> {
        self.get(&keys::reply_ref_id(id))
    }

    /// The token of a speech stream that was given here and is still good.
    pub fn stream_token(&self, digest: &Digest) -> Result<Option<StreamTokenRecord>, StateError> {
        let known: Option<StreamTokenRecord> = self.get(&keys::stream_token(digest))?;
        Ok(known.filter(|known| Timestamp::now().since(known.at) < StreamTokenRecord::LIVES))
    }

    /// A ref, deleted or not.
    pub fn ref_including_deleted(&self, id: &RefId) -> Result<Option<RefRecord>, StateError> {
        match self.reply_ref(id)? {
            Some(record) => Ok(Some(record)),
            None => self.get(&keys::removed_ref(id)),
        }
    }

    /// The ref that answers to a replyRef.
    pub fn reply_ref_named(&self, name: &ReplyRef) -> Result<Option<RefRecord>, StateError> {
        match self.get::<RefId>(&keys::ref_name(name))? {
            Some(id) => self.reply_ref(&id),
            None => Ok(None),
        }
    }

    /// Refs that are not deleted, with ids before `before`, newest first, and whether there may be more.
    pub fn refs(&self, limit: usize, before: Option<&RefId>) -> Result<(Vec<RefRecord>, bool), StateError> {
        let store = self.store()?;
        let start = Table::Refs.prefix();
        let end = before.map_or_else(|| vec![Table::Refs as u8 + 1], keys::reply_ref_id);
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in store.range(Backwards(start..end)) {
            let value = item?.1;
            bytes += value.len();
            if is_full(items.len(), limit, bytes) {
                return Ok((items, true));
            }
            items.push(postcard::from_bytes(&value)?);
        }
        Ok((items, false))
    }

    /// The ref that answers to a replyRef and those that the gateway made with it, otherwise as [`State::refs`].
    pub fn refs_named(
        &self,
        name: &ReplyRef,
        limit: usize,
        before: Option<&RefId>,
    ) -> Result<(Vec<RefRecord>, bool), StateError> {
        let store = self.store()?;
        let start = keys::gateway_refs_named(name);
        let end = before.map_or_else(|| keys::prefix_end(start.clone()), |id| keys::gateway_ref(name, id));
        let mut named = self.reply_ref_named(name)?.filter(|record| before.is_none_or(|before| record.id < *before));
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in store.range(Backwards(start..end)) {
            let Some(id) = keys::ref_in(&item?.0) else { continue };
            for next in [named.take_if(|named| named.id > id), self.reply_ref(&id)?].into_iter().flatten() {
                bytes += next.bytes();
                if is_full(items.len(), limit, bytes) {
                    return Ok((items, true));
                }
                items.push(next);
            }
        }
        let more = named.as_ref().is_some_and(|named| is_full(items.len(), limit, bytes + named.bytes()));
        items.extend(named.filter(|_| !more));
        Ok((items, more))
    }

    /// What is known of the bytes with a digest.
    pub fn media(&self, sha256: &Digest) -> Result<Option<MediaRecord>, StateError> {
        let Some(position) = self.get(&keys::media_digest(sha256))? else { return Ok(None) };
        Ok(self.get::<(Digest, MediaRecord)>(&keys::media(position))?.map(|(_, media)| media))
    }

    /// Media first stored before `before`, newest first.
    pub fn media_list(&self, limit: usize, before: Option<u64>) -> Result<Page<(Digest, MediaRecord)>, StateError> {
        self.page(&Table::Media.prefix(), limit, before, |_, value| {
            Ok(Some((postcard::from_bytes(value)?, value.len())))
        })
    }

    /// At most `limit` files that consist of the bytes with a digest, of about `max_bytes` together, and whether there may be
    /// more.
    pub fn references(
        &self,
        sha256: &Digest,
        limit: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Reference>, bool), StateError> {
        let store = self.store()?;
        let (mut references, mut bytes) = (Vec::new(), 0);
        let Some(media) = self.get(&keys::media_digest(sha256))? else { return Ok((references, false)) };
        for item in store.range(keys::with_prefix(keys::references(media))) {
            let key = item?.0;
            if references.len() == limit || bytes > max_bytes {
                return Ok((references, true));
            }
            let Some(sequence) = keys::number_at(&key, 9) else { continue };
            let slot = AssetId::new(&String::from_utf8_lossy(&key[17..]));
            let Some(asset) = self.file_of(sequence, &slot)? else { continue };
            let Some(job) = self.job_without_files(sequence)? else { continue };
            let reference =
                Reference { file: asset.file.as_str().to_owned(), job_id: job.id, reply_ref: job.reply_ref };
            bytes += reference.bytes();
            references.push(reference);
        }
        Ok((references, false))
    }

    /// A body in quarantine.
    pub fn quarantined(&self, position: u64) -> Result<Option<QuarantineRecord>, StateError> {
        self.get(&keys::quarantine(position))
    }

    /// Where in the journal the callback stands that was first recorded at `position`.
    pub fn callback_at(&self, position: u64) -> Result<u64, StateError> {
        Ok(self.get(&keys::kept(position))?.unwrap_or(position))
    }

    /// Bodies in quarantine before position `before`, newest first.
    pub fn quarantine(&self, limit: usize, before: Option<u64>) -> Result<Page<QuarantineRecord>, StateError> {
        self.page(&Table::Quarantine.prefix(), limit, before, |_, value| {
            Ok(Some((postcard::from_bytes(value)?, value.len())))
        })
    }

    /// At most `limit` jobs about which the provider is to be asked, with the time from which on, the earliest first. A time
    /// further ahead than any question is put off was set by a clock that was wrong, and has come.
    pub fn confirmations(&self, limit: usize) -> Result<Vec<(Timestamp, u64)>, StateError> {
        /// Two hours for an account on hold, one otherwise, and some.
        const LONGEST_DELAY: Duration = Duration::from_secs(6 * 3600);
        let store = self.store()?;
        let now = Timestamp::now();
        let ahead = keys::ask(now.after(LONGEST_DELAY), u64::MAX);
        let mut asks = Vec::new();
        let wrong = store.range(ahead.clone()..keys::after(Table::Asks));
        for item in wrong.chain(store.range(Table::Asks.prefix()..ahead.clone())).take(limit) {
            let key = item?.0;
            if let (Some(millis), Some(sequence)) = (keys::number_at(&key, 1), keys::trailing_number(&key)) {
                let at = if *key >= *ahead { now } else { Timestamp::from_millis_clamped(millis) };
                asks.push((at, sequence));
            }
        }
        Ok(asks)
    }

    /// At most `limit` jobs about which the provider is to be asked now, those behind `after`, the longest due first, with the
    /// time from which on; and when the next is to be. No question is put off for longer than `longest`: a time further ahead
    /// was set by a clock that was wrong.
    pub fn confirmations_due(
        &self,
        now: Timestamp,
        longest: Duration,
        after: Option<DueQuestion>,
        limit: usize,
    ) -> Result<(Vec<DueQuestion>, Option<Timestamp>), StateError> {
        let store = self.store()?;
        let soon = keys::ask(now, u64::MAX)..keys::ask(now.after(longest), u64::MAX);
        let behind = |(at, sequence): DueQuestion| keys::ask(at, sequence.saturating_add(1));
        let start = after.map_or_else(|| Table::Asks.prefix(), behind);
        let come = store.range(start.clone()..soon.start.clone());
        let ahead = store.range(start.max(soon.end.clone())..keys::after(Table::Asks));
        let mut due = Vec::new();
        for item in come.chain(ahead).take(limit) {
            let key = item?.0;
            if let (Some(millis), Some(sequence)) = (keys::number_at(&key, 1), keys::trailing_number(&key)) {
                due.push((Timestamp::from_millis_clamped(millis), sequence));
            }
        }
        let next = store.range(soon).next().transpose()?;
        let next = next.and_then(|(key, _)| keys::number_at(&key, 1)).map(Timestamp::from_millis_clamped);
        Ok((due, next))
    }

    /// The digest that a key of the bucket belongs to.
    pub fn owner_of_key(&self, key: &str) -> Result<Option<Digest>, StateError> {
        self.get(&keys::object_key(key))
    }

    /// The open claim on a digest.
    pub fn claim(&self, sha256: &Digest) -> Result<Option<Claim>, StateError> {
        self.get(&keys::claim(sha256))
    }

    /// All open claims: as many as uploads that a crash cut off between claim and record.
    pub fn claims(&self) -> Result<Vec<Claim>, StateError> {
        let store = self.store()?;
        let records = store.range(keys::with_prefix(Table::Claims.prefix()));
        records.map(|record| Ok(postcard::from_bytes(&record?.1)?)).collect()
    }

    /// At most `limit` multipart uploads that are not known to have ended, those named behind `after`, with their names.
    pub fn uploads(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, UploadRecord)>, StateError> {
        let store = self.store()?;
        let start =
            after.map_or_else(|| Bound::Included(Table::Uploads.prefix()), |it| Bound::Excluded(keys::upload(it)));
        let end = Bound::Excluded(vec![Table::Uploads as u8 + 1]);
        let mut uploads = Vec::new();
        for item in store.range((start, end)).take(limit) {
            let (key, value) = item?;
            uploads.push((String::from_utf8_lossy(&key[1..]).into_owned(), postcard::from_bytes(&value)?));
        }
        Ok(uploads)
    }

    /// The multipart uploads for a job's files that are not known to have ended, with their names: mostly none or one.
    pub fn uploads_of(&self, job: &JobId) -> Result<Vec<(String, UploadRecord)>, StateError> {
        let store = self.store()?;
        let mut uploads = Vec::new();
        for item in store.range(keys::with_prefix(keys::uploads_of_job(job))) {
            let key = item?.0;
            let Some(upload) = keys::upload_in(&key) else { continue };
            uploads.extend(self.get(&keys::upload(upload))?.map(|record| (upload.to_owned(), record)));
        }
        Ok(uploads)
    }

    /// Jobs that are due, now or later, at most `limit` of them behind where another such page ended, and where this one
    /// ends if there may be more.
    pub fn due_page(&self, limit: usize, after: Option<Vec<u8>>) -> Result<(Vec<u64>, Option<Vec<u8>>), StateError> {
        let store = self.store()?;
        let start = after.map_or_else(|| Bound::Included(Table::Due.prefix()), Bound::Excluded);
        let end = Bound::Excluded(vec![Table::Due as u8 + 1]);
        let mut page = (Vec::new(), None);
        for item in store.range((start, end)).take(limit) {
            let key = item?.0;
            page.0.extend(keys::trailing_number(&key));
            page.1 = Some(key.to_vec());
        }
        Ok(page)
    }

    /// Everything before this journal position is folded in.
    pub fn applied(&self) -> Result<u64, StateError> {
        Ok(self.get::<Meta>(&META)?.unwrap_or_default().applied)
    }

    /// The numbers.
    pub fn counters(&self) -> Result<Counters, StateError> {
        Ok(self.get::<Meta>(&META)?.unwrap_or_default().counters)
    }

    /// Walks an index whose keys are `prefix` and a number, from the highest number below `before` down. `read` says of each
    /// item how many bytes it has.
    pub(super) fn page<T>(
        &self,
        prefix: &[u8],
        limit: usize,
        before: Option<u64>,
        mut read: impl FnMut(u64, &IVec) -> Result<Option<(T, usize)>, StateError>,
    ) -> Result<Page<T>, StateError> {
        let store = self.store()?;
        let end = keys::with_job(prefix.to_vec(), before.unwrap_or(u64::MAX));
        let range = (Bound::Included(prefix.to_vec()), Bound::Excluded(end));
        let mut page = Page { items: Vec::new(), next: None };
        let (mut last, mut bytes) = (None, 0);
        for (looked_at, item) in store.range(Backwards(range)).enumerate() {
            if page.items.len() == limit || looked_at == MAX_LOOKED_AT {
                page.next = last;
                break;
            }
            let (key, value) = item?;
            let Some(number) = keys::trailing_number(&key) else { continue };
            if let Some((item, size)) = read(number, &value)? {
                bytes += size;
                if is_full(page.items.len(), limit, bytes) {
                    page.next = last;
                    break;
                }
                page.items.push(item);
            }
            last = Some(number);
        }
        Ok(page)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StateError> {
        self.store()?.get(key)?.map(|value| Ok(postcard::from_bytes(&value)?)).transpose()
    }
}
