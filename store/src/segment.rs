//! Saved segments, and who belongs to one.

mod condition;

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    ids::{AccountId, EventId, GuardianId, SegmentId},
    segment::{People, Segment},
};

use self::condition::{Bind, Conditions};
use crate::{
    Inner, StoreError, Tx,
    child::child_lives_here,
    column::{DateText, OptionalText},
};

/// A segment saved by name.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SavedSegment {
    /// Id.
    #[sqlx(try_from = "String")]
    pub segment_id: SegmentId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// What people call it; unique in the municipality.
    pub name: String,
    /// JSON of [`Segment`].
    pub definition: String,
    /// Who made it; `None` for batches.
    #[sqlx(try_from = "OptionalText")]
    pub author_id: Option<AccountId>,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[sqlx(rename = "changed_at_us", try_from = "i64")]
    pub changed_at: Timestamp,
}

impl SavedSegment {
    /// The definition.
    pub fn segment(&self) -> Result<Segment, StoreError> {
        serde_json::from_str(&self.definition).map_err(|_| StoreError::Corrupt { what: "segment" })
    }
}

/// A person of a segment, with what decides how they are reached.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Member {
    /// Who.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Household.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// Guardian or proxy.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Address.
    pub email: String,
    /// Pseudonym.
    pub person_key: Option<i64>,
    /// Ward of the household.
    pub ward_code: String,
    /// `app`, `paper` or `both`.
    pub contact_channel: String,
    /// What the person set for broadcasts by push, if anything.
    pub push_set: Option<bool>,
    /// What the person set for broadcasts by mail, if anything.
    pub email_set: Option<bool>,
    /// Broadcasts of the ordinary kind the person got since the instant that was asked for, each once however often it
    /// was sent again.
    pub n_since: i64,
}

/// Whom to select.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    /// The people of a segment, as of an instant.
    Of(&'a Segment, Timestamp),
    /// The people who have a message of this cause and have read none of them.
    Unread(EventId),
}

/// Number of people of a segment, and of those who can be reached outside the app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct MemberReach {
    /// All of them: everybody has an inbox.
    pub n: i64,
    /// Who has a device that shows push and is not reached on paper alone.
    pub n_device: i64,
    /// Who of these has not switched broadcasts by push off.
    pub n_push: i64,
    /// Who is not reached on paper alone: they have an address.
    pub n_address: i64,
    /// Who of these has switched broadcasts by mail on.
    pub n_email: i64,
}

/// One household of a sample, without anything that names it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SampleRow {
    /// Number people see.
    pub guardian_no: String,
    /// Guardian or proxy.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Household.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// Ward of the household.
    pub ward_code: String,
}

macro_rules! select_segment {
    ($rest:literal) => {
        concat!(
            "SELECT segment_id, municipality_code, name, definition, author_id, created_at_us, changed_at_us FROM segment ",
            $rest
        )
    };
}

/// Columns of a [`Member`] except the last; `a` is the account and `g` the household.
macro_rules! member_columns {
    () => {
        "a.account_id, a.role, a.email, a.person_key, g.guardian_id, g.ward_code, g.contact_channel,
 (SELECT p.enabled FROM preference p WHERE p.account_id = a.account_id AND p.category = 'broadcast' AND p.channel = 'push') AS push_set,
 (SELECT p.enabled FROM preference p WHERE p.account_id = a.account_id AND p.category = 'broadcast' AND p.channel = 'email') AS email_set"
    };
}
pub(crate) use member_columns;

const MEMBER: &str = concat!(
    "SELECT ",
    member_columns!(),
    ", (SELECT COUNT(DISTINCT m.cause_event_id) FROM message m WHERE m.account_id = a.account_id AND m.in_inbox = TRUE AND m.created_at_us >= $4
     AND m.message_type = 'broadcast.segment') AS n_since"
);

macro_rules! has_device {
    () => {
        "g.contact_channel <> 'paper' AND EXISTS (SELECT 1 FROM device d WHERE d.account_id = a.account_id
  AND d.removed_at_us IS NULL AND d.permission = 'granted')"
    };
}

