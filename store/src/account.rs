//! Accounts of every role, with consents and preferences.

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    ids::{AccountId, FacilityId, GuardianId},
};

use crate::{
    Store, StoreError, Tx,
    column::{DateText, OptionalText},
};

/// An account.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Account {
    /// Id.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// The wall it is behind.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Kind of user.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Sign-in name; `None` for machines, paper-only people and deleted accounts.
    pub email: Option<String>,
    /// Name.
    pub name: String,
    /// Name in kana; empty for offices.
    pub name_kana: String,
    /// Argon2id in PHC form; `None` until the first password is set.
    pub password_hash: Option<String>,
    /// Code of `domain::account::AccountState`.
    pub state: String,
    /// Household of a guardian or proxy.
    #[sqlx(try_from = "OptionalText")]
    pub guardian_id: Option<GuardianId>,
    /// Facility of a staff member.
    #[sqlx(try_from = "OptionalText")]
    pub facility_id: Option<FacilityId>,
    /// Relation of a proxy to the guardian.
    pub relation: Option<String>,
    /// First valid day.
    #[sqlx(try_from = "DateText")]
    pub valid_from: Date,
    /// Last valid day.
    #[sqlx(try_from = "DateText")]
    pub valid_to: Date,
    /// Pseudonym in the lake; `None` once forgotten.
    pub person_key: Option<i64>,
    /// Version of the terms the person accepted; 0 for none.
    pub terms_version: i64,
    /// Locale of the messages to the person, such as `ja` or `ja-easy`.
    pub language: String,
}

macro_rules! select_account {
    ($rest:literal) => {
        concat!(
            "SELECT account_id, municipality_code, role, email, name, name_kana, password_hash, state, guardian_id, ",
            "facility_id, relation, valid_from, valid_to, person_key, terms_version, language FROM account ",
            $rest
        )
    };
}

/// The living accounts of a coupon's household, as [`Tx::household_accounts`] gives them.
pub(crate) const OF_COUPON: &str = select_account!(
    "WHERE guardian_id = (SELECT guardian_id FROM coupon WHERE coupon_id = $1) AND state <> 'deleted'
     ORDER BY role, account_id"
);

/// A consent as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Consent {
    /// `terms`, `privacy`, `facility_disclosure`, `usage_analytics` or `identity_data`.
    pub kind: String,
    /// Version of the text agreed to.
    pub version: i64,
    /// Granted or withdrawn.
    pub granted: bool,
    /// When, microseconds UTC.
    pub at_us: i64,
}

/// A switch of the notification settings.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Preference {
    /// Category of messages.md §12.
    pub category: String,
    /// `push` or `email`.
    pub channel: String,
    /// On or off.
    pub enabled: bool,
}

/// From when on somebody agrees to what is collected. One that was given with the registration has no such instant:
/// before it there was no account that could have agreed or not.
macro_rules! agreed_since {
    () => {
        "CASE WHEN c.at_us > a.created_at_us THEN c.at_us ELSE 0 END"
    };
}

impl Store {
    /// The instant from which on a consent is granted, by what is committed; `None` if it is not. Every batch of app
    /// usage asks this.
    pub async fn agreed_since(&self, id: AccountId, kind: &str) -> Result<Option<Timestamp>, StoreError> {
        let sql = concat!(
            "SELECT ",
            agreed_since!(),
            " FROM consent c JOIN account a ON a.account_id = c.account_id
             WHERE c.account_id = $1 AND c.kind = $2 AND c.granted"
        );
        let row: Option<(i64,)> = fetch_alone!(self, (i64,), sql, id.to_string(), kind)?;
        Ok(row.map(|(since_us,)| Timestamp::from_micros(since_us)))
    }
}

impl Tx {
    /// Adds an account. Errors: [`StoreError::Conflict`] when the address is taken.
    pub async fn insert_account(&mut self, row: &Account, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO account (account_id, municipality_code, role, email, name, name_kana, password_hash, state,
                guardian_id, facility_id, relation, valid_from, valid_to, person_key, terms_version, language, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            row.account_id.to_string(),
            row.municipality_code.as_str(),
            row.role.as_str(),
            row.email.as_deref(),
            &row.name,
            &row.name_kana,
            row.password_hash.as_deref(),
            &row.state,
            row.guardian_id.map(|id| id.to_string()),
            row.facility_id.map(|id| id.to_string()),
            row.relation.as_deref(),
            row.valid_from.to_string(),
            row.valid_to.to_string(),
            row.person_key,
            row.terms_version,
            &row.language,
            now.as_micros(),
        )?;
        Ok(())
    }

