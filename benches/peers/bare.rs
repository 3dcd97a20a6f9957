//! The least that can be done to archive files: download, hash while that goes on, upload; some at a time.
//!
//! `bare N FILE` reads lines of a URL and a key from FILE, does N at a time, and prints the milliseconds each took.

use std::env::{args, var};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use reqwest::Client;
use sha2::{Digest, Sha256};

type Failure = Box<dyn Error + Send + Sync>;

/// As replyvault's default.
const PART_SIZE: usize = 8 << 20;
/// Parts of one file under way.
const PARTS: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let at_once: usize = args().nth(1).ok_or("expected how many at a time")?.parse()?;
    let list = std::fs::read_to_string(args().nth(2).ok_or("expected a file")?)?;
    let store = AmazonS3Builder::new()
        .with_endpoint(var("ENDPOINT")?)
        .with_bucket_name(var("BUCKET")?)
        .with_region(var("REGION")?)
        .with_access_key_id(var("ACCESS_KEY_ID")?)
        .with_secret_access_key(var("SECRET_ACCESS_KEY")?)
        .with_allow_http(true)
        .build()?;
    let (client, store) = (Client::builder().no_proxy().build()?, Arc::new(store));
    let files = list.lines().filter_map(|line| line.split_once(' '));
    let copies = files.map(|(url, key)| {
        let copying = copy(client.clone(), store.clone(), url.to_owned(), Path::from(key));
        async move { tokio::spawn(copying).await? }
    });
    let taken: Vec<f64> = stream::iter(copies).buffered(at_once).try_collect().await?;
    taken.iter().for_each(|milliseconds| println!("{milliseconds}"));
    Ok(())
}

async fn copy(client: Client, store: Arc<AmazonS3>, url: String, path: Path) -> Result<f64, Failure> {
    let began = Instant::now();
    let response = client.get(url).send().await?.error_for_status()?;
    let small = response.content_length().is_some_and(|length| length <= PART_SIZE as u64);
    let (mut chunks, mut hash) = (response.bytes_stream(), Sha256::new());
    if small {
        let mut whole: Vec<Bytes> = Vec::new();
        while let Some(chunk) = chunks.try_next().await? {
            hash.update(&chunk);
            whole.push(chunk);
        }
        store.put(&path, PutPayload::from_iter(whole)).await?;
    } else {
        let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await?, PART_SIZE);
        while let Some(chunk) = chunks.try_next().await? {
            hash.update(&chunk);
            upload.wait_for_capacity(PARTS).await?;
            upload.put(chunk);
        }
        upload.finish().await?;
    }
    std::hint::black_box(hash.finalize());
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
