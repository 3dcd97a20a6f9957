//! Jobs with many files, and with callbacks that say much: kept in several records, and the same as if they were in one.

use proptest::prelude::*;

use super::*;
use crate::domain::{AssetSource, Candidate, Job, MissingReason, Observation, Outcome, Role};
use crate::state::store::{Access, Store};
use crate::state::stored_job::Part;
use crate::state::txn::Txn;
use crate::state::{fold, open};

const AGENT_JOB: &str = "p1-u2-a3-bot:minimax";

/// A store that entries are folded into one by one.
struct Folded {
    _dir: TempDir,
    store: Store,
    position: u64,
}

impl Folded {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open::open_store(dir.path(), 1 << 20, Access::ReadWrite).unwrap();
        Self { _dir: dir, store, position: 0 }
    }

    /// Folds an entry in. Returns how many bytes were read and written for it.
    fn fold(&mut self, entry: &Entry, parsed: Option<ParsedCallback>) -> usize {
        self.position += 1;
        let mut txn = Txn::begin(&self.store).unwrap();
        fold::apply(&mut txn, self.position, entry, parsed).unwrap();
        let bytes = txn.bytes();
        txn.commit(self.position + 1).unwrap();
        bytes
    }

    fn event(&mut self, event: Event) -> usize {
        self.fold(&Entry::Event(event), None)
    }

    fn callback(&mut self, observation: Observation, confirm: bool) -> usize {
        let (at, target, body) = (time(self.position + 1), Target::Channel, Bytes::from_static(b"{}"));
        let entry = CallbackEntry {
            at,
            target,
            adopt: true,
            sidecars: true,
            confirm,
            asked: false,
            foreign: false,
            replay_of: None,
            body,
        };
        self.fold(&Entry::Callback(entry), Some(ParsedCallback::Job(Box::new(observation))))
    }

    fn job(&self) -> Option<Job> {
        let txn = Txn::begin(&self.store).unwrap();
        txn.open_job(&agent_job(), Part::Whole).unwrap().map(|open| open.job)
    }

    fn verify_counts(&self) {
        let meta = Txn::begin(&self.store).unwrap().meta;
        let mut counts = std::collections::BTreeMap::<u8, u64>::new();
        for record in self.store.range(vec![0]..vec![255]) {
            *counts.entry(record.unwrap().0[0]).or_default() += 1;
        }
        let count = |table: keys::Table| counts.get(&(table as u8)).copied().unwrap_or_default();
        assert_eq!(count(keys::Table::JobFiles), meta.counters.job_files);
        assert_eq!(count(keys::Table::Unconfirmed), meta.counters.unconfirmed_apart);
        assert_eq!(count(keys::Table::Due), meta.counters.queued);
        assert_eq!(count(keys::Table::Asks), meta.counters.unconfirmed);
    }
}

fn agent_job() -> JobId {
    AGENT_JOB.parse().unwrap()
}

fn time(position: u64) -> Timestamp {
    Timestamp::from_millis_clamped(1_000_000 + 1000 * position)
}

fn source(file: usize, link: usize) -> AssetSource {
    let dies = time(100 + (file * 7 + link * 3) as u64 % 50).millis() / 1000;
    let url = MediaUrl::parse(&format!("https://h{}/{file}-{link}?Expires={dies}", file % 3)).unwrap();
    AssetSource {
        slot: AssetId::new(&format!("s{file}")),
        role: if file % 4 == 3 { Role::Poster } else { Role::Media },
        file: FileName::clean(&format!("f{file}.mp4")),
        candidates: vec![Candidate { url, variant: Variant::Clean, access: crate::domain::Access::Public }],
        missing: MissingReason::NoUrl,
    }
}

fn completed(files: std::ops::Range<usize>, link: usize) -> Observation {
    let assets = files.map(|file| source(file, link)).collect();
    Observation { outcome: Some(Outcome::Completed), assets, ..Observation::naming(agent_job()) }
}

fn progress(percent: u8) -> Observation {
    Observation { percent: Some(percent), ..Observation::naming(agent_job()) }
}

