//! Invitations to apply, one per child of the register (flows.md C7).

use jiff::civil::Date;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{ChildId, GuardianId, SolicitationId},
    solicitation::SolicitationState,
};

use crate::{
    StoreError, Tx,
    column::{DateText, OptionalDateText, OptionalText},
    resident::{Resident, select_resident},
};

/// An invitation.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Solicitation {
    /// Id.
    #[sqlx(try_from = "String")]
    pub solicitation_id: SolicitationId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// The child in the register.
    pub resident_no: String,
    /// Code of [`SolicitationState`].
    pub state: String,
    /// `launch`, `newborn` or `moved_in`.
    pub reason: String,
    /// `inbox` or `paper`, of the last notice.
    pub channel: Option<String>,
    /// Household that was reached through the app.
    #[sqlx(try_from = "OptionalText")]
    pub guardian_id: Option<GuardianId>,
    /// Registered child that is linked to the resident.
    #[sqlx(try_from = "OptionalText")]
    pub child_id: Option<ChildId>,
    /// Pseudonym of the child, also before anybody registers it.
    pub person_key: i64,
    /// Repeats sent.
    pub repeats: i64,
    /// Day of the last notice.
    #[sqlx(try_from = "OptionalDateText")]
    pub last_sent_on: Option<Date>,
    /// When it was made.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
}

impl Solicitation {
    /// The state.
    pub fn state(&self) -> Result<SolicitationState, StoreError> {
        SolicitationState::parse(&self.state).ok_or(StoreError::Corrupt { what: "solicitation state" })
    }
}

macro_rules! select_solicitation {
    ($rest:literal) => {
        concat!(
            "SELECT solicitation_id, municipality_code, resident_no, state, reason, channel, guardian_id, child_id, person_key, ",
            "repeats, last_sent_on, created_at_us FROM solicitation ", $rest
        )
    };
}

/// A line of the operator's list.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SolicitationLine {
    /// Id.
    #[sqlx(try_from = "String")]
    pub solicitation_id: SolicitationId,
    /// Number in the register.
    pub resident_no: String,
    /// Name of the child.
    pub child_name: String,
    /// Household in the register.
    pub household_no: String,
    /// Number of the registered child, if there is one.
    pub child_no: Option<String>,
    /// Code of [`SolicitationState`].
    pub state: String,
    /// Why the child became a target.
    pub reason: String,
    /// `inbox` or `paper`, of the last notice.
    pub channel: Option<String>,
    /// Repeats sent.
    pub repeats: i64,
    /// Day of the last notice.
    #[sqlx(try_from = "OptionalDateText")]
    pub last_sent_on: Option<Date>,
}

/// A household head with a working sign-in, as rule 8 of Part J compares it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct RegisteredGuardian {
    /// Household.
    #[sqlx(try_from = "String")]
    pub guardian_id: GuardianId,
    /// Name in kana as registered.
    pub name_kana: String,
    /// Birth date.
    #[sqlx(try_from = "DateText")]
    pub birth_date: Date,
}

/// A registered child without a resident number whose application is open.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct UnmatchedApplicant {
    /// Name in kana as registered.
    pub name_kana: String,
    /// Sex.
    pub sex: String,
    /// Birth date.
    #[sqlx(try_from = "DateText")]
    pub birth_date: Date,
}

