use reqwest::Method;

use super::*;

const MEDIA: &str = "/api/v1/media";

#[tokio::test]
async fn media_are_shown_with_what_refers_to_them() {
    let vault = Vault::start().await;
    let sha256 = vault.stored(1, b"the same bytes", "video/mp4").await;
    let other = vault.stored(2, b"other bytes", "image/png").await;
    vault.stored(3, b"the same bytes", "video/mp4").await;
    let shown = vault.get(&format!("{MEDIA}/{sha256}")).await;
    assert!(Timestamp::parse_rfc3339(shown["firstStoredAt"].as_str().unwrap()).is_some());
    let expected = json!({
        "sha256": sha256, "bytes": 14, "contentType": "video/mp4", "key": "video/2026/11/20/video-1/video.mp4",
        "firstStoredAt": shown["firstStoredAt"], "moreReferences": false,
        "references": [
            {"jobId": id(1), "file": "video.mp4", "replyRef": "boat"},
            {"jobId": id(3), "file": "video.mp4", "replyRef": "boat"},
        ],
    });
    assert_eq!(shown, expected);
    assert_eq!(vault.get(&format!("{MEDIA}/{}", sha256.to_string().to_uppercase())).await, expected);

    let all = vault.get(MEDIA).await;
    assert_eq!((&all["items"][0]["sha256"], &all["items"][1]), (&json!(other), &expected));
    assert_eq!((all["items"].as_array().unwrap().len(), &all["nextCursor"]), (2, &Value::Null));
    let first = vault.get(&format!("{MEDIA}?limit=1")).await;
    let second = vault.get(&format!("{MEDIA}?limit=1&cursor={}", first["nextCursor"].as_str().unwrap())).await;
    assert_eq!((&first["items"][0], &second["items"][0]), (&all["items"][0], &all["items"][1]));
    assert_eq!(second["nextCursor"], Value::Null);

    let stats = vault.get("/api/v1/stats").await;
    let numbers = ["objects", "bytesStored", "bytesDeduplicated"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(numbers, [2, 25, 14]);
}

#[tokio::test]
async fn a_list_of_references_says_when_there_are_more() {
    let vault = Vault::start().await;
    let sha256 = vault.stored(0, b"popular", "video/mp4").await;
    for number in 1..21 {
        vault.stored(number, b"popular", "video/mp4").await;
    }
    let count = |media: &Value| (media["references"].as_array().unwrap().len(), media["moreReferences"].clone());
    assert_eq!(count(&vault.get(MEDIA).await["items"][0]), (20, json!(true)));
    assert_eq!(count(&vault.get(&format!("{MEDIA}/{sha256}")).await), (21, json!(false)));
}

#[tokio::test]
async fn missing_objects_are_not_found() {
    let vault = Vault::start().await;
    let unknown = Digest::of(b"nothing").to_string();
    for path in [&unknown, "x", &unknown[1..], "..%2F..%2Fetc%2Fpasswd"] {
        for path in [format!("{MEDIA}/{path}"), format!("{MEDIA}/{path}/content")] {
            let response = vault.send(Method::GET, &path).await;
            assert_eq!(refusal(response).await, (404, "not_found".to_owned()), "{path}");
        }
    }
    for query in ["limit=1000", "cursor=q", "state=x"] {
        let response = vault.send(Method::GET, &format!("{MEDIA}?{query}")).await;
        assert_eq!(refusal(response).await, (400, "invalid_request".to_owned()), "{query}");
    }
}
