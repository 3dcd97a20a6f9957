use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::turns::{Due, Turn, Turns};
use crate::domain::{JobState, Target, Timestamp};

/// Running jobs by when they are asked about next, and by whose turn it is. The holder of a reply URL may invent jobs without
/// end; those of others are asked about in their time all the same.
#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: HashMap<u64, (Timestamp, Turn)>,
    /// Those whose time has not come.
    by_time: BTreeSet<Due>,
    /// Those whose time has come.
    turns: Turns,
    /// All of them by their targets.
    by_target: HashMap<Target, BTreeSet<Due>>,
    /// How many jobs each target has.
    by_size: BTreeSet<(usize, Target)>,
    /// Jobs that were asked about for the last time, and when that was.
    finished: HashMap<u64, Timestamp>,
    /// Where the last scan of jobs in a state ended, unless it came to the oldest.
    pub(super) scanned_to: HashMap<JobState, u64>,
}

impl Queue {
    /// More running jobs than any account makes in a month. Of more, those that the target with the most jobs would be asked
    /// about last are left out until a later scan.
    pub(super) const MAX_JOBS: usize = 100_000;
    /// How long a job waits whose target waits in too many accounts: about as long as these take to be asked.
    const PUT_OFF: Duration = Duration::from_secs(5);

    /// Asks about a job at `at`.
    pub(super) fn put(&mut self, sequence: u64, at: Timestamp, turn: Turn) {
        self.remove(sequence);
        let due = (at, sequence);
        self.change_target(&turn.target, |jobs| jobs.insert(due));
        self.by_time.insert(due);
        self.jobs.insert(sequence, (at, turn));
        if self.jobs.len() > Self::MAX_JOBS
            && let Some((_, largest)) = self.by_size.last()
            && let Some((_, last)) = self.by_target.get(largest).and_then(|jobs| jobs.last().copied())
        {
            self.remove(last);
        }
    }

    /// Asks no more about a job.
    pub(super) fn remove(&mut self, sequence: u64) {
        let Some((at, turn)) = self.jobs.remove(&sequence) else { return };
        let due = (at, sequence);
        if !self.by_time.remove(&due) {
            self.turns.remove(&turn, due);
        }
        self.change_target(&turn.target, |jobs| jobs.remove(&due));
    }

    /// A job was asked about; it is asked about again at `next`, or never.
    pub(super) fn asked(&mut self, sequence: u64, next: Option<Timestamp>, now: Timestamp) {
        if next.is_none() && self.finished.len() < Self::MAX_JOBS {
            self.finished.insert(sequence, now);
        }
        match (next, self.turns.end(sequence)) {
            (Some(at), Some(turn)) => self.put(sequence, at, turn),
            // It was taken before the queue was made anew.
            (Some(_), None) => {}
            (None, _) => self.remove(sequence),
        }
    }

    /// Whether a time to ask about a job is past and was the last.
    pub(super) fn is_finished(&self, sequence: u64, at: Timestamp) -> bool {
        self.finished.get(&sequence).is_some_and(|finished| at <= *finished)
    }

    /// Whether a job is in it.
    pub(super) fn has(&self, sequence: u64) -> bool {
        self.jobs.contains_key(&sequence)
    }

