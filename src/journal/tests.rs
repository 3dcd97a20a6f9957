use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

mod headers;
mod one_writer;

use super::*;
use crate::domain::{JobId, Target, Timestamp};

fn callback(body: &[u8]) -> Entry {
    Entry::Callback(CallbackEntry {
        at: Timestamp::from_millis_clamped(1_795_172_334_234),
        target: Target::Channel,
        adopt: true,
        confirm: true,
        asked: false,
        foreign: false,
        sidecars: false,
        replay_of: None,
        body: Bytes::copy_from_slice(body),
    })
}

fn repeated(number: u32) -> Entry {
    let job: JobId = format!("user:1-minimax:2-video:{number}").parse().unwrap();
    Entry::Event(Event::Repeated { at: Timestamp::from_millis_clamped(1), job, times: 1 })
}

fn written(entries: &[Entry]) -> (TempDir, Journal, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap().with_segment_size(HEADER_SIZE as u64 + 200);
    let positions =
        entries.iter().flat_map(|entry| writer.append([entry], Durability::Synced).unwrap()).collect::<Vec<_>>();
    (dir, journal, positions)
}

fn read_all(journal: &Journal, from: u64) -> (Vec<(u64, Entry)>, Vec<Damage>) {
    let mut replay = journal.replay(from).unwrap();
    let entries = replay.by_ref().map(Result::unwrap).collect();
    (entries, replay.damage().to_vec())
}

fn entries_of(journal: &Journal) -> Vec<Entry> {
    read_all(journal, 0).0.into_iter().map(|(_, entry)| entry).collect()
}

#[test]
fn appended_entries_are_replayed_and_read_again() {
    let entries = [callback(b"{}"), repeated(1), callback(&[0; 300]), callback(b""), repeated(2)];
    let (dir, journal, positions) = written(&entries);
    let expected: Vec<_> = positions.iter().copied().zip(entries.clone()).collect();
    assert_eq!(read_all(&journal, 0), (expected.clone(), vec![]));
    let reopened = Journal::open(dir.path()).unwrap();
    assert!(reopened.bases().len() > 1, "several segments");
    for (index, (position, entry)) in expected.iter().enumerate() {
        assert_eq!(&reopened.read(*position).unwrap(), entry);
        assert_eq!(read_all(&reopened, *position).0, expected[index..]);
    }
    assert!(matches!(reopened.read(positions[0] + 1), Err(JournalError::NotFound(_))));
}

#[test]
fn a_tail_cut_at_any_byte_loses_only_the_last_record() {
    let entries = [repeated(1), callback(b"{\"a\":1}")];
    let (_dir, journal, positions) = written(&entries);
    let path = journal.path(journal.bases()[0]);
    let whole = std::fs::read(&path).unwrap();
    for length in usize::try_from(positions[1]).unwrap()..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (read, damage) = read_all(&journal, 0);
        assert_eq!(read, [(positions[0], entries[0].clone())]);
        assert_eq!(damage.len(), usize::from(length as u64 > positions[1]));
        assert!(damage.iter().all(|damage| damage.kind == DamageKind::TornTail));
    }
}

