//! Two stores of one process, the disk of one of which hangs.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

#[path = "../../../../tests/it/support/frozen_disk.rs"]
mod frozen_disk;

#[test]
fn a_store_whose_disk_hangs_keeps_no_reader_from_another() {
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(disk) = frozen_disk::Disk::mount(elsewhere.path()) else {
        println!("skipped: a file system cannot be mounted here");
        return;
    };
    std::fs::create_dir(disk.path().join("state")).unwrap();
    let (store, hung) = (open(here.path()), open(&disk.path().join("state")));
    let large = |key: &str| (key.into(), Some(vec![7; 64 << 10].into()));
    store.commit(vec![put("a", "1")]).unwrap();
    flush_some(&store, 1);
    hung.commit(vec![large("a")]).unwrap();
    flush_some(&hung, 1);
    let frozen = disk.freeze();
    std::thread::scope(|scope| {
        hung.commit(vec![large("b")]).unwrap();
        let waits = scope.spawn(|| flush_some(&hung, 1));
        store.commit(vec![put("b", "1")]).unwrap();
        let written = scope.spawn(|| flush_some(&store, 1));
        let (answer, answered) = channel();
        let reader = &store;
        let reads = scope.spawn(move || {
            // Time and again, so that it meets whoever waits.
            for _ in 0..100 {
                let _ = answer.send(reader.shared.blocks.get(b"a").unwrap());
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let answers: Vec<_> = (0..100).map(|_| answered.recv_timeout(Duration::from_secs(20)).is_ok()).collect();
        let is_hung = !waits.is_finished();
        drop(frozen);
        reads.join().unwrap();
        written.join().unwrap();
        waits.join().unwrap();
        assert!(is_hung, "the disk did not hang");
        assert_eq!(answers, [true; 100]);
    });
    drop(hung);
}
