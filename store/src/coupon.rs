//! Coupons, lots and the ledger.

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Timestamp, Yen,
    coupon::CouponState,
    ids::{ApplicationId, ChildId, CouponId, CouponSetId, GuardianId, LotId, UseId},
    ledger::{Lot, LotAmount},
    parameter,
};

use crate::{
    Inner, StoreError, Tx,
    account::{self, Account},
    child::{self, Child},
    column::{DateText, OptionalDateText},
    guardian::{self, Guardian},
    municipality,
};

/// A coupon with its running balance.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Coupon {
    /// Id.
    #[sqlx(try_from = "String")]
    pub coupon_id: CouponId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Number people see.
    pub coupon_no: String,
    /// Whose.
    #[sqlx(try_from = "String")]
    pub child_id: ChildId,
    /// Household.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// Definition.
    #[sqlx(try_from = "String")]
    pub coupon_set_id: CouponSetId,
    /// The approval it rests on.
    #[sqlx(try_from = "String")]
    pub application_id: ApplicationId,
    /// Code of [`CouponState`].
    pub state: String,
    /// Sum of the lots' rests, written-off ones excluded.
    #[sqlx(try_from = "i64")]
    pub balance_yen: Yen,
    /// Number of the last ledger entry.
    pub ledger_seq: i64,
    /// Day of approval.
    #[sqlx(try_from = "DateText")]
    pub approved_on: Date,
    /// Distributions so far.
    pub cycle_no: i64,
    /// Day of the next distribution.
    #[sqlx(try_from = "OptionalDateText")]
    pub next_cycle_on: Option<Date>,
}

impl Coupon {
    /// The state; an unknown code counts as revoked, which blocks.
    pub fn state(&self) -> CouponState {
        CouponState::parse(&self.state).unwrap_or(CouponState::Revoked)
    }
}

/// One distribution.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LotRow {
    /// Id.
    #[sqlx(try_from = "String")]
    pub lot_id: LotId,
    /// Coupon.
    #[sqlx(try_from = "String")]
    pub coupon_id: CouponId,
    /// Amount distributed.
    #[sqlx(try_from = "i64")]
    pub amount_yen: Yen,
    /// What is left.
    #[sqlx(try_from = "i64")]
    pub rest_yen: Yen,
    /// Last usable day.
    #[sqlx(try_from = "DateText")]
    pub expires_on: Date,
    /// Code of the rule that set the day.
    pub expiry_rule: String,
    /// Number of the distribution.
    pub cycle_no: i64,
}

impl LotRow {
    /// The lot as the ledger rules see it.
    pub fn as_lot(&self) -> Lot {
        Lot { lot_id: self.lot_id, rest: self.rest_yen, expires_on: self.expires_on }
    }
}

/// A coupon with what rules and texts need beside it.
#[derive(Debug, Clone)]
pub struct CouponFile {
    /// The coupon.
    pub coupon: Coupon,
    /// Its lots, in order of expiry.
    pub lots: Vec<LotRow>,
    /// Whose it is.
    pub child: Child,
    /// The household.
    pub guardian: Guardian,
    /// Living accounts of the household.
    pub accounts: Vec<Account>,
    /// The desk that messages name: [`parameter::CONTACT`] on the day asked for.
    pub contact: String,
}

/// An immutable line of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// Coupon.
    pub coupon_id: CouponId,
    /// Number, gap-free per coupon.
    pub seq: i64,
    /// `distributed`, `used`, `reversed`, `adjusted`, `expired` or `revoked`.
    pub kind: &'static str,
    /// Signed change.
    pub delta: Yen,
    /// Balance afterwards.
    pub balance_after: Yen,
    /// Which lots, absolute amounts.
    pub lines: Vec<LotAmount>,
    /// The use it belongs to.
    pub use_id: Option<UseId>,
    /// Reason text for people.
    pub reason: Option<String>,
}

/// A ledger line as it is shown.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LedgerRow {
    /// Number.
    pub seq: i64,
    /// When.
    #[sqlx(rename = "at_us", try_from = "i64")]
    pub at: Timestamp,
    /// Kind.
    pub kind: String,
    /// Signed change.
    pub delta_yen: i64,
    /// Balance afterwards.
    pub balance_after_yen: i64,
    /// Reason text.
    pub reason: Option<String>,
    /// The use.
    pub use_id: Option<String>,
    /// Number of the use.
    pub use_no: Option<String>,
    /// Facility of the use.
    pub facility_name: Option<String>,
    /// Programme of the use.
    pub programme_code: Option<String>,
}

