use replyvault_domain::Timestamp;

/// The time that answers show: the system's, or one that stands still, so that two simulators answer alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    fixed: Option<Timestamp>,
    started: Timestamp,
}

impl Clock {
    pub(super) fn new(fixed: Option<Timestamp>) -> Self {
        Self { fixed, started: fixed.unwrap_or_else(Timestamp::now) }
    }

    /// When the simulator started: the age of whatever was there before anyone called.
    pub(super) const fn started(self) -> Timestamp {
        self.started
    }

    pub(super) fn now(self) -> Timestamp {
        self.fixed.unwrap_or_else(Timestamp::now)
    }
}
