//! Deliveries as the operator looks at them: how far messages of each type came, whom nothing reached, and the search
//! for one message.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{AccountId, MessageId},
};

use crate::{StoreError, Tx, column::OptionalNumber};

/// How far the messages of one type came on one channel.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct FunnelRow {
    /// Row of the catalogue.
    pub message_type: String,
    /// `inbox`, `push`, `email` or `paper`.
    pub channel: String,
    /// Messages that were to go there.
    pub created: i64,
    /// Those handed over at least once.
    pub sent: i64,
    /// Those the provider took.
    pub accepted: i64,
    /// Those that arrived.
    pub delivered: i64,
    /// Those that were opened.
    pub opened: i64,
    /// Those where every address failed.
    pub failed: i64,
    /// Those whose time was over.
    pub expired: i64,
    /// Those that something newer, or a reading elsewhere, made needless.
    pub superseded: i64,
}

/// A mandatory message that has not reached its person, with how that person can be reached.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Unreached {
    /// The message.
    #[sqlx(try_from = "String")]
    pub message_id: MessageId,
    /// Row of the catalogue.
    pub message_type: String,
    /// Heading.
    pub title: String,
    /// Number people see.
    pub subject_no: Option<String>,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// Recipient.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Name.
    pub name: String,
    /// Number of the household.
    pub guardian_no: String,
    /// Phone; may be empty.
    pub phone: String,
    /// Postal address; may be empty.
    pub address: String,
}

/// Which messages are looked for.
#[derive(Debug, Clone, Copy)]
pub struct MessageSearch<'a> {
    /// LIKE pattern over the recipient's name, and number, name and kana of the household; its own wildcards are
    /// escaped with `\`. `None` for anybody's.
    pub pattern: Option<&'a str>,
    /// Row of the catalogue; empty for any.
    pub message_type: &'a str,
    /// Made at this instant or later.
    pub from: Timestamp,
    /// Made before this instant.
    pub until: Timestamp,
    /// Only older ones than this.
    pub before: Option<MessageId>,
}

/// A message with whom it is for, without its text.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct FoundMessage {
    /// The message.
    #[sqlx(try_from = "String")]
    pub message_id: MessageId,
    /// Row of the catalogue.
    pub message_type: String,
    /// Heading.
    pub title: String,
    /// Number people see.
    pub subject_no: Option<String>,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// When it was opened.
    #[sqlx(rename = "read_at_us", try_from = "OptionalNumber")]
    pub read_at: Option<Timestamp>,
    /// When its words were replaced.
    #[sqlx(rename = "corrected_at_us", try_from = "OptionalNumber")]
    pub corrected_at: Option<Timestamp>,
    /// When it was taken back.
    #[sqlx(rename = "withdrawn_at_us", try_from = "OptionalNumber")]
    pub withdrawn_at: Option<Timestamp>,
    /// Name of the recipient.
    pub name: String,
    /// Number of the household; empty for an office.
    pub guardian_no: String,
}

/// People whose messages are read one person after the other. Where a search fits more, a page of their messages is
/// among the newest of all.
const RECIPIENTS_MAX: i64 = 2_000;

macro_rules! found {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT m.message_id, m.message_type, m.title, m.subject_no, m.created_at_us, m.read_at_us, m.corrected_at_us,
                m.withdrawn_at_us, a.name, COALESCE(g.guardian_no, '') AS guardian_no FROM ",
            $from,
            " m JOIN account a ON a.account_id = m.account_id LEFT JOIN guardian g ON g.guardian_id = a.guardian_id ",
            $rest,
            " ORDER BY m.message_id DESC LIMIT $5"
        )
    };
}

/// From the newest message back.
const WALK: &str = found!(
    "message",
    "WHERE m.municipality_code = $1 AND m.message_id >= $2 AND m.message_id < $3 AND ($4 = '' OR m.message_type = $4)
        AND (a.name LIKE $6 ESCAPE '\\' OR g.guardian_no LIKE $6 ESCAPE '\\' OR g.name LIKE $6 ESCAPE '\\'
            OR g.name_kana LIKE $6 ESCAPE '\\')"
);

