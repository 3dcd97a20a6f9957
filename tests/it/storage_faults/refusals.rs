//! What storage refuses for good, of one object or for want of a permission.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_storage_refuses_is_stuck_and_others_are_stored() {
    for (status, code, downloads) in
        [(400, "InvalidObjectName", 3), (400, "EntityTooLarge", 3), (413, "", 3), (403, "AccessDenied", 4)]
    {
        let (media, s3) = (MediaServer::start(), S3Server::start().await);
        let vault = Vault::start_with(|settings| {
            settings.bucket = s3.config("");
            settings.worker.max_attempts = 4;
        })
        .await;
        s3.inject(move |call| {
            let refused = is_single_put(call) && call.path.contains("/video-1/");
            refused.then_some(Fault::Refuse(status, code, None))
        });
        for number in [1, 2] {
            let url = media.put(&format!("/{number}.mp4"), mp4(number, SMALL), "video/mp4");
            vault.callback(completed(number, &url)).await;
        }
        vault.archived(&video_id(2)).await;
        let job = vault.job_in(&video_id(1), &["stuck"]).await;
        assert_eq!(job["reason"], "refused_by_storage", "{job:#}");
        assert!(job["assets"][0]["lastError"].as_str().unwrap().contains(code), "{job:#}");
        assert_eq!(media.hits("/1.mp4"), downloads, "{code}");
        assert_eq!(vault.get("/readyz").await.0, 200, "storage is in order");
        assert_eq!(s3.unfinished_uploads().len(), 0, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_storage_refuses_holds_up_no_other_job_with_the_same_bytes() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    // Nor does storage say what is there.
    s3.inject(|call| call.path.contains("/video-1/").then_some(Fault::Refuse(400, "InvalidObjectName", None)));
    let mut vault = vault(&s3, Limits::default()).await;
    let url = media.put("/1.mp4", mp4(1, SMALL), "video/mp4");
    vault.callback(completed(1, &url)).await;
    let job = vault.job_in(&video_id(1), &["stuck"]).await;
    assert_eq!(job["reason"], "refused_by_storage", "{job:#}");
    vault.callback(completed(2, &url)).await;
    let job = vault.archived(&video_id(2)).await;
    vault.assert_stored(&job, &mp4(1, SMALL)).await;
    vault.stop().await;
    vault.start_again().await;
    let url = media.put("/3.mp4", mp4(3, SMALL), "video/mp4");
    vault.callback(completed(3, &url)).await;
    vault.archived(&video_id(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_storage_does_not_abort_holds_up_nothing() {
    let all = [Fault::Refuse(403, "AccessDenied", None), Fault::Refuse(500, "InternalError", None)];
    futures_util::future::join_all(all.map(archives_without_aborts)).await;
}

async fn archives_without_aborts(fault: Fault) {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    s3.inject(move |call| {
        let aborts = call.method == Method::DELETE && call.query.contains("uploadId=");
        aborts.then_some(fault)
    });
    let mut vault = vault(&s3, Limits::default()).await;
    // That the second has the same bytes shows at its end.
    for number in [1, 2] {
        let url = media.put(&format!("/{number}.mp4"), mp4(1, LARGE), "video/mp4");
        vault.callback(completed(number, &url)).await;
        vault.archived(&video_id(number)).await;
    }
    assert!(!s3.unfinished_uploads().is_empty());
    vault.stop().await;
    vault.start_again().await;
    let url = media.put("/3.mp4", mp4(3, LARGE), "video/mp4");
    vault.callback(completed(3, &url)).await;
    vault.archived(&video_id(3)).await;
    assert_eq!(vault.get("/readyz").await.0, 200, "storage takes objects");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_list_work_goes_on_and_the_permission_is_named() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let root = s3.root.path().to_owned();
    s3.inject(move |call| {
        let reads = call.method == Method::GET || call.method == Method::HEAD;
        let lists = call.query.contains("list-type");
        let is_missing = !root.join(call.path.trim_start_matches('/')).is_file();
        (reads && (lists || is_missing)).then_some(Fault::Refuse(403, "AccessDenied", None))
    });
    let vault = vault(&s3, Limits::default()).await;
    let (status, ready) = vault.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(ready["checks"]["storage"].as_str().unwrap().contains("s3:ListBucket"), "{ready}");
    let url = media.put("/1.mp4", mp4(1, SMALL), "video/mp4");
    vault.callback(completed(1, &url)).await;
    let first = vault.archived(&video_id(1)).await;
    let key = first["assets"][0]["key"].as_str().unwrap();
    vault.callback(completed(2, &url)).await;
    assert_eq!(vault.archived(&video_id(2)).await["assets"][0]["deduplicated"], true);
    // What is missing is told from what is forbidden by what is there.
    std::fs::remove_file(s3.root.path().join(&s3.bucket).join(key)).unwrap();
    vault.callback(completed(3, &url)).await;
    let third = vault.archived(&video_id(3)).await;
    assert_eq!((&third["assets"][0]["key"], &third["assets"][0]["attempts"]), (&json!(key), &json!(0)));
    vault.assert_stored(&third, &mp4(1, SMALL)).await;
}
