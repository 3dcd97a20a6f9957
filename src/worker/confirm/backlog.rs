//! Which question is asked next.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::domain::{Target, Timestamp};

/// For whom a question is asked: the target over whose URL a callback came, about the provider's account of its job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    pub(super) target: Target,
    pub(super) account: String,
}

/// From when on a question is due, and the job it is about.
type Due = (Timestamp, u64);

/// Questions that are due, as far as they were looked at, and whose turn it is. Whoever invents jobs and accounts fills no more
/// than what one target may have. What there is no room for is left out until a later look finds it again.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// By target and account, the longest due first.
    due: HashMap<Target, HashMap<String, BTreeSet<Due>>>,
    /// The turns that were taken last, the latest at the end.
    taken: VecDeque<Turn>,
}

impl Backlog {
    const MAX_TARGETS: usize = 1024;
    /// Of one target.
    const MAX_ACCOUNTS: usize = 16;
    /// Of one target about one account.
    const MAX_QUESTIONS: usize = 8;
    /// A turn before that many others is as good as none.
    const MAX_TAKEN: usize = 256;

    /// A job about which the provider's `account` is to be asked from `at` on, for `target`.
    pub(super) fn add(&mut self, target: &Target, account: &str, at: Timestamp, sequence: u64) {
        if self.due.len() >= Self::MAX_TARGETS && !self.due.contains_key(target) {
            return;
        }
        let accounts = self.due.entry(target.clone()).or_default();
        if accounts.len() >= Self::MAX_ACCOUNTS && !accounts.contains_key(account) {
            return;
        }
        let questions = accounts.entry(account.to_owned()).or_default();
        questions.insert((at, sequence));
        if questions.len() > Self::MAX_QUESTIONS {
            questions.pop_last();
        }
    }

    /// Takes out the job whose turn it is, of those whose target and account `may_ask` lets through.
    pub(super) fn pop(&mut self, may_ask: impl Fn(&Target, &str) -> bool) -> Option<(Turn, u64)> {
        let turn = self.next_turn(may_ask)?;
        let accounts = self.due.get_mut(&turn.target)?;
        let questions = accounts.get_mut(&turn.account)?;
        let (_, sequence) = questions.pop_first()?;
        if questions.is_empty() {
            accounts.remove(&turn.account);
        }
        if accounts.is_empty() {
            self.due.remove(&turn.target);
        }
        Some((turn, sequence))
    }

    /// A question is asked.
    pub(super) fn take_turn(&mut self, turn: Turn) {
        if self.taken.len() == Self::MAX_TAKEN {
            self.taken.pop_front();
        }
        self.taken.push_back(turn);
    }

    fn next_turn(&self, may_ask: impl Fn(&Target, &str) -> bool) -> Option<Turn> {
        let (mut of_target, mut of_turn) = (HashMap::new(), HashMap::new());
        for (number, turn) in self.taken.iter().enumerate() {
            of_target.insert(&turn.target, number);
            of_turn.insert((&turn.target, turn.account.as_str()), number);
        }
        let mut candidates = Vec::new();
        for (target, accounts) in &self.due {
            for (account, questions) in accounts {
                if may_ask(target, account)
                    && let Some(first) = questions.first()
                {
                    let last_turn = of_turn.get(&(target, account.as_str())).copied();
                    candidates.push((account.as_str(), last_turn, *first, target));
                }
            }
        }
        // An account that others keep busy is free for a moment only. It goes to the target whose last turn there is the oldest,
        // also when that target has had turns elsewhere.
        candidates.sort_unstable_by_key(|(account, last_turn, first, _)| (*account, *last_turn, *first));
        candidates.dedup_by_key(|(account, ..)| *account);
        let next = candidates.into_iter().min_by_key(|(_, _, first, target)| (of_target.get(target).copied(), *first));
        next.map(|(account, _, _, target)| Turn { target: target.clone(), account: account.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RefId;

    fn target(number: u64) -> Target {
        Target::Ref(RefId::from_ulid(&format!("{number:026}")).unwrap())
    }

    fn add(backlog: &mut Backlog, of: u64, account: &str, number: u64) {
        backlog.add(&target(of), account, Timestamp::from_millis_clamped(number), number);
    }

    /// The next question about one of `accounts`; its turn is taken.
    fn ask(backlog: &mut Backlog, accounts: &[&str]) -> Option<u64> {
        let (turn, sequence) = backlog.pop(|_, account| accounts.contains(&account))?;
        backlog.take_turn(turn);
        Some(sequence)
    }

    #[test]
    fn targets_take_turns_whoever_has_waited_for_longer() {
        let mut backlog = Backlog::default();
        (0..100).for_each(|number| add(&mut backlog, 1, "1", number));
        (200..202).for_each(|number| add(&mut backlog, 2, "1", number));
        let asked: Vec<_> = std::iter::from_fn(|| ask(&mut backlog, &["1"])).collect();
        assert_eq!(asked, [0, 200, 1, 201, 2, 3, 4, 5, 6, 7]);
        assert!(backlog.due.is_empty(), "nothing is kept of what there is no room for");
    }

    #[test]
    fn a_target_that_asks_elsewhere_keeps_its_turn_in_a_busy_account() {
        let mut backlog = Backlog::default();
        (0..4).for_each(|number| add(&mut backlog, 1, "1", number));
        add(&mut backlog, 2, "1", 10);
        (20..22).for_each(|number| add(&mut backlog, 2, "2", number));
        assert_eq!(ask(&mut backlog, &["1"]), Some(0));
        assert_eq!([ask(&mut backlog, &["2"]), ask(&mut backlog, &["2"])], [Some(20), Some(21)]);
        assert_eq!([ask(&mut backlog, &["1"]), ask(&mut backlog, &["1"])], [Some(10), Some(1)]);
    }

    #[test]
    fn invented_accounts_and_jobs_win_no_turns() {
        let mut backlog = Backlog::default();
        let accounts: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        for (number, account) in (0..).zip(&accounts) {
            (0..100).for_each(|job| add(&mut backlog, 1, account, 100 * number + job));
        }
        (20_000..20_003).for_each(|number| add(&mut backlog, 2, "0", number));
        let kept: usize = backlog.due.values().flat_map(HashMap::values).map(BTreeSet::len).sum();
        assert_eq!(kept, Backlog::MAX_ACCOUNTS * Backlog::MAX_QUESTIONS + 3);
        let accounts: Vec<_> = accounts.iter().map(String::as_str).collect();
        let asked: Vec<_> = (0..6).filter_map(|_| ask(&mut backlog, &accounts)).collect();
        assert_eq!(asked, [0, 20_000, 1, 20_001, 2, 20_002]);
    }

    #[test]
    fn only_so_many_targets_and_turns_are_kept() {
        let mut backlog = Backlog::default();
        for number in 0..2000 {
            add(&mut backlog, number, "1", number);
            backlog.take_turn(Turn { target: target(number), account: "1".to_owned() });
        }
        assert_eq!((backlog.due.len(), backlog.taken.len()), (Backlog::MAX_TARGETS, Backlog::MAX_TAKEN));
        assert_eq!(ask(&mut backlog, &["1"]), Some(0));
    }
}
