//! How a job is kept: in one record while its files are few. Of a job with more, each file has a record of its own, so that
//! what happens to one of them reads and writes that one and the job's own record, however many others there are.
//!
//! The job's own record then has of every file what the job's state follows from. Unconfirmed callbacks that say much have
//! records of their own likewise.

use std::mem;

use serde::{Deserialize, Serialize};

use super::StateError;
use super::keys;
use super::queue::Queued;
use super::records::{JobRecord, JobSummary};
use super::store::IVec;
use super::txn::Txn;
use crate::domain::{
    Asset, AssetId, AssetState, FileName, Job, JobId, JobState, Observation, ReplyRef, Role, StuckReason, Timestamp,
    UnconfirmedFinal,
};

/// So many files stand in the job's own record, more than nearly any job has.
const MAX_INLINE_FILES: usize = 4;
/// So many bytes of what unconfirmed callbacks say stand there.
const MAX_INLINE_FINALS_BYTES: usize = 4096;

/// A job's own record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// Without its files, and without what its unconfirmed callbacks say, where those have records of their own.
    job: Job,
    /// Of each file that has a record of its own, in their order.
    files: Vec<FileState>,
    /// The host the next of these comes from.
    next_host: Option<String>,
    /// Whether what the unconfirmed callbacks say has records of its own.
    finals_apart: bool,
}

/// What of a file decides how its job goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FileState {
    /// Tells most files apart: a hash of its slot.
    slot: u32,
    role: Role,
    state: AssetState,
    stuck: Option<StuckReason>,
    not_before: Option<Timestamp>,
    link_expires_at: Option<Timestamp>,
}

/// What an entry needs of a job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    /// Neither its files nor what its unconfirmed callbacks say.
    Header,
    /// What its unconfirmed callbacks say, and none of its files.
    Finals,
    /// One file.
    File(&'a AssetId),
    Whole,
}

/// A job that an entry is folded into.
#[derive(Debug)]
pub(super) struct OpenJob {
    pub(super) sequence: u64,
    /// Of files that are not at hand it has stand-ins, which have what their job's state follows from.
    pub(super) job: Job,
    before: Option<Indexed>,
    files: Files,
    finals: Finals,
    next_host: Option<String>,
}

/// Where the files are.
#[derive(Debug)]
enum Files {
    /// All are at hand; these have records of their own.
    All(Vec<IVec>),
    /// They have records of their own, and at most one is at hand.
    Apart(Vec<FileState>, Option<usize>),
}

/// Where that is what the unconfirmed callbacks say.
#[derive(Debug)]
enum Finals {
    /// All is at hand; those recorded at these positions have records of their own.
    All(Vec<u64>),
    Apart,
}

/// What the indexes say of a job.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    pub(super) state: JobState,
    pub(super) queued: Option<Queued>,
    pub(super) confirm_at: Option<Timestamp>,
    pub(super) reply_ref: Option<ReplyRef>,
}

impl FileState {
    fn of(asset: &Asset) -> Self {
        Self {
            slot: keys::slot_hash(&asset.slot),
            role: asset.role,
            state: asset.state,
            stuck: asset.stuck,
            not_before: asset.not_before,
            link_expires_at: asset.link_expires_at(),
        }
    }

    fn stand_in(&self) -> Asset {
        Asset {
            slot: AssetId::new(""),
            role: self.role,
            file: FileName::clean(""),
            state: self.state,
            stuck: self.stuck,
            attempts: 0,
            reached: 0,
            not_before: self.not_before,
            renewals: 0,
            last_error: None,
            candidates: Vec::new(),
            stored: None,
        }
    }
}

impl Header {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StateError> {
        Ok(postcard::from_bytes(bytes)?)
    }

    /// The job without its files where those have records of their own.
    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    pub(super) fn without_files(self) -> Job {
        Job { assets: Vec::new(), ..self.job }
    }

    /// The job, unless it has records beside this one.
    pub(super) fn alone(self) -> Option<Job> {
        (!self.has_more()).then_some(self.job)
    }

    /// True when the job has records beside this one.
    pub(super) fn has_more(&self) -> bool {
        self.finals_apart || !self.files.is_empty()
    }

    /// The whole job, read with `get`, and how many bytes its other records have.
    pub(super) fn whole(self, sequence: u64, get: &Get<'_>) -> Result<(JobRecord, usize), StateError> {
        let (mut job, mut bytes) = (self.job, 0);
        for place in 0..self.files.len() {
            let record = required(get(&keys::job_file(sequence, place))?)?;
            bytes += record.len();
            job.assets.push(postcard::from_bytes(&record)?);
        }
        if self.finals_apart {
            for callback in &mut job.unconfirmed {
                let record = required(get(&keys::unconfirmed(sequence, callback.position))?)?;
                bytes += record.len();
                callback.observation = postcard::from_bytes(&record)?;
            }
        }
        Ok((JobRecord { sequence, job }, bytes))
    }

