//! One process writes; and if two did, nothing is lost.

use super::*;

fn error_of(result: Result<impl Sized, JournalError>) -> JournalError {
    result.err().expect("an error")
}

#[test]
fn a_second_writer_is_refused_whatever_file_is_removed() {
    let data = tempfile::tempdir().unwrap();
    let journal = Journal::open_in(data.path()).unwrap();
    let mut writer = Writer::new(journal, 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    std::fs::remove_file(data.path().join("lock")).unwrap();
    assert!(Journal::is_written_to(data.path()));
    let second = Writer::new(Journal::open_in(data.path()).unwrap(), 0);
    assert!(matches!(error_of(second), JournalError::Taken(_)));
    // The first goes on.
    writer.lock.check().unwrap();
    writer.begin_next(0).unwrap();
    drop(writer);
    assert!(!Journal::is_written_to(data.path()));
    Writer::new(Journal::open_in(data.path()).unwrap(), 0).unwrap();
}

#[test]
fn a_writer_stops_when_another_has_put_its_name_into_the_owners_file() {
    let data = tempfile::tempdir().unwrap();
    let journal = Journal::open_in(data.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    for replaces_file in [false, true] {
        let path = data.path().join("lock");
        if replaces_file {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
        assert!(matches!(error_of(writer.lock.check()), JournalError::Taken(_)));
        assert!(matches!(error_of(writer.begin_next(0)), JournalError::Taken(_)));
    }
    // A file without a name is nobody's.
    std::fs::write(data.path().join("lock"), "").unwrap();
    writer.append([&repeated(2)], Durability::Synced).unwrap();
    assert_eq!(entries_of(&journal), [repeated(1), repeated(2)]);
}

#[test]
fn a_writer_stops_when_its_folder_is_another_or_has_segments_that_it_did_not_begin() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    let foreign = journal.path(1 << 40);
    std::fs::write(&foreign, "").unwrap();
    assert!(matches!(error_of(writer.begin_next(0)), JournalError::Taken(_)));
    std::fs::remove_file(foreign).unwrap();
    writer.begin_next(0).unwrap();
    // In the place of its folder is that of another process.
    std::fs::rename(&dir, data.path().join("moved")).unwrap();
    assert!(matches!(error_of(writer.begin_next(0)), JournalError::Io { .. }));
    let another = Writer::new(Journal::open(&dir).unwrap(), 0).unwrap();
    assert!(matches!(error_of(writer.begin_next(0)), JournalError::Taken(_)));
    drop(another);
    // An empty one that is nobody's will do; what is written then is found there.
    assert!(writer.lock.check().unwrap());
    writer.append([&repeated(2)], Durability::Synced).unwrap();
    assert_eq!(entries_of(&Journal::open(&dir).unwrap()), [repeated(2)]);
}

#[test]
fn a_segment_that_another_has_begun_is_never_removed() {
    let (_dir, journal, _) = written(&[repeated(1)]);
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    // As if the other had been faster after the look at the folder.
    let path = journal.path(writer.next_base);
    std::fs::write(&path, "another's").unwrap();
    journal.segments.write().insert(writer.next_base);
    assert!(matches!(error_of(writer.begin_next(0)), JournalError::Io { action: "begun", .. }));
    assert_eq!(std::fs::read(&path).unwrap(), b"another's");
}

#[test]
fn remains_of_a_failed_write_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    let length = writer.end();
    writer.append([&repeated(2)], Durability::Synced).unwrap();
    // As if the sync of the second had failed.
    writer.segment.as_mut().unwrap().length = length;
    writer.acknowledged = length;
    writer.seal();
    writer.append([&repeated(3)], Durability::Synced).unwrap();
    assert_eq!(entries_of(&journal), [repeated(1), repeated(3)]);
    let left = std::fs::read(journal.path(0)).unwrap();
    assert!(left[length as usize..].iter().all(|byte| *byte == 0));
    assert_eq!(journal.strays().unwrap(), []);
}

#[test]
fn intact_records_beyond_the_end_of_a_sealed_segment_are_found_and_cut_off_once_recorded() {
    let (_dir, journal, _) = written(&[repeated(1)]);
    let salt = journal.header(0).unwrap().salt;
    let path = journal.path(0);
    let sealed = std::fs::read(&path).unwrap();
    let mut second = Writer::new(journal.clone(), 0).unwrap();
    second.append([&repeated(4)], Durability::Synced).unwrap();
    // Another process, which does not know of the second segment, goes on in the first.
    let mut bytes = sealed.clone();
    frame::encode(&mut bytes, salt, |buffer| callback(b"{}").encode(buffer));
    bytes.extend([0; 100]);
    frame::encode(&mut bytes, salt, |buffer| repeated(2).encode(buffer));
    bytes.extend([0; 4096]);
    std::fs::write(&path, &bytes).unwrap();
    // They have positions that are another's: replay leaves them where they are.
    assert_eq!(entries_of(&journal), [repeated(1), repeated(4)]);
    let strays = journal.strays().unwrap();
    let [found] = strays.as_slice() else { panic!("{strays:?}") };
    assert_eq!((found.base, &found.entries), (0, &vec![callback(b"{}"), repeated(2)]));
    // What was written meanwhile is not cut off unread.
    let mut later = bytes.clone();
    frame::encode(&mut later, salt, |buffer| repeated(3).encode(buffer));
    std::fs::write(&path, &later).unwrap();
    journal.cut_off(found).unwrap();
    assert_eq!(journal.strays().unwrap()[0].entries.len(), 3);
    for found in journal.strays().unwrap() {
        journal.cut_off(&found).unwrap();
    }
    assert_eq!((std::fs::read(&path).unwrap(), journal.strays().unwrap()), (sealed, vec![]));
}

#[test]
fn a_segment_that_cannot_be_synced_when_the_next_begins_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    // As little as /dev/full can be written to, it can be synced.
    writer.segment.as_mut().unwrap().file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(matches!(error_of(writer.begin_next(0)), JournalError::Io { action: "synced", .. }));
    writer.append([&repeated(2)], Durability::Synced).unwrap();
    assert_eq!(entries_of(&journal), [repeated(1), repeated(2)]);
}

#[test]
fn an_entry_that_the_disk_does_not_confirm_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    let end = writer.end();
    // /dev/null takes every write, and cannot be synced.
    writer.segment.as_mut().unwrap().file = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    let refused = writer.append([&repeated(2)], Durability::Synced);
    assert!(matches!(error_of(refused), JournalError::Io { action: "synced", .. }));
    assert_eq!(writer.end(), end);
    writer.append([&repeated(3)], Durability::Synced).unwrap();
    assert_eq!(entries_of(&journal), [repeated(1), repeated(3)]);
}

#[test]
fn a_writer_looks_at_the_lock_once_a_second_while_it_appends() {
    let data = tempfile::tempdir().unwrap();
    let journal = Journal::open_in(data.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    writer.append([&repeated(1)], Durability::Synced).unwrap();
    std::fs::write(data.path().join("lock"), "0123456789abcdef0123456789abcdef").unwrap();
    // As if the last look were two seconds ago.
    writer.lock.checked -= std::time::Duration::from_secs(2);
    assert!(matches!(error_of(writer.append([&repeated(2)], Durability::Synced)), JournalError::Taken(_)));
    assert_eq!(entries_of(&journal), [repeated(1)]);
}
