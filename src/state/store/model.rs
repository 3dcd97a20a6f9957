//! Interleavings of those who commit, read and wait with the thread that writes, one by one:
//!
//! ```sh
//! RUSTFLAGS="--cfg shuttle" cargo test --lib store::model
//! ```

use super::*;

const INTERLEAVINGS: usize = 2000;

fn put(key: &str, value: u8) -> Write {
    (key.into(), Some(IVec::from(&[value])))
}

/// sled is real, and takes part as one step each time it is asked.
fn sled() -> sled::Db {
    sled::Config::new().temporary(true).open().unwrap()
}

#[test]
fn whoever_commits_reads_and_waits_while_the_writer_writes_the_count_is_right_and_all_is_written() {
    let tree = sled();
    let run = move || {
        let store = Arc::new(Store::new(Blocks::new(tree.clone())).unwrap());
        let committing = {
            let store = store.clone();
            thread::spawn(move || {
                for value in 1..=4 {
                    store.commit(vec![put("a", value), put("b", value)]).unwrap();
                    assert_eq!(store.get(b"a").unwrap().as_deref(), Some([value].as_slice()), "who commits reads it");
                }
            })
        };
        let reading = {
            let store = store.clone();
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..3 {
                    let value = store.get(b"b").unwrap().map_or(0, |value| value[0]);
                    assert!(value >= last || last == 4, "what was seen does not go away");
                    last = value;
                }
            })
        };
        assert!(store.settle(Duration::from_secs(600)).unwrap());
        reading.join().unwrap();
        committing.join().unwrap();
        assert!(store.settle(Duration::from_secs(600)).unwrap());
        assert!(store.failure().is_none());
        assert_eq!(store.shared.written.get(b"b").unwrap().as_deref(), Some([4].as_slice()));
    };
    shuttle::check_random(run.clone(), INTERLEAVINGS);
    shuttle::check_pct(run, INTERLEAVINGS, 3);
}