macro_rules! select_coupon {
    ($rest:literal) => {
        concat!(
            "SELECT coupon_id, municipality_code, coupon_no, child_id, guardian_id, coupon_set_id, application_id, state, ",
            "balance_yen, ledger_seq, approved_on, cycle_no, next_cycle_on FROM coupon ", $rest
        )
    };
}

const LOCK: &str =
    "UPDATE coupon SET ledger_seq = ledger_seq WHERE coupon_id = $1 AND ($2 = '' OR municipality_code = $2)
     RETURNING coupon_id, municipality_code, coupon_no, child_id, guardian_id, coupon_set_id, application_id, state,
        balance_yen, ledger_seq, approved_on, cycle_no, next_cycle_on";

const LOTS: &str = "SELECT lot_id, coupon_id, amount_yen, rest_yen, expires_on, expiry_rule, cycle_no FROM lot
     WHERE coupon_id = $1 AND ($2 = '' OR EXISTS (SELECT 1 FROM coupon WHERE coupon_id = $1 AND municipality_code = $2))
     ORDER BY expires_on, lot_id";

/// The `lines` column of a ledger entry or a use.
pub fn lines_text(lines: &[LotAmount]) -> String {
    let items: Vec<String> = lines
        .iter()
        .map(|line| format!("{{\"lot_id\":\"{}\",\"amount\":{}}}", line.lot_id, line.amount.get()))
        .collect();
    format!("[{}]", items.join(","))
}

/// Reads a `lines` column.
pub fn parse_lines(text: &str) -> Result<Vec<LotAmount>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Line {
        lot_id: LotId,
        amount: Yen,
    }
    let lines: Vec<Line> = serde_json::from_str(text).map_err(|_| StoreError::Corrupt { what: "ledger line" })?;
    Ok(lines.into_iter().map(|line| LotAmount { lot_id: line.lot_id, amount: line.amount }).collect())
}

impl Tx {
    /// Adds a coupon.
    pub async fn insert_coupon(&mut self, row: &Coupon, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO coupon (coupon_id, municipality_code, coupon_no, child_id, guardian_id, coupon_set_id, application_id,
                state, balance_yen, ledger_seq, approved_on, cycle_no, next_cycle_on, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            row.coupon_id.to_string(), row.municipality_code.as_str(), &row.coupon_no, row.child_id.to_string(),
            row.guardian_id.to_string(), row.coupon_set_id.to_string(), row.application_id.to_string(), &row.state,
            row.balance_yen.get(), row.ledger_seq, row.approved_on.to_string(), row.cycle_no,
            row.next_cycle_on.map(|d| d.to_string()), now.as_micros(),
        )?;
        Ok(())
    }

    /// Locks a coupon for the rest of the transaction: from here on this transaction is the one writer of
    /// its ledger.
    pub async fn lock_coupon(&mut self, id: CouponId) -> Result<Option<Coupon>, StoreError> {
        let row = fetch_optional!(self, Coupon, LOCK, id.to_string(), self.wall.code())?;
        Ok(self.see(row))
    }

    /// Locks a coupon as [`Self::lock_coupon`] does, and reads what belongs to it, with the desk of the municipality
    /// `code` on `today`; `None` without the coupon or any part of it.
    pub async fn lock_coupon_file(
        &mut self,
        code: &MunicipalityCode,
        id: CouponId,
        today: Date,
    ) -> Result<Option<CouponFile>, StoreError> {
        if !self.is_postgres() {
            return self.lock_coupon_file_at_once(code, id, today).await;
        }
        let Some(coupon) = self.lock_coupon(id).await? else { return Ok(None) };
        let lots = self.lots(id).await?;
        let Some(child) = self.child(coupon.child_id).await? else { return Ok(None) };
        let Some(guardian) = self.guardian(coupon.guardian_id).await? else { return Ok(None) };
        let accounts = self.household_accounts(coupon.guardian_id).await?;
        let contact = self.parameter(code, parameter::CONTACT, today).await?;
        Ok(Some(CouponFile { coupon, lots, child, guardian, accounts, contact }))
    }

