//! Deliveries: one message on its way to one device, address or letter box.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    catalogue::messages::{Channel, Speed},
    delivery::{self, DeliveryState, Provider, Purpose, ReceiptToken},
    ids::{AccountId, DeliveryId, EventId, MessageId},
};

use crate::{StoreError, Tx, column::OptionalNumber};

/// A delivery to be queued.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Id.
    pub delivery_id: DeliveryId,
    /// The message; a test of a device has an id of its own.
    pub message_id: MessageId,
    /// The wall.
    pub municipality_code: MunicipalityCode,
    /// Recipient.
    pub account_id: AccountId,
    /// Row of the catalogue.
    pub message_type: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Who carries it.
    pub provider: Provider,
    /// The device's id, the mail address, or the letter's number.
    pub target: String,
    /// 0, and one more for each time the message was corrected or sent again by a person.
    pub edition: i64,
    /// 0 at once, 1 within a minute, 2 paced.
    pub speed: i64,
    /// Text that may travel: no names, no reasons.
    pub subject: String,
    /// Text that may travel: no names, no reasons.
    pub body: String,
    /// Path of the screen it leads to; may be empty.
    pub link: String,
    /// What shows as one notification at a time.
    pub collapse_key: String,
    /// The person may switch such messages off.
    pub optional: bool,
    /// Holds a code or link that nobody needs later: the text goes once the delivery has settled.
    pub secret: bool,
    /// `E1` or `E3`: goes at `due_at` only if nobody looked until then.
    pub escalation: Option<&'static str>,
    /// `queued`, or `suppressed` with its reason.
    pub state: DeliveryState,
    /// Why it is suppressed.
    pub error_code: Option<String>,
    /// When it may leave.
    pub due_at: Timestamp,
    /// When it is no longer worth sending.
    pub expires_at: Option<Timestamp>,
    /// Random bits of its receipt token.
    pub receipt_key: i64,
    /// When what it tells happened.
    pub cause_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A delivery with all that has become of it.
#[derive(Clone, sqlx::FromRow)]
pub struct Delivery {
    /// Id.
    #[sqlx(try_from = "String")]
    pub delivery_id: DeliveryId,
    /// The message.
    #[sqlx(try_from = "String")]
    pub message_id: MessageId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Recipient.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Row of the catalogue.
    pub message_type: String,
    /// What it is for.
    #[sqlx(try_from = "String")]
    pub purpose: Purpose,
    /// `push`, `email` or `paper`.
    pub channel: String,
    /// Who carries it.
    #[sqlx(try_from = "String")]
    pub provider: Provider,
    /// The device's id, the mail address, or the letter's number.
    pub target: String,
    /// 0, and one more for each correction or repetition.
    pub edition: i64,
    /// 0 at once, 1 within a minute, 2 paced.
    pub speed: i64,
    /// Text that may travel.
    pub subject: String,
    /// Text that may travel.
    pub body: String,
    /// Path of the screen it leads to; may be empty.
    pub link: String,
    /// What shows as one notification at a time.
    pub collapse_key: String,
    /// The person may switch such messages off.
    pub optional: bool,
    /// Its text goes once it has settled.
    pub secret: bool,
    /// `E1` or `E3`: goes only if nobody looked until it is due.
    pub escalation: Option<String>,
    /// Where it stands.
    #[sqlx(try_from = "String")]
    pub state: DeliveryState,
    /// Rises with every change.
    pub version: i64,
    /// Attempts so far.
    pub attempts: i64,
    /// When it may leave.
    #[sqlx(rename = "due_at_us", try_from = "i64")]
    pub due_at: Timestamp,
    /// Until when it is somebody's to send; zero when it is nobody's.
    #[sqlx(rename = "leased_until_us", try_from = "i64")]
    pub leased_until: Timestamp,
    /// When it is no longer worth sending.
    #[sqlx(rename = "expires_at_us", try_from = "OptionalNumber")]
    pub expires_at: Option<Timestamp>,
    /// It was written and no answer came: it may have arrived.
    pub doubtful: bool,
    /// The provider's name for it.
    pub provider_id: Option<String>,
    /// What the last attempt failed with.
    pub error_code: Option<String>,
    /// Random bits of its receipt token.
    pub receipt_key: i64,
    /// When what it tells happened.
    #[sqlx(rename = "cause_at_us", try_from = "i64")]
    pub cause_at: Timestamp,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// When it was last handed to the channel.
    #[sqlx(rename = "sent_at_us", try_from = "OptionalNumber")]
    pub sent_at: Option<Timestamp>,
    /// When the provider took it.
    #[sqlx(rename = "accepted_at_us", try_from = "OptionalNumber")]
    pub accepted_at: Option<Timestamp>,
    /// When the device had it.
    #[sqlx(rename = "delivered_at_us", try_from = "OptionalNumber")]
    pub delivered_at: Option<Timestamp>,
    /// When the device showed it.
    #[sqlx(rename = "displayed_at_us", try_from = "OptionalNumber")]
    pub displayed_at: Option<Timestamp>,
    /// When it was opened.
    #[sqlx(rename = "opened_at_us", try_from = "OptionalNumber")]
    pub opened_at: Option<Timestamp>,
    /// When it ended otherwise.
    #[sqlx(rename = "ended_at_us", try_from = "OptionalNumber")]
    pub ended_at: Option<Timestamp>,
}

