use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {
        /// What has happened since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct Stats { $($(#[$doc])+ pub $name: u64),+ }

        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: Counter),+ }

        impl Counters {
            pub(super) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

counters! {
    /// Jobs made.
    jobs,
    /// Calls of the provider's API, those without a token included.
    api_requests,
    /// Of those, GETs of one job.
    reads,
    /// Callbacks POSTed, repeats included.
    callbacks_sent,
    /// Of those, answered with 2xx.
    callbacks_acked,
    /// Of those, answered otherwise. Not sent again, as the provider does not.
    callbacks_refused,
    /// Of those, not answered at all. Not sent again either.
    callbacks_failed,
    /// Of those, byte-identical to one sent before.
    callbacks_repeated,
    /// Of those, held back until after the final one.
    callbacks_disordered,
    /// Callbacks never sent, on purpose.
    callbacks_dropped,
    /// Requests to the CDN.
    cdn_requests,
    /// Of those, spoilt on purpose.
    cdn_faults,
    /// Of those, refused because the link had expired.
    cdn_expired,
    /// Bytes of media handed to connections.
    cdn_bytes,
    /// Bytes of uploads that have come, those still coming included.
    upload_bytes,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}
