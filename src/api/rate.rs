//! How many callbacks came in each of the last minutes, since the start.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::domain::Timestamp;

/// Minutes that are told of.
pub(super) const MINUTES: usize = 60;

/// The number of all callbacks at the end of each minute, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: Mutex<VecDeque<(u64, u64)>>,
}

impl Rate {
    /// Notes that by `now` there were so many in all.
    pub(super) fn note(&self, now: Timestamp, callbacks: u64) {
        let minute = now.millis() / 60_000;
        let mut samples = self.samples.lock();
        match samples.back_mut() {
            Some(last) if last.0 >= minute => last.1 = callbacks,
            last => {
                // What came before the first look came before this minute.
                if last.is_none() {
                    samples.push_back((minute.saturating_sub(1), callbacks));
                }
                samples.push_back((minute, callbacks));
            }
        }
        while samples.len() > MINUTES + 1 {
            samples.pop_front();
        }
    }

    /// The callbacks of each of the last minutes, the oldest first. Of minutes in which nobody looked, the next has them.
    pub(super) fn per_minute(&self, now: Timestamp) -> Vec<u64> {
        let this = now.millis() / 60_000;
        let samples = self.samples.lock();
        let mut minutes = vec![0; MINUTES];
        for ((_, before), (minute, callbacks)) in samples.iter().zip(samples.iter().skip(1)) {
            let ago = this.saturating_sub(*minute) as usize;
            if ago < MINUTES {
                minutes[MINUTES - 1 - ago] += callbacks.saturating_sub(*before);
            }
        }
        minutes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_are_counted_in_the_minute_they_were_seen_in() {
        let at = |minute: u64| Timestamp::from_millis_clamped((1000 + minute) * 60_000);
        let rate = Rate::default();
        assert_eq!(rate.per_minute(at(0)), vec![0; MINUTES]);
        for (minute, callbacks) in [(0, 100), (0, 107), (1, 110), (5, 115)] {
            rate.note(at(minute), callbacks);
        }
        let minutes = rate.per_minute(at(6));
        assert_eq!(minutes[MINUTES - 7..], [7, 3, 0, 0, 0, 5, 0]);
        assert_eq!(rate.per_minute(at(500)), vec![0; MINUTES]);
    }
}
