//! Claims of facilities, and which uses and reversals each of them is for.

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Timestamp, Yen,
    claim::ClaimState,
    ids::{ClaimId, FacilityId, ReversalId, TransferFileId, UseId},
};

use crate::{
    StoreError, Tx,
    column::{DateText, OptionalDateText, OptionalNumber, OptionalText},
};

/// A claim.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Claim {
    /// Id.
    #[sqlx(try_from = "String")]
    pub claim_id: ClaimId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Number people see.
    pub claim_no: String,
    /// Who claims.
    #[sqlx(try_from = "String")]
    pub facility_id: FacilityId,
    /// For what.
    pub programme_code: String,
    /// First day of the month.
    #[sqlx(try_from = "DateText")]
    pub month: Date,
    /// Begin of the month.
    #[sqlx(rename = "from_us", try_from = "i64")]
    pub from: Timestamp,
    /// Begin of the next month.
    #[sqlx(rename = "to_us", try_from = "i64")]
    pub to: Timestamp,
    /// Code of [`ClaimState`].
    pub state: String,
    /// Uses in it.
    pub n_uses: i64,
    /// Children who used.
    pub n_children: i64,
    /// Sum of the uses.
    #[sqlx(try_from = "i64")]
    pub gross_yen: Yen,
    /// Sum of the reversals, not negative.
    #[sqlx(try_from = "i64")]
    pub reversed_yen: Yen,
    /// What is claimed; negative where more was reversed than used.
    #[sqlx(try_from = "i64")]
    pub net_yen: Yen,
    /// Cancellation fees in it.
    #[sqlx(try_from = "i64")]
    pub cancel_fee_yen: Yen,
    /// How often it was sent back.
    pub n_returned: i64,
    /// Why it was sent back last.
    pub return_reason: Option<String>,
    /// When it was computed last.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// When it was handed in.
    #[sqlx(rename = "submitted_at_us", try_from = "OptionalNumber")]
    pub submitted_at: Option<Timestamp>,
    /// When the operator took it.
    #[sqlx(rename = "received_at_us", try_from = "OptionalNumber")]
    pub received_at: Option<Timestamp>,
    /// When the city got it.
    #[sqlx(rename = "forwarded_at_us", try_from = "OptionalNumber")]
    pub forwarded_at: Option<Timestamp>,
    /// When its payment was ordered last.
    #[sqlx(rename = "transfer_requested_at_us", try_from = "OptionalNumber")]
    pub transfer_requested_at: Option<Timestamp>,
    /// The file that went to the bank.
    #[sqlx(try_from = "OptionalText")]
    pub transfer_file_id: Option<TransferFileId>,
    /// Its line there.
    pub transfer_line_no: Option<i64>,
    /// The day the bank gave.
    #[sqlx(try_from = "OptionalDateText")]
    pub transferred_on: Option<Date>,
    /// What the bank answered; `0` is paid.
    pub result_code: Option<String>,
}

impl Claim {
    /// The state.
    pub fn state(&self) -> Result<ClaimState, StoreError> {
        ClaimState::parse(&self.state).ok_or(StoreError::Corrupt { what: "state of a claim" })
    }
}

/// A use or a reversal in a claim.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ClaimLine {
    /// The use; for a reversal the one it undoes.
    #[sqlx(try_from = "String")]
    pub use_id: UseId,
    /// The reversal; `None` for a use.
    #[sqlx(try_from = "OptionalText")]
    pub reversal_id: Option<ReversalId>,
    /// Number of the use.
    pub use_no: String,
    /// Number of the child.
    pub child_no: String,
    /// `service` or `cancellation_fee`.
    pub purpose: String,
    /// How much; negative for a reversal.
    #[sqlx(try_from = "i64")]
    pub amount_yen: Yen,
    /// When it was used or undone.
    #[sqlx(rename = "at_us", try_from = "i64")]
    pub at: Timestamp,
}

/// Sums over the lines of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct ClaimTotals {
    /// Uses.
    pub n_uses: i64,
    /// Children who used.
    pub n_children: i64,
    /// Sum of the uses.
    #[sqlx(try_from = "i64")]
    pub gross_yen: Yen,
    /// Sum of the reversals, not negative.
    #[sqlx(try_from = "i64")]
    pub reversed_yen: Yen,
    /// Cancellation fees, without those that were undone.
    #[sqlx(try_from = "i64")]
    pub cancel_fee_yen: Yen,
}

/// Which claims to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClaimsOf {
    /// Of one facility only.
    pub facility: Option<FacilityId>,
    /// Of one month only, by its first day.
    pub month: Option<Date>,
}