    async fn lock_coupon_file_at_once(
        &mut self,
        code: &MunicipalityCode,
        id: CouponId,
        today: Date,
    ) -> Result<Option<CouponFile>, StoreError> {
        let (Inner::Sqlite(tx), key, wall) = (&mut self.inner, id.to_string(), self.wall.code()) else {
            return Ok(None);
        };
        for sql in [LOCK, LOTS] {
            self.later.add(sql, |values| {
                sqlx::Arguments::add(&mut *values, &key)?;
                sqlx::Arguments::add(values, wall)
            })?;
        }
        for sql in [child::OF_COUPON, guardian::OF_COUPON, account::OF_COUPON] {
            self.later.add(sql, |values| sqlx::Arguments::add(values, &key))?;
        }
        let inside = self.wall.inside(code);
        self.later.add(municipality::PARAMETER, |values| {
            sqlx::Arguments::add(&mut *values, inside)?;
            sqlx::Arguments::add(&mut *values, parameter::CONTACT.name)?;
            sqlx::Arguments::add(values, today.to_string())
        })?;
        let outcomes = self.later.run_each(&mut **tx).await?;
        let [.., coupon, lots, child, guardian, accounts, contact] = outcomes.as_slice() else {
            return Err(StoreError::Corrupt { what: "coupon" });
        };
        let (Some(coupon), Some(child), Some(guardian)) =
            (self.see(coupon.first()?), self.see(child.first()?), self.see(guardian.first()?))
        else {
            return Ok(None);
        };
        let contact: Option<(String,)> = contact.first()?;
        let contact = contact.map_or_else(|| parameter::CONTACT.default.to_owned(), |(set,)| set);
        let accounts = self.see_all(accounts.all()?);
        Ok(Some(CouponFile { coupon, lots: lots.all()?, child, guardian, accounts, contact }))
    }

