//! What waits of a broadcast in the queue of deliveries, found by the collapse key that all its hand-overs share.

use std::collections::BTreeSet;

use todoke_domain::{Timestamp, catalogue::messages::Channel, ids::MessageId};

use crate::{StoreError, Tx};

/// What the queue holds of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BroadcastQueue {
    /// Something would leave when its time comes.
    pub queued: bool,
    /// Something is kept back.
    pub held: bool,
    /// Something was handed over, and may come back into the queue to be tried again.
    pub handed: bool,
}

// The deliveries of the broadcast with the key $1, behind the wall $2. Types and states are those of the index.
macro_rules! of_broadcast {
    ($rest:literal) => {
        concat!(
            "collapse_key = $1 AND (municipality_code = $2 OR $2 = '') AND purpose = 'notification' ",
            "AND message_type IN ('broadcast.segment', 'broadcast.event', 'broadcast.emergency') ",
            "AND state IN ('queued', 'held', 'sent') ",
            $rest
        )
    };
}

const QUEUE: &str = concat!(
    "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM delivery WHERE ",
    of_broadcast!("AND state = 'queued'"),
    ") THEN 1 ELSE 0 END AS BIGINT), CAST(CASE WHEN EXISTS (SELECT 1 FROM delivery WHERE ",
    of_broadcast!("AND state = 'held'"),
    ") THEN 1 ELSE 0 END AS BIGINT), CAST(CASE WHEN EXISTS (SELECT 1 FROM delivery WHERE ",
    // What is in doubt has no lease any more, and a person decides about it.
    of_broadcast!("AND state = 'sent' AND leased_until_us > 0"),
    ") THEN 1 ELSE 0 END AS BIGINT)"
);

const UNDER_WAY: &str = concat!(
    "SELECT COUNT(DISTINCT account_id) FROM delivery WHERE ",
    of_broadcast!("AND state = 'sent' AND leased_until_us > 0")
);

const HOLD: &str =
    concat!("UPDATE delivery SET state = 'held', version = version + 1 WHERE ", of_broadcast!("AND state = 'queued'"));

// What waits for a retry keeps its time; everything else leaves at $3 and lives on as long as it would have.
const RELEASE: &str = concat!(
    "UPDATE delivery SET state = 'queued', version = version + 1,
        expires_at_us = CASE WHEN due_at_us > $3 THEN expires_at_us ELSE expires_at_us + ($3 - due_at_us) END,
        due_at_us = CASE WHEN due_at_us > $3 THEN due_at_us ELSE $3 END
     WHERE channel = $4 AND ",
    of_broadcast!("AND state = 'held'")
);

macro_rules! next_held {
    () => {
        concat!(
            "(SELECT DISTINCT message_id FROM delivery WHERE ",
            of_broadcast!("AND state = 'held' ORDER BY message_id LIMIT $4)")
        )
    };
}

const SUPPRESSED_BEFORE: &str = concat!(
    "SELECT DISTINCT message_id FROM delivery WHERE state = 'suppressed' AND error_code = $3 AND message_id IN ",
    next_held!()
);

const SUPPRESS: &str = concat!(
    "UPDATE delivery SET state = 'suppressed', version = version + 1, error_code = $3 WHERE message_id IN ",
    next_held!(),
    " AND ",
    of_broadcast!("AND state = 'held' RETURNING message_id")
);

/// Messages that [`Tx::suppress_held`] took out of the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuppressedMessages {
    /// How many there were.
    pub n: usize,
    /// Those of which nothing had been suppressed for the same reason before.
    pub first: BTreeSet<MessageId>,
}

impl Tx {
    /// What the queue holds of the broadcast with this collapse key.
    pub async fn broadcast_queue(&mut self, key: &str) -> Result<BroadcastQueue, StoreError> {
        let (queued, held, handed): (i64, i64, i64) = fetch_one!(self, (i64, i64, i64), QUEUE, key, self.wall.code())?;
        Ok(BroadcastQueue { queued: queued > 0, held: held > 0, handed: handed > 0 })
    }

    /// People for whom something of a broadcast was handed over and has no answer yet.
    pub async fn broadcast_under_way(&mut self, key: &str) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(self, (i64,), UNDER_WAY, key, self.wall.code())?;
        Ok(n)
    }

    /// Keeps back what is queued of a broadcast; gives how many deliveries. The broadcast must be locked.
    pub async fn hold_broadcast(&mut self, key: &str) -> Result<u64, StoreError> {
        execute!(self, HOLD, key, self.wall.code())
    }

    /// Lets what is held of a broadcast for a channel leave at `due_at`; gives how many deliveries.
    pub async fn release_broadcast(
        &mut self,
        key: &str,
        channel: Channel,
        due_at: Timestamp,
    ) -> Result<u64, StoreError> {
        let n = execute!(self, RELEASE, key, self.wall.code(), due_at.as_micros(), channel.as_str())?;
        self.queued_deliveries |= n > 0;
        Ok(n)
    }

    /// Takes what is held of at most `n_max` messages of a broadcast out of the queue. The broadcast must be locked.
    pub async fn suppress_held(
        &mut self,
        key: &str,
        reason: &str,
        n_max: i64,
    ) -> Result<SuppressedMessages, StoreError> {
        let before: Vec<(String,)> =
            fetch_all!(self, (String,), SUPPRESSED_BEFORE, key, self.wall.code(), reason, n_max)?;
        let now: Vec<(String,)> = fetch_all!(self, (String,), SUPPRESS, key, self.wall.code(), reason, n_max)?;
        let (before, now) = (message_ids(before)?, message_ids(now)?);
        Ok(SuppressedMessages { n: now.len(), first: &now - &before })
    }
}

fn message_ids(rows: Vec<(String,)>) -> Result<BTreeSet<MessageId>, StoreError> {
    rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "message id" })).collect()
}