    /// One file and its place among those with records of their own, `None` beside it where it stands in this record.
    pub(super) fn file(
        &self,
        sequence: u64,
        slot: &AssetId,
        get: &Get<'_>,
    ) -> Result<Option<(Asset, Option<usize>)>, StateError> {
        let hash = keys::slot_hash(slot);
        for (place, _) in self.files.iter().enumerate().filter(|(_, file)| file.slot == hash) {
            let asset: Asset = postcard::from_bytes(&required(get(&keys::job_file(sequence, place))?)?)?;
            if asset.slot == *slot {
                return Ok(Some((asset, Some(place))));
            }
        }
        Ok(self.job.asset(slot).map(|asset| (asset.clone(), None)))
    }
}

/// Reads a record.
type Get<'a> = dyn Fn(&[u8]) -> Result<Option<IVec>, StateError> + 'a;

/// A record that another one says is there.
fn required(record: Option<IVec>) -> Result<IVec, StateError> {
    record.ok_or_else(|| StateError::Untrue("a job lacks a record that it says it has".to_owned()))
}

impl OpenJob {
    /// A job that nothing was known of.
    pub(super) fn new(sequence: u64, job: Job) -> Self {
        let (files, finals) = (Files::All(Vec::new()), Finals::All(Vec::new()));
        Self { sequence, job, before: None, files, finals, next_host: None }
    }

    pub(super) fn is_new(&self) -> bool {
        self.before.is_none()
    }

    /// Whether all of it is at hand.
    pub(super) fn is_whole(&self) -> bool {
        matches!((&self.files, &self.finals), (Files::All(_), Finals::All(_)))
    }

    /// The state it was in; `None` when nothing was known of it.
    pub(super) fn state_before(&self) -> Option<JobState> {
        self.before.as_ref().map(|before| before.state)
    }

    /// When the first of the links to files that are to be fetched dies.
    pub(super) fn link_expires_at(&self) -> Option<Timestamp> {
        match &self.files {
            Files::All(_) => self.job.link_expires_at(),
            Files::Apart(files, _) => {
                let pending = files.iter().filter(|file| file.state == AssetState::Pending);
                pending.filter_map(|file| file.link_expires_at).min()
            }
        }
    }

    pub(super) fn summary(&self) -> JobSummary {
        JobSummary {
            sequence: self.sequence,
            id: self.job.id.clone(),
            reply_ref: self.job.reply_ref.clone(),
            state: self.job.state,
            is_final: self.job.outcome.is_some() || !self.job.unconfirmed.is_empty(),
            last_unconfirmed: self.job.unconfirmed.last().map(|callback| callback.position),
        }
    }

    fn indexed(&self) -> Indexed {
        let link_expires_at = self.link_expires_at();
        let host = match &self.files {
            Files::All(_) => self.job.next_host(),
            Files::Apart(..) => self.next_host.as_deref(),
        };
        Indexed {
            state: self.job.state,
            queued: Queued::of(&self.job, host, link_expires_at),
            confirm_at: self.job.confirm_at,
            reply_ref: self.job.reply_ref.clone(),
        }
    }
}