#[test]
fn a_damaged_record_is_reported_and_the_rest_replayed() {
    let entries = [repeated(1), callback(b"{\"a\":1}"), repeated(3)];
    let (_dir, journal, positions) = written(&entries);
    let path = journal.path(journal.bases()[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[positions[1] as usize + 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (read, damage) = read_all(&journal, 0);
    assert_eq!(read, [(positions[0], entries[0].clone()), (positions[2], entries[2].clone())]);
    assert_eq!(damage, [Damage { segment: path, from: positions[1], to: positions[2], kind: DamageKind::Garbled }]);
}

#[test]
fn a_body_that_holds_a_record_is_not_taken_for_one() {
    let (_dir, other, positions) = written(&[repeated(666)]);
    let forged = std::fs::read(other.path(0)).unwrap()[positions[0] as usize..].to_vec();
    let (_dir, journal, positions) = written(&[callback(&forged)]);
    let path = journal.path(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[positions[0] as usize + 5] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (read, damage) = read_all(&journal, 0);
    assert_eq!((read, damage.len()), (vec![], 1));
}

#[test]
fn a_journal_that_cannot_be_written_says_so_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    // /dev/full answers every write as a full disk does.
    writer.segment.as_mut().unwrap().file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(matches!(
        writer.append([&repeated(2)], Durability::Synced),
        Err(JournalError::Io { action: "written", .. })
    ));
    writer.append([&repeated(3)], Durability::Synced).unwrap();
    assert_eq!(entries_of(&journal), [repeated(1), repeated(3)]);
}

#[test]
fn room_that_is_not_used_is_neither_read_nor_counted_nor_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    let file_length = || std::fs::metadata(journal.path(0)).unwrap().len();
    assert!(file_length() > 100_000, "there is room");
    assert_eq!((journal.end().unwrap(), journal.disk_bytes()), (writer.end(), writer.end()));

    // What a crash leaves is read without complaint, and the next writer goes on behind it.
    let crashed = tempfile::tempdir().unwrap();
    std::fs::copy(journal.path(0), crashed.path().join("00000000000000000000.journal")).unwrap();
    let left = Journal::open(crashed.path()).unwrap();
    assert_eq!(left.intact_end().unwrap(), writer.end());
    let mut next = Writer::new(left.clone(), 0).unwrap();
    next.append([&repeated(2)], Durability::Synced).unwrap();
    let (read, damage) = read_all(&left, 0);
    let read: Vec<_> = read.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!((read, damage), (vec![repeated(1), repeated(2)], vec![]));

    let end = writer.end();
    drop(writer);
    assert_eq!(file_length(), end);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let (_dir, journal, _) = written(&[callback(&body), repeated(1), callback(&body)]);
        for base in journal.bases() {
            let mut bytes = std::fs::read(journal.path(base)).unwrap();
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            std::fs::write(journal.path(base), &bytes).unwrap();
        }
        prop_assert!(read_all(&journal, 0).0.len() <= 3);
    }
}

/// What was moved out of the journal's folder, and whether it is out of reach.
#[derive(Debug, Default)]
struct Moved(std::sync::Mutex<std::collections::BTreeMap<u64, Bytes>>, AtomicBool);

impl Archive for Moved {
    fn segments(&self, from: u64, _: Patience) -> Result<Vec<Archived>, ArchiveError> {
        if self.1.load(Ordering::Relaxed) {
            return Err(ArchiveError::Unavailable("out of reach".to_owned()));
        }
        let moved = self.0.lock().unwrap();
        let archived = |(base, bytes): (&u64, &Bytes)| Archived {
            base: *base,
            end: Some(base + bytes.len() as u64),
            name: base.to_string(),
        };
        Ok(moved.range(from..).map(archived).collect())
    }

    fn read(&self, segment: &Archived, from: u64, length: u64) -> Result<ArchivedBytes, ArchiveError> {
        let moved = self.0.lock().unwrap();
        let bytes = moved.get(&segment.base).ok_or_else(|| ArchiveError::Unavailable("not there".to_owned()))?;
        let from = (from as usize).min(bytes.len());
        let to = from + (length.min(usize::MAX as u64) as usize).min(bytes.len() - from);
        Ok(ArchivedBytes { head: bytes.slice(..64), bytes: bytes.slice(from..to), problem: None })
    }

    fn store(&self, base: u64, segment: Bytes) -> Result<StoredAs, ArchiveError> {
        self.0.lock().unwrap().insert(base, segment);
        Ok(StoredAs::New(base.to_string()))
    }

    fn renew(&self) -> Result<usize, ArchiveError> {
        Ok(0)
    }

    fn fetch_state(&self, _: u64, _: &std::path::Path) -> Result<Option<u64>, ArchiveError> {
        Ok(None)
    }

    fn close(&self) {}
}

#[test]
fn segments_that_moved_are_read_where_they_are_and_lost_ones_are_said_to_be_missing() {
    let entries: Vec<_> = (0..40).map(repeated).collect();
    let (_dir, journal, positions) = written(&entries);
    let archive = std::sync::Arc::new(Moved::default());
    let journal = journal.with_archive(archive.clone());
    let expected: Vec<_> = positions.iter().copied().zip(entries).collect();
    while journal.sealed().len() > 2 {
        let base = journal.sealed()[0];
        journal.archive_segment(base).unwrap();
        journal.remove(base).unwrap();
        assert_eq!(read_all(&journal, 0), (expected.clone(), vec![]));
    }
    assert_eq!(journal.read(positions[0]).unwrap(), expected[0].1);
    // Who has read beyond them does not ask for them.
    let last = expected.last().unwrap();
    archive.0.lock().unwrap().retain(|base, _| *base == 0);
    assert_eq!(read_all(&journal, last.0), (vec![last.clone()], vec![]));
    let (read, damage) = read_all(&journal, 0);
    assert!(read.len() < expected.len() && read.iter().all(|entry| expected.contains(entry)));
    let [missing] = damage.as_slice() else { panic!("{damage:?}") };
    assert_eq!(missing.kind, DamageKind::Missing);
    let lost = expected.iter().filter(|(position, _)| (missing.from..missing.to).contains(position)).count();
    assert_eq!(read.len() + lost, expected.len());
    assert!(matches!(journal.read(missing.from), Err(JournalError::NotFound(_))));
}

#[test]
fn room_in_a_copy_of_a_running_journal_hides_no_archived_record() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    let early = std::fs::read(journal.path(0)).unwrap();
    writer.append([&repeated(2)], Durability::Synced).unwrap();
    let end = writer.end();
    writer.begin_next(0).unwrap();
    writer.append([&repeated(3)], Durability::Synced).unwrap();
    let archive = std::sync::Arc::new(Moved::default());
    journal.clone().with_archive(archive.clone()).archive_segment(0).unwrap();
    let copy = |files: &[(u64, &[u8])]| {
        let dir = tempfile::tempdir().unwrap();
        for (base, bytes) in files {
            std::fs::write(dir.path().join(Journal::segment_name(*base)), bytes).unwrap();
        }
        let copy = Journal::open(dir.path()).unwrap().with_archive(archive.clone());
        (dir, copy)
    };
    // The state may have been copied later than the journal, and know more.
    for known in [0, end] {
        let (_dir, copy) = copy(&[(0, &early[..])]);
        assert!(copy.end().unwrap() > end, "there is room");
        let mut writer = Writer::new(copy.clone(), 1 << 30).unwrap();
        writer.begin_behind(known).unwrap();
        writer.append([&repeated(4)], Durability::Synced).unwrap();
        assert!(copy.survey_archive().unwrap().is_older_copy());
        assert_eq!((entries_of(&copy), read_all(&copy, 0).1), ([1, 2, 4].map(repeated).to_vec(), vec![]));
        let again = copy.segment(0).unwrap();
        assert!(archive.0.lock().unwrap()[&0_u64].starts_with(&again), "it is a part of what is archived");
    }
    // The next segment may have been copied later, too, and says where the copied one ended.
    let second = journal.bases()[1];
    let (_dir, copy) = copy(&[(0, &early[..]), (second, &std::fs::read(journal.path(second)).unwrap()[..])]);
    assert_eq!((entries_of(&copy), read_all(&copy, 0).1), ([1, 2, 3].map(repeated).to_vec(), vec![]));
}

