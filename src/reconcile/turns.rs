//! Whose turn it is to have the provider asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::domain::{Job, Target, Timestamp};
use crate::provider::turn_of;

/// For whom a job is asked about, and in which account's turn.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) target: Target,
    pub(super) account: String,
}

impl Turn {
    /// That of a job. Only the holder of a ref's own URL claims jobs for it; all others are the channels'.
    pub(super) fn of(job: &Job) -> Self {
        let claimed_by = job.ref_id.clone().filter(|_| job.claimed);
        Self { target: claimed_by.map_or(Target::Channel, Target::Ref), account: turn_of(&job.id) }
    }
}

/// From when on a job is to be asked about, and which.
pub(super) type Due = (Timestamp, u64);

/// Jobs whose time has come, and those being asked about.
#[derive(Debug, Default)]
pub(super) struct Turns {
    accounts: HashMap<String, Account>,
    asked: Vec<(u64, Turn)>,
    /// The targets that had the last turns, the latest at the end.
    taken: VecDeque<Target>,
    /// Places given so far in the orders of all accounts.
    places: u64,
}

/// What is due about one account.
#[derive(Debug, Default)]
struct Account {
    /// The targets by their places.
    order: BTreeMap<u64, Target>,
    /// The place of each, and its jobs, the longest due first.
    due: HashMap<Target, (u64, BTreeSet<Due>)>,
    is_asked: bool,
}

impl Account {
    /// The target whose turn it is, unless the account is being asked.
    fn next(&self) -> Option<(u64, &Target)> {
        let (place, target) = self.order.first_key_value().filter(|_| !self.is_asked)?;
        Some((*place, target))
    }

    fn add(&mut self, target: &Target, due: Due, place: u64) {
        if let Some((_, jobs)) = self.due.get_mut(target) {
            jobs.insert(due);
        } else {
            self.order.insert(place, target.clone());
            self.due.insert(target.clone(), (place, BTreeSet::from([due])));
        }
    }

    fn remove(&mut self, target: &Target, due: Due) {
        let Some((place, jobs)) = self.due.get_mut(target) else { return };
        let place = *place;
        jobs.remove(&due);
        if jobs.is_empty() {
            self.order.remove(&place);
            self.due.remove(target);
        }
    }

    /// Takes out the first job of the target whose turn it is; the target's next place is `place`.
    fn take(&mut self, target: &Target, place: u64) -> Option<u64> {
        let (before, jobs) = self.due.get_mut(target)?;
        let (_, sequence) = jobs.pop_first()?;
        let before = std::mem::replace(before, place);
        let is_last = jobs.is_empty();
        self.order.remove(&before);
        if is_last {
            self.due.remove(target);
        } else {
            self.order.insert(place, target.clone());
        }
        self.is_asked = true;
        Some(sequence)
    }

    fn is_idle(&self) -> bool {
        !self.is_asked && self.due.is_empty()
    }
}

impl Turns {
    /// Accounts in which one target may wait for its turn: whoever invents them wins no turns, and keeps none of the true ones
    /// waiting for long.
    pub(super) const MAX_ACCOUNTS: usize = 16;
    /// A turn before that many others is as good as none.
    const MAX_TAKEN: usize = 256;

    /// A job's time has come. False when its target waits in too many accounts.
    pub(super) fn add(&mut self, turn: &Turn, due: Due) -> bool {
        let Turn { target, account } = turn;
        let waits = |account: &Account| account.due.contains_key(target);
        if !self.accounts.get(account).is_some_and(waits)
            && self.accounts.values().filter(|account| waits(account)).count() >= Self::MAX_ACCOUNTS
        {
            return false;
        }
        self.places += 1;
        self.accounts.entry(account.clone()).or_default().add(target, due, self.places);
        true
    }

    /// A job is not to be asked about any more.
    pub(super) fn remove(&mut self, turn: &Turn, due: Due) {
        if let Some(account) = self.accounts.get_mut(&turn.account) {
            account.remove(&turn.target, due);
            self.forget_idle(&turn.account);
        }
    }

    /// Takes out the job whose turn it is, of those whose accounts are not being asked. It is asked about until [`Turns::end`].
    pub(super) fn take(&mut self) -> Option<u64> {
        let turn = self.next_turn()?;
        self.places += 1;
        let sequence = self.accounts.get_mut(&turn.account)?.take(&turn.target, self.places)?;
        if self.taken.len() == Self::MAX_TAKEN {
            self.taken.pop_front();
        }
        self.taken.push_back(turn.target.clone());
        self.asked.push((sequence, turn));
        Some(sequence)
    }

    /// A job was asked about. Returns whose turn that was.
    pub(super) fn end(&mut self, sequence: u64) -> Option<Turn> {
        let index = self.asked.iter().position(|(asked, _)| *asked == sequence)?;
        let (_, turn) = self.asked.swap_remove(index);
        if let Some(account) = self.accounts.get_mut(&turn.account) {
            account.is_asked = false;
            self.forget_idle(&turn.account);
        }
        Some(turn)
    }

    /// In each account the targets take turns. Of the accounts, the next is one whose turn is that of the target with the fewest
    /// questions, then of the one whose last turn is the oldest.
    fn next_turn(&self) -> Option<Turn> {
        let questions = |target: &Target| self.asked.iter().filter(|(_, turn)| turn.target == *target).count();
        let last_turn = |target: &Target| self.taken.iter().rposition(|taken| taken == target);
        let candidates = self.accounts.iter().filter_map(|(name, account)| Some((name, account.next()?)));
        let (account, (_, target)) =
            candidates.min_by_key(|(_, (place, target))| (questions(target), last_turn(target), *place))?;
        Some(Turn { target: target.clone(), account: account.clone() })
    }

    fn forget_idle(&mut self, account: &str) {
        if self.accounts.get(account).is_some_and(Account::is_idle) {
            self.accounts.remove(account);
        }
    }
}