    /// One account, deleted ones included.
    pub async fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let row = fetch_optional!(self, Account, select_account!("WHERE account_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// The account with this sign-in name.
    pub async fn account_by_email(&mut self, email: &str) -> Result<Option<Account>, StoreError> {
        let row = fetch_optional!(self, Account, select_account!("WHERE email = $1"), email)?;
        Ok(self.see(row))
    }

    /// The account behind a pseudonym, an ended one included.
    pub async fn account_of_person(
        &mut self,
        code: &MunicipalityCode,
        key: i64,
    ) -> Result<Option<Account>, StoreError> {
        let row = fetch_optional!(
            self,
            Account,
            select_account!("WHERE municipality_code = $1 AND person_key = $2"),
            code.as_str(),
            key,
        )?;
        Ok(self.see(row))
    }

    /// Living accounts of a household: the guardian's first, then the proxy's.
    pub async fn household_accounts(&mut self, guardian: GuardianId) -> Result<Vec<Account>, StoreError> {
        let rows = fetch_all!(
            self,
            Account,
            select_account!("WHERE guardian_id = $1 AND state <> 'deleted' ORDER BY role, account_id"),
            guardian.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Living accounts of a facility: managers first.
    pub async fn facility_accounts(&mut self, facility: FacilityId) -> Result<Vec<Account>, StoreError> {
        let rows = fetch_all!(
            self,
            Account,
            select_account!("WHERE facility_id = $1 AND state NOT IN ('deleted', 'ended') ORDER BY role, account_id"),
            facility.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Living accounts of the people of one role in a municipality. Those that machines act for have no address and are
    /// not among them: they read nothing.
    pub async fn role_accounts(&mut self, code: &MunicipalityCode, role: Role) -> Result<Vec<Account>, StoreError> {
        let rows = fetch_all!(
            self,
            Account,
            select_account!(
                "WHERE municipality_code = $1 AND role = $2 AND email IS NOT NULL AND state NOT IN ('deleted', 'ended') ORDER BY account_id"
            ),
            code.as_str(),
            role.as_str(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Living accounts that are neither guardian nor proxy, for the account list.
    pub async fn office_accounts(&mut self, code: &MunicipalityCode) -> Result<Vec<Account>, StoreError> {
        let rows = fetch_all!(
            self,
            Account,
            select_account!(
                "WHERE municipality_code = $1 AND guardian_id IS NULL AND email IS NOT NULL ORDER BY role, name, account_id"
            ),
            code.as_str(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Accounts whose last day was before `today` and that are still open.
    pub async fn accounts_past_end(&mut self, today: Date) -> Result<Vec<Account>, StoreError> {
        let rows = fetch_all!(
            self,
            Account,
            select_account!("WHERE valid_to < $1 AND state IN ('issued', 'active', 'locked') ORDER BY account_id"),
            today.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Living accounts of facilities whose last day is `day`, those of a facility together.
    pub async fn facility_accounts_ending_on(&mut self, day: Date) -> Result<Vec<Account>, StoreError> {
        let rows = fetch_all!(
            self,
            Account,
            select_account!(
                "WHERE valid_to = $1 AND facility_id IS NOT NULL AND state IN ('issued', 'active', 'locked') ORDER BY facility_id, account_id"
            ),
            day.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Locks the account's row for the rest of the transaction and reads it.
    pub async fn lock_account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        execute!(
            self,
            "UPDATE account SET state = state WHERE account_id = $1 AND ($2 = '' OR municipality_code = $2)",
            id.to_string(),
            self.wall.code()
        )?;
        self.account(id).await
    }

    /// Writes what may change of an account.
    pub async fn update_account(&mut self, row: &Account) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE account SET email = $2, name = $3, name_kana = $4, password_hash = $5, state = $6, valid_from = $7,
                valid_to = $8, terms_version = $9, role = $10, language = $11,
                mail_failed = CASE WHEN email = $2 THEN mail_failed ELSE FALSE END WHERE account_id = $1",
            row.account_id.to_string(),
            row.email.as_deref(),
            &row.name,
            &row.name_kana,
            row.password_hash.as_deref(),
            &row.state,
            row.valid_from.to_string(),
            row.valid_to.to_string(),
            row.terms_version,
            row.role.as_str(),
            &row.language,
        )?;
        Ok(())
    }

    /// Notes that mail to an account's address fails for good; `false` when that was noted before, or the account has
    /// another address by now.
    pub async fn note_mail_failed(&mut self, id: AccountId, address: &str) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE account SET mail_failed = TRUE
             WHERE account_id = $1 AND email = $2 AND NOT mail_failed AND ($3 = '' OR municipality_code = $3)",
            id.to_string(),
            address,
            self.wall.code(),
        )?;
        Ok(n > 0)
    }

    /// Marks an account deleted: the address and the password go, the key stays until it is forgotten.
    pub async fn delete_account(&mut self, id: AccountId, now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE account SET state = 'deleted', email = NULL, password_hash = NULL, deleted_at_us = $2 WHERE account_id = $1",
            id.to_string(),
            now.as_micros(),
        )?;
        Ok(())
    }

    /// Notes a failed sign-in and counts those since `since`.
    pub async fn note_failure(&mut self, id: AccountId, now: Timestamp, since: Timestamp) -> Result<i64, StoreError> {
        execute!(
            self,
            "INSERT INTO sign_in_failure (account_id, at_us) VALUES ($1, $2)",
            id.to_string(),
            now.as_micros()
        )?;
        let (n,): (i64,) = fetch_one!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM sign_in_failure WHERE account_id = $1 AND at_us > $2",
            id.to_string(),
            since.as_micros(),
        )?;
        Ok(n)
    }

    /// Forgets failed sign-ins after a good one or a reset.
    pub async fn clear_failures(&mut self, id: AccountId) -> Result<(), StoreError> {
        execute!(self, "DELETE FROM sign_in_failure WHERE account_id = $1", id.to_string())?;
        Ok(())
    }

    /// Sets a consent.
    pub async fn set_consent(&mut self, id: AccountId, consent: &Consent) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO consent (account_id, kind, version, granted, at_us) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (account_id, kind)
             DO UPDATE SET version = excluded.version, granted = excluded.granted, at_us = excluded.at_us",
            id.to_string(),
            &consent.kind,
            consent.version,
            consent.granted,
            consent.at_us,
        )?;
        Ok(())
    }

    /// All consents of an account.
    pub async fn consents(&mut self, id: AccountId) -> Result<Vec<Consent>, StoreError> {
        fetch_all!(
            self, Consent,
            "SELECT kind, version, granted, at_us FROM consent
             WHERE account_id = $1 AND ($2 = '' OR EXISTS (SELECT 1 FROM account WHERE account_id = $1 AND municipality_code = $2))
             ORDER BY kind",
            id.to_string(), self.wall.code(),
        )
    }

    /// Whether a consent is granted now.
    pub async fn has_consent(&mut self, id: AccountId, kind: &str) -> Result<bool, StoreError> {
        let row: Option<(bool,)> = fetch_optional!(
            self,
            (bool,),
            "SELECT granted FROM consent WHERE account_id = $1 AND kind = $2",
            id.to_string(),
            kind,
        )?;
        Ok(row.is_some_and(|(granted,)| granted))
    }

    /// As [`Store::agreed_since`], of the person with this key.
    pub async fn person_agreed_since(
        &mut self,
        code: &MunicipalityCode,
        key: i64,
        kind: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (since_us,): (Option<i64>,) = fetch_one!(
            self,
            (Option<i64>,),
            concat!(
                "SELECT MIN(",
                agreed_since!(),
                ") FROM consent c JOIN account a ON a.account_id = c.account_id
                 WHERE a.municipality_code = $1 AND a.person_key = $2 AND c.kind = $3 AND c.granted"
            ),
            self.wall.inside(code),
            key,
            kind,
        )?;
        Ok(since_us.map(Timestamp::from_micros))
    }

    /// Sets one switch.
    pub async fn set_preference(&mut self, id: AccountId, preference: &Preference) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO preference (account_id, category, channel, enabled) VALUES ($1, $2, $3, $4)
             ON CONFLICT (account_id, category, channel) DO UPDATE SET enabled = excluded.enabled",
            id.to_string(),
            &preference.category,
            &preference.channel,
            preference.enabled,
        )?;
        Ok(())
    }

    /// The switches a person has set; the others stand at their defaults.
    pub async fn preferences(&mut self, id: AccountId) -> Result<Vec<Preference>, StoreError> {
        fetch_all!(
            self, Preference,
            "SELECT category, channel, enabled FROM preference
             WHERE account_id = $1 AND ($2 = '' OR EXISTS (SELECT 1 FROM account WHERE account_id = $1 AND municipality_code = $2))
             ORDER BY category, channel",
            id.to_string(), self.wall.code(),
        )
    }

    /// The switches that several people have set, each with its owner, in no order.
    pub async fn preferences_among(
        &mut self,
        accounts: &[AccountId],
    ) -> Result<Vec<(AccountId, Preference)>, StoreError> {
        let sql = if self.is_postgres() {
            "SELECT p.account_id, p.category, p.channel, p.enabled FROM preference p JOIN account a ON a.account_id = p.account_id
             WHERE p.account_id = ANY(string_to_array($1, ',')) AND ($2 = '' OR a.municipality_code = $2)"
        } else {
            "SELECT p.account_id, p.category, p.channel, p.enabled FROM preference p JOIN account a ON a.account_id = p.account_id
             WHERE p.account_id IN (SELECT value FROM json_each($1)) AND ($2 = '' OR a.municipality_code = $2)"
        };
        let among = self.among(accounts);
        let rows: Vec<(String, String, String, bool)> =
            fetch_all!(self, (String, String, String, bool), sql, among, self.wall.code())?;
        rows.into_iter()
            .map(|(id, category, channel, enabled)| {
                id.parse()
                    .map(|id| (id, Preference { category, channel, enabled }))
                    .map_err(|_| StoreError::Corrupt { what: "account id" })
            })
            .collect()
    }
}
