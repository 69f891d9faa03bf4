//! Registration of a household (flow F02): checked, mailed, confirmed.

use jiff::civil::Date;
use serde_json::json;
use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    account::{AccountState, Email, INVITATION_TTL, LINK_TTL},
    catalogue::{
        messages::{self, LOCALE_COMPLETE},
        template::{Placeholder, Placeholders},
    },
    ids::{AccountId, GuardianId},
    number::NumberKind,
    text,
};
use todoke_store::{account::Account, guardian::Guardian};

use super::{
    children::ChildDraft,
    link::LinkKind,
    office::{FOREVER, TERMS_VERSION},
    sign_in::hash_in_background,
};
use crate::{Actor, FieldError, Workflow, WorkflowError, error::Fields, secret, work::Subject};

/// A child as entered.
#[derive(Debug, Clone, Default)]
pub struct ChildInput {
    /// Name.
    pub name: String,
    /// Name in kana.
    pub name_kana: String,
    /// `male`, `female` or `unknown`.
    pub sex: String,
    /// `YYYY-MM-DD`.
    pub birth_date: String,
    /// Child QR, scanned or typed.
    pub child_qr: Option<String>,
}

/// A registration as entered.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    /// Address, the later sign-in name.
    pub email: String,
    /// Password.
    pub password: String,
    /// Name.
    pub name: String,
    /// Name in kana.
    pub name_kana: String,
    /// Sex.
    pub sex: Option<String>,
    /// `YYYY-MM-DD`.
    pub birth_date: Option<String>,
    /// Postal code.
    pub postal_code: String,
    /// Address.
    pub address: String,
    /// Ward.
    pub ward_code: Option<String>,
    /// Phone.
    pub phone: String,
    /// `app`, `paper` or `both`.
    pub contact_channel: Option<String>,
    /// Locale of the messages, `ja` where nothing is said.
    pub language: Option<String>,
    /// Children.
    pub children: Vec<ChildInput>,
    /// Terms of use accepted.
    pub terms: bool,
    /// Privacy policy accepted.
    pub privacy: bool,
    /// Usage analytics agreed to.
    pub usage_analytics: bool,
}

/// A registration whose fields are right.
struct Checked {
    guardian: Guardian,
    email: Email,
    password: todoke_domain::account::NewPassword,
    children: Vec<ChildDraft>,
    language: &'static str,
}

impl Workflow {
    /// Registers a household and mails the confirmation link.
    ///
    /// An address that is already used gets the same answer, and no second account (N-SEC-24).
    /// Errors: [`WorkflowError::Invalid`] naming every wrong field.
    pub async fn register(
        &self,
        municipality: &MunicipalityCode,
        input: Registration,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        let usage_analytics = input.usage_analytics;
        let checked = check(municipality, input, now)?;
        let hash = hash_in_background(checked.password).await?;
        let actor = Actor::system(municipality.clone(), "web");
        let mut work = self.begin(&actor, now).await?;
        if municipality.is_authority() || work.tx.municipality(municipality).await?.is_none() {
            return Err(WorkflowError::Invalid(vec![FieldError::new(
                "municipality_code",
                "市区町村を選んでください。",
            )]));
        }
        let taken = {
            let mut all = self.store().begin_read(todoke_store::Wall::None).await?;
            all.account_by_email(checked.email.as_str()).await?
        };
        if let Some(known) = taken {
            // Somebody who began before and lost the mail gets a new link; an active account gets nothing.
            if known.state == AccountState::PendingConfirmation.as_str() && known.municipality_code == *municipality {
                work.send_confirmation(&known).await?;
                work.commit().await?;
            }
            return Ok(());
        }
        let account = work
            .insert_household(
                checked.guardian,
                checked.email.as_str(),
                Some(hash),
                checked.children,
                checked.language,
                usage_analytics,
            )
            .await?;
        work.send_confirmation(&account).await?;
        work.commit().await?;
        Ok(())
    }

