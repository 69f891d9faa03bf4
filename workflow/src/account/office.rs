//! Accounts that offices issue: staff, operator, city, analysts (flows C2, G01).

use std::time::Duration;

use jiff::civil::Date;
use serde_json::json;
use todoke_domain::{
    Event, Role, Timestamp,
    account::{AccountState, Email, INVITATION_TTL, MANAGERS_MAX},
    catalogue::{
        format,
        messages::LOCALE_COMPLETE,
        template::{Placeholder, Placeholders},
    },
    ids::{AccountId, FacilityId},
    role::Permission,
    text,
    time::add_days,
};
use todoke_store::{StoreError, account::Account};

use super::link::LinkKind;
use crate::{
    Actor, FieldError, Work, Workflow, WorkflowError, error::Fields, messaging::About, revision::Revision, secret,
    work::Subject,
};

/// Version of the terms of use and the privacy policy in force.
pub const TERMS_VERSION: i64 = 1;
/// Default last day of an account (`staff_account_end`).
pub(super) const FOREVER: Date = Date::constant(2999, 12, 31);
/// Days before the last one when managers are told of it (T18).
const WARNED_DAYS: i32 = 14;

/// An account as entered.
#[derive(Debug, Clone, Default)]
pub struct OfficeDraft {
    /// Address.
    pub email: String,
    /// Name.
    pub name: String,
    /// Code of the role.
    pub role: String,
    /// Facility, for its staff.
    pub facility_id: Option<String>,
    /// First day, `YYYY-MM-DD`; today by default.
    pub valid_from: Option<String>,
    /// Last day, `YYYY-MM-DD`; 2999-12-31 by default.
    pub valid_to: Option<String>,
}

/// A change of an account; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct OfficeChange {
    /// Name.
    pub name: Option<String>,
    /// First day, `YYYY-MM-DD`.
    pub valid_from: Option<String>,
    /// Last day, `YYYY-MM-DD`.
    pub valid_to: Option<String>,
    /// What the form was filled from; another content refuses the change.
    pub expected: Option<String>,
}

/// The fingerprint of what an account's form overwrites.
pub fn account_revision(account: &Account) -> Result<Revision, WorkflowError> {
    Revision::of(&(&account.name, account.valid_from.to_string(), account.valid_to.to_string()))
}

/// One address has one role only (N-SEC-08).
pub(super) fn address_taken(error: StoreError) -> WorkflowError {
    match error {
        StoreError::Conflict { .. } => {
            WorkflowError::Invalid(vec![FieldError::new("email", "このメールアドレスはすでに使われています。")])
        }
        other => other.into(),
    }
}