fn file_stored(file: usize) -> (AssetId, StoredFile) {
    let Event::Stored { file: stored, .. } = stored(1, &format!("content {file}"), &format!("key/{file}"), false)
    else {
        unreachable!()
    };
    (AssetId::new(&format!("s{file}")), StoredFile { at: time(7), ..stored })
}

fn failure(stuck: Option<StuckReason>) -> AttemptFailure {
    AttemptFailure { error: "503".to_owned(), counted: true, stuck }
}

/// How much is read and written at the most for each of the events that happen to one file.
fn cost_of_one_file(files: usize) -> usize {
    let mut folded = Folded::new();
    folded.callback(completed(0..files, 0), false);
    let mut most = 0;
    for file in 0..files {
        let (at, job) = (time(1), agent_job());
        let (slot, stored) = file_stored(file);
        let failed = Event::AttemptFailed {
            at,
            job: job.clone(),
            slot: slot.clone(),
            failure: failure(None),
            renewals: None,
            due: time(60),
        };
        let claimed = Event::Claimed { at, job: job.clone(), slot: slot.clone(), file: stored.clone() };
        for event in [failed, claimed, Event::Stored { job, slot, file: stored }] {
            most = most.max(folded.event(event));
        }
        most = most.max(folded.callback(progress(10), false));
    }
    assert!(folded.job().unwrap().assets.iter().all(|asset| asset.stored.is_some()));
    folded.verify_counts();
    most
}

#[test]
fn a_change_of_one_file_of_256_touches_that_file_and_a_few_kilobytes() {
    let (few, many) = (cost_of_one_file(4), cost_of_one_file(256));
    assert!(few < 8 << 10, "{few}");
    // The job's own record is read and written: about twenty bytes for each file.
    assert!(many < few + 2 * 256 * 24, "{many}, and {few} of a small job");
}

fn ended_as(outcome: Outcome) -> Observation {
    Observation { outcome: Some(outcome), ..Observation::naming(agent_job()) }
}

#[test]
fn a_final_callback_that_changes_none_of_256_files_reads_none() {
    let mut folded = Folded::new();
    folded.callback(completed(0..256, 0), false);
    let (at, job) = (time(1), agent_job());
    let mut bytes = vec![
        folded.callback(completed(0..0, 0), false),
        folded.callback(ended_as(Outcome::Failed), false),
        folded.callback(completed(0..1, 1), true),
    ];
    let refuted = Event::Refuted { at, job: job.clone(), position: folded.position, difference: String::new() };
    bytes.push(folded.event(refuted));
    for file in 0..256 {
        let (slot, file) = file_stored(file);
        folded.event(Event::Stored { job: job.clone(), slot, file });
    }
    let (state, decided_by) = (JobState::Archived, folded.job().unwrap().final_callback);
    folded.event(Event::Ended { at, job, state, decided_by, manifest_key: None });
    for end in [completed(0..256, 1), ended_as(Outcome::Failed), ended_as(Outcome::Moderated)] {
        bytes.push(folded.callback(end, false));
    }
    // The job's own record is read and written: about twenty bytes for each file.
    assert!(bytes.iter().all(|bytes| *bytes < 20 << 10), "{bytes:?}");
    folded.verify_counts();
    let job = folded.job().unwrap();
    assert_eq!((job.state, job.callbacks, job.withdrawn.is_some()), (JobState::Archived, 7, true));
}

#[test]
fn large_unconfirmed_callbacks_are_not_written_again() {
    let mut folded = Folded::new();
    for number in 0..4 {
        let prompt = Some(format!("{number}{}", "p".repeat(50_000)));
        let held = folded.callback(Observation { prompt, ..completed(0..200, number) }, true);
        assert!(held > 50_000);
    }
    for percent in 0..10 {
        let bytes = folded.callback(progress(percent), false);
        assert!(bytes < 8 << 10, "{bytes}");
    }
    folded.verify_counts();
    let job = folded.job().unwrap();
    assert_eq!(job.unconfirmed.len(), 4);
    for (number, callback) in job.unconfirmed.iter().enumerate() {
        assert!(callback.observation.prompt.as_ref().unwrap().starts_with(&number.to_string()));
        assert_eq!(callback.observation.assets.len(), 200);
    }
    folded.event(Event::Refuted { at: time(50), job: agent_job(), position: 2, difference: String::new() });
    folded.event(Event::Confirmed { at: time(51), job: agent_job(), position: 3, aliases: Vec::new() });
    folded.verify_counts();
    let job = folded.job().unwrap();
    assert_eq!((job.unconfirmed.len(), job.assets.len(), job.final_callback), (2, 200, Some(3)));
}

