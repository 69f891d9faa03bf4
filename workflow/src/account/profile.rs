//! A person's own data: profile and sign-in address (flow F02 step 6).

use serde_json::json;
use todoke_domain::{
    Timestamp,
    account::{Email, LINK_TTL},
    catalogue::template::{Placeholder, Placeholders},
    text,
};
use todoke_store::{account::Account, guardian::Guardian};

use super::{
    link::LinkKind,
    office::address_taken,
    registration::{check_ward, known_language, optional_line},
};
use crate::{Actor, FieldError, Workflow, WorkflowError, error::Fields, revision::Revision};

/// What a person may change of the own profile; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    /// Name.
    pub name: Option<String>,
    /// Name in kana.
    pub name_kana: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// Address.
    pub address: Option<String>,
    /// Ward.
    pub ward_code: Option<String>,
    /// Phone.
    pub phone: Option<String>,
    /// `app`, `paper` or `both`.
    pub contact_channel: Option<String>,
    /// Locale of the messages; no form shows it beside the rest, so it is no part of the fingerprint.
    pub language: Option<String>,
    /// What the form was filled from; another content refuses the change.
    pub expected: Option<String>,
}

/// The fingerprint of what the profile's form overwrites.
pub fn profile_revision(account: &Account, guardian: Option<&Guardian>) -> Result<Revision, WorkflowError> {
    let household = guardian.map(|g| (&g.postal_code, &g.address, &g.ward_code, &g.phone, &g.contact_channel));
    Revision::of(&(&account.name, &account.name_kana, household))
}

impl Workflow {
    /// The caller's account, and the household's data where there is one.
    pub async fn profile(&self, actor: &Actor) -> Result<(Account, Option<Guardian>), WorkflowError> {
        let id = actor.account()?;
        let mut tx = self.read(actor).await?;
        let account = tx.account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let guardian = match account.guardian_id {
            Some(guardian) => tx.guardian(guardian).await?,
            None => None,
        };
        Ok((account, guardian))
    }

    /// The living accounts of the caller's household.
    pub async fn own_household(&self, actor: &Actor) -> Result<Vec<Account>, WorkflowError> {
        let (_, guardian) = actor.household()?;
        let mut tx = self.read(actor).await?;
        Ok(tx.household_accounts(guardian).await?)
    }

    /// Changes the caller's profile.
    ///
    /// Errors: [`WorkflowError::Stale`] when it is no longer what the change began from.
    pub async fn change_profile(
        &self,
        actor: &Actor,
        change: &ProfileChange,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let id = actor.account()?;
        let mut fields = Fields::default();
        let mut work = self.begin(actor, now).await?;
        let mut account = work.tx.lock_account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let shown = match account.guardian_id {
            Some(guardian) => work.tx.guardian(guardian).await?,
            None => None,
        };
        profile_revision(&account, shown.as_ref())?.expect(change.expected.as_deref())?;
        let mut changed: Vec<&str> = Vec::new();
        if let Some(name) = change.name.as_deref().and_then(|raw| fields.take("name", text::line(raw, 100))) {
            account.name = name;
            changed.push("name");
        }
        if let Some(kana) = change.name_kana.as_deref().and_then(|raw| fields.take("name_kana", text::kana(raw, 100))) {
            account.name_kana = kana;
            changed.push("name_kana");
        }
        let language = change.language.as_deref().and_then(|raw| fields.take("language", known_language(raw)));
        if let Some(language) = language.filter(|asked| *asked != account.language) {
            language.clone_into(&mut account.language);
            changed.push("language");
        }
        let mut guardian = match account.guardian_id {
            Some(_) if account.role == todoke_domain::Role::Guardian => shown,
            _ => None,
        };
        if let Some(guardian) = &mut guardian {
            guardian.name.clone_from(&account.name);
            guardian.name_kana.clone_from(&account.name_kana);
            change_household(guardian, change, &mut fields, &mut changed);
        }
        fields.finish()?;
        work.tx.update_account(&account).await?;
        if let Some(guardian) = &guardian {
            work.tx.update_guardian(guardian).await?;
        }
        let ward = guardian.as_ref().filter(|_| changed.contains(&"ward_code")).map(|g| g.ward_code.clone());
        let channel =
            guardian.as_ref().filter(|_| changed.contains(&"contact_channel")).map(|g| g.contact_channel.clone());
        work.account_event("account.updated", &account, json!({
            "account_key": account.person_key, "changed_items": changed, "ward_code": ward, "contact_channel": channel,
        }));
        work.commit().await?;
        Ok(())
    }

