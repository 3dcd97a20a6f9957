//! Damaged headers, and what a crash leaves of a segment that was begun.

use std::path::Path;
use std::sync::Arc;

use super::super::header::Header;
use super::*;

/// A segment as versions before the second form wrote it.
fn first_form(base: u64, previous_end: u64, salt: u32, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = b"RVJOURN1".to_vec();
    bytes.extend(base.to_le_bytes());
    bytes.extend(previous_end.to_le_bytes());
    bytes.extend(salt.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.resize(64, 0);
    for entry in entries {
        frame::encode(&mut bytes, salt, |buffer| entry.encode(buffer));
    }
    bytes
}

/// Three segments of a form, and what is in them.
fn segments(is_first_form: bool, counts: [u32; 3]) -> (TempDir, Journal, Vec<Entry>) {
    let all: Vec<_> = (0..counts.iter().sum()).map(repeated).collect();
    let mut rest = &all[..];
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut base = 0;
    for count in counts {
        let (entries, others) = rest.split_at(count as usize);
        rest = others;
        if is_first_form {
            let bytes = first_form(base, base, 0x1234_5678 ^ count, entries);
            std::fs::write(journal.path(base), &bytes).unwrap();
            base += bytes.len() as u64;
        } else {
            let mut writer = Writer::new(journal.clone(), 0).unwrap();
            writer.append(entries, Durability::Synced).unwrap();
        }
    }
    (dir, Journal::open(journal.dir.as_ref()).unwrap(), all)
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_in_a_header_loses_no_record() {
    for is_first_form in [true, false] {
        // One segment has a single record, which says nothing of its own salt.
        let (_dir, journal, all) = segments(is_first_form, [4, 1, 3]);
        let copies: &[usize] = if is_first_form { &[0] } else { &[0, 4096] };
        for base in journal.bases() {
            for bit in copies.iter().flat_map(|copy| copy * 8..(copy + 32) * 8) {
                let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
                change(&journal.path(base), flip);
                let (read, damage) = read_all(&journal, 0);
                let entries: Vec<_> = read.iter().map(|(_, entry)| entry.clone()).collect();
                assert_eq!(entries, all, "bit {bit} of {base}");
                let kinds: Vec<_> = damage.iter().map(|damage| damage.kind).collect();
                assert_eq!(kinds, [DamageKind::Header], "bit {bit} of {base}");
                let (position, entry) = &read[bit % read.len()];
                assert_eq!(&journal.read(*position).unwrap(), entry);
                change(&journal.path(base), flip);
            }
        }
    }
}

#[test]
fn with_a_header_wholly_lost_the_records_are_read_all_the_same() {
    for is_first_form in [true, false] {
        let size = if is_first_form { 64 } else { HEADER_SIZE };
        for noise in [0, 0xA5] {
            let (_dir, journal, all) = segments(is_first_form, [40, 30, 20]);
            for base in journal.bases() {
                change(&journal.path(base), |bytes| bytes[..size].fill(noise));
            }
            assert_eq!(entries_of(&journal), all, "{is_first_form} {noise}");
            let first = read_all(&journal, 0).0[0].0;
            assert_eq!(journal.read(first).unwrap(), all[0]);
        }
    }
}

#[test]
fn with_the_first_block_of_a_segment_lost_the_rest_is_read() {
    for is_first_form in [true, false] {
        let (_dir, journal, all) = segments(is_first_form, [200, 1, 1]);
        change(&journal.path(0), |bytes| bytes[..4096].fill(0));
        let read = entries_of(&journal);
        let lost = all.len() - read.len();
        assert_eq!(read, all[lost..]);
        assert!(if is_first_form { (1..60).contains(&lost) } else { lost == 0 }, "{lost} lost");
    }
}

#[test]
fn with_its_header_lost_a_segment_takes_no_body_for_its_records() {
    let (_other, forger, positions) = written(&[repeated(666), repeated(667), repeated(668)]);
    let forged = std::fs::read(forger.path(0)).unwrap()[positions[0] as usize..].to_vec();
    // Wherever the body stands, and whatever else of it is damaged.
    for place in 0..3 {
        let mut entries: Vec<_> = (0..3).map(repeated).collect();
        entries.insert(place, callback(&forged));
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let mut writer = Writer::new(journal.clone(), 0).unwrap();
        let positions = writer.append(&entries, Durability::Synced).unwrap();
        drop(writer);
        change(&journal.path(0), |bytes| bytes[..HEADER_SIZE].fill(1));
        assert_eq!(entries_of(&journal), entries, "{place}");
        change(&journal.path(0), |bytes| bytes[positions[place] as usize + 5] ^= 1);
        entries.remove(place);
        assert_eq!(entries_of(&journal), entries, "{place}");
    }
}

#[test]
fn an_unreadable_first_header_makes_the_archive_be_asked() {
    let (_dir, journal, all) = segments(true, [3, 3, 3]);
    let bases = journal.bases();
    let archive = Arc::new(Moved::default());
    let journal = journal.with_archive(archive);
    journal.archive_segment(bases[0]).unwrap();
    journal.remove(bases[0]).unwrap();
    change(&journal.path(bases[1]), |bytes| bytes[..64].fill(0));
    assert_eq!(entries_of(&journal), all);
}

#[test]
fn a_segment_that_could_not_be_removed_hides_none_behind_it() {
    let (_dir, journal, all) = segments(false, [3, 3, 3]);
    let bases = journal.bases();
    let archive = Arc::new(Moved::default());
    let journal = journal.with_archive(archive);
    for base in &bases[..2] {
        journal.archive_segment(*base).unwrap();
    }
    journal.remove(bases[1]).unwrap();
    let expected: Vec<_> = read_all(&journal, 0).0;
    assert_eq!(expected.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), all);
    for (position, entry) in expected {
        assert_eq!(journal.read(position).unwrap(), entry);
    }
    assert_eq!(read_all(&journal, 0).1, []);
    // Which cannot be removed stays known, and is removed once it can be.
    let (path, aside) = (journal.path(bases[0]), journal.dir.join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(journal.remove(bases[0]), Err(JournalError::Io { action: "removed", .. })));
    assert_eq!(journal.sealed(), [bases[0]]);
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    journal.remove(bases[0]).unwrap();
    assert_eq!(entries_of(&journal), all);
}

#[test]
fn damage_at_the_end_of_a_sealed_segment_is_no_torn_tail() {
    let (_dir, journal, all) = segments(false, [3, 1, 1]);
    let end = journal.bases()[1] as usize;
    change(&journal.path(0), |bytes| bytes[end - 1] ^= 1);
    let (read, damage) = read_all(&journal, 0);
    assert_eq!(read.len(), all.len() - 1);
    assert_eq!(damage.iter().map(|damage| damage.kind).collect::<Vec<_>>(), [DamageKind::Garbled]);
}

#[test]
fn an_append_succeeds_after_any_crash_while_a_segment_begins() {
    let contents: [fn(u64, u64) -> Vec<u8>; 4] = [
        |base, previous_end| Header { base, previous_end, salt: 7 }.encode(),
        |base, previous_end| first_form(base, previous_end, 7, &[]),
        |_, _| vec![0; HEADER_SIZE],
        |_, _| vec![0x5a; HEADER_SIZE],
    ];
    let lengths = [0, 1, 8, 31, 32, 33, 63, 64, 65, 4096, 4097, 4159, 4160];
    for (length, content) in lengths.into_iter().flat_map(|length| contents.map(|content| (length, content))) {
        let (_dir, journal, _) = written(&[repeated(1)]);
        // Once, and once more on top of that.
        for number in 2..4 {
            let journal = Journal::open(&journal.dir).unwrap();
            let base = journal.end().unwrap();
            let mut left = content(base, journal.intact_end().unwrap());
            left.truncate(length);
            std::fs::write(journal.path(base), &left).unwrap();
            let journal = Journal::open(&journal.dir).unwrap();
            let mut writer = Writer::new(journal.clone(), 0).unwrap();
            writer.append([&repeated(number)], Durability::Synced).unwrap();
            drop(writer);
            assert_eq!(std::fs::read(journal.path(base)).unwrap(), left, "{length}");
            let (read, damage) = read_all(&journal, 0);
            let read: Vec<_> = read.into_iter().map(|(_, entry)| entry).collect();
            assert_eq!(read, (1..=number).map(repeated).collect::<Vec<_>>(), "{length}");
            assert!(damage.iter().all(|damage| damage.kind == DamageKind::TornTail), "{length}: {damage:?}");
        }
    }
}
