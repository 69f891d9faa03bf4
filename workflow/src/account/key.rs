//! Keys for machines, and the sources whose events they may send (flow G02).

use serde_json::json;
use todoke_domain::{
    Role, Timestamp,
    account::AccountState,
    catalogue::messages::LOCALE_COMPLETE,
    event_source::SourcePattern,
    ids::{AccountId, ApiKeyId},
    role::Permission,
    text,
};
use todoke_store::{
    StoreError, Wall,
    account::Account,
    session::{ApiKey, ListedKey},
};

use super::office::{FOREVER, TERMS_VERSION};
use crate::{
    Actor, FieldError, Workflow, WorkflowError, audit::Access, error::SignInError, revision::Revision, secret,
    work::Subject,
};

/// Sources of one key.
const SOURCES_MAX: usize = 20;
/// What the audit calls a key.
const KIND: &str = "api_key";

/// The fingerprint of what a key's form overwrites.
pub fn key_revision(key: &ApiKey) -> Result<Revision, WorkflowError> {
    Revision::of(&key.sources)
}

/// Sources as they were entered, as the JSON list that is stored.
fn source_list(raw: &[String]) -> Result<String, FieldError> {
    let invalid = |detail: String| FieldError::new("sources", detail);
    if raw.len() > SOURCES_MAX {
        return Err(invalid(format!("送信元は{SOURCES_MAX}件以内で指定してください。")));
    }
    let sources: Vec<SourcePattern> = raw
        .iter()
        .map(|raw| SourcePattern::try_from(raw.clone()).map_err(|error| invalid(error.to_string())))
        .collect::<Result<_, _>>()?;
    Ok(json!(sources).to_string())
}

impl Workflow {
    /// Makes a key for a machine that acts as the caller's municipality with a role. The key is shown once. It may send
    /// events of these sources; without any it sends none.
    pub async fn issue_api_key(
        &self,
        actor: &Actor,
        name: &str,
        role: Role,
        sources: &[String],
        now: Timestamp,
    ) -> Result<(ApiKeyId, String), WorkflowError> {
        actor.require(Permission::ManageAccounts)?;
        let sources = source_list(sources).map_err(|error| WorkflowError::Invalid(vec![error]))?;
        let name = text::line(name, 100)
            .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("name", error.to_string())]))?;
        // A viewer of aggregates is a person, and above the municipality that would issue the key.
        if role.is_household() || role.is_facility() || role == Role::StatsViewer {
            return Err(WorkflowError::Invalid(vec![FieldError::new("role", "この役割のキーは発行できません。")]));
        }
        let mut work = self.begin(actor, now).await?;
        let machine = Account {
            account_id: AccountId::new(now),
            municipality_code: actor.municipality_code.clone(),
            role,
            email: None,
            name: name.clone(),
            name_kana: String::new(),
            password_hash: None,
            state: AccountState::Active.as_str().to_owned(),
            guardian_id: None,
            facility_id: None,
            relation: None,
            valid_from: now.jst_date(),
            valid_to: FOREVER,
            person_key: Some(secret::person_key()),
            terms_version: TERMS_VERSION,
            language: LOCALE_COMPLETE.to_owned(),
        };
        work.tx.insert_account(&machine, now).await?;
        let secret_key = format!("tdk_{}", secret::token());
        let key = ApiKey {
            api_key_id: ApiKeyId::new(now),
            account_id: machine.account_id,
            name,
            sources: Some(sources),
            created_at_us: now.as_micros(),
            issued_by: actor.account_id,
            used_at: None,
            revoked_at: None,
        };
        work.tx.insert_api_key(&key, &actor.municipality_code, &secret::hash(&secret_key)).await?;
        work.audit(Access::IssueKey, Subject::new(KIND, key.api_key_id), 1);
        work.commit().await?;
        Ok((key.api_key_id, secret_key))
    }

    /// Keys of the municipality: the living ones, then those that were revoked.
    pub async fn api_keys(&self, actor: &Actor) -> Result<Vec<ListedKey>, WorkflowError> {
        actor.require(Permission::ManageAccounts)?;
        let mut tx = self.read(actor).await?;
        Ok(tx.api_keys(&actor.municipality_code).await?)
    }

    /// Replaces the sources of a living key; from its next request on it may send events of these.
    ///
    /// Errors: [`WorkflowError::Stale`] when they are no longer what the change began from.
    pub async fn set_key_sources(
        &self,
        actor: &Actor,
        id: ApiKeyId,
        sources: &[String],
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<ListedKey, WorkflowError> {
        actor.require(Permission::ManageAccounts)?;
        let sources = source_list(sources).map_err(|error| WorkflowError::Invalid(vec![error]))?;
        let code = &actor.municipality_code;
        let mut work = self.begin(actor, now).await?;
        let keys = work.tx.api_keys(code).await?;
        let found = keys.into_iter().find(|listed| listed.key.api_key_id == id && listed.key.revoked_at.is_none());
        let mut listed = found.ok_or(WorkflowError::NotFound("api key"))?;
        key_revision(&listed.key)?.expect(expected)?;
        if !work.tx.set_key_sources(code, id, listed.key.sources.as_deref(), &sources).await? {
            return Err(WorkflowError::Stale);
        }
        listed.key.sources = Some(sources);
        work.audit(Access::SetKeySources, Subject::new(KIND, id), 1);
        work.commit().await?;
        Ok(listed)
    }

    /// The sources that a machine may send events of; `None` for one whose key is from before they had to be named,
    /// which may name any.
    pub async fn sources_of_machine(&self, machine: &Account) -> Result<Option<Vec<SourcePattern>>, WorkflowError> {
        let code = &machine.municipality_code;
        let mut tx = self.store().begin_read(Wall::Around(code.clone())).await?;
        let Some(key) = tx.api_key_of(code, machine.account_id).await? else { return Ok(Some(Vec::new())) };
        let sources = key.sources.map(|sources| serde_json::from_str(&sources)).transpose();
        sources.map_err(|_| StoreError::Corrupt { what: "sources of a key" }.into())
    }

    /// Revokes a key at once.
    pub async fn revoke_api_key(&self, actor: &Actor, id: ApiKeyId, now: Timestamp) -> Result<(), WorkflowError> {
        actor.require(Permission::ManageAccounts)?;
        let mut work = self.begin(actor, now).await?;
        if !work.tx.revoke_api_key(&actor.municipality_code, id, now).await? {
            return Err(WorkflowError::NotFound("api key"));
        }
        work.audit(Access::RevokeKey, Subject::new(KIND, id), 1);
        work.commit().await?;
        Ok(())
    }

    /// The account a key acts for, and the key.
    pub async fn account_of_key(&self, key: &str) -> Result<(Account, ApiKey), WorkflowError> {
        let refused = || WorkflowError::SignIn(SignInError::Session);
        let mut tx = self.store().begin_read(Wall::None).await?;
        let key = tx.api_key_by_hash(&secret::hash(key)).await?.ok_or_else(refused)?;
        let account = tx.account(key.account_id).await?;
        let active = account.filter(|account| account.state == AccountState::Active.as_str());
        Ok((active.ok_or_else(refused)?, key))
    }

    /// Notes that a key is in use; once a minute is enough.
    pub async fn touch_api_key(&self, id: ApiKeyId, now: Timestamp) -> Result<(), WorkflowError> {
        let mut tx = self.store().begin_write(Wall::None).await?;
        tx.touch_api_key(id, now).await?;
        Ok(tx.commit().await?)
    }
}