impl Txn<'_> {
    /// What an entry needs of the job with an id; `None` when it is not known.
    pub(super) fn open_job(&self, id: &JobId, part: Part<'_>) -> Result<Option<OpenJob>, StateError> {
        let Some(sequence) = self.get(&keys::job_id(id))? else { return Ok(None) };
        let Some(header) = self.get::<Header>(&keys::job(sequence))? else { return Ok(None) };
        let mut files = Files::All(Vec::new());
        let mut at_hand = None;
        if !header.files.is_empty() {
            files = match part {
                Part::Whole => {
                    let record = |place| required(self.raw(&keys::job_file(sequence, place))?);
                    Files::All((0..header.files.len()).map(record).collect::<Result<_, _>>()?)
                }
                Part::Header | Part::Finals => Files::Apart(header.files.clone(), None),
                Part::File(slot) => {
                    at_hand = header.file(sequence, slot, &|key: &[u8]| self.raw(key))?;
                    Files::Apart(header.files.clone(), at_hand.as_ref().and_then(|(_, place)| *place))
                }
            };
        }
        let Header { mut job, next_host, finals_apart, .. } = header;
        match &files {
            Files::All(records) => {
                for record in records {
                    job.assets.push(postcard::from_bytes(record)?);
                }
            }
            Files::Apart(files, place) => {
                job.assets = files.iter().map(FileState::stand_in).collect();
                if let (Some(place), Some((asset, _))) = (place, at_hand) {
                    job.assets[*place] = asset;
                }
            }
        }
        let finals = match part {
            Part::Whole | Part::Finals if finals_apart => {
                for callback in &mut job.unconfirmed {
                    let record = required(self.raw(&keys::unconfirmed(sequence, callback.position))?)?;
                    callback.observation = postcard::from_bytes(&record)?;
                }
                Finals::All(job.unconfirmed.iter().map(|callback| callback.position).collect())
            }
            _ if finals_apart => Finals::Apart,
            _ => Finals::All(Vec::new()),
        };
        let mut open = OpenJob { sequence, job, before: None, files, finals, next_host };
        open.before = Some(open.indexed());
        Ok(Some(open))
    }

    /// Writes a job with every index and counter that follows from it.
    pub(super) fn put_job(&mut self, mut open: OpenJob) -> Result<(), StateError> {
        self.put_files(&mut open)?;
        self.put_finals(&mut open)?;
        let indexed = open.indexed();
        let OpenJob { sequence, mut job, before, files, finals, next_host } = open;
        let files = match files {
            Files::Apart(files, _) => {
                job.assets = Vec::new();
                files
            }
            Files::All(_) => Vec::new(),
        };
        if before.is_none() {
            self.put(keys::job_id(&job.id), &sequence)?;
        }
        let header = Header { job, files, next_host, finals_apart: matches!(finals, Finals::Apart) };
        self.put(keys::job(sequence), &header)?;
        self.put_indexes(before, indexed, sequence)
    }

    /// Writes the files that changed where they belong. None is at hand afterwards unless all stand in the job's own record.
    fn put_files(&mut self, open: &mut OpenJob) -> Result<(), StateError> {
        let OpenJob { sequence, job, files, next_host, .. } = open;
        let states = match files {
            Files::All(records) => {
                let apart = job.assets.len() > MAX_INLINE_FILES;
                let kept = if apart { job.assets.len() } else { 0 };
                for place in kept..records.len() {
                    self.remove(keys::job_file(*sequence, place));
                }
                let count = &mut self.meta.counters.job_files;
                *count = count.saturating_sub(records.len() as u64) + kept as u64;
                if !apart {
                    *next_host = None;
                    records.clear();
                    return Ok(());
                }
                for (place, asset) in job.assets.iter().enumerate() {
                    let bytes = postcard::to_stdvec(asset)?;
                    if records.get(place).is_none_or(|before| *before != bytes) {
                        self.put_raw(keys::job_file(*sequence, place), &bytes);
                    }
                }
                job.assets.iter().map(FileState::of).collect()
            }
            Files::Apart(states, place) => {
                if let Some(place) = *place {
                    self.put(keys::job_file(*sequence, place), &job.assets[place])?;
                    states[place] = FileState::of(&job.assets[place]);
                }
                mem::take(states)
            }
        };
        let pending = states.iter().enumerate().filter(|(_, file)| file.state == AssetState::Pending);
        let next = pending.min_by_key(|(_, file)| file.not_before).map(|(place, _)| place);
        *next_host = None;
        if let Some(place) = next {
            let asset: Option<Asset> = self.get(&keys::job_file(*sequence, place))?;
            *next_host = asset.and_then(|asset| asset.host().map(str::to_owned));
        }
        *files = Files::Apart(states, None);
        Ok(())
    }

    /// The same for what its unconfirmed callbacks say.
    fn put_finals(&mut self, open: &mut OpenJob) -> Result<(), StateError> {
        let OpenJob { sequence, job, finals, .. } = open;
        let Finals::All(before) = finals else { return Ok(()) };
        let bytes: usize = job.unconfirmed.iter().map(|callback| callback.observation.bytes()).sum();
        let apart = bytes > MAX_INLINE_FINALS_BYTES;
        let count = &mut self.meta.counters.unconfirmed_apart;
        *count = count.saturating_sub(before.len() as u64) + if apart { job.unconfirmed.len() as u64 } else { 0 };
        let is_kept = |position| apart && job.unconfirmed.iter().any(|callback| callback.position == position);
        for position in before.iter().filter(|position| !is_kept(**position)) {
            self.remove(keys::unconfirmed(*sequence, *position));
        }
        if apart {
            let nothing = Observation::naming(job.id.clone());
            for UnconfirmedFinal { position, observation, .. } in &mut job.unconfirmed {
                let said = mem::replace(&mut **observation, nothing.clone());
                if !before.contains(position) {
                    self.put(keys::unconfirmed(*sequence, *position), &said)?;
                }
            }
            *finals = Finals::Apart;
        } else {
            before.clear();
        }
        Ok(())
    }
}