impl std::fmt::Debug for Delivery {
    /// Without words and address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("delivery_id", &self.delivery_id)
            .field("message_type", &self.message_type)
            .field("provider", &self.provider)
            .field("state", &self.state)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    /// What its device shows to speak of it.
    pub fn receipt(&self) -> ReceiptToken {
        ReceiptToken { delivery_id: self.delivery_id, key: self.receipt_key }
    }
}

/// A change of a delivery's state.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The new state, as `domain::delivery` allows it.
    pub state: DeliveryState,
    /// When it may leave next; kept when `None`.
    pub due_at: Option<Timestamp>,
    /// What it failed with, or why it ended.
    pub error_code: Option<String>,
    /// The provider's name for it.
    pub provider_id: Option<String>,
    /// Whether it may have arrived unseen.
    pub doubtful: bool,
    /// When.
    pub at: Timestamp,
    /// Keep a secret text although the delivery has settled: the demo's mailbox shows it.
    pub keep_text: bool,
}

impl Mark {
    /// A change without particulars.
    pub fn to(state: DeliveryState, at: Timestamp) -> Self {
        Self { state, due_at: None, error_code: None, provider_id: None, doubtful: false, at, keep_text: false }
    }
}

/// What waits with one provider.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct QueueDepth {
    /// Who carries it.
    pub provider: String,
    /// Deliveries that are due.
    pub due: i64,
    /// The oldest due time, microseconds UTC.
    pub oldest_due_us: i64,
}

macro_rules! columns {
    () => {
        "delivery_id, message_id, municipality_code, account_id, message_type, purpose, channel, provider, target, edition, speed, \
         subject, body, link, collapse_key, optional, secret, escalation, state, version, attempts, due_at_us, leased_until_us, expires_at_us, \
         doubtful, provider_id, error_code, receipt_key, cause_at_us, created_at_us, sent_at_us, accepted_at_us, delivered_at_us, \
         displayed_at_us, opened_at_us, ended_at_us"
    };
}

macro_rules! select_delivery {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM delivery ", $rest)
    };
}

// Materialised: PostgreSQL may ask a subquery with SKIP LOCKED again for each row, and get others than before.
macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (
                SELECT delivery_id FROM delivery WHERE provider = $1 AND speed = $2 AND state = 'queued' AND due_at_us <= $3
                    AND (expires_at_us IS NULL OR expires_at_us > $3) AND ($6 = '' OR municipality_code = $6)
                ORDER BY due_at_us LIMIT $5 ",
            $lock,
            ")
             UPDATE delivery SET state = 'sent', version = version + 1, attempts = attempts + 1, leased_until_us = $4, sent_at_us = $3
             WHERE delivery_id IN (SELECT delivery_id FROM due) RETURNING ",
            columns!()
        )
    };
}

const CLAIM_SQLITE: &str = claim!("");
const CLAIM_POSTGRES: &str = claim!("FOR UPDATE SKIP LOCKED");

macro_rules! put_back {
    ($among:literal) => {
        concat!(
            "UPDATE delivery SET state = 'queued', version = version + 1, attempts = attempts - 1, leased_until_us = 0, due_at_us = $2,
                sent_at_us = CASE WHEN attempts = 1 THEN NULL ELSE sent_at_us END
             WHERE delivery_id ",
            $among,
            " AND state = 'sent' AND ($3 = '' OR municipality_code = $3)"
        )
    };
}