macro_rules! select_claim {
    ($rest:literal) => {
        concat!(
            "SELECT claim_id, municipality_code, claim_no, facility_id, programme_code, month, from_us, to_us, state, n_uses, ",
            "n_children, gross_yen, reversed_yen, net_yen, cancel_fee_yen, n_returned, return_reason, created_at_us, ",
            "submitted_at_us, received_at_us, forwarded_at_us, transfer_requested_at_us, transfer_file_id, transfer_line_no, ",
            "transferred_on, result_code FROM claim ", $rest
        )
    };
}

/// Gives a claim its lines of one kind: what is dated in its month, and what came into an earlier month after that
/// month's claim had been handed in, as far as no claim has it.
macro_rules! claim_for {
    ($kind:literal, $amount:literal, $at:literal, $which:literal) => {
        concat!(
            "INSERT INTO claim_line (use_id, kind, claim_id, amount_yen, at_us)
             SELECT u.use_id, ", $kind, ", c.claim_id, ", $amount, ", ", $at, " FROM claim c
             JOIN coupon_use u ON u.facility_id = c.facility_id AND u.programme_code = c.programme_code
                AND u.municipality_code = c.municipality_code AND ", $at, " < c.to_us
             WHERE c.claim_id = $1 AND ", $which, "
                AND (", $at, " >= c.from_us OR EXISTS (SELECT 1 FROM claim e
                    WHERE e.facility_id = c.facility_id AND e.programme_code = c.programme_code AND e.state <> 'created'
                        AND ", $at, " >= e.from_us AND ", $at, " < e.to_us))
                AND NOT EXISTS (SELECT 1 FROM claim_line l WHERE l.use_id = u.use_id AND l.kind = ", $kind, ")"
        )
    };
}

