use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use bytes::Bytes;
use futures_util::stream::{self, Stream};

use crate::Shared;
use crate::media::File;

/// The most that is handed to a connection at once.
const CHUNK: usize = 64 << 10;
/// An error discards what the server has not written yet; waiting lets the head and the first half go out.
const FLUSH: Duration = Duration::from_millis(20);
/// Longer than any client waits.
const STALL: Duration = Duration::from_secs(3600);

/// What happens after the last byte.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Whole,
    /// The connection is cut.
    Broken,
    /// Nothing, for longer than anyone waits.
    Stalled,
}

/// Part of a file, sent as slowly as asked for.
pub(super) fn stream(
    shared: &web::Data<Shared>,
    file: Arc<File>,
    range: Range<u64>,
    ending: Ending,
) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let body = Body { shared: Arc::clone(shared), file, range, ending };
    stream::unfold(Some(body), |body| async { body?.next().await })
}

struct Body {
    shared: Arc<Shared>,
    file: Arc<File>,
    range: Range<u64>,
    ending: Ending,
}

impl Body {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Option<Self>)> {
        if self.range.is_empty() {
            return match self.ending {
                Ending::Whole => None,
                Ending::Broken => {
                    tokio::time::sleep(FLUSH).await;
                    Some((Err(io::ErrorKind::ConnectionReset.into()), None))
                }
                Ending::Stalled => {
                    tokio::time::sleep(STALL).await;
                    Some((Err(io::ErrorKind::TimedOut.into()), None))
                }
            };
        }
        let rate = self.shared.faults.cdn_slow();
        // A tenth of a second's worth at a time, so that a slow body trickles.
        let most = rate.map_or(CHUNK, |rate| usize::try_from(rate / 10).unwrap_or(CHUNK).clamp(1, CHUNK));
        let chunk = self.file.read(&self.range, most);
        self.range.start += chunk.len() as u64;
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64)).await;
        }
        self.shared.stats.cdn_bytes.add(chunk.len() as u64);
        Some((Ok(chunk), Some(self)))
    }
}