impl Tx {
    /// Adds an invitation; `false` when the resident has one.
    pub async fn insert_solicitation(&mut self, row: &Solicitation) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "INSERT INTO solicitation (solicitation_id, municipality_code, resident_no, state, reason, channel, guardian_id, child_id,
                person_key, repeats, last_sent_on, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (municipality_code, resident_no) DO NOTHING",
            row.solicitation_id.to_string(), row.municipality_code.as_str(), &row.resident_no, &row.state, &row.reason,
            row.channel.as_deref(), row.guardian_id.map(|id| id.to_string()), row.child_id.map(|id| id.to_string()),
            row.person_key, row.repeats, row.last_sent_on.map(|day| day.to_string()), row.created_at.as_micros(),
        )?;
        Ok(n > 0)
    }

    /// Writes what may change of an invitation, if its state is still `from`; `false` when somebody else was first.
    pub async fn update_solicitation(
        &mut self,
        row: &Solicitation,
        from: SolicitationState,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE solicitation SET state = $2, reason = $3, channel = $4, guardian_id = $5, child_id = $6, repeats = $7, last_sent_on = $8
             WHERE solicitation_id = $1 AND state = $9",
            row.solicitation_id.to_string(), &row.state, &row.reason, row.channel.as_deref(),
            row.guardian_id.map(|id| id.to_string()), row.child_id.map(|id| id.to_string()), row.repeats,
            row.last_sent_on.map(|day| day.to_string()), from.as_str(),
        )?;
        Ok(n > 0)
    }

    /// The invitation of a resident.
    pub async fn solicitation_of_resident(
        &mut self,
        code: &MunicipalityCode,
        resident_no: &str,
    ) -> Result<Option<Solicitation>, StoreError> {
        let row = fetch_optional!(
            self,
            Solicitation,
            select_solicitation!("WHERE municipality_code = $1 AND resident_no = $2"),
            code.as_str(),
            resident_no,
        )?;
        Ok(self.see(row))
    }

    /// Whether the municipality has ever invited anybody.
    pub async fn has_solicitations(&mut self, code: &MunicipalityCode) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = fetch_optional!(
            self,
            (i64,),
            "SELECT repeats FROM solicitation WHERE municipality_code = $1 LIMIT 1",
            self.wall.inside(code)
        )?;
        Ok(row.is_some())
    }

    /// Children of the register to invite, born on or after `born_from`, with a number above `after`: living
    /// here, without an invitation (or with one that ended because they were away) and without an application.
    pub async fn residents_to_solicit(
        &mut self,
        code: &MunicipalityCode,
        born_from: Date,
        after: &str,
        n_max: i64,
    ) -> Result<Vec<Resident>, StoreError> {
        let rows = fetch_all!(
            self,
            Resident,
            select_resident!(
                "LEFT JOIN solicitation s ON s.municipality_code = r.municipality_code AND s.resident_no = r.resident_no
                 LEFT JOIN child c ON c.municipality_code = r.municipality_code AND c.resident_no = r.resident_no
                 WHERE r.municipality_code = $1 AND r.birth_date >= $2 AND r.resident_no > $3
                 AND r.movement_kind NOT IN ('move_out', 'death', 'delete')
                 AND (s.state IS NULL OR s.state = 'out_of_target') AND c.moved_out_on IS NULL
                 AND NOT EXISTS (SELECT 1 FROM application a WHERE a.child_id = c.child_id AND a.state <> 'cancelled')
                 ORDER BY r.resident_no LIMIT $4"
            ),
            code.as_str(),
            born_from.to_string(),
            after,
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Invitations whose last notice went out on or before `sent_until`, with an id above `after`.
    pub async fn solicitations_to_repeat(
        &mut self,
        code: &MunicipalityCode,
        sent_until: Date,
        after: &str,
        n_max: i64,
    ) -> Result<Vec<Solicitation>, StoreError> {
        let rows = fetch_all!(
            self,
            Solicitation,
            select_solicitation!(
                "WHERE municipality_code = $1 AND state = 'solicited' AND last_sent_on <= $2 AND solicitation_id > $3
                 ORDER BY solicitation_id LIMIT $4"
            ),
            code.as_str(),
            sent_until.to_string(),
            after,
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Open invitations that reached a household through the app, or whose child it has registered.
    pub async fn solicitations_of_guardian(&mut self, guardian: GuardianId) -> Result<Vec<Solicitation>, StoreError> {
        let rows = fetch_all!(
            self,
            Solicitation,
            select_solicitation!(
                "WHERE guardian_id = $1 AND state = 'solicited' ORDER BY created_at_us, solicitation_id"
            ),
            guardian.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// The operator's list, newest first, before the invitation `before`; an empty `state` lists all.
    pub async fn solicitation_lines(
        &mut self,
        code: &MunicipalityCode,
        state: &str,
        before: Option<SolicitationId>,
        n_max: i64,
    ) -> Result<Vec<SolicitationLine>, StoreError> {
        fetch_all!(
            self, SolicitationLine,
            "SELECT s.solicitation_id, s.resident_no, r.name AS child_name, r.household_no, c.child_no, s.state, s.reason, s.channel,
                s.repeats, s.last_sent_on
             FROM solicitation s
             JOIN resident r ON r.municipality_code = s.municipality_code AND r.resident_no = s.resident_no
             LEFT JOIN child c ON c.municipality_code = s.municipality_code AND c.resident_no = s.resident_no
             WHERE s.municipality_code = $1 AND s.solicitation_id < $2 AND ($4 = '' OR s.state = $4) ORDER BY s.solicitation_id DESC LIMIT $3",
            self.wall.inside(code), before.map_or_else(|| "~".to_owned(), |id| id.to_string()), n_max, state,
        )
    }

    /// Number of invitations per state.
    pub async fn solicitation_counts(&mut self, code: &MunicipalityCode) -> Result<Vec<(String, i64)>, StoreError> {
        fetch_all!(
            self,
            (String, i64),
            "SELECT state, COUNT(*) FROM solicitation WHERE municipality_code = $1 GROUP BY state ORDER BY state",
            self.wall.inside(code),
        )
    }

    /// Heads of households with a working sign-in and a known birth date.
    pub async fn registered_guardians(
        &mut self,
        code: &MunicipalityCode,
    ) -> Result<Vec<RegisteredGuardian>, StoreError> {
        fetch_all!(
            self, RegisteredGuardian,
            "SELECT g.guardian_id, g.name_kana, g.birth_date FROM guardian g
             JOIN account a ON a.guardian_id = g.guardian_id AND a.role = 'guardian' AND a.state IN ('active', 'locked') AND a.email IS NOT NULL
             WHERE g.municipality_code = $1 AND g.birth_date IS NOT NULL AND g.deleted_at_us IS NULL ORDER BY g.guardian_id",
            self.wall.inside(code),
        )
    }

    /// Whether the household's head can sign in.
    pub async fn has_sign_in(&mut self, guardian: GuardianId) -> Result<bool, StoreError> {
        let row: Option<(String,)> = fetch_optional!(
            self,
            (String,),
            "SELECT account_id FROM account WHERE guardian_id = $1 AND role = 'guardian' AND state IN ('active', 'locked') AND email IS NOT NULL LIMIT 1",
            guardian.to_string(),
        )?;
        Ok(row.is_some())
    }

    /// Registered children without a resident number for whom somebody has applied.
    pub async fn unmatched_applicants(
        &mut self,
        code: &MunicipalityCode,
    ) -> Result<Vec<UnmatchedApplicant>, StoreError> {
        fetch_all!(
            self,
            UnmatchedApplicant,
            "SELECT c.name_kana, c.sex, c.birth_date FROM child c
             WHERE c.municipality_code = $1 AND c.resident_no IS NULL
             AND EXISTS (SELECT 1 FROM application a WHERE a.child_id = c.child_id AND a.state <> 'cancelled')",
            self.wall.inside(code),
        )
    }
}
