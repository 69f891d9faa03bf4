//! Broadcasts, their rounds and how far they have come.

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    broadcast::{BroadcastKind, BroadcastState, Hands},
    ids::{AccountId, BroadcastId, EventId, MessageId, SegmentId},
    segment::Segment,
};

use crate::{
    StoreError, Tx,
    column::{OptionalDateText, OptionalNumber, OptionalText},
    segment::{Member, member_columns},
};

/// A broadcast.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Broadcast {
    /// Id.
    #[sqlx(try_from = "String")]
    pub broadcast_id: BroadcastId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Code of [`BroadcastKind`].
    pub kind: String,
    /// Heading.
    pub title: String,
    /// Text.
    pub body: String,
    /// Screen it leads to; may be empty.
    pub link: String,
    /// Day of the event.
    #[sqlx(try_from = "OptionalDateText")]
    pub event_on: Option<Date>,
    /// Place of the event; may be empty.
    pub place: String,
    /// Push as well.
    pub push: bool,
    /// Mail as well.
    pub email: bool,
    /// The saved segment it was made from.
    #[sqlx(try_from = "OptionalText")]
    pub segment_id: Option<SegmentId>,
    /// What people call the audience.
    pub segment_name: String,
    /// JSON of [`Segment`].
    pub definition: String,
    /// Code of [`BroadcastState`].
    pub state: String,
    /// Who wrote it; `None` for batches.
    #[sqlx(try_from = "OptionalText")]
    pub author_id: Option<AccountId>,
    /// Their name at that time.
    pub author_name: String,
    /// Who changed it last.
    #[sqlx(try_from = "OptionalText")]
    pub editor_id: Option<AccountId>,
    /// Who submitted it; `None` before that.
    #[sqlx(try_from = "OptionalText")]
    pub submitter_id: Option<AccountId>,
    /// Who released it as the second person.
    #[sqlx(try_from = "OptionalText")]
    pub approver_id: Option<AccountId>,
    /// What the second person wrote when giving it back.
    pub note: String,
    /// When it goes out; `None` for as soon as it is released.
    #[sqlx(rename = "starts_at_us", try_from = "OptionalNumber")]
    pub starts_at: Option<Timestamp>,
    /// Hand-overs to push and mail per second.
    pub pace_per_s: i64,
    /// JSON list of minutes after which it goes again to those who have not read it.
    pub resend_after_min: String,
    /// People of the audience, counted when it was submitted and again when it started.
    pub n_targets: i64,
    /// The event `broadcast.started`, cause of all its messages.
    #[sqlx(try_from = "OptionalText")]
    pub event_id: Option<EventId>,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// When it was released.
    #[sqlx(rename = "released_at_us", try_from = "OptionalNumber")]
    pub released_at: Option<Timestamp>,
    /// When it began to go out.
    #[sqlx(rename = "started_at_us", try_from = "OptionalNumber")]
    pub started_at: Option<Timestamp>,
    /// When everybody had it, or it was cancelled.
    #[sqlx(rename = "finished_at_us", try_from = "OptionalNumber")]
    pub finished_at: Option<Timestamp>,
    /// When [`Broadcast::counters`] were counted.
    #[sqlx(rename = "counted_at_us", try_from = "i64")]
    pub counted_at: Timestamp,
    /// JSON of [`BroadcastCounts`] as last published.
    pub counters: String,
    /// Node that sends it; a new one each time the lease changes hands.
    pub sender: String,
    /// Grows with every change of hands.
    pub fence: i64,
    /// Until then no other node may take it.
    #[sqlx(rename = "leased_until_us", try_from = "i64")]
    pub leased_until: Timestamp,
    /// It was cancelled, and messages of it are still to be taken out of the queue.
    pub stopping: bool,
}

impl Broadcast {
    /// The state.
    pub fn state(&self) -> Result<BroadcastState, StoreError> {
        BroadcastState::parse(&self.state).ok_or(StoreError::Corrupt { what: "broadcast state" })
    }

    /// The kind.
    pub fn kind(&self) -> Result<BroadcastKind, StoreError> {
        BroadcastKind::parse(&self.kind).ok_or(StoreError::Corrupt { what: "broadcast kind" })
    }

    /// The audience.
    pub fn segment(&self) -> Result<Segment, StoreError> {
        serde_json::from_str(&self.definition).map_err(|_| StoreError::Corrupt { what: "segment" })
    }