    /// How many jobs are in it.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// A job whose time has come, unless one of its account is being asked about: until [`Queue::asked`] no other of that
    /// account is.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<u64> {
        while let Some(due) = self.by_time.first().copied().filter(|(at, _)| *at <= now) {
            self.by_time.remove(&due);
            let (_, sequence) = due;
            if let Some((_, turn)) = self.jobs.get(&sequence)
                && !self.turns.add(turn, due)
            {
                let turn = turn.clone();
                self.put(sequence, now.after(Self::PUT_OFF), turn);
            }
        }
        let sequence = self.turns.take()?;
        self.remove(sequence);
        Some(sequence)
    }

    /// When the next job's time comes, after a [`Queue::take`] that found none. Those whose time came wait for an answer.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn change_target(&mut self, target: &Target, change: impl FnOnce(&mut BTreeSet<Due>) -> bool) {
        let jobs = self.by_target.entry(target.clone()).or_default();
        self.by_size.remove(&(jobs.len(), target.clone()));
        change(jobs);
        let size = jobs.len();
        if size == 0 {
            self.by_target.remove(target);
        } else {
            self.by_size.insert((size, target.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RefId;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis_clamped(seconds * 1000)
    }

    fn turn(target: u64, account: &str) -> Turn {
        let target = Target::Ref(RefId::from_ulid(&format!("{target:026}")).unwrap());
        Turn { target, account: account.to_owned() }
    }

    /// Takes what may be asked about, and has it answered, one after the other.
    fn take_all(queue: &mut Queue, now: Timestamp) -> Vec<u64> {
        let take = || {
            let sequence = queue.take(now)?;
            queue.asked(sequence, None, now);
            Some(sequence)
        };
        std::iter::from_fn(take).collect()
    }

    #[test]
    fn a_job_asked_about_for_the_last_time_is_not_queued_again_for_a_time_that_is_past() {
        let mut queue = Queue::default();
        queue.put(7, at(10), turn(1, "1"));
        assert_eq!((queue.take(at(9)), queue.take(at(10)), queue.take(at(10))), (None, Some(7), None));
        queue.asked(7, None, at(11));
        assert!(queue.is_finished(7, at(10)) && !queue.is_finished(7, at(12)) && !queue.is_finished(8, at(10)));
    }

    #[test]
    fn an_account_that_is_being_asked_takes_no_further_place() {
        let mut queue = Queue::default();
        (0..3).for_each(|number| queue.put(number, at(number), turn(1, "1")));
        (10..12).for_each(|number| queue.put(number, at(number), turn(1, "2")));
        queue.put(20, at(60), turn(1, "1"));
        let taken = [queue.take(at(30)), queue.take(at(30)), queue.take(at(30))];
        assert_eq!((taken, queue.next()), ([Some(0), Some(10), None], Some(at(60))));
        queue.asked(0, Some(at(90)), at(31));
        assert_eq!((queue.take(at(31)), queue.take(at(31))), (Some(1), None));
        // A job that ended meanwhile is not asked about.
        queue.remove(2);
        queue.asked(1, None, at(32));
        queue.asked(10, None, at(32));
        assert_eq!(take_all(&mut queue, at(90)), [11, 20, 0]);
        assert!(queue.len() == 0 && queue.by_size.is_empty() && queue.by_target.is_empty());
    }

    #[test]
    fn targets_take_turns_in_an_account_whoever_has_waited_for_longer() {
        let mut queue = Queue::default();
        (0..5).for_each(|number| queue.put(number, at(number), turn(1, "1")));
        (10..12).for_each(|number| queue.put(number, at(number), turn(2, "1")));
        (20..23).for_each(|number| queue.put(number, at(number), turn(2, "2")));
        let in_account = |sequences: Vec<u64>| sequences.into_iter().filter(|number| *number < 20).collect::<Vec<_>>();
        assert_eq!(in_account(take_all(&mut queue, at(30))), [0, 10, 1, 11, 2, 3, 4]);
    }

    #[test]
    fn invented_accounts_win_no_turns() {
        let mut queue = Queue::default();
        (0..100).for_each(|number| queue.put(number, at(number), turn(1, &number.to_string())));
        (200..202).for_each(|number| queue.put(number, at(number), turn(2, "x")));
        queue.put(203, at(203), turn(3, "0"));
        let asked = take_all(&mut queue, at(300));
        assert_eq!((asked.len(), &asked[..5]), (Turns::MAX_ACCOUNTS + 3, [0, 200, 203, 1, 201].as_slice()));
        assert_eq!(queue.next(), Some(at(300).after(Queue::PUT_OFF)), "the others wait");
    }

    #[test]
    fn of_too_many_jobs_those_of_the_target_with_the_most_are_left_out() {
        let mut queue = Queue::default();
        queue.put(0, at(24 * 3600), turn(2, "1"));
        let forged = turn(1, "1");
        let most = Queue::MAX_JOBS as u64;
        (1..=most).for_each(|number| queue.put(number, at(120), forged.clone()));
        assert!(queue.has(0) && queue.has(most - 1) && !queue.has(most));
        assert_eq!(queue.len(), Queue::MAX_JOBS);
    }
}
