//! Messages: one rendered item for one recipient; the inbox is a view of them.

use std::collections::HashSet;

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{AccountId, EventId, MessageId},
};

use crate::{StoreError, Tx, column::OptionalNumber};

/// A message.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Message {
    /// Id, the same on every channel.
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
    /// Category of the settings.
    pub category: String,
    /// `mandatory` or `optional`.
    pub class: String,
    /// What it is about.
    pub subject_kind: String,
    /// What it is about.
    pub subject_id: String,
    /// Number people see.
    pub subject_no: Option<String>,
    /// Full text: inbox and signed-in sockets only.
    pub title: String,
    /// Full text: inbox and signed-in sockets only.
    pub body: String,
    /// Screen it leads to.
    pub link: String,
    /// Shown in the inbox.
    pub in_inbox: bool,
    /// Event that caused it.
    #[sqlx(try_from = "String")]
    pub cause_event_id: EventId,
    /// A second message with this key is not created.
    pub dedupe_key: String,
    /// Locale of its text.
    pub locale: String,
    /// Version of the text.
    pub template_version: i64,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// When a client acknowledged its receipt.
    #[sqlx(rename = "delivered_at_us", try_from = "OptionalNumber")]
    pub delivered_at: Option<Timestamp>,
    /// When it was opened.
    #[sqlx(rename = "read_at_us", try_from = "OptionalNumber")]
    pub read_at: Option<Timestamp>,
}

macro_rules! select_message {
    ($rest:literal) => {
        concat!(
            "SELECT message_id, municipality_code, account_id, message_type, category, class, subject_kind, subject_id, ",
            "subject_no, title, body, link, in_inbox, cause_event_id, dedupe_key, locale, template_version, created_at_us, delivered_at_us, read_at_us ",
            "FROM message ",
            $rest
        )
    };
}

/// What an operator did about a message that is out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Amendments {
    /// When its words were replaced.
    #[sqlx(rename = "corrected_at_us", try_from = "OptionalNumber")]
    pub corrected_at: Option<Timestamp>,
    /// When it was taken back.
    #[sqlx(rename = "withdrawn_at_us", try_from = "OptionalNumber")]
    pub withdrawn_at: Option<Timestamp>,
}

/// A first step of a message by its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageStep {
    /// A client has it.
    Delivered,
    /// A client shows it.
    Displayed,
    /// It was opened.
    Read,
    /// A dashboard row was ticked off.
    Acknowledged,
}

