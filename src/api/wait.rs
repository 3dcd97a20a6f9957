//! Answers that wait until something has ended.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{Api, ApiError, extract};
use crate::domain::parse_duration;
use crate::state::{State, StateError, Waiter};

/// The longest that an answer waits; whoever asks for more gets an answer then.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Drops the headers of a request whose answer may wait, once they are read. actix-web's map of them takes 7 kB, about half
/// of what such a client costs.
pub(super) fn drop_headers(request: &mut ServiceRequest) {
    const ROUTES: [&str; 2] = ["/api/v1/jobs/{jobId}", "/api/v1/refs/{refId}"];
    let may_wait = request.query_string().contains("wait=");
    // Nothing is routed yet, and the request's own `match_pattern` would take the path before it is decoded.
    let route = || request.resource_map().match_pattern(request.match_info().as_str());
    if may_wait && route().is_some_and(|route| ROUTES.contains(&route.as_str())) {
        // What the log says of the client is read here, and stays with the request.
        drop(request.connection_info());
        *request.headers_mut() = HeaderMap::new();
    }
}

/// How many answers of each token wait, so that no token takes all there can be.
#[derive(Debug, Default)]
pub(super) struct Shares(Arc<Mutex<HashMap<Arc<str>, usize>>>);

/// A place among those.
struct Place {
    shares: Arc<Mutex<HashMap<Arc<str>, usize>>>,
    token: Arc<str>,
}

impl Shares {
    const MAX_OF_ONE: usize = 15_000;

    fn take(&self, token: &Arc<str>) -> Result<Place, ApiError> {
        let mut waiting = self.0.lock();
        let count = waiting.entry(token.clone()).or_default();
        if *count >= Self::MAX_OF_ONE {
            let message = format!("{} answers wait for this token already", Self::MAX_OF_ONE);
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_waiting", message));
        }
        *count += 1;
        Ok(Place { shares: self.0.clone(), token: token.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.shares.lock();
        if let Some(count) = waiting.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.token);
            }
        }
    }
}

/// Reads `wait`: how long an answer may wait, if it may.
pub(super) fn limit(wait: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let Some(text) = extract::non_empty(wait) else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = if digits { text.parse().ok().map(Duration::from_secs) } else { parse_duration(text).ok() };
    let limit = limit.ok_or_else(|| ApiError::invalid("wait: expected a duration such as 60s"))?;
    Ok((!limit.is_zero()).then_some(limit.min(MAX_WAIT)))
}

impl Api {
    /// What `read` finds, as soon as `is_over`, or when `limit` is. `None` at once when there is nothing to wait for.
    pub(super) async fn read_until<T: Send + 'static>(
        &self,
        token: &Arc<str>,
        limit: Duration,
        waiter: Option<Waiter>,
        read: impl Fn(&State) -> Result<Option<T>, StateError> + Clone + Send + 'static,
        is_over: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, ApiError> {
        let until = Instant::now() + limit;
        let _place = self.inner.waiting.take(token)?;
        let waiter = waiter.ok_or_else(|| ApiError::unavailable("too many answers wait already"))?;
        let mut is_late = false;
        loop {
            let mut ended = pin!(waiter.ended());
            ended.as_mut().enable();
            {
                // Not held while this waits.
                let found = self.read(read.clone()).await?;
                if is_late || waiter.is_closed() || found.as_ref().is_none_or(&is_over) {
                    return Ok(found);
                }
            }
            is_late = timeout_at(until, ended).await.is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_bounded() {
        let seconds = |text| limit(Some(text)).unwrap().map(|limit| limit.as_millis());
        for (text, millis) in [("60s", Some(60_000)), ("250ms", Some(250)), ("5", Some(5000)), ("2h", Some(600_000))] {
            assert_eq!(seconds(text), millis, "{text}");
        }
        assert_eq!((seconds("0s"), seconds(""), limit(None).unwrap()), (None, None, None));
        for bad in ["soon", "-1s", "18446744073709551615s1000ms"] {
            assert!(limit(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_has_its_share() {
        let shares = Shares::default();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let places: Vec<_> = std::iter::from_fn(|| shares.take(&one).ok()).collect();
        assert_eq!(places.len(), Shares::MAX_OF_ONE);
        assert!(shares.take(&other).is_ok());
        drop(places);
        assert!(shares.take(&one).is_ok() && shares.0.lock().is_empty());
    }
}