/// Inserts deliveries with one of the macros for many rows; one that exists is left as it is.
macro_rules! insert_by {
    ($insert:ident, $tx:expr, $rows:expr) => {
        $insert!(
            $tx,
            "INSERT INTO delivery (delivery_id, message_id, municipality_code, account_id, message_type, purpose, channel, provider,
                target, edition, speed, subject, body, link, collapse_key, optional, secret, escalation, state, version, attempts, due_at_us,
                leased_until_us, expires_at_us, doubtful, error_code, receipt_key, cause_at_us, created_at_us) ",
            $rows,
            " ON CONFLICT (message_id, channel, target, purpose, edition) DO NOTHING",
            |row| row.delivery_id.to_string(),
            row.message_id.to_string(),
            row.municipality_code.to_string(),
            row.account_id.to_string(),
            row.message_type.clone(),
            row.purpose.as_str(),
            row.provider.channel().as_str(),
            row.provider.as_str(),
            row.target.clone(),
            row.edition,
            row.speed,
            row.subject.clone(),
            row.body.clone(),
            row.link.clone(),
            row.collapse_key.clone(),
            row.optional,
            row.secret,
            row.escalation,
            row.state.as_str(),
            0_i64,
            0_i64,
            row.due_at.as_micros(),
            0_i64,
            row.expires_at.map(Timestamp::as_micros),
            false,
            row.error_code.clone(),
            row.receipt_key,
            row.cause_at.as_micros(),
            row.created_at.as_micros(),
        )
    };
}

/// Speeds in the order they are served.
const SPEEDS: [Speed; 3] = [Speed::Now, Speed::Min, Speed::Batch];

macro_rules! due {
    ($speeds:literal) => {
        concat!(
            "SELECT due_at_us FROM delivery WHERE provider = $1 AND state = 'queued' AND due_at_us <= $2 AND speed IN (",
            $speeds,
            ") AND ($3 = '' OR municipality_code = $3) LIMIT 1"
        )
    };
}

const DUE: &str = due!("0, 1, 2");
/// As [`DUE`], in the quiet hours.
const DUE_AT_NIGHT: &str = due!("0, 1");

impl Tx {
    /// Queues deliveries; one that exists is left as it is. Gives how many were new.
    pub async fn insert_deliveries(&mut self, rows: &[NewDelivery]) -> Result<u64, StoreError> {
        let n = insert_by!(insert_many, self, rows)?;
        self.queued_deliveries |= n > 0;
        Ok(n)
    }

    /// As [`Self::insert_deliveries`], at the latest with the commit, where nobody asks how many were new.
    pub async fn queue_deliveries(&mut self, rows: &[NewDelivery]) -> Result<(), StoreError> {
        self.queued_deliveries |= !rows.is_empty();
        insert_by!(insert_many_later, self, rows)
    }

    /// Whether this transaction has queued deliveries: whoever commits it may wake the dispatcher.
    pub fn has_queued_deliveries(&self) -> bool {
        self.queued_deliveries
    }

