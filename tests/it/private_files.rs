//! Who may read what is kept.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::support::child::Program;
use crate::support::media::MediaServer;
use crate::support::vault::{completed, video_id};

/// Also in a folder that was made beforehand for everybody; the directory that stands for a bucket is others' to read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_nobody_elses_to_read() {
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let program = Program::new(dir.path());
    for number in 0..2 {
        let process = program.start().await;
        process.post_until_accepted(&completed(number, &media.generated(number, 1000))).await;
        process.job_in(&video_id(number), "archived").await;
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
        let (mut folders, mut files) = (vec![data.clone()], 0);
        while let Some(folder) = folders.pop() {
            assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700, "{folder:?}");
            for item in std::fs::read_dir(&folder).unwrap() {
                let item = item.unwrap();
                let metadata = item.metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(item.path());
                } else {
                    assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{item:?}");
                    files += 1;
                }
            }
        }
        assert!(files >= 6, "{files}");
    }
}
