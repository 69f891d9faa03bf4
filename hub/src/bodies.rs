//! Memory for bodies with events that are under way: one limit for all, and one for each account.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use todoke_domain::ids::AccountId;

/// Whose share is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// That of all.
    #[error("too many bodies are under way")]
    All,
    /// That of the account.
    #[error("too many bodies of the account are under way")]
    Account,
}

#[derive(Debug, Default)]
struct Taken {
    kib: u32,
    of_account: HashMap<AccountId, u32>,
}

/// How much memory there is, and who has it.
#[derive(Debug)]
pub struct Bodies {
    kib_max: u32,
    kib_of_account_max: u32,
    // std Mutex: the section is a few additions and never crosses an await.
    taken: Mutex<Taken>,
}

/// A share of the memory. Given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    bodies: Arc<Bodies>,
    account: AccountId,
    kib: u32,
}

fn kib(n_bytes: usize) -> u32 {
    u32::try_from(n_bytes / 1_024 + 1).unwrap_or(u32::MAX)
}

impl Bodies {
    /// Memory of `mib_max` for all; an account has at most half of it, and never less than `mib_of_body_max`.
    pub fn new(mib_max: usize, mib_of_body_max: usize) -> Self {
        let in_kib = |mib: usize| u32::try_from(mib << 10).unwrap_or(u32::MAX);
        let kib_of_account_max = in_kib((mib_max / 2).max(mib_of_body_max));
        Self { kib_max: in_kib(mib_max), kib_of_account_max, taken: Mutex::default() }
    }

    /// A share of `n_bytes` for a body of this account.
    pub fn take(self: &Arc<Self>, account: AccountId, n_bytes: usize) -> Result<Room, Full> {
        let kib = kib(n_bytes);
        let mut taken = self.taken();
        let all = taken.kib.saturating_add(kib);
        if all > self.kib_max {
            return Err(Full::All);
        }
        let of_account = taken.of_account.get(&account).map_or(kib, |of_account| of_account.saturating_add(kib));
        if of_account > self.kib_of_account_max {
            return Err(Full::Account);
        }
        taken.kib = all;
        taken.of_account.insert(account, of_account);
        Ok(Room { bodies: Arc::clone(self), account, kib })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, account: AccountId, kib: u32) {
        let mut taken = self.taken();
        taken.kib = taken.kib.saturating_sub(kib);
        if let Entry::Occupied(mut of_account) = taken.of_account.entry(account) {
            let left = of_account.get().saturating_sub(kib);
            if left == 0 {
                of_account.remove();
            } else {
                of_account.insert(left);
            }
        }
    }
}

impl Room {
    /// A further share for the same account.
    pub fn beside(&self, n_bytes: usize) -> Result<Self, Full> {
        self.bodies.take(self.account, n_bytes)
    }

    /// Gives back what is not needed for `n_bytes`.
    pub fn shrink(&mut self, n_bytes: usize) {
        let kept = kib(n_bytes).min(self.kib);
        self.bodies.give_back(self.account, self.kib - kept);
        self.kib = kept;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.bodies.give_back(self.account, self.kib);
    }
}

#[cfg(test)]
mod tests {
    use todoke_domain::Timestamp;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn an_account_has_half_and_what_is_given_back_can_be_taken_again() {
        let bodies = Arc::new(Bodies::new(8, 1));
        let [one, other] = [1, 2].map(|s| AccountId::new(Timestamp::from_micros(s)));
        let mut first = bodies.take(one, 3 * MIB).unwrap();
        assert_eq!(first.beside(MIB).unwrap_err(), Full::Account);
        let second = bodies.take(other, 3 * MIB).unwrap();
        assert_eq!(bodies.take(other, 2 * MIB).unwrap_err(), Full::All);
        first.shrink(MIB);
        drop(first.beside(2 * MIB).unwrap());
        drop((first, second));
        let taken = bodies.taken();
        assert_eq!((taken.kib, taken.of_account.len()), (0, 0));
    }

    #[test]
    fn an_account_has_room_for_the_longest_body_however_little_there_is() {
        let bodies = Arc::new(Bodies::new(3, 3));
        let account = AccountId::new(Timestamp::from_micros(1));
        assert!(bodies.take(account, 3 * MIB - 1).is_ok());
        assert_eq!(bodies.take(account, 3 * MIB).unwrap_err(), Full::All);
    }
}
