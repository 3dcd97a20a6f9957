//! Archived segments in a real directory: what is read back, what of it when it is damaged, and what is never written over.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::domain::{JobId, Timestamp};
use crate::journal::{Durability, Entry, Event, Writer};

struct Bench {
    dir: TempDir,
    archive: Arc<SegmentArchive>,
}

fn keys(texts: &[&str]) -> ArchiveKeys {
    let secrets: Vec<secrecy::SecretString> = texts.iter().map(|text| (*text).into()).collect();
    ArchiveKeys::new(&secrets).unwrap()
}

fn archive_in(dir: &Path, keys: ArchiveKeys) -> Arc<SegmentArchive> {
    let url = crate::bucket::StorageUrl::parse(&format!("file:{}", dir.display()), Path::new("/")).unwrap();
    let bucket = Bucket::open(&crate::bucket::Config::new(url)).unwrap();
    Arc::new(SegmentArchive::new(bucket, keys))
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive_in(dir.path(), keys(&["one"]));
        Self { dir, archive }
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let Ok(items) = std::fs::read_dir(self.dir.path().join("_journal")) else { return Vec::new() };
        let mut files: Vec<_> = items.map(|item| item.unwrap().path()).collect();
        files.sort();
        files
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.dir.path().join("_journal")).unwrap();
        std::fs::write(self.dir.path().join("_journal").join(name), bytes).unwrap();
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&SegmentArchive) -> T + Send + 'static) -> T {
        let archive = self.archive.clone();
        tokio::task::spawn_blocking(move || work(&archive)).await.unwrap()
    }

    async fn store(&self, base: u64, bytes: &Bytes) -> StoredAs {
        let bytes = bytes.clone();
        self.blocking(move |archive| archive.store(base, bytes)).await.unwrap()
    }

    async fn segments(&self) -> Vec<Archived> {
        self.blocking(|archive| archive.segments(0, Patience::Thorough)).await.unwrap()
    }

    async fn read(&self, segment: &Archived, from: u64, length: u64) -> ArchivedBytes {
        let segment = segment.clone();
        self.blocking(move |archive| archive.read(&segment, from, length)).await.unwrap()
    }

    async fn read_only(&self) -> ArchivedBytes {
        let segments = self.segments().await;
        self.read(&segments[0], 0, u64::MAX).await
    }
}

fn event(number: u64) -> Entry {
    let job: JobId = format!("user:1-minimax:2-video:{number}").parse().unwrap();
    Entry::Event(Event::Repeated { at: Timestamp::from_millis_clamped(number), job, times: 1 })
}

/// A segment as the journal writes it, with this many records.
fn segment(records: u64) -> Bytes {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut writer = Writer::new(journal.clone(), 0).unwrap();
    let entries: Vec<_> = (0..records).map(event).collect();
    writer.append(&entries, Durability::Synced).unwrap();
    drop(writer);
    journal.segment(0).unwrap()
}

