//! The one place that knows what the tree's keys look like. Numbers are big-endian, so that keys sort as they do.

use std::ops::Range;

use crate::domain::{
    AssetId, Destination, Digest, JobId, JobState, NotificationId, NotificationState, RefId, ReplyRef, Timestamp,
};

/// The kinds of keys, by their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    /// Version, position and counters: one record.
    Meta = b'@',
    /// When and about what to ask the provider: time, job.
    Asks = b'a',
    /// Where callbacks stand that were written again: by the position they were first recorded at.
    Kept = b'b',
    /// Claims, by digest.
    Claims = b'c',
    /// When and what is due: at once or later, due time, job.
    Due = b'd',
    /// The same by the host of the next file: hash of the host, at once or later, deadline or due time, job.
    HostQueues = b'e',
    /// Which job holds a folder.
    Folders = b'f',
    /// The gateway's refs by replyRef: hash, id.
    GatewayRefs = b'g',
    /// The same by who it is for: hash of the host, owner, at once or later, deadline or due time, job.
    Lanes = b'h',
    /// Files of jobs that have many: job, place.
    JobFiles = b'J',
    /// Which job has an id.
    JobIds = b'i',
    /// Which number an event on its way has: its id.
    NotificationIds = b'I',
    /// Events that are to be sent: destination, job, number.
    NotificationLanes = b'L',
    /// Events on their way to a destination, delivered and dead: number.
    Notifications = b'N',
    /// Which endpoints are told of what: one record.
    NotifyRoutes = b'R',
    /// Events on their way by how far they are: state, number. Whom each goes to, as a hash.
    NotificationStates = b'S',
    /// Jobs, by sequence.
    Jobs = b'j',
    /// Which digest a key of the bucket belongs to.
    ObjectKeys = b'k',
    /// How many jobs of the queue have a link that dies in a minute: minute.
    ExpiringLinks = b'l',
    /// Which object a digest is that of.
    MediaDigests = b'm',
    /// Who refers to an object: its position, job, slot.
    References = b'n',
    /// The content-hash index, by the position of what told that an object is stored.
    Media = b'o',
    /// What waits to be passed on: ref, position.
    Outbox = b'p',
    /// Quarantine, by position.
    Quarantine = b'q',
    /// Refs that are not deleted, by id.
    Refs = b'r',
    /// Jobs by state, for the states that few jobs are in: state, job.
    JobStates = b's',
    /// The tokens of speech streams, by digest.
    StreamTokens = b't',
    /// What unconfirmed callbacks say, where it is much: job, position.
    Unconfirmed = b'U',
    /// Unfinished multipart uploads, by the bucket's name for them.
    Uploads = b'u',
    /// The same by job: hash of its id, upload.
    JobUploads = b'v',
    /// Refs that were deleted, by id.
    RemovedRefs = b'w',
    /// What goes by a replyRef: the ref that answers to it by its hash alone; its jobs by hash, a letter, job. One table, so
    /// that who is looked for at the same time lies together.
    Names = b'x',
}

/// The token of a speech stream with this digest.
pub(super) fn stream_token(digest: &Digest) -> Vec<u8> {
    Table::StreamTokens.key(&[digest.as_bytes()])
}

pub(super) const META: [u8; 1] = [Table::Meta as u8];

impl Table {
    pub(super) fn prefix(self) -> Vec<u8> {
        vec![self as u8]
    }

    fn key(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
        key.push(self as u8);
        for part in parts {
            key.extend_from_slice(part);
        }
        key
    }
}

pub(super) fn kept(position: u64) -> Vec<u8> {
    Table::Kept.key(&[&position.to_be_bytes()])
}

pub(super) fn claim(digest: &Digest) -> Vec<u8> {
    Table::Claims.key(&[digest.as_bytes()])
}

pub(super) fn ask(at: Timestamp, sequence: u64) -> Vec<u8> {
    Table::Asks.key(&[&at.millis().to_be_bytes(), &sequence.to_be_bytes()])
}

/// Jobs that are due at once sort before those that wait for another attempt.
pub(super) fn due(at_once: bool, at: Timestamp, sequence: u64) -> Vec<u8> {
    Table::Due.key(&[&[u8::from(!at_once)], &at.millis().to_be_bytes(), &sequence.to_be_bytes()])
}

/// The jobs whose next file comes from a host.
pub(super) fn host_queue(host: u64) -> Vec<u8> {
    Table::HostQueues.key(&[&host.to_be_bytes()])
}

/// `time` is the deadline of a job that is due at once, else when it is due.
pub(super) fn in_host_queue(host: u64, at_once: bool, time: Timestamp, sequence: u64) -> Vec<u8> {
    in_queue(host_queue(host), at_once, time, sequence)
}

