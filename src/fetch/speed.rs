use std::time::Duration;

/// How many slots the window slides by.
const SLOTS: usize = 12;

/// Tells a server that drips from one that sends: the least speed, over a window that slides.
///
/// Its clock runs only while the server is waited for. What a slow consumer spends between two chunks is not the
/// server's fault, and is not counted.
#[derive(Debug)]
pub(super) struct SpeedGate {
    min_speed: u64,
    slot: Duration,
    waited: Duration,
    slots: [u64; SLOTS],
    current: u128,
}

impl SpeedGate {
    /// `min_speed` in bytes per second; zero lets everything pass.
    pub(super) fn new(min_speed: u64, window: Duration) -> Self {
        let slot = (window / SLOTS as u32).max(Duration::from_nanos(1));
        Self { min_speed, slot, waited: Duration::ZERO, slots: [0; SLOTS], current: 0 }
    }

    /// Records that `bytes` came after `waited`; `false` when the last whole window was too slow.
    ///
    /// It judges at the end of a slot only, and not before the first window is over: a start may be slow.
    pub(super) fn record(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited = self.waited.saturating_add(waited);
        // What comes at the very end of a slot still belongs to it.
        let now = self.waited.as_nanos().saturating_sub(1) / self.slot.as_nanos();
        let mut fast_enough = true;
        // After a whole window of silence every slot is empty and further steps show nothing new.
        for step in (self.current..now).take(SLOTS + 1) {
            if step + 1 >= SLOTS as u128 {
                fast_enough &= self.window_is_fast_enough();
            }
            self.slots[(step + 1) as usize % SLOTS] = 0;
        }
        if now - self.current > SLOTS as u128 {
            self.slots = [0; SLOTS];
        }
        self.current = now;
        self.slots[now as usize % SLOTS] += bytes as u64;
        fast_enough
    }

    fn window_is_fast_enough(&self) -> bool {
        let received: u128 = self.slots.iter().map(|bytes| u128::from(*bytes)).sum();
        let expected = u128::from(self.min_speed) * (self.slot * SLOTS as u32).as_nanos() / 1_000_000_000;
        received >= expected
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How many seconds pass until a server that sends `bytes` every `every` seconds is found slow.
    fn caught_after(min_speed: u64, every: u64, bytes: usize) -> Option<u64> {
        let mut gate = SpeedGate::new(min_speed, MINUTE);
        (1..=600 / every).find(|_| !gate.record(Duration::from_secs(every), bytes)).map(|step| step * every)
    }

    #[test]
    fn a_drip_is_caught_after_one_window_and_a_stream_never() {
        assert_eq!(caught_after(1000, 1, 900), Some(61));
        assert_eq!(caught_after(1000, 29, 1), Some(87));
        assert_eq!(caught_after(1000, 1, 1000), None);
        assert_eq!(caught_after(1000, 10, 10_000), None);
        assert_eq!(caught_after(0, 29, 0), None);
    }

    #[test]
    fn a_fast_start_does_not_pay_for_a_drip_later() {
        let mut gate = SpeedGate::new(1000, MINUTE);
        assert!(gate.record(Duration::from_secs(1), 100_000_000));
        let caught = (2..=120).find(|_| !gate.record(Duration::from_secs(1), 10));
        assert_eq!(caught, Some(66), "one window after the burst's slot");
    }

    #[test]
    fn time_outside_of_waiting_does_not_count() {
        let mut gate = SpeedGate::new(1 << 20, MINUTE);
        assert!((0..100_000).all(|_| gate.record(Duration::ZERO, 1)));
    }

    proptest! {
        #[test]
        fn steady_speeds_are_judged_right(speed in 1u64..100_000, min_speed in 1u64..100_000, millis in 1u64..5000) {
            let bytes = (speed * millis).div_ceil(1000) as usize;
            let mut gate = SpeedGate::new(min_speed, MINUTE);
            let steps = 180_000 / millis;
            let slow = (0..steps).any(|_| !gate.record(Duration::from_millis(millis), bytes));
            // A slot holds one chunk more or less than its share.
            let actual = bytes as u64 * 1000 / millis;
            let slack = bytes as u64 / 60 + 1;
            if actual >= min_speed + slack { prop_assert!(!slow); }
            if actual + slack < min_speed { prop_assert!(slow); }
        }

        #[test]
        fn it_never_panics(steps in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..50), min_speed: u64) {
            let mut gate = SpeedGate::new(min_speed, Duration::from_millis(7));
            for (waited, bytes) in steps {
                gate.record(Duration::from_nanos(waited), bytes as usize);
            }
        }
    }
}