    /// One coupon.
    pub async fn coupon(&mut self, id: CouponId) -> Result<Option<Coupon>, StoreError> {
        let row = fetch_optional!(self, Coupon, select_coupon!("WHERE coupon_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// Coupons of a household, newest approval first within a child.
    pub async fn coupons_of_guardian(&mut self, id: GuardianId) -> Result<Vec<Coupon>, StoreError> {
        let rows = fetch_all!(
            self,
            Coupon,
            select_coupon!("WHERE guardian_id = $1 ORDER BY child_id, coupon_id DESC"),
            id.to_string()
        )?;
        Ok(self.see_all(rows))
    }

    /// Coupons of a child, newest approval first.
    pub async fn coupons_of_child(&mut self, id: ChildId) -> Result<Vec<Coupon>, StoreError> {
        let rows =
            fetch_all!(self, Coupon, select_coupon!("WHERE child_id = $1 ORDER BY coupon_id DESC"), id.to_string())?;
        Ok(self.see_all(rows))
    }

    /// The coupon that rests on an approval.
    pub async fn coupon_of_application(&mut self, id: ApplicationId) -> Result<Option<Coupon>, StoreError> {
        let row = fetch_optional!(self, Coupon, select_coupon!("WHERE application_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// The coupon with this number.
    pub async fn coupon_by_no(
        &mut self,
        code: &MunicipalityCode,
        coupon_no: &str,
    ) -> Result<Option<Coupon>, StoreError> {
        let row = fetch_optional!(
            self,
            Coupon,
            select_coupon!("WHERE municipality_code = $1 AND coupon_no = $2"),
            code.as_str(),
            coupon_no,
        )?;
        Ok(self.see(row))
    }

    /// Active coupons whose next distribution is due on `today` or was before.
    pub async fn coupons_due(
        &mut self,
        code: &MunicipalityCode,
        today: Date,
        n_max: i64,
    ) -> Result<Vec<CouponId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT coupon_id FROM coupon WHERE municipality_code = $1 AND next_cycle_on <= $2 AND state = 'active'
             ORDER BY next_cycle_on, coupon_id LIMIT $3",
            self.wall.inside(code),
            today.to_string(),
            n_max,
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "coupon id" })).collect()
    }

    /// Coupons with something left in a lot whose last day was before `today`.
    pub async fn coupons_with_expired_lots(
        &mut self,
        code: &MunicipalityCode,
        today: Date,
        n_max: i64,
    ) -> Result<Vec<CouponId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT DISTINCT l.coupon_id FROM lot l JOIN coupon c ON c.coupon_id = l.coupon_id
             WHERE c.municipality_code = $1 AND l.expires_on < $2 AND l.rest_yen > 0 ORDER BY l.coupon_id LIMIT $3",
            self.wall.inside(code),
            today.to_string(),
            n_max,
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "coupon id" })).collect()
    }

    /// Lots of a coupon, in order of expiry.
    pub async fn lots(&mut self, id: CouponId) -> Result<Vec<LotRow>, StoreError> {
        fetch_all!(self, LotRow, LOTS, id.to_string(), self.wall.code())
    }

    /// Children with something left in a lot of an active coupon that ends on one day, for the reminders; also those who
    /// moved out, for whom it stays good for a while.
    pub async fn children_with_lots_ending_on(
        &mut self,
        code: &MunicipalityCode,
        day: Date,
    ) -> Result<Vec<ChildId>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            concat!(
                "SELECT DISTINCT c.child_id FROM lot l JOIN coupon c ON c.coupon_id = l.coupon_id
                 JOIN child k ON k.child_id = c.child_id
                 WHERE c.municipality_code = $1 AND l.expires_on = $2 AND l.rest_yen > 0 AND c.state = 'active' AND ",
                child::child_stands!("k"),
                " ORDER BY c.child_id"
            ),
            self.wall.inside(code),
            day.to_string(),
        )?;
        rows.into_iter().map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "child id" })).collect()
    }

    /// Adds a lot.
    pub async fn insert_lot(&mut self, row: &LotRow, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO lot (lot_id, coupon_id, amount_yen, rest_yen, expires_on, expiry_rule, cycle_no, distributed_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            row.lot_id.to_string(), row.coupon_id.to_string(), row.amount_yen.get(), row.rest_yen.get(),
            row.expires_on.to_string(), &row.expiry_rule, row.cycle_no, now.as_micros(),
        )?;
        Ok(())
    }

    /// Changes a lot's rest by a signed amount. The database refuses a rest below zero.
    pub async fn change_lot(&mut self, id: LotId, delta: Yen) -> Result<(), StoreError> {
        execute_later!(self, "UPDATE lot SET rest_yen = rest_yen + $2 WHERE lot_id = $1", id.to_string(), delta.get())
    }

    /// Moves a lot's last day.
    pub async fn set_lot_expiry(&mut self, id: LotId, expires_on: Date, rule: &str) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE lot SET expires_on = $2, expiry_rule = $3 WHERE lot_id = $1",
            id.to_string(),
            expires_on.to_string(),
            rule,
        )?;
        Ok(())
    }

    /// Writes a ledger entry and the coupon's new balance. The coupon must be locked.
    pub async fn book(&mut self, entry: &LedgerEntry, now: Timestamp) -> Result<(), StoreError> {
        execute_later!(
            self,
            "INSERT INTO ledger_entry (coupon_id, seq, at_us, kind, delta_yen, balance_after_yen, lines, use_id, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            entry.coupon_id.to_string(), entry.seq, now.as_micros(), entry.kind, entry.delta.get(),
            entry.balance_after.get(), lines_text(&entry.lines), entry.use_id.map(|id| id.to_string()),
            entry.reason.as_deref(),
        )?;
        execute_later!(
            self,
            "UPDATE coupon SET balance_yen = $2, ledger_seq = $3 WHERE coupon_id = $1",
            entry.coupon_id.to_string(),
            entry.balance_after.get(),
            entry.seq,
        )
    }

    /// Sets a coupon's state.
    pub async fn set_coupon_state(&mut self, id: CouponId, state: CouponState) -> Result<(), StoreError> {
        execute!(self, "UPDATE coupon SET state = $2 WHERE coupon_id = $1", id.to_string(), state.as_str())?;
        Ok(())
    }

    /// Notes a distribution and when the next one is due.
    pub async fn set_cycle(&mut self, id: CouponId, cycle_no: i64, next_on: Option<Date>) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE coupon SET cycle_no = $2, next_cycle_on = $3 WHERE coupon_id = $1",
            id.to_string(),
            cycle_no,
            next_on.map(|d| d.to_string()),
        )?;
        Ok(())
    }

    /// A coupon's ledger, newest first.
    pub async fn ledger(&mut self, id: CouponId, n_max: i64) -> Result<Vec<LedgerRow>, StoreError> {
        fetch_all!(
            self, LedgerRow,
            "SELECT l.seq, l.at_us, l.kind, l.delta_yen, l.balance_after_yen, l.reason, l.use_id, u.use_no, f.name AS facility_name, u.programme_code
             FROM ledger_entry l
             LEFT JOIN coupon_use u ON u.use_id = l.use_id
             LEFT JOIN facility f ON f.facility_id = u.facility_id
             WHERE l.coupon_id = $1 AND ($3 = '' OR EXISTS (SELECT 1 FROM coupon WHERE coupon_id = $1 AND municipality_code = $3))
             ORDER BY l.seq DESC LIMIT $2",
            id.to_string(), n_max, self.wall.code(),
        )
    }
}
