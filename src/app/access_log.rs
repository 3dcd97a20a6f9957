use std::time::Instant;

use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode};

/// A request's line in the log: by its route and never by its path, since paths of reply URLs hold signatures.
pub(super) struct AccessLogEntry {
    started: Instant,
    method: Method,
}

impl AccessLogEntry {
    pub(super) fn begin(method: &Method) -> Self {
        Self { started: Instant::now(), method: method.clone() }
    }

    pub(super) fn end<B>(self, response: &ServiceResponse<B>) {
        let Self { started, method } = self;
        let status = response.status().as_u16();
        // None of these is free to know, and most requests leave no line.
        let client = || response.request().connection_info().realip_remote_addr().unwrap_or_default().to_owned();
        let route = || response.request().match_pattern().unwrap_or_default();
        // That it answers 503, and why, is said where it begins and ends.
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(client = client(), %method, route = route(), status, elapsed = ?started.elapsed(), "request");
        } else {
            tracing::debug!(client = client(), %method, route = route(), status, elapsed = ?started.elapsed(), "request");
        }
    }
}
