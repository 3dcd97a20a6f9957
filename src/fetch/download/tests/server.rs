use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::domain::MediaUrl;

/// What the server does on one connection after it has read a request.
#[derive(Clone)]
pub(crate) enum Act {
    Send(Vec<u8>),
    Pause(u64),
    Reset,
}
use Act::{Pause, Reset, Send};

pub(crate) fn send(text: &str) -> Act {
    Send(text.as_bytes().to_vec())
}

/// A server that plays one script for each connection in turn, closes it, and keeps the requests.
pub(crate) async fn server(scripts: Vec<Vec<Act>>) -> (MediaUrl, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.mp4?Signature=secret", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                seen.lock().unwrap().push(String::from_utf8(head).unwrap().to_lowercase());
                // A client that has heard enough closes the connection, which is no failure of the server.
                let _ = play(&mut stream, script).await;
            });
        }
    });
    (MediaUrl::parse(&url).unwrap(), requests)
}

async fn play(stream: &mut TcpStream, script: Vec<Act>) -> std::io::Result<()> {
    for act in script {
        match act {
            Send(bytes) => stream.write_all(&bytes).await?,
            Pause(millis) => sleep(Duration::from_millis(millis)).await,
            Reset => return stream.set_zero_linger(),
        }
    }
    stream.shutdown().await
}