    /// Takes over a household from a list: it is active at once. Without a password hash it sets its
    /// password through the reset mail. Only for offices and for building up a demo.
    pub async fn enrol_household(
        &self,
        actor: &Actor,
        mut input: Registration,
        password_hash: Option<String>,
        now: Timestamp,
    ) -> Result<Account, WorkflowError> {
        actor.require(todoke_domain::role::Permission::ImportData)?;
        // The rule of the password does not concern a household that comes without one.
        input.password = "Unused-password-0".to_owned();
        let usage_analytics = input.usage_analytics;
        let checked = check(&actor.municipality_code, input, now)?;
        let mut work = self.begin(actor, now).await?;
        let mut account = work
            .insert_household(
                checked.guardian,
                checked.email.as_str(),
                password_hash,
                checked.children,
                checked.language,
                usage_analytics,
            )
            .await?;
        account.state = AccountState::Active.as_str().to_owned();
        work.tx.update_account(&account).await?;
        work.tell_registered(&account).await?;
        work.commit().await?;
        Ok(account)
    }

    /// Confirms an address by the mailed link; the account becomes active.
    pub async fn confirm_registration(&self, token: &str, now: Timestamp) -> Result<Account, WorkflowError> {
        let pending = self.link_account(token, LinkKind::ConfirmRegistration, now).await?;
        let actor = Actor::of(&pending, None);
        let mut work = self.begin(&actor, now).await?;
        let mut account = work.spend_link(token, LinkKind::ConfirmRegistration, &pending).await?.0;
        if account.state == AccountState::PendingConfirmation.as_str() {
            account.state = AccountState::Active.as_str().to_owned();
            work.tx.update_account(&account).await?;
            work.tell_registered(&account).await?;
        }
        work.commit().await?;
        Ok(account)
    }
}

impl crate::Work<'_> {
    async fn insert_household(
        &mut self,
        mut guardian: Guardian,
        email: &str,
        password_hash: Option<String>,
        children: Vec<ChildDraft>,
        language: &str,
        usage_analytics: bool,
    ) -> Result<Account, WorkflowError> {
        let code = guardian.municipality_code.clone();
        guardian.guardian_no = self.tx.next_number(&code, NumberKind::Guardian, self.now).await?;
        self.tx.insert_guardian(&guardian, self.now).await?;
        let account = Account {
            language: language.to_owned(),
            ..guardian_account(&guardian, Some(email), password_hash, self.now)
        };
        self.tx.insert_account(&account, self.now).await.map_err(super::office::address_taken)?;
        for kind in ["terms", "privacy"] {
            self.grant(&account, kind, true).await?;
        }
        if usage_analytics {
            self.grant(&account, super::USAGE_ANALYTICS, true).await?;
        }
        for child in children {
            self.add_child(&account, child).await?;
        }
        Ok(account)
    }

    async fn send_confirmation(&mut self, account: &Account) -> Result<(), WorkflowError> {
        let link = self.make_link(account, LinkKind::ConfirmRegistration, "", LINK_TTL).await?;
        let event =
            self.account_event("account.registration_started", account, json!({ "guardian_key": account.person_key }));
        let minutes = LINK_TTL.as_secs() / 60;
        let values = Placeholders::new().with(Placeholder::Link, link).with(Placeholder::Minutes, minutes.to_string());
        self.tell_account(&event, account, values).await
    }

    pub(crate) async fn tell_registered(&mut self, account: &Account) -> Result<(), WorkflowError> {
        let id = account.guardian_id.ok_or(WorkflowError::NotFound("guardian"))?;
        let guardian = self.tx.guardian(id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        let n_children = self.tx.children_of(id).await?.len();
        let event = self.account_event(
            "account.registered",
            account,
            json!({
                "guardian_key": account.person_key,
                "method": "mail",
                "ward_code": guardian.ward_code,
                "age_band": guardian.birth_date.map(|birth| age_band(birth, self.now.jst_date())),
                "contact_channel": guardian.contact_channel,
                "children": n_children,
            }),
        );
        self.tell_account(&event, account, Placeholders::new()).await
    }

    /// A household without sign-in, keyed in from paper by an office: reached by letters.
    pub(crate) async fn paper_household(
        &mut self,
        input: &crate::application::PaperApplicant,
    ) -> Result<Account, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let mut fields = Fields::default();
        let name = fields.take("applicant.name", text::line(&input.name, 100));
        let name_kana = fields.take("applicant.name_kana", text::kana(&input.name_kana, 100));
        let postal_code = fields.take("applicant.postal_code", optional_line(&input.postal_code, 10));
        let address = fields.take("applicant.address", text::line(&input.address, 300));
        let phone = fields.take("applicant.phone", optional_line(&input.phone, 20));
        fields.finish()?;
        let guardian = Guardian {
            guardian_id: GuardianId::new(self.now),
            municipality_code: code.clone(),
            guardian_no: self.tx.next_number(&code, NumberKind::Guardian, self.now).await?,
            name: name.unwrap_or_default(),
            name_kana: name_kana.unwrap_or_default(),
            sex: None,
            birth_date: input.birth_date,
            postal_code: postal_code.unwrap_or_default(),
            address: address.unwrap_or_default(),
            ward_code: code.to_string(),
            phone: phone.unwrap_or_default(),
            contact_channel: "paper".to_owned(),
            suspended: false,
        };
        self.tx.insert_guardian(&guardian, self.now).await?;
        let account = guardian_account(&guardian, None, None, self.now);
        self.tx.insert_account(&account, self.now).await?;
        Ok(account)
    }
}