impl Tx {
    /// Holds off other computations of claims of a facility until the end of the transaction.
    pub async fn lock_claims(&mut self, facility: FacilityId) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE facility SET name = name WHERE facility_id = $1 AND ($2 = '' OR municipality_code = $2)",
            facility.to_string(),
            self.wall.code(),
        )?;
        Ok(())
    }

    /// Adds a claim, without lines.
    ///
    /// Errors: [`StoreError::Conflict`] when the facility has one for the programme and month.
    pub async fn insert_claim(&mut self, row: &Claim) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO claim (claim_id, municipality_code, claim_no, facility_id, programme_code, month, from_us, to_us, state,
                n_uses, n_children, gross_yen, reversed_yen, net_yen, cancel_fee_yen, n_returned, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            row.claim_id.to_string(), row.municipality_code.as_str(), &row.claim_no, row.facility_id.to_string(),
            &row.programme_code, row.month.to_string(), row.from.as_micros(), row.to.as_micros(), &row.state, row.n_uses,
            row.n_children, row.gross_yen.get(), row.reversed_yen.get(), row.net_yen.get(), row.cancel_fee_yen.get(),
            row.n_returned, row.created_at.as_micros(),
        )?;
        Ok(())
    }

    /// Writes the state, the sums and the progress of a claim.
    pub async fn update_claim(&mut self, row: &Claim) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE claim SET state = $2, n_uses = $3, n_children = $4, gross_yen = $5, reversed_yen = $6, net_yen = $7,
                cancel_fee_yen = $8, n_returned = $9, return_reason = $10, created_at_us = $11, submitted_at_us = $12,
                received_at_us = $13, forwarded_at_us = $14, transfer_requested_at_us = $15, transfer_file_id = $16,
                transfer_line_no = $17, transferred_on = $18, result_code = $19
             WHERE claim_id = $1",
            row.claim_id.to_string(), &row.state, row.n_uses, row.n_children, row.gross_yen.get(), row.reversed_yen.get(),
            row.net_yen.get(), row.cancel_fee_yen.get(), row.n_returned, row.return_reason.as_deref(),
            row.created_at.as_micros(), row.submitted_at.map(Timestamp::as_micros), row.received_at.map(Timestamp::as_micros),
            row.forwarded_at.map(Timestamp::as_micros), row.transfer_requested_at.map(Timestamp::as_micros),
            row.transfer_file_id.map(|id| id.to_string()), row.transfer_line_no, row.transferred_on.map(|day| day.to_string()),
            row.result_code.as_deref(),
        )?;
        Ok(())
    }

    /// Gives a claim the lines it should have now: its old ones go, and every use and reversal of its facility and
    /// programme comes in that is dated in its month, or in an earlier month whose claim is closed already, and is in
    /// no other claim. To be asked after [`Tx::lock_claims`].
    pub async fn fill_claim(&mut self, id: ClaimId) -> Result<ClaimTotals, StoreError> {
        execute!(self, "DELETE FROM claim_line WHERE claim_id = $1", id.to_string())?;
        execute!(self, claim_for!("'use'", "u.amount_yen", "u.used_at_us", "TRUE"), id.to_string())?;
        execute!(
            self,
            claim_for!("'reversal'", "-u.amount_yen", "u.reversed_at_us", "u.state = 'reversed'"),
            id.to_string(),
        )?;
        fetch_one!(
            self,
            ClaimTotals,
            "SELECT COUNT(CASE WHEN l.kind = 'use' THEN 1 END) AS n_uses,
                COUNT(DISTINCT CASE WHEN l.kind = 'use' THEN u.child_id END) AS n_children,
                CAST(COALESCE(SUM(CASE WHEN l.kind = 'use' THEN l.amount_yen END), 0) AS BIGINT) AS gross_yen,
                CAST(COALESCE(SUM(CASE WHEN l.kind = 'reversal' THEN -l.amount_yen END), 0) AS BIGINT) AS reversed_yen,
                CAST(COALESCE(SUM(CASE WHEN u.purpose = 'cancellation_fee' THEN l.amount_yen END), 0) AS BIGINT) AS cancel_fee_yen
             FROM claim_line l JOIN coupon_use u ON u.use_id = l.use_id WHERE l.claim_id = $1",
            id.to_string(),
        )
    }

    /// One claim.
    pub async fn claim(&mut self, id: ClaimId) -> Result<Option<Claim>, StoreError> {
        let row = fetch_optional!(self, Claim, select_claim!("WHERE claim_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Locks a claim for the rest of the transaction and reads it.
    pub async fn lock_claim(&mut self, id: ClaimId) -> Result<Option<Claim>, StoreError> {
        execute!(self, "UPDATE claim SET state = state WHERE claim_id = $1", id.to_string())?;
        self.claim(id).await
    }

    /// The claim with a number.
    pub async fn claim_by_no(&mut self, code: &MunicipalityCode, no: &str) -> Result<Option<Claim>, StoreError> {
        let row = fetch_optional!(
            self,
            Claim,
            select_claim!("WHERE municipality_code = $1 AND claim_no = $2"),
            code.as_str(),
            no,
        )?;
        Ok(self.see(row))
    }

    /// The claim of a facility for a programme and month.
    pub async fn claim_of_month(
        &mut self,
        facility: FacilityId,
        programme_code: &str,
        month: Date,
    ) -> Result<Option<Claim>, StoreError> {
        let row = fetch_optional!(
            self,
            Claim,
            select_claim!("WHERE facility_id = $1 AND programme_code = $2 AND month = $3"),
            facility.to_string(),
            programme_code,
            month.to_string(),
        )?;
        Ok(self.see(row))
    }

    /// Claims of a municipality, newest month first.
    pub async fn claims(
        &mut self,
        code: &MunicipalityCode,
        of: ClaimsOf,
        n_max: i64,
    ) -> Result<Vec<Claim>, StoreError> {
        let rows = fetch_all!(
            self,
            Claim,
            select_claim!(
                "WHERE municipality_code = $1 AND ($2 = '' OR facility_id = $2) AND ($3 = '' OR month = $3)
                 ORDER BY month DESC, claim_no DESC LIMIT $4"
            ),
            code.as_str(),
            of.facility.map(|id| id.to_string()).unwrap_or_default(),
            of.month.map(|day| day.to_string()).unwrap_or_default(),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// The claims paid by one line of a transfer file, by number.
    pub async fn claims_of_transfer(&mut self, file: TransferFileId, line_no: i64) -> Result<Vec<Claim>, StoreError> {
        let rows = fetch_all!(
            self,
            Claim,
            select_claim!("WHERE transfer_file_id = $1 AND transfer_line_no = $2 ORDER BY claim_no"),
            file.to_string(),
            line_no,
        )?;
        Ok(self.see_all(rows))
    }

    /// What a claim is for, oldest first.
    pub async fn claim_lines(&mut self, id: ClaimId) -> Result<Vec<ClaimLine>, StoreError> {
        fetch_all!(
            self,
            ClaimLine,
            "SELECT l.use_id, CASE WHEN l.kind = 'reversal' THEN u.reversal_id END AS reversal_id, u.use_no,
                COALESCE(k.child_no, '') AS child_no, u.purpose, l.amount_yen, l.at_us
             FROM claim_line l JOIN claim c ON c.claim_id = l.claim_id JOIN coupon_use u ON u.use_id = l.use_id
                LEFT JOIN child k ON k.child_id = u.child_id
             WHERE l.claim_id = $1 AND ($2 = '' OR c.municipality_code = $2)
             ORDER BY l.at_us, l.use_id, l.kind DESC",
            id.to_string(),
            self.wall.code(),
        )
    }
}