const REACH: &str = concat!(
    "SELECT COUNT(*) AS n, COUNT(CASE WHEN ",
    has_device!(),
    " THEN 1 END) AS n_device, COUNT(CASE WHEN ",
    has_device!(),
    " AND NOT EXISTS (SELECT 1 FROM preference p WHERE p.account_id = a.account_id
  AND p.category = 'broadcast' AND p.channel = 'push' AND NOT p.enabled) THEN 1 END) AS n_push,
 COUNT(CASE WHEN g.contact_channel <> 'paper' THEN 1 END) AS n_address,
 COUNT(CASE WHEN g.contact_channel <> 'paper' AND EXISTS (SELECT 1 FROM preference p WHERE p.account_id = a.account_id
  AND p.category = 'broadcast' AND p.channel = 'email' AND p.enabled) THEN 1 END) AS n_email"
);

// The role goes through an expression so that the page is read along the index by place, which is in the
// order of the cursor, and not along the one by role, which would have to be sorted for every page.
const LIVING: &str = " FROM account a JOIN guardian g ON g.guardian_id = a.guardian_id
 WHERE a.municipality_code = $1 AND a.state IN ('active', 'locked') AND a.email IS NOT NULL";

fn people(segment: &Segment) -> &'static str {
    match segment.people() {
        People::Guardians => " AND (a.role || '') = 'guardian'",
        People::Households => " AND (a.role || '') IN ('guardian', 'proxy_guardian')",
    }
}

/// Runs a statement whose conditions were put together.
macro_rules! fetch_built {
    ($tx:expr, $row:ty, $sql:expr, [$($fixed:expr),* $(,)?], $binds:expr) => {{
        let sql = sqlx::AssertSqlSafe($sql);
        $tx.send_later().await?;
        match &mut $tx.inner {
            Inner::Sqlite(tx) => {
                let query = sqlx::query_as::<_, $row>(sql)$(.bind($fixed))*;
                let query = $binds.into_iter().fold(query, |query, bind| match bind {
                    Bind::Text(text) => query.bind(text),
                    Bind::Number(number) => query.bind(number),
                });
                query.fetch_all(&mut **tx).await
            }
            Inner::Postgres(tx) => {
                let query = sqlx::query_as::<_, $row>(sql)$(.bind($fixed))*;
                let query = $binds.into_iter().fold(query, |query, bind| match bind {
                    Bind::Text(text) => query.bind(text),
                    Bind::Number(number) => query.bind(number),
                });
                query.fetch_all(&mut **tx).await
            }
        }
        .map_err(StoreError::from)
    }};
}

impl Tx {
    /// Up to `n_max` people with a sign-in after the account `after` (text of its id, empty for the first), in
    /// the order of account ids. `since` is the instant from which [`Member::n_since`] counts.
    pub async fn members(
        &mut self,
        code: &MunicipalityCode,
        who: Who<'_>,
        after: &str,
        n_max: i64,
        since: Timestamp,
    ) -> Result<Vec<Member>, StoreError> {
        let mut conditions = Conditions::after(4);
        let mut sql = format!("{MEMBER}{LIVING} AND a.account_id > $2");
        match who {
            Who::Of(segment, now) => {
                sql.push_str(people(segment));
                sql.push_str(" AND ");
                conditions.write(&mut sql, segment.when(), now);
            }
            Who::Unread(cause) => {
                sql.push_str(people(&Segment::everybody()));
                conditions.write_unread(&mut sql, cause);
            }
        }
        sql.push_str(" ORDER BY a.account_id LIMIT $3");
        let code = self.wall.inside(code);
        fetch_built!(self, Member, sql, [code, after, n_max, since.as_micros()], conditions.binds)
    }

    /// Number of people of a segment.
    pub async fn count_members(
        &mut self,
        code: &MunicipalityCode,
        segment: &Segment,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let mut conditions = Conditions::after(1);
        let mut sql = format!("SELECT COUNT(*){LIVING}{} AND ", people(segment));
        conditions.write(&mut sql, segment.when(), now);
        let code = self.wall.inside(code);
        let rows: Vec<(i64,)> = fetch_built!(self, (i64,), sql, [code], conditions.binds)?;
        Ok(rows.first().map_or(0, |(n,)| *n))
    }

