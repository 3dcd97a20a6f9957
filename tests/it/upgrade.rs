//! A journal and a bucket that an earlier version wrote.

use std::collections::BTreeMap;
use std::path::Path;

use walkdir::WalkDir;

use crate::support::child::Program;
use crate::support::vault::video_id;

/// Written by a version without markers in buckets, labels of refs apart from jobs, and providers of jobs. Its state is left
/// out: a state of another format is rebuilt.
const EARLIER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/earlier-vault");
const SECRET: &str = r#"["fixture-reply-secret-0123456789abcdef"]"#;
const BOAT: &str = "ref_01m8cfarpfrxky06mg768p7wfm/WoCtv9q13O0Zv0KDTe_Y--vd4fRhHU0B_BRXPdwwV2w";

fn files(below: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = WalkDir::new(below).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let relative = |path: &Path| path.strip_prefix(below).unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| (relative(entry.path()), std::fs::read(entry.path()).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files(from) {
        let target = to.join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_wrote_opens_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, bucket) = (dir.path().join("data/journal"), dir.path().join("bucket"));
    copy(&Path::new(EARLIER).join("journal"), &journal);
    copy(&Path::new(EARLIER).join("bucket"), &bucket);
    let (segments, objects) = (files(&journal), files(&bucket));
    let mut program = Program::new(dir.path());
    program.set("AUTH__REPLY_SECRETS", SECRET.to_owned());
    let process = program.start().await;

    for (number, state) in [(1, "archived"), (3, "archived"), (4, "running"), (5, "failed"), (6, "stuck")] {
        process.job_in(&video_id(number), state).await;
    }
    let first = process.get(&format!("/api/v1/jobs/{}", video_id(1))).await.unwrap();
    assert_eq!((&first["provider"], &first["replyRef"]), (&"minimax".into(), &"boat".into()));
    assert_eq!((&first["labels"]["project"], &first["prompt"]), (&"harbour".into(), &"A paper boat".into()));
    let twice = process.get(&format!("/api/v1/jobs/{}", video_id(3))).await.unwrap();
    assert_eq!(twice["assets"][0]["sha256"], first["assets"][0]["sha256"]);
    assert_eq!(twice["assets"][0]["deduplicated"], true);
    let stats = process.get("/api/v1/stats").await.unwrap();
    let counted =
        ["callbacks", "quarantined", "objects", "bytesStored", "refs"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(counted, [7, 1, 2, 1011, 6], "{stats}");
    let path = format!("/api/v1/media/{}/content", first["assets"][0]["sha256"].as_str().unwrap());
    assert_eq!(process.touch(&path).await, Some(200));

    // The URL that it made goes on being good.
    let url = format!("{}/reply/{BOAT}", process.base);
    let body = serde_json::json!({"videoId": video_id(7), "status": 1, "percent": 5});
    let answer = process.client.post(url).body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(process.job_in(&video_id(7), "running").await["replyRef"], "boat");
    process.kill();

    for (name, bytes) in segments {
        assert!(std::fs::read(journal.join(&name)).unwrap().starts_with(&bytes), "{name}");
    }
    let now = files(&bucket);
    for (key, bytes) in objects {
        assert!(now.get(&key) == Some(&bytes), "{key}");
    }
}