/// The lanes of a host.
pub(super) fn lanes(host: u64) -> Vec<u8> {
    Table::Lanes.key(&[&host.to_be_bytes()])
}

/// The jobs whose next file comes from a host and that are an owner's.
pub(super) fn lane(host: u64, owner: u64) -> Vec<u8> {
    with_job(lanes(host), owner)
}

pub(super) fn in_lane(host: u64, owner: u64, at_once: bool, time: Timestamp, sequence: u64) -> Vec<u8> {
    in_queue(lane(host, owner), at_once, time, sequence)
}

/// The owner and the host in such a key.
pub(super) fn lane_in(key: &[u8]) -> Option<(u64, u64)> {
    Some((number_at(key, 9)?, number_at(key, 1)?))
}

/// A place in a queue whose keys begin with `prefix`.
pub(super) fn in_queue(mut prefix: Vec<u8>, at_once: bool, time: Timestamp, sequence: u64) -> Vec<u8> {
    prefix.push(u8::from(!at_once));
    prefix.extend_from_slice(&time.millis().to_be_bytes());
    prefix.extend_from_slice(&sequence.to_be_bytes());
    prefix
}

/// The keys that begin with `prefix`.
pub(super) fn with_prefix(prefix: Vec<u8>) -> Range<Vec<u8>> {
    prefix.clone()..after_prefix(prefix)
}

/// Behind the last key that begins with `prefix`, which does not consist of 255s alone.
pub(super) fn after_prefix(mut prefix: Vec<u8>) -> Vec<u8> {
    while prefix.pop_if(|last| *last == u8::MAX).is_some() {}
    if let Some(last) = prefix.last_mut() {
        *last += 1;
    }
    prefix
}

/// Which minute a link dies in, as the key of its count.
pub(super) fn dying_links(at: Timestamp) -> Vec<u8> {
    Table::ExpiringLinks.key(&[&(at.millis() / 60_000).to_be_bytes()])
}

pub(super) fn folder(folder: &str) -> Vec<u8> {
    Table::Folders.key(&[folder.as_bytes()])
}

pub(super) fn job_id(id: &JobId) -> Vec<u8> {
    Table::JobIds.key(&[id.as_str().as_bytes()])
}

pub(super) fn job(sequence: u64) -> Vec<u8> {
    Table::Jobs.key(&[&sequence.to_be_bytes()])
}

pub(super) fn object_key(key: &str) -> Vec<u8> {
    Table::ObjectKeys.key(&[key.as_bytes()])
}

/// A job has at most 65,536 files.
pub(super) fn job_file(sequence: u64, place: usize) -> Vec<u8> {
    Table::JobFiles.key(&[&sequence.to_be_bytes(), &u16::try_from(place).unwrap_or(u16::MAX).to_be_bytes()])
}

pub(super) fn unconfirmed(sequence: u64, position: u64) -> Vec<u8> {
    Table::Unconfirmed.key(&[&sequence.to_be_bytes(), &position.to_be_bytes()])
}