    /// Number of people of a segment and how they can be reached.
    pub async fn reach_of_members(
        &mut self,
        code: &MunicipalityCode,
        segment: &Segment,
        now: Timestamp,
    ) -> Result<MemberReach, StoreError> {
        let mut conditions = Conditions::after(1);
        let mut sql = format!("{REACH}{LIVING}{} AND ", people(segment));
        conditions.write(&mut sql, segment.when(), now);
        let code = self.wall.inside(code);
        let rows: Vec<MemberReach> = fetch_built!(self, MemberReach, sql, [code], conditions.binds)?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// Some people of a segment, the newest households first.
    pub async fn sample_members(
        &mut self,
        code: &MunicipalityCode,
        segment: &Segment,
        n_max: i64,
        now: Timestamp,
    ) -> Result<Vec<SampleRow>, StoreError> {
        let mut conditions = Conditions::after(2);
        let mut sql =
            format!("SELECT g.guardian_no, a.role, g.guardian_id, g.ward_code{LIVING}{} AND ", people(segment));
        conditions.write(&mut sql, segment.when(), now);
        sql.push_str(" ORDER BY a.account_id DESC LIMIT $2");
        let code = self.wall.inside(code);
        fetch_built!(self, SampleRow, sql, [code, n_max], conditions.binds)
    }

    /// Birth dates of the children of a household that live here on `today`.
    pub async fn birth_dates_of(&mut self, guardian: GuardianId, today: Date) -> Result<Vec<Date>, StoreError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            #[sqlx(try_from = "DateText")]
            birth_date: Date,
        }
        let rows: Vec<Row> = fetch_all!(
            self,
            Row,
            concat!(
                "SELECT birth_date FROM child c WHERE guardian_id = $1 AND (municipality_code = $2 OR $2 = '') AND ",
                child_lives_here!("c", "$3"),
                " ORDER BY birth_date"
            ),
            guardian.to_string(),
            self.wall.code(),
            today.to_string(),
        )?;
        Ok(rows.into_iter().map(|row| row.birth_date).collect())
    }

    /// Adds a segment. Errors: [`StoreError::Conflict`] when the name is taken.
    pub async fn insert_segment(&mut self, row: &SavedSegment) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO segment (segment_id, municipality_code, name, definition, author_id, created_at_us, changed_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            row.segment_id.to_string(), row.municipality_code.as_str(), &row.name, &row.definition,
            row.author_id.map(|id| id.to_string()), row.created_at.as_micros(), row.changed_at.as_micros(),
        )?;
        Ok(())
    }

    /// Changes name and definition. Errors: [`StoreError::Conflict`] when the name is taken.
    pub async fn update_segment(&mut self, row: &SavedSegment) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE segment SET name = $2, definition = $3, changed_at_us = $4 WHERE segment_id = $1 AND municipality_code = $5",
            row.segment_id.to_string(),
            &row.name,
            &row.definition,
            row.changed_at.as_micros(),
            row.municipality_code.as_str(),
        )?;
        Ok(())
    }

    /// Deletes a segment; broadcasts and surveys have copies of what they need.
    pub async fn delete_segment(&mut self, id: SegmentId) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "DELETE FROM segment WHERE segment_id = $1 AND (municipality_code = $2 OR $2 = '')",
            id.to_string(),
            self.wall.code(),
        )?;
        Ok(n > 0)
    }

    /// One segment.
    pub async fn segment(&mut self, id: SegmentId) -> Result<Option<SavedSegment>, StoreError> {
        let row = fetch_optional!(self, SavedSegment, select_segment!("WHERE segment_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Every segment of a municipality, by name.
    pub async fn segments(&mut self, code: &MunicipalityCode) -> Result<Vec<SavedSegment>, StoreError> {
        let rows = fetch_all!(
            self,
            SavedSegment,
            select_segment!("WHERE municipality_code = $1 ORDER BY name, segment_id"),
            code.as_str(),
        )?;
        Ok(self.see_all(rows))
    }
}