#[test]
fn the_archive_is_compared_with_what_was_here_before_segments_were_begun_without_its_answer() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = std::sync::Arc::new(Moved::default());
    let open = || Journal::open_in(data.path()).unwrap().with_archive(archive.clone());
    let append = |journal: Journal, at_least: u64, number: u32| {
        Writer::new(journal, at_least).unwrap().append([&repeated(number)], Durability::Synced).unwrap();
    };
    append(open(), 0, 1);
    open().clear_baseline().unwrap();
    let beyond = Journal::open(elsewhere.path()).unwrap();
    append(beyond.clone(), 1 << 20, 2);
    archive.0.lock().unwrap().insert(1 << 20, beyond.segment(1 << 20).unwrap());
    append(open(), 1 << 30, 3);
    for _ in 0..2 {
        let later = open();
        assert!(later.has_inherited_baseline());
        assert!(later.survey_archive().unwrap().is_older_copy());
        assert_eq!((entries_of(&later), read_all(&later, 0).1), ([1, 2, 3].map(repeated).to_vec(), vec![]));
    }
    open().clear_baseline().unwrap();
    let later = open();
    assert!(!later.has_inherited_baseline());
    assert_eq!(later.survey_archive().unwrap(), Standing::InStep);
}

#[test]
fn what_only_the_archive_has_is_read_from_the_beginning_also_when_no_header_tells_of_it() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = std::sync::Arc::new(Moved::default());
    let open = || Journal::open_in(data.path()).unwrap().with_archive(archive.clone());
    let append = |journal: Journal, at_least: u64, number: u32| {
        Writer::new(journal, at_least).unwrap().append([&repeated(number)], Durability::Synced).unwrap();
    };
    append(open(), 0, 1);
    let beyond = Journal::open(elsewhere.path()).unwrap();
    append(beyond.clone(), 1 << 20, 2);
    let segment = beyond.segment(1 << 20).unwrap();
    let archive_end = (1 << 20) + segment.len() as u64;
    archive.0.lock().unwrap().insert(1 << 20, segment);
    append(open(), 1 << 30, 3);
    open().clear_baseline().unwrap();
    // A state that is there needs the newest segment alone, and one that is made anew in the same run all of them.
    let running = open();
    assert_eq!(read_all(&running, 1 << 30).0.len(), 1);
    assert_eq!((entries_of(&running), read_all(&running, 0).1), ([1, 2, 3].map(repeated).to_vec(), vec![]));
    // Once it is known that there is such a segment, nothing is made without the archive's answer.
    running.note_unlinked(archive_end).unwrap();
    archive.1.store(true, Ordering::Relaxed);
    for journal in [running, open()] {
        assert!(matches!(journal.replay(0), Err(JournalError::Archive(_))));
        assert_eq!(read_all(&journal, archive_end).0.len(), 1);
    }
    archive.1.store(false, Ordering::Relaxed);
    assert_eq!(entries_of(&open()), [1, 2, 3].map(repeated));
}

