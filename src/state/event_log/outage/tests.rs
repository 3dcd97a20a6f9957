use super::*;
use crate::domain::{Target, Timestamp};
use crate::journal::{CallbackEntry, SegmentStart};

fn callback(body: &'static str) -> Entry {
    Entry::Callback(CallbackEntry {
        at: Timestamp::now(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: body.into(),
    })
}

/// The bodies that go into the log, which has them then.
fn drain(outage: &mut Outage) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(chunk) = outage.next_chunk(1 << 20).unwrap() {
        outage.chunk_drained(&chunk).unwrap();
        let callbacks = chunk.entries.into_iter().filter_map(Entry::into_callback);
        bodies.extend(callbacks.map(|callback| String::from_utf8_lossy(&callback.body).into_owned()));
    }
    bodies
}

/// The file that was begun last.
fn newest(dir: &Path) -> PathBuf {
    dir.join(Journal::segment_name(Journal::open(dir).unwrap().newest().unwrap()))
}

/// A position that the clock comes to in ten minutes.
fn ahead() -> u64 {
    first_position() + (600_000 << 16)
}

#[test]
fn callbacks_kept_after_the_clock_was_set_back_are_drained() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(Journal::open(dir.path()).unwrap(), ahead()).unwrap();
    writer.append([&callback("1")], Durability::Synced).unwrap();
    drop(writer);
    let mut outage = Outage::open(dir.path()).unwrap();
    let chunk = outage.next_chunk(1 << 20).unwrap().unwrap();
    outage.chunk_drained(&chunk).unwrap();
    drop(outage);
    let mut outage = Outage::open(dir.path()).unwrap();
    outage.keep([&callback("2")]).unwrap();
    outage.set_drained(chunk.end).unwrap();
    assert_eq!(drain(&mut outage), ["2"]);
}

#[test]
fn what_only_the_log_knew_to_be_drained_holds_at_a_start_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, drained) = (dir.path().join("outage"), ahead());
    let mut outage = Outage::open(&folder).unwrap();
    outage.set_drained(drained).unwrap();
    drop(outage);
    let mut outage = Outage::open(&folder).unwrap();
    outage.keep([&callback("1")]).unwrap();
    outage.set_drained(drained).unwrap();
    assert_eq!(drain(&mut outage), ["1"]);
}

#[test]
fn a_settlement_that_is_cut_off_at_any_byte_loses_no_callback() {
    let dir = tempfile::tempdir().unwrap();
    let mut outage = Outage::open(dir.path()).unwrap();
    outage.keep_doubtful(7, vec![callback("1"), callback("2"), callback("3")]).unwrap();
    drop(outage);
    let mut outage = Outage::open(dir.path()).unwrap();
    outage.settle(false).unwrap();
    drop(outage);
    let newest = newest(dir.path());
    let whole = std::fs::read(&newest).unwrap();
    for length in SegmentStart::HEADER as usize..=whole.len() {
        std::fs::write(&newest, &whole[..length]).unwrap();
        assert!(Outage::open(dir.path()).unwrap().waiting() >= 3, "cut off at byte {length}");
    }
}

#[test]
fn a_doubtful_batch_that_is_cut_off_has_nothing_that_is_kept_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut outage = Outage::open(dir.path()).unwrap();
    outage.keep_doubtful(7, vec![callback("1"), callback("2"), callback("3")]).unwrap();
    drop(outage);
    let newest = newest(dir.path());
    let whole = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &whole[..whole.len() - 1]).unwrap();
    let mut outage = Outage::open(dir.path()).unwrap();
    assert_eq!((outage.doubtful(), outage.waiting()), (Some(7), 2));
    outage.keep([&callback("4")]).unwrap();
    drop(outage);
    let mut outage = Outage::open(dir.path()).unwrap();
    outage.settle(true).unwrap();
    outage.set_drained(0).unwrap();
    assert_eq!(drain(&mut outage), ["4"]);
}

#[test]
fn kept_callbacks_are_counted_beside_the_service_and_no_folder_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("outage");
    assert_eq!(EventLog::kept_callbacks(&folder).unwrap(), 0);
    assert!(!folder.exists());
    let mut outage = Outage::open(&folder).unwrap();
    outage.keep([&callback("1")]).unwrap();
    outage.keep_doubtful(7, vec![callback("2"), callback("3")]).unwrap();
    assert_eq!(EventLog::kept_callbacks(&folder).unwrap(), 3);
    outage.settle(true).unwrap();
    assert_eq!(drain(&mut outage), ["1"]);
    assert_eq!(EventLog::kept_callbacks(&folder).unwrap(), 0);
}

#[test]
fn a_damaged_callback_is_passed_over_and_its_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut outage = Outage::open(dir.path()).unwrap();
    for body in ["first", "second", "third"] {
        outage.keep([&callback(body)]).unwrap();
    }
    drop(outage);
    let newest = newest(dir.path());
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&newest, &bytes).unwrap();
    let mut outage = Outage::open(dir.path()).unwrap();
    assert_eq!(outage.waiting(), 2);
    assert_eq!(drain(&mut outage), ["first", "third"]);
    assert!(!newest.exists());
    assert_eq!(std::fs::read(newest.with_extension("damaged")).unwrap(), bytes);
    // It is in nobody's way, and what is whole is removed as ever.
    drop(outage);
    let mut outage = Outage::open(dir.path()).unwrap();
    outage.keep([&callback("fourth")]).unwrap();
    assert_eq!(drain(&mut outage), ["fourth"]);
    let damaged = std::fs::read_dir(dir.path()).unwrap().filter(|file| {
        let path = file.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "damaged")
    });
    assert_eq!(damaged.count(), 1);
}