/// As segments were archived before they were encrypted.
fn clear(segment: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::copy(&mut &*segment, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

const OLD_NAME: &str = "00000000000000000000.journal.zst";

#[tokio::test]
async fn a_segment_comes_back_whole_and_in_any_part_and_is_not_to_be_read_in_the_bucket() {
    let bench = Bench::new();
    let bytes = segment(12_000);
    assert!(bytes.len() > 900_000, "several stretches");
    let StoredAs::New(name) = bench.store(0, &bytes).await else { panic!("it is new") };
    assert_eq!(bench.store(0, &bytes).await, StoredAs::New(name), "doing it again is fine");
    let stored = std::fs::read(&bench.files()[0]).unwrap();
    assert!(!stored.windows(5).any(|window| window == b"video"), "clear text");
    assert!(stored.len() < bytes.len() / 4, "it is compressed");
    let found = bench.read_only().await;
    assert_eq!((found.bytes == bytes, found.problem), (true, None));
    let segment = &bench.segments().await[0];
    for (from, length) in [(0, 64), (1, 300_000), (262_143, 2), (262_144, 262_144), (bytes.len() as u64 - 3, 500)] {
        let found = bench.read(segment, from, length).await;
        let expected = bytes.slice(from as usize..bytes.len().min((from + length) as usize));
        assert_eq!((found.bytes == expected, &found.head[..], found.problem), (true, &bytes[..64], None), "{from}");
    }
    assert_eq!(bench.read(segment, bytes.len() as u64 + 9, 5).await.bytes, "");
}

#[tokio::test]
async fn a_flipped_byte_costs_one_stretch_and_a_cut_what_is_behind_it() {
    let bench = Bench::new();
    let bytes = segment(12_000);
    bench.store(0, &bytes).await;
    let path = bench.files()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let found = bench.read_only().await;
    assert!(found.problem.unwrap().contains("1 of its stretches"));
    assert_eq!(found.bytes.len(), bytes.len());
    let same = (0..bytes.len()).filter(|at| found.bytes[*at] == bytes[*at]).count();
    assert!(same > bytes.len() - 263_000, "{same} of {}", bytes.len());
    for cut in [whole.len() - 1, whole.len() / 3, 300, 60, 10, 0] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let found = bench.read_only().await;
        assert!(found.problem.is_some(), "{cut}");
        assert!(found.bytes.is_empty() || found.bytes.len() == bytes.len(), "{cut}");
    }
}

#[tokio::test]
async fn a_flipped_byte_of_either_index_costs_nothing_and_is_told() {
    let bench = Bench::new();
    let bytes = segment(10);
    bench.store(0, &bytes).await;
    let path = bench.files()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    // Its one stretch is longer than what stands before it and behind it.
    let index = 8 + 8 + 32 + 4 + 8 + 8 + 64 + 4 + 16;
    for at in (0..index).chain(whole.len() - index..whole.len()) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        let found = bench.read_only().await;
        assert_eq!(found.bytes, bytes, "{at}");
        assert!(found.problem.is_some_and(|problem| problem.contains("index is damaged")), "{at}");
    }
    // As an earlier version wrote it.
    std::fs::write(&path, &whole[..whole.len() - index]).unwrap();
    let found = bench.read_only().await;
    assert_eq!((found.bytes, found.problem), (bytes, None));
}

#[tokio::test]
async fn a_segment_of_another_key_is_said_to_be_that_and_either_key_of_several_will_do() {
    let bench = Bench::new();
    let bytes = segment(10);
    bench.store(0, &bytes).await;
    let read = async |texts: &[&str]| {
        let archive = archive_in(bench.dir.path(), keys(texts));
        let read = move || archive.read(&archive.segments(0, Patience::Brief).unwrap()[0], 0, u64::MAX).unwrap();
        tokio::task::spawn_blocking(read).await.unwrap()
    };
    let found = read(&["two"]).await;
    let problem = found.problem.unwrap();
    let ids = [keys(&["one"]).ids(), keys(&["two"]).ids()];
    let advice = ["secrets.toml", "`replyvault rebuild`"];
    assert!(ids.iter().all(|id| problem.contains(id)), "{problem}");
    assert!(advice.iter().all(|part| problem.contains(part)), "{problem}");
    assert_eq!(read(&["two", "one"]).await.bytes, bytes);
    // What is renewed is good under the first key alone.
    let archive = archive_in(bench.dir.path(), keys(&["two", "one"]));
    assert_eq!(tokio::task::spawn_blocking(move || archive.renew()).await.unwrap(), Ok(0));
    assert_eq!(read(&["two"]).await.bytes, bytes);
    assert_eq!(bench.files().len(), 1);
}

#[tokio::test]
async fn segments_in_clear_are_read_and_then_encrypted() {
    let bench = Bench::new();
    let bytes = segment(500);
    bench.write(OLD_NAME, &clear(&bytes));
    bench.write("readme.txt", b"whose is this");
    assert_eq!(bench.segments().await.len(), 1, "other objects are passed over");
    assert_eq!(bench.read_only().await.bytes, bytes);
    let part = bench.read(&bench.segments().await[0], 100, 50).await;
    assert_eq!((part.bytes, &part.head[..]), (bytes.slice(100..150), &bytes[..64]));
    assert_eq!(bench.blocking(Archive::renew).await, Ok(0));
    let segments = bench.segments().await;
    assert_eq!((segments.len(), segments[0].end), (1, Some(bytes.len() as u64)));
    assert_eq!(bench.read_only().await.bytes, bytes);
    assert!(!bench.dir.path().join("_journal").join(OLD_NAME).exists());
    assert!(bench.dir.path().join("_journal/readme.txt").exists());
}