#[test]
fn of_two_forms_of_a_segment_each_record_counts_once_whichever_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    let first = writer.append([&repeated(1)], Durability::Synced).unwrap()[0] as usize;
    writer.append([&repeated(2)], Durability::Synced).unwrap();
    let early = std::fs::read(journal.path(0)).unwrap();
    writer.append([&repeated(3)], Durability::Synced).unwrap();
    drop(writer);
    let whole = std::fs::read(journal.path(0)).unwrap();
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let in_record = first + frame::FRAME_SIZE;
    for (what, here, archived) in [
        ("nothing", early.clone(), whole.clone()),
        ("a header here", flipped(&early, 20), whole.clone()),
        ("a record here", flipped(&early, in_record), whole.clone()),
        ("a header in the archive", early.clone(), flipped(&whole, 20)),
        ("a record in the archive", early.clone(), flipped(&whole, in_record)),
        ("a record here, as long", flipped(&whole, in_record), whole.clone()),
        ("a header here, as long", flipped(&whole, 20), whole.clone()),
        ("a record in the archive, as long", whole.clone(), flipped(&whole, in_record)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(Journal::segment_name(0)), here).unwrap();
        let archive = std::sync::Arc::new(Moved::default());
        archive.0.lock().unwrap().insert(0, archived.into());
        let copy = Journal::open(dir.path()).unwrap().with_archive(archive);
        let read = entries_of(&copy);
        let times = |number: u32| read.iter().filter(|entry| **entry == repeated(number)).count();
        assert_eq!((times(1), times(2), times(3), read.len()), (1, 1, 1, 3), "{what}");
        // Nobody may go on behind an entry that is yet to come out of another form.
        let mut replay = copy.replay(0).unwrap();
        let comes_later = !matches!(what, "a header here, as long" | "a record in the archive, as long");
        assert!(replay.next().is_some() && replay.is_among_twins() == comes_later, "{what}");
    }
}

#[test]
fn what_is_damaged_in_the_archive_is_lost_and_what_is_damaged_here_has_not_moved() {
    let (_dir, journal, _) = written(&(0..20).map(repeated).collect::<Vec<_>>());
    let archive = std::sync::Arc::new(Moved::default());
    let journal = journal.with_archive(archive.clone());
    let (first, second, third) = (journal.bases()[0], journal.bases()[1], journal.bases()[2]);
    journal.archive_segment(first).unwrap();
    journal.remove(first).unwrap();
    let flip_last = |bytes: &mut [u8]| bytes.last_mut().into_iter().for_each(|byte| *byte ^= 1);
    let mut archived = archive.0.lock().unwrap()[&first].to_vec();
    flip_last(&mut archived);
    archive.0.lock().unwrap().insert(first, archived.into());
    let mut here = std::fs::read(journal.path(second)).unwrap();
    flip_last(&mut here);
    std::fs::write(journal.path(second), here).unwrap();
    let mut replay = journal.replay(0).unwrap();
    assert_eq!(replay.by_ref().map(Result::unwrap).count(), 18);
    let ends: Vec<_> = replay.damage().iter().map(|damage| (damage.to, damage.kind)).collect();
    assert_eq!(ends, [(second, DamageKind::Garbled), (third, DamageKind::Garbled)]);
    assert_eq!(replay.lost_to(), second);
}
