//! Callbacks as the provider sends them, each of another job.

use std::net::SocketAddr;

/// A callback's body as it is, but for the number of its job.
pub(crate) struct Callback {
    request: Vec<u8>,
    path: String,
    /// Where the number stands in it.
    numbers: Vec<usize>,
    body: usize,
}

/// The ref of all jobs of a batch.
pub(crate) const ONE_REF: &str = "boat-0017";
/// A ref for each job.
pub(crate) const REF_EACH: &str = "boat-000000000000000000";

/// What stands for the job's number, and has as many digits as it.
const NUMBER: &str = "000000000000000000";
const DIGITS: usize = NUMBER.len();

impl Callback {
    /// A callback of a job that goes on: what the provider sends most. `reply_ref` is [`ONE_REF`] or [`REF_EACH`].
    pub(crate) fn progress(address: SocketAddr, path: &str, reply_ref: &str) -> Self {
        let body = format!(
            concat!(
                r#"{{"id":"{id}","desc":"a paper boat crosses a flooded street","coverURL":"","videoURL":"","#,
                r#""status":1,"statusLabel":"processing","statusFinal":false,"message":"Rendering","percent":37,"#,
                r#""width":0,"height":0,"originFiles":[],"canAppeal":false,"canRetry":false,"#,
                r#""videoId":"user:4821-minimax:730015522-video:{id}","#,
                r#""replyUrl":"https://vault.example.com{path}","replyRef":"{reply_ref}"}}"#
            ),
            id = NUMBER,
            path = path,
            reply_ref = reply_ref
        );
        Self::new(address, path, &body)
    }

    /// A callback of a job that has ended; its file is to be had at `url`.
    pub(crate) fn completed(address: SocketAddr, path: &str, reply_ref: &str, url: &str) -> Self {
        let body = format!(
            concat!(
                r#"{{"id":"{id}","desc":"a paper boat crosses a flooded street","videoURL":"{url}","downloadURL":"{url}","#,
                r#""status":2,"statusLabel":"completed","statusFinal":true,"percent":100,"width":1366,"height":768,"#,
                r#""originFiles":[],"canAppeal":false,"canRetry":false,"#,
                r#""videoId":"user:4821-minimax:730015522-video:{id}","replyRef":"{reply_ref}"}}"#
            ),
            id = NUMBER,
            url = url,
            reply_ref = reply_ref
        );
        Self::new(address, path, &body)
    }

    fn new(address: SocketAddr, path: &str, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = format!("{head}{body}");
        let numbers = request.match_indices(NUMBER).map(|(at, _)| at).collect();
        Self { request: request.into_bytes(), path: path.to_owned(), numbers, body: head.len() }
    }

    /// Appends the request of a job.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.request);
        let digits = digits(number);
        for at in &self.numbers {
            out[start + at..start + at + DIGITS].copy_from_slice(&digits);
        }
    }

    /// The body alone.
    pub(crate) fn body(&self, number: u64) -> Vec<u8> {
        let mut request = Vec::new();
        self.write(number, &mut request);
        request.split_off(self.body)
    }

    /// The path it is posted to.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Bytes of a body.
    pub(crate) fn body_length(&self) -> usize {
        self.request.len() - self.body
    }
}

/// The provider's id of a job.
pub(crate) fn job_id(number: u64) -> String {
    format!("user:4821-minimax:730015522-video:{}", String::from_utf8_lossy(&digits(number)))
}

fn digits(number: u64) -> [u8; DIGITS] {
    let mut digits = *b"418200000000000000";
    let (mut rest, mut at) = (number, DIGITS);
    while rest > 0 && at > 4 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}
