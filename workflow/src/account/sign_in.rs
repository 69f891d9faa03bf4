//! Signing in: password, then a mailed one-time code, then a session (N-SEC-01..04, 09, 24; flows N15).

use serde_json::json;
use todoke_domain::{
    MunicipalityCode, Timestamp,
    account::{
        AccountState, FAILURES_MAX, LOCK_WINDOW, NewPassword, OTP_TRIES_MAX, OTP_TTL, SESSION_IDLE, SESSION_MAX,
        TRUSTED_DEVICE, Validity, validity,
    },
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    ids::{ChallengeId, SessionId},
};
use todoke_store::{
    Wall,
    account::Account,
    session::{Challenge, Session, SignedIn},
};

use super::link::LinkKind;
use crate::{Actor, FieldError, Work, Workflow, WorkflowError, error::SignInError, secret};

/// The door a person comes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// Guardians and proxies.
    Household,
    /// Facilities, operator, city, analysts.
    Office,
}

/// Outcome of the password step.
#[derive(Debug)]
pub enum SignIn {
    /// A code has been mailed.
    CodeSent {
        /// To be sent back with the code.
        challenge_id: ChallengeId,
        /// End of the code's life.
        expires_at: Timestamp,
    },
    /// The device is trusted: no code is needed.
    Open(Box<Opened>),
}

/// A begun session. The token is shown this once.
#[derive(Debug)]
pub struct Opened {
    /// Who.
    pub account: Account,
    /// Session.
    pub session: Session,
    /// Secret of the session.
    pub session_token: String,
    /// Secret of a newly trusted device.
    pub device_token: Option<String>,
}

/// Sign-in happens before a wall is known; events need one, so it is that of the account.
fn actor_of(account: &Account) -> Actor {
    Actor::of(account, None)
}

fn nobody(code: MunicipalityCode) -> Actor {
    Actor::system(code, "web")
}

impl Workflow {
    /// The password step.
    ///
    /// Errors: [`SignInError::Credentials`] for a wrong address, password, entrance, or an account that is
    /// locked, ended or unconfirmed: one answer for all, after the same work (N-SEC-24).
    pub async fn sign_in(
        &self,
        email: &str,
        password: &str,
        entrance: Entrance,
        device_token: Option<&str>,
        now: Timestamp,
    ) -> Result<SignIn, WorkflowError> {
        let found = {
            let mut tx = self.store().begin_read(Wall::None).await?;
            tx.account_by_email(&email.trim().to_ascii_lowercase()).await?
        };
        let hash = found.as_ref().and_then(|account| account.password_hash.clone());
        let given = password.to_owned();
        // Argon2 is 20 ms of CPU by design: it must not hold up the sockets on this thread.
        let right = tokio::task::spawn_blocking(move || secret::verify_password(&given, hash.as_deref()))
            .await
            .map_err(|_| WorkflowError::Internal("a password could not be checked"))?;
        let refused = || WorkflowError::SignIn(SignInError::Credentials);
        let account = found.ok_or_else(refused)?;
        let of_this_door = account.role.is_household() == (entrance == Entrance::Household);
        if !right || !of_this_door || account.state != AccountState::Active.as_str() {
            self.note_failed_sign_in(&account, now).await?;
            return Err(refused());
        }
        match validity(account.valid_from, account.valid_to, now.jst_date()) {
            Validity::Valid => {}
            Validity::NotYet(from) => return Err(WorkflowError::SignIn(SignInError::NotYet(from))),
            Validity::Over => return Err(refused()),
        }
        let actor = actor_of(&account);
        let mut work = self.begin(&actor, now).await?;
        if let (true, Some(device)) = (account.role.is_household(), device_token) {
            if work.tx.is_trusted_device(&secret::hash(device), account.account_id, now).await? {
                let opened = work.open_session(account, false, false).await?;
                work.commit().await?;
                return Ok(SignIn::Open(Box::new(opened)));
            }
        }
        let (challenge_id, expires_at) = work.send_code(&account).await?;
        work.commit().await?;
        Ok(SignIn::CodeSent { challenge_id, expires_at })
    }

    async fn note_failed_sign_in(&self, account: &Account, now: Timestamp) -> Result<(), WorkflowError> {
        let actor = nobody(account.municipality_code.clone());
        let mut work = self.begin(&actor, now).await?;
        let Some(mut account) = work.tx.lock_account(account.account_id).await? else { return Ok(()) };
        let reason = match account.state.as_str() {
            "active" => "password",
            "ended" => "ended",
            _ => "locked",
        };
        work.account_event(
            "account.login_failed",
            &account,
            json!({ "account_key": account.person_key, "reason": reason }),
        );
        let n = work.tx.note_failure(account.account_id, now, now.minus(LOCK_WINDOW)).await?;
        if n >= FAILURES_MAX && account.state == AccountState::Active.as_str() {
            account.state = AccountState::Locked.as_str().to_owned();
            work.tx.update_account(&account).await?;
            let event = work.account_event(
                "account.locked",
                &account,
                json!({ "account_key": account.person_key, "reason": "password" }),
            );
            let link = work.make_link(&account, LinkKind::SetPassword, "", todoke_domain::account::LINK_TTL).await?;
            work.tell_account(&event, &account, Placeholders::new().with(Placeholder::Link, link)).await?;
        }
        work.commit().await?;
        Ok(())
    }