    /// Who had a hand in it before its release.
    pub fn hands(&self) -> Hands {
        Hands { author: self.author_id, editor: self.editor_id, submitter: self.submitter_id }
    }

    /// Minutes after which it goes again to those who have not read it.
    pub fn resends(&self) -> Result<Vec<u32>, StoreError> {
        serde_json::from_str(&self.resend_after_min).map_err(|_| StoreError::Corrupt { what: "resend plan" })
    }
}

/// State of a round, in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundState {
    /// Its time has not come.
    Waiting,
    /// Messages are created.
    Creating,
    /// All are in the inbox; push and mail follow at the pace.
    Routing,
    /// Nothing is left to do.
    Done,
    /// It will not happen, or not go on.
    Cancelled,
}

impl RoundState {
    const ALL: [Self; 5] = [Self::Waiting, Self::Creating, Self::Routing, Self::Done, Self::Cancelled];

    /// The code in the record and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Creating => "creating",
            Self::Routing => "routing",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One time a broadcast goes out: round 0 to its audience, the others to those who have not read it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Round {
    /// Which broadcast.
    #[sqlx(try_from = "String")]
    pub broadcast_id: BroadcastId,
    /// From 0.
    pub round: i64,
    /// Minutes after the start.
    pub after_min: i64,
    /// When it may begin.
    #[sqlx(rename = "due_at_us", try_from = "i64")]
    pub due_at: Timestamp,
    /// Code of [`RoundState`].
    pub state: String,
    /// Last account whose message was created.
    pub created_after: String,
    /// Last account that was handed to push and mail.
    pub routed_after: String,
    /// Messages in the inbox.
    pub n_created: i64,
    /// People who had enough broadcasts that day, or for whom it could not be written.
    pub n_suppressed: i64,
    /// People handed to push and mail, or found not to want either.
    pub n_routed: i64,
    /// Deliveries queued for them.
    pub n_queued: i64,
    /// When the first batch was put into inboxes.
    #[sqlx(rename = "first_sent_at_us", try_from = "OptionalNumber")]
    pub first_sent_at: Option<Timestamp>,
    /// When the newest batch was put into inboxes or queued: what is queued leaves later.
    #[sqlx(rename = "last_sent_at_us", try_from = "OptionalNumber")]
    pub last_sent_at: Option<Timestamp>,
}

impl Round {
    /// A round that waits.
    pub fn waiting(broadcast_id: BroadcastId, round: i64, after_min: u32, due_at: Timestamp) -> Self {
        Self {
            broadcast_id,
            round,
            after_min: i64::from(after_min),
            due_at,
            state: RoundState::Waiting.as_str().to_owned(),
            created_after: String::new(),
            routed_after: String::new(),
            n_created: 0,
            n_suppressed: 0,
            n_routed: 0,
            n_queued: 0,
            first_sent_at: None,
            last_sent_at: None,
        }
    }

    /// The state.
    pub fn state(&self) -> Result<RoundState, StoreError> {
        RoundState::ALL
            .into_iter()
            .find(|state| state.as_str() == self.state)
            .ok_or(StoreError::Corrupt { what: "round state" })
    }
}

/// What has become of a broadcast, counted per person: however often it was sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, sqlx::FromRow)]
#[serde(default)]
pub struct BroadcastCounts {
    /// People with it in their inbox.
    pub created: i64,
    /// Who was handed to push or mail and left the queue well.
    pub sent: i64,
    /// Whose device or client has confirmed it.
    pub delivered: i64,
    /// Who has opened it.
    pub opened: i64,
    /// For whom a push or mail still waits in the queue, or is held there by a pause.
    pub waiting: i64,
    /// Of whom a push or mail was taken out of the queue.
    pub suppressed: i64,
}

/// A message of a broadcast that is about to be handed to push and mail, with its recipient.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Unrouted {
    /// The message.
    #[sqlx(try_from = "String")]
    pub message_id: MessageId,
    /// When it was opened.
    #[sqlx(rename = "read_at_us", try_from = "OptionalNumber")]
    pub read_at: Option<Timestamp>,
    /// Recipient.
    #[sqlx(flatten)]
    pub to: Member,
}

macro_rules! select_broadcast {
    ($rest:literal) => {
        concat!(
            "SELECT broadcast_id, municipality_code, kind, title, body, link, event_on, place, push, email, segment_id, segment_name, ",
            "definition, state, author_id, author_name, editor_id, submitter_id, approver_id, note, starts_at_us, pace_per_s, resend_after_min, n_targets, ",
            "event_id, created_at_us, released_at_us, started_at_us, finished_at_us, counted_at_us, counters, sender, fence, leased_until_us, stopping FROM broadcast ",
            $rest
        )
    };
}

