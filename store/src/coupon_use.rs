//! Payments by coupon.

use todoke_domain::{
    MunicipalityCode, Timestamp, Yen,
    ids::{ApplicationId, ChildId, CouponId, CouponSetId, FacilityId, GuardianId, ReversalId, UseId},
};

use crate::{
    StoreError, Tx,
    column::{OptionalNumber, OptionalText},
};

/// A payment.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct CouponUse {
    /// Id.
    #[sqlx(try_from = "String")]
    pub use_id: UseId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Number people see.
    pub use_no: String,
    /// Paid from.
    #[sqlx(try_from = "String")]
    pub coupon_id: CouponId,
    /// For whom.
    #[sqlx(try_from = "String")]
    pub child_id: ChildId,
    /// Household.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// Where.
    #[sqlx(try_from = "String")]
    pub facility_id: FacilityId,
    /// For what.
    pub programme_code: String,
    /// `service` or `cancellation_fee`.
    pub purpose: String,
    /// How much.
    #[sqlx(try_from = "i64")]
    pub amount_yen: Yen,
    /// Full price, where known.
    #[sqlx(try_from = "OptionalNumber")]
    pub fee_total_yen: Option<Yen>,
    /// The application it settles.
    #[sqlx(try_from = "OptionalText")]
    pub application_id: Option<ApplicationId>,
    /// `settled` or `reversed`.
    pub state: String,
    /// `guardian` or `facility`.
    pub initiated_by: String,
    /// Paid with a printed child QR.
    pub device_less: bool,
    /// Lots, as [`crate::coupon::parse_lines`] reads them.
    pub lines: String,
    /// Balance after it.
    #[sqlx(try_from = "i64")]
    pub balance_after_yen: Yen,
    /// Number of its ledger entry.
    pub ledger_seq: i64,
    /// When.
    #[sqlx(rename = "used_at_us", try_from = "i64")]
    pub used_at: Timestamp,
    /// When it was undone.
    #[sqlx(rename = "reversed_at_us", try_from = "OptionalNumber")]
    pub reversed_at: Option<Timestamp>,
    /// Why it was undone.
    pub reverse_reason: Option<String>,
}

macro_rules! select_use {
    ($rest:literal) => {
        concat!(
            "SELECT use_id, municipality_code, use_no, coupon_id, child_id, guardian_id, facility_id, programme_code, purpose, ",
            "amount_yen, fee_total_yen, application_id, state, initiated_by, device_less, lines, balance_after_yen, ",
            "ledger_seq, used_at_us, reversed_at_us, reverse_reason FROM coupon_use ", $rest
        )
    };
}

/// The uses of a child, by way of its households: a use is of the one that its coupon is of. Every payment would have to
/// write an index by child.
const OF_CHILD: &str = select_use!(
    "WHERE guardian_id IN (SELECT guardian_id FROM coupon WHERE child_id = $1) AND child_id = $1
     AND used_at_us >= $2 AND used_at_us < $3 AND use_id < $4 ORDER BY use_id DESC LIMIT $5"
);

/// Whose uses to list.
#[derive(Debug, Clone, Copy)]
pub enum UsesOf {
    /// A household's.
    Guardian(GuardianId),
    /// A facility's.
    Facility(FacilityId),
    /// A child's.
    Child(ChildId),
}

/// A payment as the guards of C5 ask about it.
#[derive(Debug, Clone)]
pub struct UseQuestion<'a> {
    /// Whose coupon.
    pub child: ChildId,
    /// Where.
    pub facility: FacilityId,
    /// For which programme.
    pub programme_code: &'a str,
    /// How much.
    pub amount: Yen,
    /// Code of the purpose.
    pub purpose: &'a str,
    /// The use application it settles; without one the same amount after `since` counts as the same payment (MR2).
    pub application: Option<ApplicationId>,
    /// See `application`; none where the payer says that it is another payment.
    pub since: Option<Timestamp>,
}

/// What the record says to a payment, beside the coupon itself.
#[derive(Debug, Clone)]
pub struct UseTerms {
    /// Programmes the coupon set pays for.
    pub programmes: Vec<String>,
    /// Whether the facility gives the programme.
    pub given_there: bool,
    /// Whether it looks like a payment that is settled already.
    pub paid_before: bool,
}

impl Tx {
    /// Adds a payment. Errors, here or at the commit: [`StoreError::Conflict`] when a settled one for the same
    /// application exists.
    pub async fn insert_use(&mut self, row: &CouponUse) -> Result<(), StoreError> {
        execute_later!(
            self,
            "INSERT INTO coupon_use (use_id, municipality_code, use_no, coupon_id, child_id, guardian_id, facility_id, programme_code,
                purpose, amount_yen, fee_total_yen, application_id, state, initiated_by, device_less, lines, balance_after_yen,
                ledger_seq, used_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            row.use_id.to_string(), row.municipality_code.as_str(), &row.use_no, row.coupon_id.to_string(),
            row.child_id.to_string(), row.guardian_id.to_string(), row.facility_id.to_string(), &row.programme_code,
            &row.purpose, row.amount_yen.get(), row.fee_total_yen.map(Yen::get),
            row.application_id.map(|id| id.to_string()), &row.state, &row.initiated_by, row.device_less, &row.lines,
            row.balance_after_yen.get(), row.ledger_seq, row.used_at.as_micros(),
        )
    }

