use std::time::Duration;

use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::IntakeError;
use super::within::within;

/// Until it is whole, so much of a body has to come ...
const LEAST_BYTES: usize = 16 << 10;
/// ... in this time, ...
const LEAST_TIME: Duration = Duration::from_secs(10);
/// ... or in this while others wait for its slot.
const LEAST_TIME_WANTED: Duration = Duration::from_secs(1);

/// How fast a body has to come that holds what others may need.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the last bytes began to come that have to come in a time.
    since: Instant,
    bytes: usize,
    least: usize,
}

impl Pace {
    /// For a body that begins to come now.
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), bytes: 0, least: LEAST_BYTES }
    }

    /// So many bytes have to come from now on where fewer had to.
    pub(super) fn expect(&mut self, least: usize) {
        self.least = least;
    }

    /// The next piece; `None` at the end. `is_wanted`: whether others wait for what the body holds.
    ///
    /// # Errors
    /// When too little comes, or the body breaks off.
    pub(crate) async fn next(
        &mut self,
        payload: &mut Payload,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<Bytes>, IntakeError> {
        loop {
            let piece = within(LEAST_TIME_WANTED, payload.next()).await;
            if let Ok(None) = piece {
                return Ok(None);
            }
            let slow = self.since.elapsed();
            if slow >= LEAST_TIME {
                let (kib, seconds) = (self.least >> 10, LEAST_TIME.as_secs());
                return Err(IntakeError::Incomplete(format!("less than {kib} KiB came in {seconds} seconds")));
            }
            if slow >= LEAST_TIME_WANTED && is_wanted() {
                return Err(IntakeError::Unavailable("others wait for the room that this body holds"));
            }
            if let Ok(Some(piece)) = piece {
                return piece.map(Some).map_err(|error| IntakeError::Incomplete(error.to_string()));
            }
        }
    }

    /// So many bytes came. What it `waited` for a slot or the disk meanwhile is no slowness of its own.
    pub(crate) fn grew_by(&mut self, bytes: usize, waited: Duration) {
        self.since += waited;
        self.bytes += bytes;
        if self.bytes >= self.least {
            *self = Self { since: Instant::now(), bytes: 0, least: self.least };
        }
    }
}