#[tokio::test]
async fn of_a_damaged_segment_in_clear_what_can_be_read_is() {
    let bench = Bench::new();
    let bytes = segment(9_000);
    let whole = clear(&bytes);
    bench.write(OLD_NAME, &whole[..whole.len() / 2]);
    let found = bench.read_only().await;
    assert!(found.problem.is_some() && found.bytes.len() > bytes.len() / 4, "{}", found.bytes.len());
    assert!(bytes.starts_with(&found.bytes));
    // One whose checksum alone does not match is all there.
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    bench.write(OLD_NAME, &flipped);
    let found = bench.read_only().await;
    assert_eq!((found.problem.is_some(), found.bytes), (true, bytes));
    // It stays for whoever wants to look at it.
    assert_eq!(bench.blocking(Archive::renew).await, Ok(1));
    assert!(bench.dir.path().join("_journal").join(OLD_NAME).exists());
}

#[tokio::test]
async fn an_archived_segment_that_unpacks_to_too_much_is_given_up_early() {
    let bench = Bench::new();
    // Two gigabytes of nothing, and of what looks like a segment at first.
    for beginning in [Bytes::new(), segment(3)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        std::io::copy(&mut &*beginning, &mut encoder).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 2 << 30), &mut encoder).unwrap();
        bench.write(OLD_NAME, &encoder.finish().unwrap());
        let found = bench.read_only().await;
        let most = if beginning.is_empty() { 4 << 20 } else { MAX_SEGMENT as usize };
        assert!(found.problem.is_some() && found.bytes.len() <= most, "{}", found.bytes.len());
    }
    // A window of two gigabytes would be taken before the first byte.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(27).unwrap();
    std::io::copy(&mut &*segment(3), &mut encoder).unwrap();
    bench.write(OLD_NAME, &encoder.finish().unwrap());
    assert!(bench.read_only().await.problem.unwrap().contains("damaged"));
}

#[tokio::test]
async fn nothing_is_written_over_by_other_bytes() {
    let bench = Bench::new();
    let (long, other) = (segment(40), segment(20));
    let short = long.slice(..long.len() / 2);
    let StoredAs::New(short_name) = bench.store(0, &short).await else { panic!("it is new") };
    // What goes on where the first ended takes its place.
    let StoredAs::New(name) = bench.store(0, &long).await else { panic!("it is longer") };
    assert_eq!(bench.segments().await.iter().map(|segment| &segment.name).collect::<Vec<_>>(), [&name]);
    assert_eq!(bench.store(0, &short).await, StoredAs::PartOf(name.clone()));
    // What has other bytes is put beside it.
    let StoredAs::Conflicting(beside) = bench.store(0, &other).await else { panic!("it is another") };
    let segments = bench.segments().await;
    assert_eq!(segments.iter().map(|segment| &segment.name).collect::<Vec<_>>(), [&name, &beside]);
    assert_eq!(bench.read(&segments[0], 0, u64::MAX).await.bytes, long);
    assert_eq!(bench.read(&segments[1], 0, u64::MAX).await.bytes, other);
    assert_ne!(short_name, name);
    // A copy of the same that is damaged is mended.
    let path = bench.dir.path().join("_journal").join(&name);
    std::fs::write(&path, b"noise").unwrap();
    bench.store(0, &long).await;
    assert_eq!(
        bench.read(&segments[0], 0, u64::MAX).await,
        ArchivedBytes { head: long.slice(..64), bytes: long, problem: None }
    );
}