    /// One payment.
    pub async fn coupon_use(&mut self, id: UseId) -> Result<Option<CouponUse>, StoreError> {
        let row = fetch_optional!(self, CouponUse, select_use!("WHERE use_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// What a coupon set, a facility and earlier uses say to a payment; `None` when the set does not exist.
    ///
    /// One statement, to be asked after the coupon is locked: what another payment booked a moment ago counts.
    pub async fn use_terms(
        &mut self,
        set: CouponSetId,
        asked: &UseQuestion<'_>,
    ) -> Result<Option<UseTerms>, StoreError> {
        let row: Option<(String, bool, bool)> = fetch_optional!(
            self,
            (String, bool, bool),
            "SELECT s.programmes,
                EXISTS (SELECT 1 FROM facility_programme p WHERE p.facility_id = $3 AND p.programme_code = $4),
                ($8 = '' AND EXISTS (SELECT 1 FROM coupon_use u WHERE u.facility_id = $3 AND u.used_at_us > $7
                    AND u.child_id = $5 AND u.amount_yen = $6 AND u.state = 'settled' AND u.application_id IS NULL))
                OR ($8 <> '' AND EXISTS (SELECT 1 FROM coupon_use u WHERE u.child_id = $5 AND u.facility_id = $3
                    AND u.application_id = $8 AND u.purpose = $9 AND u.state = 'settled'))
             FROM coupon_set s WHERE s.coupon_set_id = $1 AND ($2 = '' OR s.municipality_code = $2)",
            set.to_string(),
            self.wall.code(),
            asked.facility.to_string(),
            asked.programme_code,
            asked.child.to_string(),
            asked.amount.get(),
            asked.since.map_or(i64::MAX, Timestamp::as_micros),
            asked.application.map(|id| id.to_string()).unwrap_or_default(),
            asked.purpose,
        )?;
        let Some((programmes, given_there, paid_before)) = row else { return Ok(None) };
        let programmes = serde_json::from_str(&programmes).map_err(|_| StoreError::Corrupt { what: "coupon set" })?;
        Ok(Some(UseTerms { programmes, given_there, paid_before }))
    }

    /// Marks a payment undone.
    pub async fn reverse_use(
        &mut self,
        id: UseId,
        reversal: ReversalId,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE coupon_use SET state = 'reversed', reversal_id = $2, reversed_at_us = $3, reverse_reason = $4 WHERE use_id = $1",
            id.to_string(),
            reversal.to_string(),
            now.as_micros(),
            reason,
        )?;
        Ok(())
    }

    /// Payments in a half-open period, newest first, before the payment `before` (a page's last id).
    pub async fn uses(
        &mut self,
        of: UsesOf,
        from: Timestamp,
        to: Timestamp,
        before: Option<UseId>,
        n_max: i64,
    ) -> Result<Vec<CouponUse>, StoreError> {
        let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
        let (from, to) = (from.as_micros(), to.as_micros());
        let rows = match of {
            UsesOf::Guardian(id) => fetch_all!(
                self,
                CouponUse,
                select_use!(
                    "WHERE guardian_id = $1 AND used_at_us >= $2 AND used_at_us < $3 AND use_id < $4 ORDER BY use_id DESC LIMIT $5"
                ),
                id.to_string(),
                from,
                to,
                before,
                n_max,
            ),
            UsesOf::Facility(id) => fetch_all!(
                self,
                CouponUse,
                select_use!(
                    "WHERE facility_id = $1 AND used_at_us >= $2 AND used_at_us < $3 AND use_id < $4 ORDER BY use_id DESC LIMIT $5"
                ),
                id.to_string(),
                from,
                to,
                before,
                n_max,
            ),
            UsesOf::Child(id) => fetch_all!(self, CouponUse, OF_CHILD, id.to_string(), from, to, before, n_max,),
        }?;
        Ok(self.see_all(rows))
    }

    /// Number and sum of settled payments of a municipality in a half-open period.
    pub async fn use_totals(
        &mut self,
        code: &MunicipalityCode,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(i64, i64), StoreError> {
        fetch_one!(
            self,
            (i64, i64),
            "SELECT COUNT(*), CAST(COALESCE(SUM(amount_yen), 0) AS BIGINT) FROM coupon_use
             WHERE municipality_code = $1 AND used_at_us >= $2 AND used_at_us < $3 AND state = 'settled'",
            self.wall.inside(code),
            from.as_micros(),
            to.as_micros(),
        )
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

    use super::OF_CHILD;

    #[tokio::test]
    async fn the_uses_of_a_child_are_found_without_reading_those_of_all_others() {
        let mut record = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!("migrations/sqlite").run(&mut record).await.unwrap();
        let plan = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {OF_CHILD}"));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(plan)
            .bind("child")
            .bind(0_i64)
            .bind(1_i64)
            .bind("~")
            .bind(10_i64)
            .fetch_all(&mut record)
            .await
            .unwrap();
        let by_household = "SEARCH coupon_use USING INDEX coupon_use_by_guardian (guardian_id=?";
        assert!(plan.iter().any(|(.., step)| step.starts_with(by_household)), "{plan:?}");
    }
}