    /// The code step.
    ///
    /// Errors: [`SignInError::Code`] while tries are left, [`SignInError::CodeSpent`] after that or when the
    /// code has run out.
    pub async fn enter_code(
        &self,
        challenge: ChallengeId,
        code: &str,
        trust_device: bool,
        now: Timestamp,
    ) -> Result<Opened, WorkflowError> {
        let refused = |error| Err(WorkflowError::SignIn(error));
        let mut tx = self.store().begin_write(Wall::None).await?;
        let Some(found) = tx.try_challenge(challenge).await? else { return refused(SignInError::CodeSpent) };
        let account = tx.account(found.account_id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let in_time =
            found.tries <= OTP_TRIES_MAX && now < found.expires_at && account.state == AccountState::Active.as_str();
        let right = found.code_hash == secret::hash_code(&challenge.to_string(), code.trim());
        if !in_time || right {
            tx.use_challenge(challenge, now).await?;
        }
        // The try counts even when the rest fails: guesses are limited in any case.
        tx.commit().await?;
        match (in_time, right) {
            (false, _) => return refused(SignInError::CodeSpent),
            (true, false) => return refused(SignInError::Code),
            (true, true) => {}
        }
        let actor = actor_of(&account);
        let trust = trust_device && account.role.is_household();
        let mut work = self.begin(&actor, now).await?;
        let opened = work.open_session(account, true, trust).await?;
        work.commit().await?;
        Ok(opened)
    }

    /// The account and session behind a session token; idle and over-long sessions are not found.
    pub async fn session(&self, token: &str, now: Timestamp) -> Result<(Account, Session), WorkflowError> {
        checked(self.store().signed_in_by_token(&secret::hash(token)).await?, now)
    }

    /// The account and session by the session's id, for sockets.
    pub async fn session_by_id(&self, id: SessionId, now: Timestamp) -> Result<(Account, Session), WorkflowError> {
        checked(self.store().signed_in_by_id(id).await?, now)
    }

    /// Notes that a session is in use; once a minute is enough.
    pub async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), WorkflowError> {
        let mut tx = self.store().begin_write(Wall::None).await?;
        tx.touch_session(id, now).await?;
        Ok(tx.commit().await?)
    }

    /// Signs out.
    pub async fn sign_out(&self, id: SessionId, now: Timestamp) -> Result<(), WorkflowError> {
        let mut tx = self.store().begin_write(Wall::None).await?;
        tx.end_session(id, now).await?;
        tx.commit().await?;
        self.live().session_ended(id);
        Ok(())
    }

    /// Mails a link for a new password, if the address exists; the answer never tells (N-SEC-24).
    pub async fn request_password_reset(&self, email: &str, now: Timestamp) -> Result<(), WorkflowError> {
        let found = {
            let mut tx = self.store().begin_read(Wall::None).await?;
            tx.account_by_email(&email.trim().to_ascii_lowercase()).await?
        };
        let open = |account: &Account| matches!(account.state.as_str(), "active" | "issued" | "locked");
        let Some(account) = found.filter(open) else { return Ok(()) };
        let actor = actor_of(&account);
        let mut work = self.begin(&actor, now).await?;
        work.send_password_link(&account).await?;
        work.commit().await?;
        Ok(())
    }

    /// Sets a password through a mailed link: this also activates an issued account and unlocks a locked one.
    /// All sessions end.
    pub async fn set_password_by_link(
        &self,
        token: &str,
        password: String,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let password = parse_password(password)?;
        let hash = hash_in_background(password).await?;
        let pending = self.link_account(token, LinkKind::SetPassword, now).await?;
        let actor = actor_of(&pending);
        let mut work = self.begin(&actor, now).await?;
        let mut account = work.spend_link(token, LinkKind::SetPassword, &pending).await?.0;
        if matches!(account.state.as_str(), "deleted" | "ended" | "pending_confirmation") {
            return Err(WorkflowError::SignIn(SignInError::Link));
        }
        if account.state == AccountState::Issued.as_str() {
            work.account_event(
                "account.activated",
                &account,
                json!({ "account_key": account.person_key, "role": account.role.as_str() }),
            );
        }
        account.state = AccountState::Active.as_str().to_owned();
        account.password_hash = Some(hash);
        work.tx.clear_failures(account.account_id).await?;
        work.tx.update_account(&account).await?;
        work.tx.end_sessions_of(account.account_id, now).await?;
        work.tell_password_changed(&account).await?;
        work.commit().await?;
        self.live().account_ended(account.account_id);
        Ok(())
    }

