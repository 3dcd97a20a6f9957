use actix_server::Server;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A connection whose client sends so many bytes of a head that is not whole, and how it goes until nothing more comes.
async fn half_head(limits: &Limits, bytes: usize) -> (TcpStream, IdleTimeoutStream<TcpStream>, io::Result<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut stream = IdleTimeoutStream::new(listener.accept().await.unwrap().0, limits);
    client.write_all(&vec![b'x'; bytes]).await.unwrap();
    let read = async {
        let (mut got, mut some) = (0, vec![0; MAX_HEAD_BYTES]);
        while got < bytes {
            got += stream.read(&mut some).await?;
        }
        stream.read(&mut some).now_or_never().map_or(Ok(()), |read| read.map(drop))
    };
    let read = read.await;
    (client, stream, read)
}

#[tokio::test]
async fn half_heads_beyond_their_memory_are_refused_and_small_ones_are_not() {
    const LARGE: usize = 15 << 10;
    let limits = Limits {
        idle_timeout: Duration::from_secs(600),
        longest_unread: Duration::from_secs(600),
        stop: Server::build().graceful_shutdown_signal(),
        // As if others had all but the room for one.
        heads: Arc::new(AtomicUsize::new(MAX_HEADS_BYTES - LARGE)),
    };
    let (_first, stream, read) = half_head(&limits, LARGE).await;
    assert!(read.is_ok(), "{read:?}");
    let (mut client, refused, read) = half_head(&limits, LARGE).await;
    assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::OutOfMemory));
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (_small, _stream, read) = half_head(&limits, FREE_HEAD_BYTES).await;
    assert!(read.is_ok(), "{read:?}");
    // What a connection had is free again when it ends.
    drop((stream, refused));
    let (_next, _stream, read) = half_head(&limits, LARGE).await;
    assert!(read.is_ok(), "{read:?}");
}
