use crate::domain::Timestamp;

/// The time that answers show: the system's, or one that stands still, so that two simulators answer alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    fixed: Option<Timestamp>,
}

impl Clock {
    pub(super) const fn new(fixed: Option<Timestamp>) -> Self {
        Self { fixed }
    }

    pub(super) fn now(self) -> Timestamp {
        self.fixed.unwrap_or_else(Timestamp::now)
    }
}