macro_rules! select_round {
    ($rest:literal) => {
        concat!(
            "SELECT broadcast_id, round, after_min, due_at_us, state, created_after, routed_after, n_created, n_suppressed, n_routed, ",
            "n_queued, first_sent_at_us, last_sent_at_us FROM broadcast_round ",
            $rest
        )
    };
}

/// Rounds under way of broadcasts that may go on, and rounds whose time has come.
const ROUNDS_DUE: &str =
    "SELECT b.broadcast_id FROM broadcast b WHERE b.municipality_code = $1 AND b.state IN ('sending', 'sent')
 AND EXISTS (SELECT 1 FROM broadcast_round r WHERE r.broadcast_id = b.broadcast_id
     AND (r.state IN ('creating', 'routing') OR (r.state = 'waiting' AND r.due_at_us <= $2)))
 ORDER BY CASE WHEN b.kind = 'emergency' THEN 0 ELSE 1 END, b.started_at_us, b.broadcast_id";

const COUNTS: &str = "SELECT COUNT(*) AS created, CAST(0 AS BIGINT) AS sent,
 COALESCE(SUM(CASE WHEN p.delivered_at_us IS NOT NULL OR p.read_at_us IS NOT NULL THEN 1 ELSE 0 END), 0) AS delivered,
 COALESCE(SUM(CASE WHEN p.read_at_us IS NOT NULL THEN 1 ELSE 0 END), 0) AS opened,
 CAST(0 AS BIGINT) AS waiting, CAST(0 AS BIGINT) AS suppressed
 FROM (SELECT m.account_id, MAX(m.delivered_at_us) AS delivered_at_us, MAX(m.read_at_us) AS read_at_us FROM message m
       WHERE m.cause_event_id = $1 AND (m.municipality_code = $2 OR $2 = '') GROUP BY m.account_id) p";

const QUEUED: &str =
    "SELECT COUNT(DISTINCT CASE WHEN d.state IN ('sent', 'accepted', 'delivered', 'opened') THEN m.account_id END),
 COUNT(DISTINCT CASE WHEN d.state IN ('queued', 'held') THEN m.account_id END),
 COUNT(DISTINCT CASE WHEN d.state = 'suppressed' THEN m.account_id END)
 FROM message m JOIN delivery d ON d.message_id = m.message_id
 WHERE m.cause_event_id = $1 AND (m.municipality_code = $2 OR $2 = '') AND d.purpose = 'notification'";

const UNROUTED: &str = concat!(
    "SELECT m.message_id, m.read_at_us, ",
    member_columns!(),
    ", CAST(0 AS BIGINT) AS n_since FROM message m JOIN account a ON a.account_id = m.account_id
     JOIN guardian g ON g.guardian_id = a.guardian_id
     WHERE m.cause_event_id = $1 AND m.account_id > $2 AND m.dedupe_key = $3 || m.account_id AND (m.municipality_code = $5 OR $5 = '')
     AND a.email IS NOT NULL ORDER BY m.account_id LIMIT $4"
);