impl Tx {
    /// Adds messages and gives the ids of those that are new: one with a key that exists is left out.
    pub async fn insert_messages(&mut self, rows: &[Message]) -> Result<HashSet<MessageId>, StoreError> {
        let created: Vec<(String,)> = insert_many_returning!(
            self,
            (String,),
            "INSERT INTO message (message_id, municipality_code, account_id, message_type, category, class, subject_kind, subject_id,
                subject_no, title, body, link, in_inbox, cause_event_id, dedupe_key, created_at_us, locale, template_version) ",
            rows,
            " ON CONFLICT (dedupe_key) DO NOTHING RETURNING message_id",
            |row| row.message_id.to_string(),
            row.municipality_code.as_str(),
            row.account_id.to_string(),
            &row.message_type,
            &row.category,
            &row.class,
            &row.subject_kind,
            &row.subject_id,
            row.subject_no.as_deref(),
            &row.title,
            &row.body,
            &row.link,
            row.in_inbox,
            row.cause_event_id.to_string(),
            &row.dedupe_key,
            row.created_at.as_micros(),
            &row.locale,
            row.template_version,
        )?;
        created.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "message id" })).collect()
    }

    /// One message of a recipient.
    pub async fn message(&mut self, account: AccountId, id: MessageId) -> Result<Option<Message>, StoreError> {
        let row = fetch_optional!(
            self,
            Message,
            select_message!("WHERE message_id = $1 AND account_id = $2"),
            id.to_string(),
            account.to_string(),
        )?;
        Ok(self.see(row))
    }

    /// One message, whoever it is for.
    pub async fn message_by_id(&mut self, id: MessageId) -> Result<Option<Message>, StoreError> {
        let row = fetch_optional!(self, Message, select_message!("WHERE message_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// What was done about a message that is out; nothing about one that is not there.
    pub async fn amendments(&mut self, id: MessageId) -> Result<Amendments, StoreError> {
        let row = fetch_optional!(
            self,
            Amendments,
            "SELECT corrected_at_us, withdrawn_at_us FROM message WHERE message_id = $1 AND ($2 = '' OR municipality_code = $2)",
            id.to_string(),
            self.wall.code(),
        )?;
        Ok(row.unwrap_or_default())
    }

    /// Replaces the words of a message; it counts as unread again.
    pub async fn correct_message(
        &mut self,
        id: MessageId,
        title: &str,
        body: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE message SET title = $2, body = $3, corrected_at_us = $4, read_at_us = NULL
             WHERE message_id = $1 AND ($5 = '' OR municipality_code = $5)",
            id.to_string(),
            title,
            body,
            now.as_micros(),
            self.wall.code(),
        )?;
        Ok(())
    }

    /// Takes a message out of the inbox; `false` when that was done before.
    pub async fn withdraw_message(&mut self, id: MessageId, now: Timestamp) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE message SET in_inbox = FALSE, withdrawn_at_us = $2
             WHERE message_id = $1 AND withdrawn_at_us IS NULL AND ($3 = '' OR municipality_code = $3)",
            id.to_string(),
            now.as_micros(),
            self.wall.code(),
        )?;
        Ok(n > 0)
    }

    /// Who has opened or ticked off a message of this type that an event caused.
    pub async fn lookers(&mut self, cause: EventId, message_type: &str) -> Result<Vec<AccountId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT account_id FROM message WHERE cause_event_id = $1 AND message_type = $2
             AND (read_at_us IS NOT NULL OR acknowledged_at_us IS NOT NULL) AND ($3 = '' OR municipality_code = $3)",
            cause.to_string(),
            message_type,
            self.wall.code(),
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "account id" })).collect()
    }

    /// Unread messages of several people; those without any are left out.
    pub async fn unread_among(&mut self, accounts: &[AccountId]) -> Result<Vec<(AccountId, i64)>, StoreError> {
        let sql = if self.is_postgres() {
            "SELECT account_id, COUNT(*) FROM message WHERE account_id = ANY(string_to_array($1, ',')) AND in_inbox
             AND read_at_us IS NULL AND ($2 = '' OR municipality_code = $2) GROUP BY account_id"
        } else {
            "SELECT account_id, COUNT(*) FROM message WHERE account_id IN (SELECT value FROM json_each($1)) AND in_inbox
             AND read_at_us IS NULL AND ($2 = '' OR municipality_code = $2) GROUP BY account_id"
        };
        let among = self.among(accounts);
        let rows: Vec<(String, i64)> = fetch_all!(self, (String, i64), sql, among, self.wall.code())?;
        rows.into_iter()
            .map(|(id, n)| id.parse().map(|id| (id, n)).map_err(|_| StoreError::Corrupt { what: "account id" }))
            .collect()
    }

    /// The message that holds a dedupe key.
    pub async fn message_of_key(&mut self, dedupe_key: &str) -> Result<Option<MessageId>, StoreError> {
        let row: Option<(String,)> = fetch_optional!(
            self,
            (String,),
            "SELECT message_id FROM message WHERE dedupe_key = $1 AND ($2 = '' OR municipality_code = $2)",
            dedupe_key,
            self.wall.code(),
        )?;
        row.map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "message id" })).transpose()
    }

    /// Messages one event caused for one person, in the order they were made. What it caused for everybody may be a
    /// whole city's inboxes.
    pub async fn messages_of_cause(&mut self, cause: EventId, account: AccountId) -> Result<Vec<Message>, StoreError> {
        let rows = fetch_all!(
            self,
            Message,
            select_message!("WHERE cause_event_id = $1 AND account_id = $2 ORDER BY message_id"),
            cause.to_string(),
            account.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Messages that an event caused to accounts above `after` and that nobody has taken back, by account.
    pub async fn standing_messages_of_cause(
        &mut self,
        cause: EventId,
        after: &str,
        n_max: i64,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = fetch_all!(
            self,
            Message,
            select_message!(
                "WHERE cause_event_id = $1 AND account_id > $2 AND withdrawn_at_us IS NULL ORDER BY account_id LIMIT $3"
            ),
            cause.to_string(),
            after,
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// A page of the inbox, newest first, before the message `before`.
    pub async fn inbox(
        &mut self,
        account: AccountId,
        unread_only: bool,
        before: Option<MessageId>,
        n_max: i64,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = fetch_all!(
            self,
            Message,
            select_message!(
                "WHERE account_id = $1 AND in_inbox AND message_id < $2 AND (read_at_us IS NULL OR NOT $3) ORDER BY message_id DESC LIMIT $4"
            ),
            account.to_string(),
            before.map_or_else(|| "~".to_owned(), |id| id.to_string()),
            unread_only,
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Number of unread messages in the inbox.
    pub async fn unread(&mut self, account: AccountId) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM message WHERE account_id = $1 AND in_inbox AND read_at_us IS NULL",
            account.to_string(),
        )?;
        Ok(n)
    }

    /// Notes a step; `false` when it was noted before or the message is somebody else's.
    pub async fn note_step(
        &mut self,
        account: AccountId,
        id: MessageId,
        step: MessageStep,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = match step {
            MessageStep::Delivered => {
                "UPDATE message SET delivered_at_us = $3 WHERE message_id = $1 AND account_id = $2 AND delivered_at_us IS NULL"
            }
            MessageStep::Displayed => {
                "UPDATE message SET displayed_at_us = $3 WHERE message_id = $1 AND account_id = $2 AND displayed_at_us IS NULL"
            }
            MessageStep::Read => {
                "UPDATE message SET read_at_us = $3 WHERE message_id = $1 AND account_id = $2 AND read_at_us IS NULL"
            }
            MessageStep::Acknowledged => {
                "UPDATE message SET acknowledged_at_us = $3 WHERE message_id = $1 AND account_id = $2 AND acknowledged_at_us IS NULL"
            }
        };
        let n = execute!(self, sql, id.to_string(), account.to_string(), now.as_micros())?;
        Ok(n > 0)
    }

    /// Marks everything unread read and gives the ids.
    pub async fn read_all(&mut self, account: AccountId, now: Timestamp) -> Result<Vec<MessageId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "UPDATE message SET read_at_us = $2 WHERE account_id = $1 AND in_inbox AND read_at_us IS NULL RETURNING message_id",
            account.to_string(),
            now.as_micros(),
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "message id" })).collect()
    }
}