/// Tells most slots apart.
pub(super) fn slot_hash(slot: &AssetId) -> u32 {
    Digest::of(slot.as_str().as_bytes()).as_bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn media_digest(digest: &Digest) -> Vec<u8> {
    Table::MediaDigests.key(&[digest.as_bytes()])
}

pub(super) fn references(media: u64) -> Vec<u8> {
    Table::References.key(&[&media.to_be_bytes()])
}

pub(super) fn reference(media: u64, sequence: u64, slot: &AssetId) -> Vec<u8> {
    Table::References.key(&[&media.to_be_bytes(), &sequence.to_be_bytes(), slot.as_str().as_bytes()])
}

pub(super) fn media(position: u64) -> Vec<u8> {
    Table::Media.key(&[&position.to_be_bytes()])
}

pub(super) fn quarantine(position: u64) -> Vec<u8> {
    Table::Quarantine.key(&[&position.to_be_bytes()])
}

pub(super) fn reply_ref_id(id: &RefId) -> Vec<u8> {
    Table::Refs.key(&[id.as_str().as_bytes()])
}

pub(super) fn removed_ref(id: &RefId) -> Vec<u8> {
    Table::RemovedRefs.key(&[id.as_str().as_bytes()])
}

pub(super) fn outbox_of(id: &RefId) -> Vec<u8> {
    Table::Outbox.key(&[id.as_str().as_bytes()])
}

pub(super) fn outbox(id: &RefId, position: u64) -> Vec<u8> {
    Table::Outbox.key(&[id.as_str().as_bytes(), &position.to_be_bytes()])
}

/// The ref in such a key.
pub(super) fn ref_of_outbox(key: &[u8]) -> Option<RefId> {
    let id = key.get(1..key.len().checked_sub(8)?)?;
    RefId::parse(std::str::from_utf8(id).ok()?).ok()
}

pub(super) const NOTIFY_ROUTES: [u8; 1] = [Table::NotifyRoutes as u8];

pub(super) fn notification(number: u64) -> Vec<u8> {
    Table::Notifications.key(&[&number.to_be_bytes()])
}

pub(super) fn notification_id(id: &NotificationId) -> Vec<u8> {
    Table::NotificationIds.key(&[id.as_bytes()])
}

pub(super) fn notifications_in(state: NotificationState) -> Vec<u8> {
    let tag = match state {
        NotificationState::Pending => b'p',
        NotificationState::Delivered => b'd',
        NotificationState::Dead => b'x',
    };
    Table::NotificationStates.key(&[&[tag]])
}

/// All refs together are one destination: a job has one ref.
pub(super) fn destination(destination: &Destination) -> u64 {
    match destination {
        Destination::Endpoint(_) => short_hash(&destination.name()),
        Destination::Ref(_) => REFS,
    }
}

/// What stands for all refs where destinations are.
pub(super) const REFS: u64 = 0;

pub(super) fn lanes_to(destination: u64) -> Vec<u8> {
    Table::NotificationLanes.key(&[&destination.to_be_bytes()])
}

pub(super) fn notification_lane(destination: u64, job: u64) -> Vec<u8> {
    with_job(lanes_to(destination), job)
}

pub(super) fn in_notification_lane(destination: u64, job: u64, number: u64) -> Vec<u8> {
    with_job(notification_lane(destination, job), number)
}

/// `None` for the states that most jobs are in or are in for a moment: those are found by walking the jobs.
pub(super) fn jobs_in_state(state: JobState) -> Option<Vec<u8>> {
    let tag = match state {
        JobState::Archiving | JobState::Archived => return None,
        JobState::Running => b'r',
        JobState::Failed => b'f',
        JobState::Stuck => b's',
    };
    Some(Table::JobStates.key(&[&[tag]]))
}

pub(super) fn upload(upload: &str) -> Vec<u8> {
    Table::Uploads.key(&[upload.as_bytes()])
}

pub(super) fn uploads_of_job(id: &JobId) -> Vec<u8> {
    Table::JobUploads.key(&[&half_hash(id.as_str())])
}

pub(super) fn upload_of_job(id: &JobId, upload: &str) -> Vec<u8> {
    Table::JobUploads.key(&[&half_hash(id.as_str()), upload.as_bytes()])
}

/// The upload in such a key.
pub(super) fn upload_in(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(17..)?).ok()
}

pub(super) fn ref_name(name: &ReplyRef) -> Vec<u8> {
    Table::Names.key(&[&half_hash(name.as_str())])
}

pub(super) fn gateway_refs_named(name: &ReplyRef) -> Vec<u8> {
    Table::GatewayRefs.key(&[&half_hash(name.as_str())])
}

pub(super) fn gateway_ref(name: &ReplyRef, id: &RefId) -> Vec<u8> {
    Table::GatewayRefs.key(&[&half_hash(name.as_str()), id.as_str().as_bytes()])
}

/// Behind the last key with a prefix that ends in a hash.
pub(super) fn prefix_end(mut prefix: Vec<u8>) -> Vec<u8> {
    prefix.push(u8::MAX);
    prefix
}

/// The ref in such a key.
pub(super) fn ref_in(key: &[u8]) -> Option<RefId> {
    RefId::parse(std::str::from_utf8(key.get(17..)?).ok()?).ok()
}

pub(super) fn jobs_of_ref(name: &ReplyRef) -> Vec<u8> {
    Table::Names.key(&[&half_hash(name.as_str()), b"j"])
}

/// An index key: `prefix`, then the job.
pub(super) fn with_job(mut prefix: Vec<u8>, sequence: u64) -> Vec<u8> {
    prefix.extend_from_slice(&sequence.to_be_bytes());
    prefix
}

/// The number a key ends in.
pub(super) fn trailing_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Behind the last key of a table.
pub(super) fn after(table: Table) -> Vec<u8> {
    vec![table as u8 + 1]
}

/// The due time in a key of the queue.
pub(super) fn due_at(key: &[u8]) -> Option<Timestamp> {
    if key.first() != Some(&(Table::Due as u8)) {
        return None;
    }
    number_at(key, 2).and_then(Timestamp::from_millis)
}

/// The number at `offset` in a key.
pub(super) fn number_at(key: &[u8], offset: usize) -> Option<u64> {
    key.get(offset..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// What stands for a text in keys where two texts that look the same do no harm.
pub(super) fn short_hash(text: &str) -> u64 {
    let digest = Digest::of(text.as_bytes());
    digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// References and ids may be long; half a digest tells them apart.
fn half_hash(text: &str) -> [u8; 16] {
    let digest = Digest::of(text.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_bytes()[..16]);
    half
}