impl Tx {
    /// Adds a broadcast.
    pub async fn insert_broadcast(&mut self, row: &Broadcast) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO broadcast (broadcast_id, municipality_code, kind, title, body, link, event_on, place, push, email, segment_id,
                segment_name, definition, state, author_id, author_name, approver_id, note, starts_at_us, pace_per_s, resend_after_min,
                n_targets, event_id, created_at_us, released_at_us, started_at_us, finished_at_us, counted_at_us, counters, sender, fence,
                leased_until_us, editor_id, submitter_id, stopping, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, NULL, $17, $18, $19, $20, $21, NULL, $22, NULL,
                NULL, NULL, $22, '{}', '', 0, 0, $23, $24, FALSE, 1)",
            row.broadcast_id.to_string(), row.municipality_code.as_str(), &row.kind, &row.title, &row.body, &row.link,
            row.event_on.map(|day| day.to_string()), &row.place, row.push, row.email, row.segment_id.map(|id| id.to_string()),
            &row.segment_name, &row.definition, &row.state, row.author_id.map(|id| id.to_string()), &row.author_name, &row.note,
            row.starts_at.map(Timestamp::as_micros), row.pace_per_s, &row.resend_after_min, row.n_targets, row.created_at.as_micros(),
            row.editor_id.map(|id| id.to_string()), row.submitter_id.map(|id| id.to_string()),
        )?;
        Ok(())
    }

    /// One broadcast.
    pub async fn broadcast(&mut self, id: BroadcastId) -> Result<Option<Broadcast>, StoreError> {
        let row = fetch_optional!(self, Broadcast, select_broadcast!("WHERE broadcast_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Locks a broadcast for the rest of the transaction and reads it.
    pub async fn lock_broadcast(&mut self, id: BroadcastId) -> Result<Option<Broadcast>, StoreError> {
        execute!(
            self,
            "UPDATE broadcast SET version = version + 1 WHERE broadcast_id = $1 AND (municipality_code = $2 OR $2 = '')",
            id.to_string(),
            self.wall.code(),
        )?;
        self.broadcast(id).await
    }

    /// Writes everything that may change.
    pub async fn update_broadcast(&mut self, row: &Broadcast) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE broadcast SET kind = $2, title = $3, body = $4, link = $5, event_on = $6, place = $7, push = $8, email = $9,
                segment_id = $10, segment_name = $11, definition = $12, state = $13, approver_id = $14, note = $15, starts_at_us = $16,
                pace_per_s = $17, resend_after_min = $18, n_targets = $19, event_id = $20, released_at_us = $21, started_at_us = $22,
                finished_at_us = $23, sender = $24, fence = $25, leased_until_us = $26, editor_id = $28, submitter_id = $29, stopping = $30
             WHERE broadcast_id = $1 AND municipality_code = $27",
            row.broadcast_id.to_string(), &row.kind, &row.title, &row.body, &row.link, row.event_on.map(|day| day.to_string()), &row.place,
            row.push, row.email, row.segment_id.map(|id| id.to_string()), &row.segment_name, &row.definition, &row.state,
            row.approver_id.map(|id| id.to_string()), &row.note, row.starts_at.map(Timestamp::as_micros), row.pace_per_s,
            &row.resend_after_min, row.n_targets, row.event_id.map(|id| id.to_string()), row.released_at.map(Timestamp::as_micros),
            row.started_at.map(Timestamp::as_micros), row.finished_at.map(Timestamp::as_micros), &row.sender, row.fence,
            row.leased_until.as_micros(), row.municipality_code.as_str(), row.editor_id.map(|id| id.to_string()),
            row.submitter_id.map(|id| id.to_string()), row.stopping,
        )?;
        Ok(())
    }

    /// Broadcasts of a municipality, newest first.
    pub async fn broadcasts(&mut self, code: &MunicipalityCode, n_max: i64) -> Result<Vec<Broadcast>, StoreError> {
        let rows = fetch_all!(
            self,
            Broadcast,
            select_broadcast!("WHERE municipality_code = $1 ORDER BY created_at_us DESC, broadcast_id DESC LIMIT $2"),
            code.as_str(),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Released broadcasts whose time has come, emergencies first.
    pub async fn broadcasts_to_start(
        &mut self,
        code: &MunicipalityCode,
        now: Timestamp,
    ) -> Result<Vec<BroadcastId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT broadcast_id FROM broadcast WHERE municipality_code = $1 AND state = 'scheduled' AND COALESCE(starts_at_us, 0) <= $2
             ORDER BY CASE WHEN kind = 'emergency' THEN 0 ELSE 1 END, starts_at_us, broadcast_id",
            self.wall.inside(code),
            now.as_micros(),
        )?;
        ids(rows)
    }

    /// Broadcasts of which something can be sent now, emergencies first.
    pub async fn broadcasts_to_send(
        &mut self,
        code: &MunicipalityCode,
        now: Timestamp,
    ) -> Result<Vec<BroadcastId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(self, (String,), ROUNDS_DUE, self.wall.inside(code), now.as_micros())?;
        ids(rows)
    }

    /// Broadcasts whose queue is to be looked after: paused ones, and cancelled ones of which something may be left.
    pub async fn broadcasts_to_settle(&mut self, code: &MunicipalityCode) -> Result<Vec<BroadcastId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT broadcast_id FROM broadcast WHERE municipality_code = $1 AND state IN ('paused', 'cancelled')
             AND (state = 'paused' OR stopping) ORDER BY broadcast_id",
            self.wall.inside(code),
        )?;
        ids(rows)
    }

    /// Broadcasts that began after `since`: those whose counters are still worth counting.
    pub async fn broadcasts_to_count(
        &mut self,
        code: &MunicipalityCode,
        since: Timestamp,
    ) -> Result<Vec<Broadcast>, StoreError> {
        let rows = fetch_all!(
            self,
            Broadcast,
            select_broadcast!(
                "WHERE municipality_code = $1 AND started_at_us >= $2 ORDER BY started_at_us, broadcast_id"
            ),
            code.as_str(),
            since.as_micros(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Keeps what was counted.
    pub async fn note_counters(
        &mut self,
        id: BroadcastId,
        counts: &BroadcastCounts,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let counters = serde_json::to_string(counts).map_err(|_| StoreError::Corrupt { what: "broadcast counters" })?;
        execute!(
            self,
            "UPDATE broadcast SET counted_at_us = $2, counters = $3 WHERE broadcast_id = $1 AND (municipality_code = $4 OR $4 = '')",
            id.to_string(),
            now.as_micros(),
            counters,
            self.wall.code(),
        )?;
        Ok(())
    }

    /// Adds a round.
    pub async fn insert_round(&mut self, row: &Round) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO broadcast_round (broadcast_id, round, after_min, due_at_us, state, created_after, routed_after, n_created,
                n_suppressed, n_routed, n_queued) VALUES ($1, $2, $3, $4, $5, '', '', 0, 0, 0, 0)",
            row.broadcast_id.to_string(),
            row.round,
            row.after_min,
            row.due_at.as_micros(),
            &row.state,
        )?;
        Ok(())
    }

    /// Rounds of a broadcast, in order.
    pub async fn rounds(&mut self, id: BroadcastId) -> Result<Vec<Round>, StoreError> {
        fetch_all!(
            self,
            Round,
            select_round!(
                "WHERE broadcast_id = $1 AND EXISTS (SELECT 1 FROM broadcast b WHERE b.broadcast_id = $1
                 AND (b.municipality_code = $2 OR $2 = '')) ORDER BY round"
            ),
            id.to_string(),
            self.wall.code(),
        )
    }

    /// Writes how far a round has come. The broadcast must be locked.
    pub async fn update_round(&mut self, row: &Round) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE broadcast_round SET after_min = $3, due_at_us = $4, state = $5, created_after = $6, routed_after = $7, n_created = $8,
                n_suppressed = $9, n_routed = $10, n_queued = $11, first_sent_at_us = $12, last_sent_at_us = $13
             WHERE broadcast_id = $1 AND round = $2",
            row.broadcast_id.to_string(),
            row.round,
            row.after_min,
            row.due_at.as_micros(),
            &row.state,
            &row.created_after,
            &row.routed_after,
            row.n_created,
            row.n_suppressed,
            row.n_routed,
            row.n_queued,
            row.first_sent_at.map(Timestamp::as_micros),
            row.last_sent_at.map(Timestamp::as_micros),
        )?;
        Ok(())
    }

    /// Deletes the rounds that have not begun.
    pub async fn delete_waiting_rounds(&mut self, id: BroadcastId) -> Result<(), StoreError> {
        execute!(
            self,
            "DELETE FROM broadcast_round WHERE broadcast_id = $1 AND state = 'waiting' AND round > 0",
            id.to_string()
        )?;
        Ok(())
    }

    /// Up to `n_max` messages whose keys are `key` followed by their account, after the account `after`.
    pub async fn unrouted(
        &mut self,
        cause: EventId,
        key: &str,
        after: &str,
        n_max: i64,
    ) -> Result<Vec<Unrouted>, StoreError> {
        fetch_all!(self, Unrouted, UNROUTED, cause.to_string(), after, key, n_max, self.wall.code())
    }

    /// What has become of a broadcast. Reads every message of it: about 0.2 s for 100,000.
    pub async fn broadcast_counts(&mut self, cause: EventId, any_queued: bool) -> Result<BroadcastCounts, StoreError> {
        let mut counts: BroadcastCounts =
            fetch_one!(self, BroadcastCounts, COUNTS, cause.to_string(), self.wall.code())?;
        if any_queued {
            let (sent, waiting, suppressed): (i64, i64, i64) =
                fetch_one!(self, (i64, i64, i64), QUEUED, cause.to_string(), self.wall.code())?;
            counts = BroadcastCounts { sent, waiting, suppressed, ..counts };
        }
        Ok(counts)
    }
}

fn ids(rows: Vec<(String,)>) -> Result<Vec<BroadcastId>, StoreError> {
    rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "broadcast id" })).collect()
}