impl Workflow {
    /// Issues an account and mails the link for its first password.
    ///
    /// Managers issue staff of their own facility; the municipality issues everybody else, but for viewers of
    /// aggregates: those belong to an authority, whose accounts only the system issues.
    /// Errors: a third manager of a facility is [`WorkflowError::Conflict`].
    pub async fn issue_account(
        &self,
        actor: &Actor,
        draft: &OfficeDraft,
        now: Timestamp,
    ) -> Result<Account, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let account = work.issue(draft).await?;
        work.commit().await?;
        Ok(account)
    }

    /// Issues an account whose password is known already: a demo's.
    pub async fn issue_account_with_password(
        &self,
        actor: &Actor,
        draft: &OfficeDraft,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<Account, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut account = work.issue(draft).await?;
        account.password_hash = Some(password_hash.to_owned());
        account.state = AccountState::Active.as_str().to_owned();
        account.terms_version = TERMS_VERSION;
        work.tx.update_account(&account).await?;
        work.account_event(
            "account.activated",
            &account,
            json!({ "account_key": account.person_key, "role": account.role.as_str() }),
        );
        work.commit().await?;
        Ok(account)
    }

    /// Accounts the caller may manage, those with `words` in name or address; without words all of them.
    pub async fn office_accounts(&self, actor: &Actor, words: &str) -> Result<Vec<Account>, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let mut accounts = match actor.facility_id {
            Some(facility) => {
                actor.require(Permission::ManageFacilityStaff)?;
                tx.facility_accounts(facility).await?
            }
            None => {
                actor.require(Permission::ManageAccounts)?;
                tx.office_accounts(&actor.municipality_code).await?
            }
        };
        let words = words.trim().to_lowercase();
        let address = |account: &Account| account.email.as_deref().unwrap_or_default().contains(&words);
        accounts.retain(|account| account.name.to_lowercase().contains(&words) || address(account));
        Ok(accounts)
    }

    /// Changes name and validity of an account.
    ///
    /// Errors: [`WorkflowError::Stale`] when it is no longer what the change began from.
    pub async fn change_account(
        &self,
        actor: &Actor,
        id: AccountId,
        change: &OfficeChange,
        now: Timestamp,
    ) -> Result<Account, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let mut account = work.managed(id).await?;
        account_revision(&account)?.expect(change.expected.as_deref())?;
        let mut fields = Fields::default();
        let mut changed = Vec::new();
        if let Some(name) = change.name.as_deref().and_then(|name| fields.take("name", text::line(name, 100))) {
            account.name = name;
            changed.push("name");
        }
        let mut day = |name: &'static str, raw: &Option<String>, into: &mut Date| {
            let day = raw.as_deref().and_then(|day| fields.take(name, day.parse::<Date>().map_err(|_| BAD_DAY)));
            if let Some(day) = day {
                *into = day;
                changed.push(name);
            }
        };
        day("valid_from", &change.valid_from, &mut account.valid_from);
        day("valid_to", &change.valid_to, &mut account.valid_to);
        fields.finish()?;
        work.tx.update_account(&account).await?;
        work.account_event(
            "account.updated",
            &account,
            json!({ "account_key": account.person_key, "changed_items": changed }),
        );
        work.commit().await?;
        Ok(account)
    }

    /// Deletes an account; its sessions, tokens and sockets end at once (N-SEC-09).
    pub async fn delete_office_account(
        &self,
        actor: &Actor,
        id: AccountId,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let account = work.managed(id).await?;
        work.tx.end_sessions_of(id, now).await?;
        work.tx.delete_account(id, now).await?;
        let event = work.account_event(
            "account.deleted",
            &account,
            json!({
                "account_key": account.person_key, "role": account.role.as_str(), "reason": "left", "cascaded": false,
            }),
        );
        work.tell_account(&event, &account, Placeholders::new().with(Placeholder::Date, format::day(now.jst_date())))
            .await?;
        work.commit().await?;
        self.live().account_ended(id);
        Ok(())
    }

    /// Ends accounts whose last day has passed (T18); their sessions and sockets go too.
    pub async fn end_accounts(&self, actor: &Actor, now: Timestamp) -> Result<usize, WorkflowError> {
        let mut work = self.begin_long(actor, now).await?;
        let over = work.tx.accounts_past_end(now.jst_date()).await?;
        for account in &over {
            let mut ended = account.clone();
            ended.state = AccountState::Ended.as_str().to_owned();
            work.tx.update_account(&ended).await?;
            work.tx.end_sessions_of(account.account_id, now).await?;
            work.account_event(
                "account.ended",
                account,
                json!({ "account_key": account.person_key, "reason": "end_date" }),
            );
        }
        work.commit().await?;
        for account in &over {
            self.live().account_ended(account.account_id);
        }
        Ok(over.len())
    }

    /// Tells the managers of each facility how many of its accounts end a fortnight after `today` (T18), in one
    /// message; gives the number of accounts.
    pub async fn warn_of_account_end(
        &self,
        actor: &Actor,
        today: Date,
        now: Timestamp,
    ) -> Result<usize, WorkflowError> {
        let ends_on = add_days(today, WARNED_DAYS);
        let mut work = self.begin_long(actor, now).await?;
        let ending = work.tx.facility_accounts_ending_on(ends_on).await?;
        for colleagues in ending.chunk_by(|a, b| a.facility_id == b.facility_id) {
            let Some(facility) = colleagues[0].facility_id else { continue };
            let about = About {
                subject_kind: "facility",
                subject_id: facility.to_string(),
                state: "ending".to_owned(),
                facility: Some(facility),
                values: Placeholders::new()
                    .with(Placeholder::Count, colleagues.len().to_string())
                    .with(Placeholder::Date, format::day(ends_on)),
                facts: vec![("stage", json!("before_end"))],
                office_link: "/staff/facility/members".to_owned(),
                once_per: Some(ends_on.to_string()),
                ..About::default()
            };
            let cause = work.uncaused(Subject::new("facility", facility));
            work.raise_timer("T18", &cause, &about).await?;
        }
        work.commit().await?;
        Ok(ending.len())
    }
}

const BAD_DAY: &str = "日付を YYYY-MM-DD の形式で入力してください。";