#[tokio::test]
async fn a_journal_reads_all_that_the_archive_has_of_one_base() {
    let bench = Bench::new();
    let (long, other) = (segment(40), segment(20));
    bench.store(0, &other).await;
    bench.store(0, &long).await;
    let dir = tempfile::tempdir().unwrap();
    // Here is what a copy has: the beginning of the longer one.
    std::fs::write(dir.path().join("00000000000000000000.journal"), &long[..long.len() / 2]).unwrap();
    let journal = Journal::open(dir.path()).unwrap().with_archive(bench.archive.clone());
    let read = move || journal.replay(0).unwrap().map(|item| item.unwrap().1).collect::<Vec<_>>();
    let read = tokio::task::spawn_blocking(read).await.unwrap();
    let expected: Vec<_> = (0..40).chain(0..20).map(event).collect();
    assert_eq!(read, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_archived_beside_another_is_counted() {
    let bench = Bench::new();
    bench.store(0, &segment(20)).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("00000000000000000000.journal"), segment(40)).unwrap();
    let journal = Journal::open(dir.path()).unwrap().with_archive(bench.archive.clone());
    let archived = journal.clone();
    let stored = tokio::task::spawn_blocking(move || archived.archive_segment(0)).await.unwrap().unwrap();
    assert!(matches!(stored, StoredAs::Conflicting(_)), "{stored:?}");
    assert_eq!(journal.conflicts(), 1);
}

/// Of two bodies at one position that of the longer segment is kept in quarantine, and read: once in the count, too.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_bodies_at_one_position_one_is_in_quarantine_and_is_the_one_that_is_read() {
    use crate::domain::{QuarantineReason, Target};
    use crate::journal::CallbackEntry;
    use crate::state::ParsedCallback;
    let callback = |body: &'static str| {
        Entry::Callback(CallbackEntry {
            at: Timestamp::from_millis_clamped(body.len() as u64),
            target: Target::Channel,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: false,
            foreign: false,
            replay_of: None,
            body: Bytes::from_static(body.as_bytes()),
        })
    };
    let bench = Bench::new();
    let longer = [callback(r#"{"of":"the longer one"}"#), callback("[2]"), callback("[3]")];
    let shorter = [callback("[]")];
    for entries in [&shorter[..], &longer] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        Writer::new(journal.clone(), 0).unwrap().append(entries, Durability::Synced).unwrap();
        bench.store(0, &journal.segment(0).unwrap()).await;
    }
    assert_eq!(bench.segments().await.len(), 2);
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        // Of its own each time: with its log it is closed.
        let archive = archive_in(bench.dir.path(), keys(&["one"]));
        let journal = Journal::open_in(dir.path()).unwrap().with_archive(archive).with_full_archive();
        let state = dir.path().join("state");
        let opened = move || {
            EventLog::open(journal, &state, |_| ParsedCallback::Unrecognised(QuarantineReason::UnknownShape)).unwrap()
        };
        let log = tokio::task::spawn_blocking(opened).await.unwrap();
        assert!(log.recovered().await.unwrap().moved_aside.is_none());
        let found = log.state().quarantine(10, None).unwrap().items;
        let sizes: Vec<_> = found.iter().map(|record| record.bytes).collect();
        assert_eq!(sizes, [3, 3, 23]);
        let counters = log.state().counters().unwrap();
        assert_eq!((counters.quarantined, counters.quarantined_bytes), (3, 29));
        let (journal, position) = (log.journal().clone(), found[2].position);
        let read = tokio::task::spawn_blocking(move || journal.read(position)).await.unwrap().unwrap();
        assert_eq!(read.into_callback().unwrap().body, r#"{"of":"the longer one"}"#);
        tokio::task::spawn_blocking(move || log.close()).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_in_the_bucket_make_the_reader_panic_or_wait(
        name in prop_oneof![Just(OLD_NAME.to_owned()), Just(name::sealed(0, b"x").as_str().to_owned())],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        from in 0..4000_u64,
        kind in 0..3_u8,
    ) {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
            let bench = Bench::new();
            let plain = segment(20);
            let mut object = match kind {
                0 => bytes,
                1 => clear(&plain),
                _ => sealed::seal(&keys(&["one"]), 0, &plain).unwrap(),
            };
            for (at, value) in flips {
                if !object.is_empty() {
                    let at = at.index(object.len());
                    object[at] = value;
                }
            }
            bench.write(&name, &object);
            for (from, length) in [(0, u64::MAX), (from, 100)] {
                bench.read(&bench.segments().await[0], from, length).await;
            }
        });
    }
}
