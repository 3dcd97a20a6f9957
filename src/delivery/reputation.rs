use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Which receivers have proven that they answer. Anybody may name others, in any number, that take a request and say nothing: so
/// all that are not proven share a part of the places, and those of one host, whatever their ports, a part of this one.
#[derive(Debug)]
pub(super) struct Reputation {
    /// When each that answers last did, by what stands for it.
    proven: HashMap<u64, Instant>,
    /// Requests under way to all others, by what stands for their hosts.
    unproven: HashMap<u64, usize>,
    /// The most of these.
    max_unproven: usize,
}

/// What a request under way counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Proven,
    /// One of those of this host.
    Unproven(u64),
}

impl Reputation {
    /// Who takes longer holds up others, whether an answer comes in the end or not.
    const PROMPT: Duration = Duration::from_secs(5);
    /// For so long an answer counts.
    const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
    /// About 300 KB. Of more, those that answered first are remembered.
    const MAX_PROVEN: usize = 10_000;
    /// Requests at a time to receivers of one host that are not proven.
    const PER_HOST: usize = 8;

    pub(super) fn new(max_unproven: usize) -> Self {
        Self { proven: HashMap::new(), unproven: HashMap::new(), max_unproven }
    }

    /// A place for a request to a receiver at a host, by what stands for them; `None` when there is none.
    pub(super) fn take(&mut self, receiver: u64, host: u64) -> Option<Place> {
        if self.proven.get(&receiver).is_some_and(|at| at.elapsed() < Self::REMEMBERED) {
            return Some(Place::Proven);
        }
        let at_host = self.unproven.get(&host).copied().unwrap_or_default();
        if at_host >= Self::PER_HOST || self.unproven.values().sum::<usize>() >= self.max_unproven {
            return None;
        }
        self.unproven.insert(host, at_host + 1);
        Some(Place::Unproven(host))
    }

    pub(super) fn give_back(&mut self, place: Place) {
        let Place::Unproven(host) = place else { return };
        let Some(at_host) = self.unproven.get_mut(&host) else { return };
        *at_host = at_host.saturating_sub(1);
        if *at_host == 0 {
            self.unproven.remove(&host);
        }
    }

    /// A request has ended after so long, with a good answer or not. What fails at once takes nobody's place.
    pub(super) fn learn(&mut self, receiver: u64, answered: bool, took: Duration) {
        if took > Self::PROMPT {
            self.proven.remove(&receiver);
            return;
        }
        let is_new = !self.proven.contains_key(&receiver);
        if is_new && self.proven.len() >= Self::MAX_PROVEN {
            self.proven.retain(|_, at| at.elapsed() < Self::REMEMBERED);
        }
        if answered && (!is_new || self.proven.len() < Self::MAX_PROVEN) {
            self.proven.insert(receiver, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Backoff, Permit, Receivers};
    use super::*;

    const TIME: Duration = Duration::from_secs(30);
    const GOOD: &str = "https://good.example/one";

    fn hang(receivers: &Receivers, urls: impl Iterator<Item = String>) -> Vec<Permit<'_>> {
        urls.filter_map(|url| receivers.admit(&url, TIME).ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn receivers_that_hang_leave_half_of_the_places_to_those_that_answer() {
        let receivers = Receivers::of_strangers(64);
        receivers.admit(GOOD, TIME).unwrap().answered();
        let mut hanging = hang(&receivers, (1..=640).map(|port| format!("https://evil.example:{port}/")));
        assert_eq!(hanging.len(), 8, "the ports of a host share its places");
        hanging.extend(hang(&receivers, (1..=640).map(|number| format!("https://{number}.evil.example/"))));
        assert_eq!(hanging.len(), 32);
        tokio::time::advance(TIME).await;
        hanging.iter().for_each(|permit| permit.failed("silent"));
        let slow = receivers.admit(GOOD, TIME).unwrap();
        assert_eq!(receivers.admit("https://new.example/", TIME).unwrap_err(), Backoff::Busy);
        tokio::time::advance(TIME).await;
        slow.answered();
        drop(slow);
        assert_eq!(receivers.admit(GOOD, TIME).unwrap_err(), Backoff::Busy, "it was slow");
        drop(hanging);
        receivers.admit(GOOD, TIME).unwrap().answered();
        let again = hang(&receivers, (1..=640).map(|number| format!("https://{number}.evil.example/")));
        assert!(again.len() == 32 && receivers.admit(GOOD, TIME).is_ok(), "those that were silent share places, too");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_a_day_and_so_many_are_remembered() {
        let mut reputation = Reputation::new(0);
        let most = Reputation::MAX_PROVEN as u64;
        (0..most).for_each(|receiver| reputation.learn(receiver, true, Duration::ZERO));
        reputation.learn(most, true, Duration::ZERO);
        assert_eq!((reputation.take(0, 1), reputation.take(most, 1)), (Some(Place::Proven), None));
        reputation.learn(0, false, Duration::ZERO);
        assert_eq!(reputation.take(0, 1), Some(Place::Proven), "it refuses at once");
        tokio::time::advance(Reputation::REMEMBERED).await;
        reputation.learn(most, true, Duration::ZERO);
        assert_eq!((reputation.take(0, 1), reputation.take(most, 1)), (None, Some(Place::Proven)));
        assert_eq!(reputation.proven.len(), 1);
    }
}