    /// Claims up to `n_max` due deliveries of a provider until `leased_until`, urgent ones first, and notes that
    /// they are being handed over; paced push is left alone in the quiet hours, however long it has been due. What is
    /// not marked by then is found by [`Tx::deliveries_with_ended_lease`].
    pub async fn claim_deliveries(
        &mut self,
        provider: Provider,
        n_max: i64,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Vec<Delivery>, StoreError> {
        let sql = if self.is_postgres() { CLAIM_POSTGRES } else { CLAIM_SQLITE };
        let mut claimed = Vec::new();
        // One range of the index per speed: sorting over all of them would read what waits for the morning each time.
        for speed in SPEEDS.into_iter().filter(|speed| !delivery::is_held(provider.channel(), *speed, now)) {
            let rest = n_max.saturating_sub(i64::try_from(claimed.len()).unwrap_or(i64::MAX));
            if rest <= 0 {
                break;
            }
            let rows: Vec<Delivery> = fetch_all!(
                self,
                Delivery,
                sql,
                provider.as_str(),
                delivery::rank(speed),
                now.as_micros(),
                leased_until.as_micros(),
                rest,
                self.wall.code(),
            )?;
            claimed.extend(self.see_all(rows));
        }
        Ok(claimed)
    }

    /// Puts back what this transaction has claimed and cannot hand over before `due_at`: it costs no attempt.
    pub async fn put_back_deliveries(&mut self, ids: &[DeliveryId], due_at: Timestamp) -> Result<(), StoreError> {
        let sql = if self.is_postgres() {
            put_back!("= ANY(string_to_array($1, ','))")
        } else {
            put_back!("IN (SELECT value FROM json_each($1))")
        };
        let among = self.among(ids);
        execute!(self, sql, among, due_at.as_micros(), self.wall.code())?;
        Ok(())
    }

    /// Whether anything of a provider is due that [`Self::claim_deliveries`] would claim: a look that takes no lock.
    pub async fn has_due_deliveries(&mut self, provider: Provider, now: Timestamp) -> Result<bool, StoreError> {
        let sql = if delivery::is_held(provider.channel(), Speed::Batch, now) { DUE_AT_NIGHT } else { DUE };
        let row: Option<(i64,)> =
            fetch_optional!(self, (i64,), sql, provider.as_str(), now.as_micros(), self.wall.code(),)?;
        Ok(row.is_some())
    }

    /// Deliveries that were handed over and never marked: their node died in between.
    pub async fn deliveries_with_ended_lease(
        &mut self,
        now: Timestamp,
        n_max: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!(
                "WHERE state = 'sent' AND leased_until_us > 0 AND leased_until_us <= $1 ORDER BY leased_until_us LIMIT $2"
            ),
            now.as_micros(),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Deliveries of a provider whose time is over: mail that never left, push that never arrived.
    pub async fn deliveries_past_their_time(
        &mut self,
        provider: Provider,
        now: Timestamp,
        n_max: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!(
                "WHERE state IN ('queued', 'accepted') AND expires_at_us <= $1 AND (state = 'queued' OR channel = 'push')
                 AND provider = $3 ORDER BY expires_at_us LIMIT $2"
            ),
            now.as_micros(),
            n_max,
            provider.as_str(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Changes a delivery as it was read; `false` when somebody else changed it since.
    pub async fn mark_delivery(&mut self, row: &Delivery, mark: &Mark) -> Result<bool, StoreError> {
        let blank = row.secret && !mark.keep_text && mark.state.is_settled();
        let ended = matches!(
            mark.state,
            DeliveryState::Failed | DeliveryState::Expired | DeliveryState::Superseded | DeliveryState::Returned
        );
        let n = execute!(
            self,
            "UPDATE delivery SET state = $3, version = version + 1, leased_until_us = 0, due_at_us = $4,
                error_code = $5, provider_id = COALESCE($6, provider_id), doubtful = $7,
                accepted_at_us = CASE WHEN $9 THEN COALESCE(accepted_at_us, $8) ELSE accepted_at_us END,
                delivered_at_us = CASE WHEN $10 THEN COALESCE(delivered_at_us, $8) ELSE delivered_at_us END,
                opened_at_us = CASE WHEN $11 THEN COALESCE(opened_at_us, $8) ELSE opened_at_us END,
                ended_at_us = CASE WHEN $12 THEN $8 ELSE ended_at_us END,
                subject = CASE WHEN $13 THEN '' ELSE subject END, body = CASE WHEN $13 THEN '' ELSE body END
             WHERE delivery_id = $1 AND version = $2",
            row.delivery_id.to_string(),
            row.version,
            mark.state.as_str(),
            mark.due_at.unwrap_or(row.due_at).as_micros(),
            mark.error_code.as_deref(),
            mark.provider_id.as_deref(),
            mark.doubtful,
            mark.at.as_micros(),
            mark.state == DeliveryState::Accepted,
            matches!(mark.state, DeliveryState::Delivered | DeliveryState::Posted),
            mark.state == DeliveryState::Opened,
            ended,
            blank,
        )?;
        Ok(n > 0)
    }

    /// Gives a delivery that was never handed over other words; its time and all else stay. `false` when it has
    /// changed since it was read.
    pub async fn reword_delivery(&mut self, row: &Delivery, subject: &str, body: &str) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE delivery SET subject = $3, body = $4, version = version + 1
             WHERE delivery_id = $1 AND version = $2 AND state = 'queued' AND attempts = 0",
            row.delivery_id.to_string(),
            row.version,
            subject,
            body,
        )?;
        Ok(n > 0)
    }

    /// Notes that a device showed it; `false` when that was noted before.
    pub async fn note_displayed(&mut self, id: DeliveryId, at: Timestamp) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE delivery SET displayed_at_us = $2 WHERE delivery_id = $1 AND displayed_at_us IS NULL",
            id.to_string(),
            at.as_micros(),
        )?;
        Ok(n > 0)
    }

    /// One delivery.
    pub async fn delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let row = fetch_optional!(self, Delivery, select_delivery!("WHERE delivery_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Every delivery of a message, in the order they were made.
    pub async fn deliveries_of(&mut self, id: MessageId) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!("WHERE message_id = $1 ORDER BY created_at_us, delivery_id"),
            id.to_string()
        )?;
        Ok(self.see_all(rows))
    }