/// The account of a household's head.
fn guardian_account(
    guardian: &Guardian,
    email: Option<&str>,
    password_hash: Option<String>,
    now: Timestamp,
) -> Account {
    Account {
        account_id: AccountId::new(now),
        municipality_code: guardian.municipality_code.clone(),
        role: Role::Guardian,
        email: email.map(str::to_owned),
        name: guardian.name.clone(),
        name_kana: guardian.name_kana.clone(),
        password_hash,
        state: AccountState::PendingConfirmation.as_str().to_owned(),
        guardian_id: Some(guardian.guardian_id),
        facility_id: None,
        relation: None,
        valid_from: now.jst_date(),
        valid_to: FOREVER,
        person_key: Some(secret::person_key()),
        terms_version: if email.is_some() { TERMS_VERSION } else { 0 },
        language: LOCALE_COMPLETE.to_owned(),
    }
}

fn check(municipality: &MunicipalityCode, input: Registration, now: Timestamp) -> Result<Checked, WorkflowError> {
    let mut fields = Fields::default();
    let today = now.jst_date();
    let email = fields.take("email", Email::try_from(input.email));
    let password = fields.take("password", todoke_domain::account::NewPassword::parse(input.password));
    let name = fields.take("name", text::line(&input.name, 100));
    let name_kana = fields.take("name_kana", text::kana(&input.name_kana, 100));
    let postal_code = fields.take("postal_code", optional_line(&input.postal_code, 10));
    let address = fields.take("address", optional_line(&input.address, 300));
    let phone = fields.take("phone", optional_line(&input.phone, 20));
    let birth_date = match input.birth_date.as_deref().filter(|day| !day.is_empty()) {
        Some(day) => fields.take("birth_date", past_day(day, today)),
        None => None,
    };
    let contact_channel = input.contact_channel.unwrap_or_else(|| "app".to_owned());
    if !matches!(contact_channel.as_str(), "app" | "paper" | "both") {
        fields.refuse("contact_channel", "連絡方法を選んでください。");
    }
    let language = input.language.filter(|language| !language.is_empty());
    let language = language.map_or(Some(LOCALE_COMPLETE), |asked| fields.take("language", known_language(&asked)));
    if !input.terms {
        fields.refuse("consents.terms", "利用規約への同意が必要です。");
    }
    if !input.privacy {
        fields.refuse("consents.privacy", "プライバシーポリシーへの同意が必要です。");
    }
    let mut children = Vec::new();
    for (i, child) in input.children.iter().enumerate() {
        children.extend(ChildDraft::check(child, &format!("children.{i}."), today, &mut fields));
    }
    let ward_code = input.ward_code.filter(|ward| !ward.is_empty()).unwrap_or_else(|| municipality.to_string());
    check_ward(&ward_code, &mut fields);
    fields.finish()?;
    let (Some(email), Some(password), Some(language)) = (email, password, language) else {
        return Err(WorkflowError::Internal("unchecked registration"));
    };
    let guardian = Guardian {
        guardian_id: GuardianId::new(now),
        municipality_code: municipality.clone(),
        guardian_no: String::new(),
        name: name.unwrap_or_default(),
        name_kana: name_kana.unwrap_or_default(),
        sex: input.sex.filter(|sex| matches!(sex.as_str(), "male" | "female" | "unknown")),
        birth_date,
        postal_code: postal_code.unwrap_or_default(),
        address: address.unwrap_or_default(),
        ward_code,
        phone: phone.unwrap_or_default(),
        contact_channel,
        suspended: false,
    };
    Ok(Checked { guardian, email, password, children, language })
}