impl Work<'_> {
    async fn issue(&mut self, draft: &OfficeDraft) -> Result<Account, WorkflowError> {
        let mut fields = Fields::default();
        let email = fields.take("email", Email::try_from(draft.email.clone()));
        let name = fields.take("name", text::line(&draft.name, 100));
        let role = fields.take("role", draft.role.parse::<Role>().map_err(|_| "役割を選んでください。"));
        let day = |raw: &Option<String>, default: Date| match raw.as_deref().filter(|day| !day.is_empty()) {
            Some(day) => day.parse::<Date>().map_err(|_| BAD_DAY),
            None => Ok(default),
        };
        let valid_from = fields.take("valid_from", day(&draft.valid_from, self.now.jst_date()));
        let valid_to = fields.take("valid_to", day(&draft.valid_to, FOREVER));
        let facility_id = match draft.facility_id.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => fields.take("facility_id", id.parse::<FacilityId>().map_err(|_| "事業所を選んでください。")),
            None => self.actor.facility_id,
        };
        fields.finish()?;
        let (Some(email), Some(name), Some(role), Some(valid_from), Some(valid_to)) =
            (email, name, role, valid_from, valid_to)
        else {
            return Err(WorkflowError::Internal("unchecked account"));
        };
        self.may_issue(role, facility_id).await?;
        let account = Account {
            account_id: AccountId::new(self.now),
            municipality_code: self.actor.municipality_code.clone(),
            role,
            email: Some(email.as_str().to_owned()),
            name,
            name_kana: String::new(),
            password_hash: None,
            state: AccountState::Issued.as_str().to_owned(),
            guardian_id: None,
            facility_id: facility_id.filter(|_| role.is_facility()),
            relation: None,
            valid_from,
            valid_to,
            person_key: Some(secret::person_key()),
            terms_version: 0,
            language: LOCALE_COMPLETE.to_owned(),
        };
        self.tx.insert_account(&account, self.now).await.map_err(address_taken)?;
        let event = self.account_event(
            "account.issued",
            &account,
            json!({
                "account_key": account.person_key, "role": account.role.as_str(),
                "valid_from": account.valid_from.to_string(), "valid_to": account.valid_to.to_string(),
            }),
        );
        self.tell_issued(&event, &account, INVITATION_TTL).await?;
        Ok(account)
    }

    async fn may_issue(&mut self, role: Role, facility: Option<FacilityId>) -> Result<(), WorkflowError> {
        // No municipality makes somebody who sees figures of others, and an authority has nobody else.
        if (role == Role::StatsViewer) != self.actor.municipality_code.is_authority() {
            return Err(WorkflowError::Invalid(vec![FieldError::new(
                "role",
                "都道府県・こども家庭庁のアカウントは、その団体にだけ発行できます。その団体にほかの役割はありません。",
            )]));
        }
        if role.is_household() {
            return Err(WorkflowError::Invalid(vec![FieldError::new(
                "role",
                "この役割のアカウントは発行できません。",
            )]));
        }
        let own_staff =
            self.actor.facility_id.is_some() && self.actor.facility_id == facility && role == Role::FacilityStaff;
        if own_staff {
            self.actor.require(Permission::ManageFacilityStaff)?;
        } else {
            self.actor.require(Permission::ManageAccounts)?;
        }
        if !role.is_facility() {
            return Ok(());
        }
        let missing = || WorkflowError::Invalid(vec![FieldError::new("facility_id", "事業所を選んでください。")]);
        let facility = facility.ok_or_else(missing)?;
        self.tx.facility(facility).await?.ok_or_else(missing)?;
        let managers =
            self.tx.facility_accounts(facility).await?.iter().filter(|a| a.role == Role::FacilityManager).count();
        if role == Role::FacilityManager && i64::try_from(managers).unwrap_or(i64::MAX) >= MANAGERS_MAX {
            return Err(WorkflowError::Conflict("事業所管理者は2アカウントまでです。".to_owned()));
        }
        Ok(())
    }

    /// An account the actor may change: a manager's own staff, or anybody but households for the municipality.
    async fn managed(&mut self, id: AccountId) -> Result<Account, WorkflowError> {
        let account = self.tx.lock_account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let gone = account.state == AccountState::Deleted.as_str() || account.role.is_household();
        match self.actor.facility_id {
            Some(own) => {
                self.actor.require(Permission::ManageFacilityStaff)?;
                if account.facility_id != Some(own) || account.role != Role::FacilityStaff || gone {
                    return Err(WorkflowError::NotFound("account"));
                }
            }
            None => {
                self.actor.require(Permission::ManageAccounts)?;
                if gone {
                    return Err(WorkflowError::NotFound("account"));
                }
            }
        }
        Ok(account)
    }

    /// Mails the link for the first password.
    pub(super) async fn tell_issued(
        &mut self,
        event: &Event,
        account: &Account,
        ttl: Duration,
    ) -> Result<(), WorkflowError> {
        let link = self.make_link(account, LinkKind::SetPassword, "", ttl).await?;
        let title = match account.facility_id {
            Some(id) => self.tx.facility(id).await?.map(|facility| facility.name),
            None => {
                self.tx.municipality(&account.municipality_code.clone()).await?.map(|municipality| municipality.name)
            }
        };
        let values = Placeholders::new()
            .with(Placeholder::Title, title.unwrap_or_default())
            .with(Placeholder::Date, format::day(account.valid_from))
            .with(Placeholder::Link, link);
        self.tell_account(event, account, values).await
    }
}