#[test]
fn a_job_of_many_files_ends_without_a_poster_that_is_not_to_be_had() {
    let mut folded = Folded::new();
    folded.callback(completed(0..6, 0), false);
    for file in 0..6 {
        let (at, job) = (time(1), agent_job());
        let (slot, stored) = file_stored(file);
        folded.event(if source(file, 0).role == Role::Poster {
            let failure = failure(Some(StuckReason::AttemptsExhausted));
            Event::AttemptFailed { at, job, slot, failure, renewals: None, due: at }
        } else {
            Event::Stored { job, slot, file: stored }
        });
    }
    let decided_by = folded.job().unwrap().final_callback;
    let (at, job, manifest_key) = (time(2), agent_job(), Some("m".to_owned()));
    folded.event(Event::Ended { at, job, state: JobState::Archived, decided_by, manifest_key });
    assert_eq!(folded.job().unwrap().state, JobState::Archived);
}

#[test]
fn another_id_in_a_held_callback_is_learned_once_the_provider_names_it_too() {
    let other: JobId = "p1-u2-a9-bot:minimax".parse().unwrap();
    let known = |folded: &Folded| {
        let txn = Txn::begin(&folded.store).unwrap();
        txn.open_job(&other, Part::Header).unwrap().map(|open| open.job.id)
    };
    let third: JobId = "p1-u2-a10-bot:minimax".parse().unwrap();
    let named = vec![third, other.clone()];
    for (prompt, named, learned) in [
        (None, named.clone(), Some(agent_job())),
        (Some("p".repeat(5000)), named, Some(agent_job())),
        (None, Vec::new(), None),
    ] {
        let mut folded = Folded::new();
        let aliases = vec![other.clone()];
        folded.callback(Observation { aliases, prompt, ..completed(0..1, 0) }, true);
        assert_eq!(known(&folded), None);
        folded.event(Event::Confirmed { at: time(9), job: agent_job(), position: folded.position, aliases: named });
        assert_eq!(known(&folded), learned);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Completed { first: usize, files: usize, link: usize },
    Held { files: usize, large: bool },
    EndedAs(Outcome),
    Progress(u8),
    Failed { file: usize, due: u64, stuck: bool },
    Stored(usize),
    Retried,
    Confirmed(usize),
    Refuted(usize),
    Ended,
    Removed,
    Repeated,
    Placed,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0usize..4, 0usize..12, 0usize..4).prop_map(|(first, files, link)| Step::Completed { first, files, link }),
        1 => (0usize..8, any::<bool>()).prop_map(|(files, large)| Step::Held { files, large }),
        1 => prop_oneof![Just(Outcome::Failed), Just(Outcome::Moderated)].prop_map(Step::EndedAs),
        1 => (0u8..=100).prop_map(Step::Progress),
        4 => (0usize..14, 20u64..90, any::<bool>()).prop_map(|(file, due, stuck)| Step::Failed { file, due, stuck }),
        4 => (0usize..14).prop_map(Step::Stored),
        1 => Just(Step::Retried),
        1 => (0usize..4).prop_map(Step::Confirmed),
        1 => (0usize..4).prop_map(Step::Refuted),
        1 => Just(Step::Ended),
        1 => Just(Step::Removed),
        1 => Just(Step::Repeated),
        1 => Just(Step::Placed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_job_in_many_records_goes_on_as_one_in_a_single_record_does(steps in proptest::collection::vec(any_step(), 1..40)) {
        let mut folded = Folded::new();
        let mut expected = Job::new(agent_job(), time(1));
        folded.callback(progress(1), false);
        expected.observe(&progress(1), true, 1, time(1));
        for step in steps {
            let position = folded.position + 1;
            let (at, job) = (time(position), agent_job());
            match step {
                Step::Completed { first, files, link } => {
                    let observation = completed(first..first + files, link);
                    expected.observe(&observation, true, position, at);
                    folded.callback(observation, false);
                }
                Step::Held { files, large } => {
                    let prompt = large.then(|| "p".repeat(5000));
                    let observation = Observation { prompt, ..completed(0..files, 9) };
                    if expected.state == JobState::Archived {
                        expected.observe(&observation, true, position, at);
                    } else {
                        expected.hold(crate::domain::UnconfirmedFinal {
                            position,
                            quarantine_as: position,
                            at,
                            target: Target::Channel,
                            sidecars: true,
                            bytes: 2,
                            observation: Box::new(observation.clone()),
                        });
                    }
                    folded.callback(observation, true);
                }
                Step::EndedAs(outcome) => {
                    expected.observe(&ended_as(outcome), true, position, at);
                    folded.callback(ended_as(outcome), false);
                }
                Step::Progress(percent) => {
                    expected.observe(&progress(percent), true, position, at);
                    folded.callback(progress(percent), false);
                }
                Step::Failed { file, due, stuck } => {
                    let (slot, due) = (AssetId::new(&format!("s{file}")), time(due));
                    let failure = failure(stuck.then_some(StuckReason::AttemptsExhausted));
                    expected.attempt_failed(&slot, &failure, None, due, at);
                    folded.event(Event::AttemptFailed { at, job, slot, failure, renewals: None, due });
                }
                Step::Stored(file) => {
                    let (slot, stored) = file_stored(file);
                    if expected.asset(&slot).is_some_and(|asset| asset.stored.is_none()) {
                        expected.file_stored(&slot, stored.clone(), stored.at);
                    }
                    folded.event(Event::Stored { job, slot, file: stored });
                }
                Step::Retried => {
                    expected.retry(at);
                    folded.event(Event::Retried { at, job });
                }
                Step::Confirmed(index) => {
                    let Some(position) = expected.unconfirmed.get(index).map(|held| held.position) else { continue };
                    expected.confirm(position, at);
                    folded.event(Event::Confirmed { at, job, position, aliases: Vec::new() });
                }
                Step::Refuted(index) => {
                    let Some(position) = expected.unconfirmed.get(index).map(|held| held.position) else { continue };
                    expected.refute(position, at);
                    folded.event(Event::Refuted { at, job, position, difference: String::new() });
                }
                Step::Ended => {
                    let (Some(state), decided_by) = (expected.end_state(), expected.final_callback) else { continue };
                    expected.end(state, decided_by, Some("m".to_owned()), at);
                    folded.event(Event::Ended { at, job, state, decided_by, manifest_key: Some("m".to_owned()) });
                }
                Step::Removed => {
                    expected.remove(position, at);
                    folded.event(Event::Removed { at, job });
                }
                Step::Repeated => {
                    expected.callbacks += 3;
                    folded.event(Event::Repeated { at, job, times: 3 });
                }
                Step::Placed => {
                    expected.place("folder".to_owned());
                    folded.event(Event::Placed { at, job, folder: "folder".to_owned(), fallback: "x".to_owned() });
                }
            }
            let found = folded.job();
            prop_assert_eq!(found.as_ref(), Some(&expected));
            let txn = Txn::begin(&folded.store).unwrap();
            let due = expected.due.map(|_| (expected.next_host().unwrap_or_default(), expected.link_expires_at()));
            let queued = folded.store.range(keys::with_prefix(keys::Table::Due.prefix())).count();
            prop_assert_eq!(queued, usize::from(due.is_some()));
            prop_assert_eq!(txn.meta.counters.jobs.values().sum::<u64>(), 1);
            folded.verify_counts();
        }
    }
}