/// Six digits, as reports know wards and municipalities.
pub(super) fn check_ward(ward_code: &str, fields: &mut Fields) {
    if ward_code.len() != 6 || !ward_code.bytes().all(|b| b.is_ascii_digit()) {
        fields.refuse("ward_code", "区を選んでください。");
    }
}

/// A line that may be empty.
pub(super) fn optional_line(raw: &str, chars_max: usize) -> Result<String, text::TextError> {
    if raw.trim().is_empty() { Ok(String::new()) } else { text::line(raw, chars_max) }
}

/// A language that messages can be had in.
pub(super) fn known_language(raw: &str) -> Result<&'static str, &'static str> {
    messages::locale(raw).ok_or("お知らせのことばを選んでください。")
}

/// A day that is not after today.
pub(super) fn past_day(raw: &str, today: Date) -> Result<Date, &'static str> {
    match raw.trim().parse::<Date>() {
        Ok(day) if day <= today => Ok(day),
        Ok(_) => Err("未来の日付は入力できません。"),
        Err(_) => Err("日付を YYYY-MM-DD の形式で入力してください。"),
    }
}

/// Age bands of `account.registered`.
fn age_band(birth: Date, today: Date) -> &'static str {
    match todoke_domain::time::age_years(birth, today) {
        ..20 => "under_20",
        20..30 => "20s",
        30..40 => "30s",
        40..50 => "40s",
        _ => "50_over",
    }
}

impl Workflow {
    /// Adds the household's one proxy guardian, who sets a password through a mailed link.
    pub async fn add_proxy(
        &self,
        actor: &Actor,
        email: &str,
        name: &str,
        name_kana: &str,
        relation: &str,
        now: Timestamp,
    ) -> Result<Account, WorkflowError> {
        actor.require(todoke_domain::role::Permission::ManageOwnHousehold)?;
        let (own, guardian) = actor.household()?;
        let mut fields = Fields::default();
        let email = fields.take("email", Email::try_from(email.to_owned()));
        let name = fields.take("name", text::line(name, 100));
        let name_kana = fields.take("name_kana", text::kana(name_kana, 100));
        if !matches!(relation, "spouse" | "grandparent" | "other") {
            fields.refuse("relation", "関係を選んでください。");
        }
        fields.finish()?;
        let (Some(email), Some(name), Some(name_kana)) = (email, name, name_kana) else {
            return Err(WorkflowError::Internal("unchecked proxy"));
        };
        let mut work = self.begin(actor, now).await?;
        work.tx.lock_account(own).await?;
        let household = work.tx.household_accounts(guardian).await?;
        if household.iter().any(|account| account.role == Role::ProxyGuardian) {
            return Err(WorkflowError::Conflict("代理利用者はすでに登録されています。".to_owned()));
        }
        let account = Account {
            account_id: AccountId::new(now),
            municipality_code: actor.municipality_code.clone(),
            role: Role::ProxyGuardian,
            email: Some(email.as_str().to_owned()),
            name,
            name_kana,
            password_hash: None,
            state: AccountState::Issued.as_str().to_owned(),
            guardian_id: Some(guardian),
            facility_id: None,
            relation: Some(relation.to_owned()),
            valid_from: now.jst_date(),
            valid_to: FOREVER,
            person_key: Some(secret::person_key()),
            terms_version: 0,
            language: LOCALE_COMPLETE.to_owned(),
        };
        work.tx.insert_account(&account, now).await.map_err(super::office::address_taken)?;
        let issued = work.account_event(
            "account.issued",
            &account,
            json!({
                "account_key": account.person_key, "role": account.role.as_str(),
                "valid_from": account.valid_from.to_string(), "valid_to": account.valid_to.to_string(),
            }),
        );
        work.tell_issued(&issued, &account, INVITATION_TTL).await?;
        let subject = Subject::new("account", actor.person_key.unwrap_or_default());
        let event = work.event(
            "account.proxy_registered",
            subject,
            json!({
                "guardian_key": actor.person_key, "proxy_key": account.person_key, "relation": relation,
            }),
        );
        let holder =
            household.iter().find(|a| a.account_id == own).cloned().ok_or(WorkflowError::NotFound("account"))?;
        let values =
            Placeholders::new().with(Placeholder::Guardian, todoke_domain::catalogue::format::person(&holder.name));
        work.tell_account(&event, &holder, values).await?;
        work.commit().await?;
        Ok(account)
    }
}