    /// Asks for another sign-in address: links go to the old and the new one, and the one sent to the new
    /// address makes the change.
    pub async fn request_email_change(&self, actor: &Actor, email: &str, now: Timestamp) -> Result<(), WorkflowError> {
        let id = actor.account()?;
        let email = Email::try_from(email.to_owned())
            .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("email", error.to_string())]))?;
        let taken = {
            let mut tx = self.store().begin_read(todoke_store::Wall::None).await?;
            tx.account_by_email(email.as_str()).await?.is_some()
        };
        // Whether somebody else has the address is not told (N-SEC-24): the mail simply does not come.
        if taken {
            return Ok(());
        }
        let mut work = self.begin(actor, now).await?;
        let account = work.tx.lock_account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let link = work.make_link(&account, LinkKind::ChangeEmail, email.as_str(), LINK_TTL).await?;
        let event = work.account_event(
            "account.email_change_requested",
            &account,
            json!({ "account_key": account.person_key }),
        );
        let values = Placeholders::new().with(Placeholder::Link, link);
        let at_new = Account { email: Some(email.as_str().to_owned()), ..account.clone() };
        work.tell_account(&event, &at_new, values).await?;
        // The old address learns of it too, with a link that undoes nothing but shows the settings: whoever
        // holds it must notice when somebody else makes the change.
        let settings = if account.role.is_household() { "/settings" } else { "/staff/account" };
        work.warn_old_address(&event, &account, settings).await?;
        work.commit().await?;
        Ok(())
    }

    /// Makes the change of address by the mailed link.
    pub async fn confirm_email_change(&self, token: &str, now: Timestamp) -> Result<(), WorkflowError> {
        let pending = self.link_account(token, LinkKind::ChangeEmail, now).await?;
        let actor = Actor::of(&pending, None);
        let mut work = self.begin(&actor, now).await?;
        let (mut account, email) = work.spend_link(token, LinkKind::ChangeEmail, &pending).await?;
        account.email = Some(email);
        work.tx.update_account(&account).await.map_err(address_taken)?;
        work.account_event("account.email_changed", &account, json!({ "account_key": account.person_key }));
        work.commit().await?;
        Ok(())
    }
}

fn change_household(
    guardian: &mut Guardian,
    change: &ProfileChange,
    fields: &mut Fields,
    changed: &mut Vec<&'static str>,
) {
    let mut line = |name: &'static str, raw: &Option<String>, chars_max: usize, into: &mut String| {
        if let Some(value) = raw.as_deref().and_then(|raw| fields.take(name, optional_line(raw, chars_max))) {
            if *into != value {
                *into = value;
                changed.push(name);
            }
        }
    };
    line("postal_code", &change.postal_code, 10, &mut guardian.postal_code);
    line("address", &change.address, 300, &mut guardian.address);
    line("phone", &change.phone, 20, &mut guardian.phone);
    line("contact_channel", &change.contact_channel, 10, &mut guardian.contact_channel);
    if !matches!(guardian.contact_channel.as_str(), "app" | "paper" | "both") {
        fields.refuse("contact_channel", "連絡方法を選んでください。");
    }
    if let Some(ward_code) = change.ward_code.as_ref().filter(|asked| **asked != guardian.ward_code) {
        check_ward(ward_code, fields);
        guardian.ward_code.clone_from(ward_code);
        changed.push("ward_code");
    }
}