    /// Pushes to a person under a collapse key that are shown or on their way.
    pub async fn pushes_shown(
        &mut self,
        account: AccountId,
        collapse_key: &str,
        except: MessageId,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!(
                "WHERE account_id = $1 AND collapse_key = $2 AND state IN ('queued', 'held', 'sent', 'accepted', 'delivered')
                 AND channel = 'push' AND purpose = 'notification' AND message_id <> $3 ORDER BY delivery_id"
            ),
            account.to_string(),
            collapse_key,
            except.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Everything that waits in the queue for a person.
    pub async fn queued_deliveries_of(&mut self, account: AccountId) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            // The first condition is the index's own.
            select_delivery!(
                "WHERE account_id = $1 AND state IN ('queued', 'held', 'sent', 'accepted', 'delivered') AND state IN ('queued', 'held')
                 ORDER BY delivery_id"
            ),
            account.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Mails of a household's message that wait for somebody of it to look (E1).
    pub async fn waiting_mails(&mut self, message: MessageId) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!(
                "WHERE message_id = $1 AND channel = 'email' AND state = 'queued' AND escalation = 'E1' ORDER BY delivery_id"
            ),
            message.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Mails to all colleagues about what one event told them that wait for one of them to look (E3).
    pub async fn waiting_mails_of_cause(
        &mut self,
        cause: EventId,
        message_type: &str,
    ) -> Result<Vec<Delivery>, StoreError> {
        // Few mails wait, while an event may have told a whole city: SQLite keeps the order of a CROSS JOIN.
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!(
                "WHERE delivery_id IN (SELECT d.delivery_id FROM delivery d CROSS JOIN message m
                    WHERE d.message_type = $2 AND d.state = 'queued' AND d.escalation = 'E3'
                        AND m.message_id = d.message_id AND m.cause_event_id = $1)
                 ORDER BY delivery_id"
            ),
            cause.to_string(),
            message_type,
        )?;
        Ok(self.see_all(rows))
    }

    /// Lets the mails of a message that wait for somebody to look go now; gives how many there were.
    pub async fn hasten_mails(&mut self, id: MessageId, now: Timestamp) -> Result<u64, StoreError> {
        let n = execute!(
            self,
            "UPDATE delivery SET due_at_us = $2, version = version + 1
             WHERE message_id = $1 AND channel = 'email' AND state = 'queued' AND escalation IS NOT NULL AND due_at_us > $2",
            id.to_string(),
            now.as_micros(),
        )?;
        self.queued_deliveries |= n > 0;
        Ok(n)
    }

    /// What is due with each provider, without what the quiet hours hold: nobody need look after that.
    pub async fn queue_depths(&mut self, now: Timestamp) -> Result<Vec<QueueDepth>, StoreError> {
        let held = SPEEDS.into_iter().find(|speed| delivery::is_held(Channel::Push, *speed, now));
        fetch_all!(
            self,
            QueueDepth,
            "SELECT provider, COUNT(*) AS due, MIN(due_at_us) AS oldest_due_us FROM delivery
             WHERE state = 'queued' AND due_at_us <= $1 AND ($2 = '' OR municipality_code = $2)
                AND NOT (channel = 'push' AND speed = $3) GROUP BY provider ORDER BY provider",
            now.as_micros(),
            self.wall.code(),
            held.map_or(-1, delivery::rank),
        )
    }

    /// Forgets deliveries made before `before` (delivery details are kept 13 months).
    pub async fn prune_deliveries(&mut self, before: Timestamp) -> Result<(), StoreError> {
        execute!(self, "DELETE FROM delivery WHERE delivery_id < $1", before.id_bound())?;
        Ok(())
    }

    /// Every push that was handed over at least once, in the order they were made: those that a demo's made-up past
    /// has marked so.
    pub async fn handed_pushes(&mut self) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!(
                "WHERE channel = 'push' AND purpose = 'notification' AND attempts > 0 ORDER BY delivery_id"
            ),
        )?;
        Ok(self.see_all(rows))
    }

    /// The newest mails, optionally to one address: the demo's mailbox.
    pub async fn mails(&mut self, address: Option<&str>, n_max: i64) -> Result<Vec<Delivery>, StoreError> {
        let rows = fetch_all!(
            self,
            Delivery,
            select_delivery!(
                "WHERE channel = 'email' AND (target = $1 OR $1 = '') ORDER BY created_at_us DESC, message_id DESC LIMIT $2"
            ),
            address.unwrap_or(""),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }
}