// Materialised: the limit behind it must not tempt the planner into that walk.
macro_rules! of_recipients {
    ($among:literal) => {
        concat!(
            "WITH own AS MATERIALIZED (
                SELECT message_id, account_id, message_type, title, subject_no, created_at_us, read_at_us, corrected_at_us, withdrawn_at_us
                FROM message WHERE account_id ",
            $among,
            " AND message_id >= $2 AND message_id < $3 AND ($4 = '' OR message_type = $4) AND municipality_code = $1) ",
            found!("own", "")
        )
    };
}

const OF_RECIPIENTS_SQLITE: &str = of_recipients!("IN (SELECT value FROM json_each($6))");
const OF_RECIPIENTS_POSTGRES: &str = of_recipients!("= ANY(string_to_array($6, ','))");

macro_rules! unreached {
    ($columns:literal, $household:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM message m JOIN account a ON a.account_id = m.account_id ",
            $household,
            "WHERE m.municipality_code = $1 AND m.message_id >= $2 AND m.class = 'mandatory' AND m.read_at_us IS NULL
                AND m.delivered_at_us IS NULL AND m.withdrawn_at_us IS NULL AND a.role IN ('guardian', 'proxy_guardian')
                AND EXISTS (SELECT 1 FROM delivery d WHERE d.message_id = m.message_id AND d.purpose = 'notification'
                    AND (d.attempts > 0 OR (d.channel = 'paper' AND d.state IN ('failed', 'returned'))))
                AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message_id = m.message_id AND d.purpose = 'notification'
                    AND (d.state IN ('delivered', 'opened', 'posted') OR (d.channel = 'email' AND d.state = 'accepted')))
                AND (m.message_id < $3 OR NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message_id = m.message_id
                    AND d.purpose = 'notification' AND NOT d.doubtful AND d.state IN ('queued', 'held', 'sent', 'accepted', 'printed')))",
            $rest
        )
    };
}

const UNREACHED: &str = unreached!(
    "m.message_id, m.message_type, m.title, m.subject_no, m.created_at_us, m.account_id, a.name,
        COALESCE(g.guardian_no, '') AS guardian_no, COALESCE(g.phone, '') AS phone, COALESCE(g.address, '') AS address",
    "LEFT JOIN guardian g ON g.guardian_id = a.guardian_id ",
    " ORDER BY m.message_id DESC LIMIT $4"
);
const COUNT_UNREACHED: &str = unreached!("COUNT(DISTINCT m.account_id)", "", "");

impl Tx {
    /// Messages that fit a search, newest first.
    pub async fn find_messages(
        &mut self,
        code: &MunicipalityCode,
        search: MessageSearch<'_>,
        n_max: i64,
    ) -> Result<Vec<FoundMessage>, StoreError> {
        let recipients = match search.pattern {
            Some(pattern) => self.recipients_like(code, pattern).await?,
            None => None,
        };
        let until = search.until.id_bound();
        let below = search.before.map(|id| id.to_string()).filter(|id| *id < until).unwrap_or(until);
        let Some(recipients) = recipients else {
            return fetch_all!(
                self,
                FoundMessage,
                WALK,
                self.wall.inside(code),
                search.from.id_bound(),
                below.as_str(),
                search.message_type,
                n_max,
                search.pattern.unwrap_or("%"),
            );
        };
        let sql = if self.is_postgres() { OF_RECIPIENTS_POSTGRES } else { OF_RECIPIENTS_SQLITE };
        let among = self.among(&recipients);
        fetch_all!(
            self,
            FoundMessage,
            sql,
            self.wall.inside(code),
            search.from.id_bound(),
            below.as_str(),
            search.message_type,
            n_max,
            among,
        )
    }

