//! Mails with a single-use link or a code.

use std::time::Duration;

use serde_json::json;
use todoke_domain::{
    Event, Timestamp,
    catalogue::template::{Placeholder, Placeholders},
};
use todoke_store::{Wall, account::Account, session::MailLink};

use crate::{Work, Workflow, WorkflowError, error::SignInError, messaging::About, secret, work::Subject};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    ConfirmRegistration,
    SetPassword,
    ChangeEmail,
}

impl LinkKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmRegistration => "confirm_registration",
            Self::SetPassword => "set_password",
            Self::ChangeEmail => "change_email",
        }
    }

    /// The screen; staff have an entrance of their own (N-SEC-07).
    const fn path(self, household: bool) -> &'static str {
        match (self, household) {
            (Self::ConfirmRegistration, _) => "/register/confirm?token=",
            (Self::SetPassword, true) => "/password-reset/confirm?token=",
            (Self::SetPassword, false) => "/staff/password-reset/confirm?token=",
            (Self::ChangeEmail, true) => "/email-change/confirm?token=",
            (Self::ChangeEmail, false) => "/staff/email-change/confirm?token=",
        }
    }
}

impl Workflow {
    /// The account a usable link belongs to; the link stays usable.
    pub(super) async fn link_account(
        &self,
        token: &str,
        kind: LinkKind,
        now: Timestamp,
    ) -> Result<Account, WorkflowError> {
        let refused = || WorkflowError::SignIn(SignInError::Link);
        let mut tx = self.store().begin_read(Wall::None).await?;
        let link = tx.mail_link(&secret::hash(token), kind.as_str(), now).await?.ok_or_else(refused)?;
        tx.account(link.account_id).await?.ok_or_else(refused)
    }
}

impl Work<'_> {
    /// Uses a link up, in the transaction of what it is for, and locks its account; gives what it carries.
    pub(super) async fn spend_link(
        &mut self,
        token: &str,
        kind: LinkKind,
        account: &Account,
    ) -> Result<(Account, String), WorkflowError> {
        let refused = || WorkflowError::SignIn(SignInError::Link);
        let link = self.tx.use_mail_link(&secret::hash(token), kind.as_str(), self.now).await?.ok_or_else(refused)?;
        let account = self.tx.lock_account(account.account_id).await?.ok_or_else(refused)?;
        Ok((account, link.detail))
    }

    /// Makes a link; only its hash stays in the record.
    pub(super) async fn make_link(
        &mut self,
        account: &Account,
        kind: LinkKind,
        detail: &str,
        ttl: Duration,
    ) -> Result<String, WorkflowError> {
        let token = secret::token();
        let link = MailLink {
            kind: kind.as_str().to_owned(),
            account_id: account.account_id,
            detail: detail.to_owned(),
            expires_at: self.now.plus(ttl),
        };
        self.tx.insert_mail_link(&secret::hash(&token), &link).await?;
        Ok(self.workflow.link(&format!("{}{token}", kind.path(account.role.is_household()))))
    }

    /// Notes an `account.*` event about one account, whose pseudonym is its subject.
    pub(super) fn account_event(&mut self, event_type: &str, account: &Account, payload: serde_json::Value) -> Event {
        let key = account.person_key.unwrap_or_default();
        self.event(event_type, Subject::new("account", key), payload)
    }

    /// Raises the messages about an account to its holder.
    pub(super) async fn tell_account(
        &mut self,
        event: &Event,
        account: &Account,
        values: Placeholders,
    ) -> Result<(), WorkflowError> {
        let contact = self.contact().await?;
        let about = About {
            subject_kind: "account",
            subject_id: account.account_id.to_string(),
            state: account.state.clone(),
            guardian: account.guardian_id,
            facility: account.facility_id,
            account: Some(account.clone()),
            values: values.with(Placeholder::Contact, contact),
            ..About::default()
        };
        self.raise(event, &about).await
    }

    /// Mails the same news to the address that is about to be replaced.
    pub(super) async fn warn_old_address(
        &mut self,
        event: &Event,
        account: &Account,
        path: &str,
    ) -> Result<(), WorkflowError> {
        let contact = self.contact().await?;
        let values =
            Placeholders::new().with(Placeholder::Link, self.workflow.link(path)).with(Placeholder::Contact, contact);
        let about = About {
            subject_kind: "account",
            subject_id: account.account_id.to_string(),
            state: account.state.clone(),
            account: Some(account.clone()),
            values,
            once_per: Some(format!("{}:old", event.event_id)),
            ..About::default()
        };
        self.raise(event, &about).await
    }

    /// Mails a link for a password and notes why.
    pub(super) async fn send_password_link(&mut self, account: &Account) -> Result<(), WorkflowError> {
        let link = self.make_link(account, LinkKind::SetPassword, "", todoke_domain::account::LINK_TTL).await?;
        let event = self.account_event(
            "account.password_reset_requested",
            account,
            json!({ "account_key": account.person_key }),
        );
        let minutes = todoke_domain::account::LINK_TTL.as_secs() / 60;
        let values = Placeholders::new().with(Placeholder::Link, link).with(Placeholder::Minutes, minutes.to_string());
        self.tell_account(&event, account, values).await
    }
}
