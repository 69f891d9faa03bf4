//! Notices of a municipality (お知らせ).

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{AccountId, EventId, NoticeId},
};

use crate::{
    StoreError, Tx,
    column::{DateText, OptionalNumber},
};

/// A notice.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Notice {
    /// Id.
    #[sqlx(try_from = "String")]
    pub notice_id: NoticeId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Heading.
    pub title: String,
    /// Text.
    pub body: String,
    /// `all`, `guardians` or `facilities`.
    pub audience: String,
    /// First day.
    #[sqlx(try_from = "DateText")]
    pub valid_from: Date,
    /// Last day.
    #[sqlx(try_from = "DateText")]
    pub valid_to: Date,
    /// Push was asked for.
    pub push: bool,
    /// The event of its publication, which its messages name as their cause.
    #[sqlx(try_from = "String")]
    pub event_id: EventId,
    /// Accounts up to this one have been told.
    pub told_after: String,
    /// Everybody has been told.
    pub told: bool,
    /// When it was published.
    #[sqlx(rename = "published_at_us", try_from = "i64")]
    pub published_at: Timestamp,
    /// When it was taken back.
    #[sqlx(rename = "withdrawn_at_us", try_from = "OptionalNumber")]
    pub withdrawn_at: Option<Timestamp>,
    /// Accounts up to this one have had its messages taken back; `None` when none is left to be.
    pub taken_after: Option<String>,
}

macro_rules! select_notice {
    ($rest:literal) => {
        concat!(
            "SELECT notice_id, municipality_code, title, body, audience, valid_from, valid_to, push, event_id, told_after, told, ",
            "published_at_us, withdrawn_at_us, taken_after FROM notice ", $rest
        )
    };
}

impl Tx {
    /// Adds a notice.
    pub async fn insert_notice(&mut self, row: &Notice) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO notice (notice_id, municipality_code, title, body, audience, valid_from, valid_to, push, event_id, told_after, told, published_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            row.notice_id.to_string(), row.municipality_code.as_str(), &row.title, &row.body, &row.audience,
            row.valid_from.to_string(), row.valid_to.to_string(), row.push, row.event_id.to_string(), &row.told_after, row.told,
            row.published_at.as_micros(),
        )?;
        Ok(())
    }

    /// One notice.
    pub async fn notice(&mut self, id: NoticeId) -> Result<Option<Notice>, StoreError> {
        let row = fetch_optional!(self, Notice, select_notice!("WHERE notice_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Locks a notice for the rest of the transaction and reads it.
    pub async fn lock_notice(&mut self, id: NoticeId) -> Result<Option<Notice>, StoreError> {
        execute!(self, "UPDATE notice SET told = told WHERE notice_id = $1", id.to_string())?;
        self.notice(id).await
    }

    /// Takes a notice back, and notes that its messages are to be; `false` when that was done before.
    pub async fn withdraw_notice(&mut self, id: NoticeId, now: Timestamp) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE notice SET withdrawn_at_us = $2, taken_after = '' WHERE notice_id = $1 AND withdrawn_at_us IS NULL",
            id.to_string(),
            now.as_micros(),
        )?;
        Ok(n > 0)
    }

    /// Every notice of a municipality, newest first.
    pub async fn notices(&mut self, code: &MunicipalityCode, n_max: i64) -> Result<Vec<Notice>, StoreError> {
        let rows = fetch_all!(
            self,
            Notice,
            select_notice!("WHERE municipality_code = $1 ORDER BY published_at_us DESC, notice_id DESC LIMIT $2"),
            code.as_str(),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Notices that stand on `today`, newest first.
    pub async fn current_notices(&mut self, code: &MunicipalityCode, today: Date) -> Result<Vec<Notice>, StoreError> {
        let rows = fetch_all!(
            self,
            Notice,
            select_notice!(
                "WHERE municipality_code = $1 AND valid_from <= $2 AND valid_to >= $2 AND withdrawn_at_us IS NULL
                 ORDER BY valid_from DESC, published_at_us DESC, notice_id DESC"
            ),
            code.as_str(),
            today.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Notices that stand on `today` and that not everybody has been told of.
    pub async fn untold_notices(&mut self, code: &MunicipalityCode, today: Date) -> Result<Vec<NoticeId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT notice_id FROM notice WHERE municipality_code = $1 AND valid_from <= $2 AND valid_to >= $2
             AND NOT told AND withdrawn_at_us IS NULL ORDER BY notice_id",
            self.wall.inside(code),
            today.to_string(),
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "notice id" })).collect()
    }

    /// Notes how far the telling has come.
    pub async fn note_told(&mut self, id: NoticeId, told_after: &str, told: bool) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE notice SET told_after = $2, told = $3 WHERE notice_id = $1",
            id.to_string(),
            told_after,
            told
        )?;
        Ok(())
    }

    /// Withdrawn notices of which messages are to be taken back.
    pub async fn notices_to_take_back(&mut self, code: &MunicipalityCode) -> Result<Vec<NoticeId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT notice_id FROM notice WHERE municipality_code = $1 AND taken_after IS NOT NULL ORDER BY notice_id",
            self.wall.inside(code),
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "notice id" })).collect()
    }

    /// Notes how far the taking back has come; `None` when it is done.
    pub async fn note_taken_back(&mut self, id: NoticeId, taken_after: Option<&str>) -> Result<(), StoreError> {
        execute!(self, "UPDATE notice SET taken_after = $2 WHERE notice_id = $1", id.to_string(), taken_after)?;
        Ok(())
    }

    /// Living accounts of a notice's audience above `after`: people with a sign-in, of households, of
    /// facilities, or (for everybody) of every role.
    pub async fn notice_readers(
        &mut self,
        code: &MunicipalityCode,
        audience: &str,
        after: &str,
        n_max: i64,
    ) -> Result<Vec<AccountId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT account_id FROM account WHERE municipality_code = $1 AND account_id > $3 AND email IS NOT NULL
             AND state IN ('active', 'locked')
             AND ($2 = 'all' OR ($2 = 'guardians' AND role IN ('guardian', 'proxy_guardian'))
                  OR ($2 = 'facilities' AND role IN ('facility_manager', 'facility_staff')))
             ORDER BY account_id LIMIT $4",
            self.wall.inside(code),
            audience,
            after,
            n_max,
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "account id" })).collect()
    }
}
