//! All open connections of this node, by id and by account.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::code::Disconnect;
use super::connection::{Connection, ConnectionId};
use super::tally::Tally;

const N_SHARDS: usize = 16;

/// The account has as many connections as it may have.
#[derive(Debug)]
pub(super) struct TooMany;

#[derive(Debug, Default)]
pub(super) struct Roster {
    next_id: AtomicU64,
    n_open: AtomicUsize,
    is_closed: AtomicBool,
    /// Counts the times rights were taken away, so that a command that was being decided meanwhile
    /// is decided again.
    n_cuts: AtomicU64,
    all: [Mutex<HashMap<ConnectionId, Arc<Connection>>>; N_SHARDS],
    users: Mutex<HashMap<Arc<str>, Vec<Arc<Connection>>>>,
    pub(super) tally: Tally,
}

impl Roster {
    pub(super) fn next_id(&self) -> ConnectionId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn n_open(&self) -> usize {
        self.n_open.load(Ordering::Relaxed)
    }

    pub(super) fn n_users(&self) -> usize {
        lock(&self.users).len()
    }

    /// A node that stops closes whatever still comes in.
    pub(super) fn add(&self, connection: &Arc<Connection>) {
        lock(self.shard(connection.id)).insert(connection.id, Arc::clone(connection));
        self.n_open.fetch_add(1, Ordering::Relaxed);
        if self.is_closed.load(Ordering::SeqCst) {
            connection.close(Disconnect::SHUTDOWN);
        }
    }

    /// True the first time.
    pub(super) fn remove(&self, connection: &Connection) -> bool {
        if lock(self.shard(connection.id)).remove(&connection.id).is_none() {
            return false;
        }
        self.n_open.fetch_sub(1, Ordering::Relaxed);
        if let Some(who) = connection.who() {
            let mut users = lock(&self.users);
            if let Some(connections) = users.get_mut(&who.user) {
                let n_before = connections.len();
                connections.retain(|other| other.id != connection.id);
                // One that its account had no room for was never counted.
                if connections.len() < n_before {
                    self.tally.left(&who.municipality);
                }
                if connections.is_empty() {
                    users.remove(&who.user);
                }
            }
        }
        true
    }

    /// Files a connection under its account, after [`Connection::identify`].
    pub(super) fn name(&self, connection: &Arc<Connection>, n_max: usize) -> Result<(), TooMany> {
        let Some(who) = connection.who() else {
            return Ok(());
        };
        let mut users = lock(&self.users);
        let connections = users.entry(Arc::clone(&who.user)).or_insert_with(|| Vec::with_capacity(1));
        if connections.len() >= n_max {
            return Err(TooMany);
        }
        connections.push(Arc::clone(connection));
        self.tally.came(&who.municipality);
        Ok(())
    }

    pub(super) fn n_cuts(&self) -> u64 {
        self.n_cuts.load(Ordering::SeqCst)
    }

    /// Says that rights are about to be taken away; before looking for those who have them.
    pub(super) fn begin_cut(&self) {
        self.n_cuts.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn of_user(&self, user: &str) -> Vec<Arc<Connection>> {
        lock(&self.users).get(user).cloned().unwrap_or_default()
    }

    pub(super) fn of_session(&self, session: &str) -> Vec<Arc<Connection>> {
        self.collect(|connection| connection.who().is_some_and(|who| *who.session == *session))
    }

    /// Closes everything, and whatever comes later.
    pub(super) fn close_all(&self, why: Disconnect) {
        self.is_closed.store(true, Ordering::SeqCst);
        for connection in self.collect(|_| true) {
            connection.close(why);
        }
    }

    fn collect(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Arc<Connection>> {
        let mut found = Vec::new();
        for shard in &self.all {
            found.extend(lock(shard).values().filter(|connection| wanted(connection)).cloned());
        }
        found
    }

    fn shard(&self, id: ConnectionId) -> &Mutex<HashMap<ConnectionId, Arc<Connection>>> {
        &self.all[usize::try_from(id % N_SHARDS as u64).unwrap_or(0)]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