    /// The accounts whose own name or whose household a pattern fits; `None` when they are too many to name.
    async fn recipients_like(
        &mut self,
        code: &MunicipalityCode,
        pattern: &str,
    ) -> Result<Option<Vec<AccountId>>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT account_id FROM account WHERE municipality_code = $1 AND name LIKE $2 ESCAPE '\\'
             UNION
             SELECT a.account_id FROM guardian g JOIN account a ON a.guardian_id = g.guardian_id
             WHERE g.municipality_code = $1 AND (g.guardian_no LIKE $2 ESCAPE '\\' OR g.name LIKE $2 ESCAPE '\\'
                OR g.name_kana LIKE $2 ESCAPE '\\')
             LIMIT $3",
            self.wall.inside(code),
            pattern,
            RECIPIENTS_MAX + 1,
        )?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) > RECIPIENTS_MAX {
            return Ok(None);
        }
        let ids = rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "account id" }));
        ids.collect::<Result<Vec<AccountId>, StoreError>>().map(Some)
    }

    /// The funnel of messages made from `from` until before `until`, by type and channel. A message counts once
    /// per channel, however many devices it went to.
    pub async fn delivery_funnel(
        &mut self,
        code: &MunicipalityCode,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<FunnelRow>, StoreError> {
        let code = self.wall.inside(code).to_owned();
        let mut rows: Vec<FunnelRow> = fetch_all!(
            self,
            FunnelRow,
            "SELECT message_type, channel, COUNT(*) AS created, CAST(SUM(sent) AS BIGINT) AS sent,
                CAST(SUM(accepted) AS BIGINT) AS accepted, CAST(SUM(delivered) AS BIGINT) AS delivered,
                CAST(SUM(opened) AS BIGINT) AS opened, CAST(SUM(failed) AS BIGINT) AS failed,
                CAST(SUM(expired) AS BIGINT) AS expired, CAST(SUM(superseded) AS BIGINT) AS superseded
             FROM (
                SELECT message_type, channel, message_id,
                    MAX(CASE WHEN sent_at_us IS NULL THEN 0 ELSE 1 END) AS sent,
                    MAX(CASE WHEN accepted_at_us IS NULL THEN 0 ELSE 1 END) AS accepted,
                    MAX(CASE WHEN delivered_at_us IS NULL AND opened_at_us IS NULL THEN 0 ELSE 1 END) AS delivered,
                    MAX(CASE WHEN opened_at_us IS NULL THEN 0 ELSE 1 END) AS opened,
                    MIN(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) AS failed,
                    MAX(CASE WHEN state = 'expired' THEN 1 ELSE 0 END) AS expired,
                    MAX(CASE WHEN state = 'superseded' THEN 1 ELSE 0 END) AS superseded
                FROM delivery
                WHERE municipality_code = $1 AND delivery_id >= $2 AND delivery_id < $3 AND purpose = 'notification'
                    AND (escalation IS NULL OR attempts > 0)
                GROUP BY message_type, channel, message_id
             ) AS one GROUP BY message_type, channel",
            &code,
            from.id_bound(),
            until.id_bound(),
        )?;
        let inbox: Vec<FunnelRow> = fetch_all!(
            self,
            FunnelRow,
            "SELECT message_type, 'inbox' AS channel, COUNT(*) AS created, COUNT(*) AS sent, COUNT(*) AS accepted,
                COUNT(delivered_at_us) AS delivered, COUNT(read_at_us) AS opened, CAST(0 AS BIGINT) AS failed,
                CAST(0 AS BIGINT) AS expired, CAST(0 AS BIGINT) AS superseded
             FROM message WHERE municipality_code = $1 AND message_id >= $2 AND message_id < $3 AND in_inbox
                AND message_type <> 'broadcast.test' GROUP BY message_type",
            &code,
            from.id_bound(),
            until.id_bound(),
        )?;
        rows.extend(inbox);
        rows.sort_by(|a, b| (&a.message_type, &a.channel).cmp(&(&b.message_type, &b.channel)));
        Ok(rows)
    }

    /// Mandatory messages to households, made from `from` on, that reached nobody on any channel although
    /// something was sent, or a letter came back or lacks an address: those made before `overdue`, and younger ones for
    /// which nothing is under way any more.
    pub async fn unreached(
        &mut self,
        code: &MunicipalityCode,
        from: Timestamp,
        overdue: Timestamp,
        n_max: i64,
    ) -> Result<Vec<Unreached>, StoreError> {
        fetch_all!(self, Unreached, UNREACHED, self.wall.inside(code), from.id_bound(), overdue.id_bound(), n_max,)
    }

    /// Number of people with a message of [`Self::unreached`].
    pub async fn count_unreached(
        &mut self,
        code: &MunicipalityCode,
        from: Timestamp,
        overdue: Timestamp,
    ) -> Result<i64, StoreError> {
        let (n,): (i64,) =
            fetch_one!(self, (i64,), COUNT_UNREACHED, self.wall.inside(code), from.id_bound(), overdue.id_bound(),)?;
        Ok(n)
    }
}