    /// Changes the caller's password. Other sessions go on.
    pub async fn change_password(
        &self,
        actor: &Actor,
        current: &str,
        new: String,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let id = actor.account()?;
        let hash = {
            let mut tx = self.read(actor).await?;
            tx.account(id).await?.and_then(|account| account.password_hash)
        };
        let given = current.to_owned();
        let right = tokio::task::spawn_blocking(move || secret::verify_password(&given, hash.as_deref()))
            .await
            .map_err(|_| WorkflowError::Internal("a password could not be checked"))?;
        if !right {
            return Err(WorkflowError::Invalid(vec![FieldError::new(
                "current_password",
                "現在のパスワードが正しくありません。",
            )]));
        }
        let new = NewPassword::parse(new)
            .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("new_password", error.to_string())]))?;
        let hash = hash_in_background(new).await?;
        let mut work = self.begin(actor, now).await?;
        let mut account = work.tx.lock_account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        account.password_hash = Some(hash);
        work.tx.update_account(&account).await?;
        work.tell_password_changed(&account).await?;
        work.commit().await?;
        Ok(())
    }
}

/// A session that is still good, with its account.
fn checked(found: Option<SignedIn>, now: Timestamp) -> Result<(Account, Session), WorkflowError> {
    let SignedIn { account, session } = found.ok_or(WorkflowError::SignIn(SignInError::Session))?;
    let valid = account.state == AccountState::Active.as_str()
        && validity(account.valid_from, account.valid_to, now.jst_date()) == Validity::Valid
        && now.since(session.seen_at) < SESSION_IDLE
        && now.since(session.created_at) < SESSION_MAX;
    if valid { Ok((account, session)) } else { Err(WorkflowError::SignIn(SignInError::Session)) }
}

pub(super) fn parse_password(raw: String) -> Result<NewPassword, WorkflowError> {
    NewPassword::parse(raw)
        .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("password", error.to_string())]))
}

pub(super) async fn hash_in_background(password: NewPassword) -> Result<String, WorkflowError> {
    tokio::task::spawn_blocking(move || secret::hash_password(&password))
        .await
        .map_err(|_| WorkflowError::Internal("a password could not be hashed"))?
}

impl Work<'_> {
    async fn send_code(&mut self, account: &Account) -> Result<(ChallengeId, Timestamp), WorkflowError> {
        let code = secret::code();
        let challenge_id = ChallengeId::new(self.now);
        let expires_at = self.now.plus(OTP_TTL);
        let challenge = Challenge {
            challenge_id,
            account_id: account.account_id,
            code_hash: secret::hash_code(&challenge_id.to_string(), &code),
            tries: 0,
            expires_at,
        };
        self.tx.insert_challenge(&challenge, self.now).await?;
        let event = self.account_event("account.otp_sent", account, json!({ "account_key": account.person_key }));
        let minutes = OTP_TTL.as_secs() / 60;
        let values = Placeholders::new().with(Placeholder::Code, code).with(Placeholder::Minutes, minutes.to_string());
        self.tell_account(&event, account, values).await?;
        Ok((challenge_id, expires_at))
    }

    async fn open_session(
        &mut self,
        account: Account,
        by_code: bool,
        trust_device: bool,
    ) -> Result<Opened, WorkflowError> {
        let session_token = secret::token();
        let session = Session {
            session_id: SessionId::new(self.now),
            account_id: account.account_id,
            csrf_token: secret::token(),
            created_at: self.now,
            seen_at: self.now,
        };
        self.tx.insert_session(&session, &secret::hash(&session_token)).await?;
        self.tx.clear_failures(account.account_id).await?;
        let device_token = if trust_device {
            let token = secret::token();
            self.tx
                .insert_trusted_device(&secret::hash(&token), account.account_id, self.now.plus(TRUSTED_DEVICE))
                .await?;
            Some(token)
        } else {
            None
        };
        self.account_event(
            "account.login_succeeded",
            &account,
            json!({
                "account_key": account.person_key,
                "role": account.role.as_str(),
                "device_kind": "web",
                "otp_used": by_code,
            }),
        );
        Ok(Opened { account, session, session_token, device_token })
    }

    async fn tell_password_changed(&mut self, account: &Account) -> Result<(), WorkflowError> {
        let event =
            self.account_event("account.password_changed", account, json!({ "account_key": account.person_key }));
        let date = format::deadline(self.now.jst());
        self.tell_account(&event, account, Placeholders::new().with(Placeholder::Date, date)).await
    }
}
