//! Consents and notification switches (N-SEC-05, N-SEC-12, messages.md §12).

use serde_json::json;
use todoke_domain::{
    Role, Timestamp,
    catalogue::messages::{self, Category, Channel, Class},
    role::Permission,
};
use todoke_store::account::{Account, Consent, Preference};

use super::office::TERMS_VERSION;
use crate::{Actor, FieldError, Work, Workflow, WorkflowError};

/// The permission to use ID and identity data (N-SEC-13).
const IDENTITY_DATA: &str = "identity_data";
/// The permission to count how the app is used (events.md 5.9).
pub(crate) const USAGE_ANALYTICS: &str = "usage_analytics";
/// Consents a person may give and withdraw alone.
const WITHDRAWABLE: [&str; 2] = [USAGE_ANALYTICS, IDENTITY_DATA];

impl Work<'_> {
    /// Sets a consent and notes it.
    pub(crate) async fn grant(&mut self, account: &Account, kind: &str, granted: bool) -> Result<(), WorkflowError> {
        let consent = Consent { kind: kind.to_owned(), version: TERMS_VERSION, granted, at_us: self.now.as_micros() };
        self.tx.set_consent(account.account_id, &consent).await?;
        if kind == USAGE_ANALYTICS {
            self.tx.review_reach(account.account_id).await?;
        }
        let (event_type, payload) = match (kind, granted) {
            (IDENTITY_DATA, true) => (
                "account.identity_permission_granted",
                json!({ "guardian_key": account.person_key, "scope": "identity" }),
            ),
            (IDENTITY_DATA, false) => (
                "account.identity_permission_withdrawn",
                json!({ "guardian_key": account.person_key, "scope": "identity" }),
            ),
            (_, true) => (
                "account.consent_granted",
                json!({ "guardian_key": account.person_key, "consent_kind": kind, "version": TERMS_VERSION }),
            ),
            (_, false) => (
                "account.consent_withdrawn",
                json!({ "guardian_key": account.person_key, "consent_kind": kind, "version": TERMS_VERSION }),
            ),
        };
        let event = self.account_event(event_type, account, payload);
        if kind == IDENTITY_DATA {
            use todoke_domain::catalogue::template::{Placeholder, Placeholders};
            let status = if granted { "許諾する" } else { "許諾しない" };
            self.tell_account(&event, account, Placeholders::new().with(Placeholder::Status, status)).await?;
        }
        Ok(())
    }
}

impl Workflow {
    /// The caller's consents.
    pub async fn consents(&self, actor: &Actor) -> Result<Vec<Consent>, WorkflowError> {
        let id = actor.account()?;
        let mut tx = self.read(actor).await?;
        Ok(tx.consents(id).await?)
    }

    /// Gives or withdraws a consent; it holds from the commit on. The permission for identity data is the guardian's
    /// alone: a proxy is refused.
    pub async fn set_consent(
        &self,
        actor: &Actor,
        kind: &str,
        granted: bool,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let id = actor.account()?;
        if !WITHDRAWABLE.contains(&kind) {
            return Err(WorkflowError::NotFound("consent"));
        }
        if kind == IDENTITY_DATA {
            actor.require(Permission::ManageOwnHousehold)?;
        }
        let mut work = self.begin(actor, now).await?;
        if work.tx.has_consent(id, kind).await? == granted {
            return Ok(());
        }
        let account = work.tx.account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        work.grant(&account, kind, granted).await?;
        work.commit().await?;
        Ok(())
    }

    /// From when on usage of the app by this account may be collected; `None` if it may not.
    pub async fn usage_agreed_since(&self, actor: &Actor) -> Result<Option<Timestamp>, WorkflowError> {
        Ok(self.store().agreed_since(actor.account()?, USAGE_ANALYTICS).await?)
    }

    /// Accepts the current terms and privacy policy.
    pub async fn accept_terms(&self, actor: &Actor, now: Timestamp) -> Result<(), WorkflowError> {
        let id = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        let mut account = work.tx.lock_account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        if account.terms_version < TERMS_VERSION {
            account.terms_version = TERMS_VERSION;
            work.tx.update_account(&account).await?;
            work.grant(&account, "terms", true).await?;
            work.grant(&account, "privacy", true).await?;
            work.commit().await?;
        }
        Ok(())
    }

    /// The switches the caller has set.
    pub async fn preferences(&self, actor: &Actor) -> Result<Vec<Preference>, WorkflowError> {
        let id = actor.account()?;
        let mut tx = self.read(actor).await?;
        Ok(tx.preferences(id).await?)
    }

    /// The one switch of office accounts (messages.md §12): whether optional messages come by mail as well.
    /// `None` for households, which have a switch per category.
    pub async fn receive_mail(&self, actor: &Actor) -> Result<Option<bool>, WorkflowError> {
        if actor.role.is_none_or(Role::is_household) {
            return Ok(None);
        }
        let set = self.preferences(actor).await?;
        Ok(Some(!set.iter().any(|item| item.channel == Channel::Email.as_str() && !item.enabled)))
    }

    /// Turns that switch. Mandatory messages come in any case.
    pub async fn set_receive_mail(&self, actor: &Actor, on: bool, now: Timestamp) -> Result<(), WorkflowError> {
        if actor.role.is_none_or(Role::is_household) {
            let detail = "この設定は、お知らせの種類ごとに変更してください。";
            return Err(WorkflowError::Invalid(vec![FieldError::new("receive_mail", detail)]));
        }
        let optional = |category: &Category| {
            messages::all().iter().any(|kind| kind.category == *category && kind.class == Class::Optional)
        };
        let items: Vec<Preference> = Category::ALL
            .into_iter()
            .filter(optional)
            .map(|category| Preference {
                category: category.as_str().to_owned(),
                channel: Channel::Email.as_str().to_owned(),
                enabled: on,
            })
            .collect();
        self.set_preferences(actor, &items, now).await
    }

    /// Sets switches. Mandatory messages come in any case.
    pub async fn set_preferences(
        &self,
        actor: &Actor,
        items: &[Preference],
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let id = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        let account = work.tx.account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        for (i, item) in items.iter().enumerate() {
            let known =
                todoke_domain::catalogue::messages::all().iter().any(|kind| kind.category.as_str() == item.category);
            if !known || !matches!(item.channel.as_str(), "push" | "email") {
                return Err(WorkflowError::Invalid(vec![FieldError::new(
                    format!("items.{i}"),
                    "この設定はありません。",
                )]));
            }
            work.tx.set_preference(id, item).await?;
            work.account_event("account.mail_preference_changed", &account, json!({
                "account_key": account.person_key, "category": item.category, "channel": item.channel, "enabled": item.enabled,
            }));
        }
        work.commit().await?;
        Ok(())
    }
}
