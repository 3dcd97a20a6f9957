//! The journal of a replyvault that has long been running, written in a moment.

use std::path::Path;

use bytes::Bytes;
use replyvault::domain::{
    AssetId, Digest, FileName, JobId, JobState, MediaUrl, StoredFile, Target, Timestamp, Variant,
};
use replyvault::journal::{CallbackEntry, Durability, Entry, Event, Journal, Writer};

use crate::callback::{Callback, REF_EACH, job_id};
use crate::failure::Failure;

/// Jobs that are archived, each with a ref of its own, one file, and so many progress callbacks before the final one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    pub(crate) jobs: u64,
    pub(crate) progress: u64,
}

/// Jobs whose entries stand together, as they do when many run at a time.
const TOGETHER: u64 = 500;

impl History {
    pub(crate) fn callbacks(self) -> u64 {
        self.jobs * (self.progress + 1)
    }

    /// Writes it into the folder of a service that has not started yet.
    pub(crate) fn write(self, data: &Path) -> Result<(), Failure> {
        let mut writer = Writer::new(Journal::open(&data.join("journal"))?, 0)?;
        let nowhere = ([127, 0, 0, 1], 1).into();
        let progress = Callback::progress(nowhere, "/reply", REF_EACH);
        let completed = Callback::completed(nowhere, "/reply", REF_EACH, "http://127.0.0.1:1/boat.mp4");
        let mut first = 0;
        while first < self.jobs {
            let jobs = first..self.jobs.min(first + TOGETHER);
            for _ in 0..self.progress {
                let entries: Vec<_> = jobs.clone().map(|job| callback(progress.body(job))).collect();
                writer.append(&entries, Durability::Buffered)?;
            }
            let finals: Vec<_> = jobs.clone().map(|job| callback(completed.body(job))).collect();
            let positions = writer.append(&finals, Durability::Buffered)?;
            let mut events = Vec::new();
            for (job, position) in jobs.clone().zip(positions) {
                events.extend(end(job, position)?);
            }
            writer.append(&events, Durability::Buffered)?;
            first = jobs.end;
        }
        writer.append([&callback(progress.body(self.jobs))], Durability::Synced)?;
        Ok(())
    }
}

/// SHA-256 of a job's file.
pub(crate) fn digest(job: u64) -> Digest {
    Digest::of(&job.to_le_bytes())
}

pub(crate) fn callback(body: Vec<u8>) -> Entry {
    Entry::Callback(CallbackEntry {
        at: Timestamp::now(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: Bytes::from(body),
    })
}

/// What follows a final callback when all goes well.
fn end(number: u64, position: u64) -> Result<[Entry; 4], Failure> {
    let (at, slot) = (Timestamp::now(), AssetId::media());
    let job: JobId = job_id(number).parse()?;
    let folder = format!("video/2026/11/20/video-418200{number:012}");
    let file = StoredFile {
        file: FileName::clean("video.mp4"),
        sha256: digest(number),
        bytes: 5_000_000,
        content_type: "video/mp4".to_owned(),
        key: format!("{folder}/video.mp4"),
        deduplicated: false,
        url: MediaUrl::parse("http://127.0.0.1:1/boat.mp4")?,
        variant: Variant::Clean,
        at,
    };
    let manifest_key = Some(format!("{folder}/manifest.json"));
    let fallback = format!("{folder}-0");
    Ok([
        Event::Placed { at, job: job.clone(), folder, fallback },
        Event::Claimed { at, job: job.clone(), slot: slot.clone(), file: file.clone() },
        Event::Stored { job: job.clone(), slot, file },
        Event::Ended { at, job, state: JobState::Archived, decided_by: Some(position), manifest_key },
    ]
    .map(Entry::Event))
}
