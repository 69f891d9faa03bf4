//! Children of a household and their QR codes (flows K; screen GD22).

use jiff::civil::Date;
use qrcode::{EcLevel, QrCode, render::svg};
use serde::Serialize;
use serde_json::json;
use todoke_domain::{
    Timestamp,
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    ids::ChildId,
    matching::normal_kana,
    number::NumberKind,
    qr::QrToken,
    text,
    time::{class_age, month_start},
};
use todoke_store::{
    account::Account,
    child::{Child, ChildQr},
};

use super::registration::{ChildInput, past_day};
use crate::{
    Actor, FieldError, Work, Workflow, WorkflowError, application::Letter, error::Fields, messaging::About,
    revision::Revision, secret, work::Subject,
};

/// A child whose fields are right.
#[derive(Debug, Clone)]
pub struct ChildDraft {
    pub(super) name: String,
    pub(super) name_kana: String,
    pub(super) sex: String,
    pub(super) birth_date: Date,
    pub(super) qr: Option<QrToken>,
}

impl ChildDraft {
    /// Checks the fields; `prefix` goes before their names in errors.
    pub(crate) fn check(input: &ChildInput, prefix: &str, today: Date, fields: &mut Fields) -> Option<Self> {
        let at = |field: &str| format!("{prefix}{field}");
        let name = fields.take(at("name"), text::line(&input.name, 100));
        let name_kana = fields.take(at("name_kana"), text::kana(&input.name_kana, 100));
        let birth_date = fields.take(at("birth_date"), past_day(&input.birth_date, today));
        if !matches!(input.sex.as_str(), "male" | "female" | "unknown") {
            fields.refuse(at("sex"), "性別を選んでください。");
        }
        let qr = match input.child_qr.as_deref().filter(|code| !code.trim().is_empty()) {
            Some(code) => Some(fields.take(at("child_qr"), QrToken::parse(code))?),
            None => None,
        };
        Some(Self { name: name?, name_kana: name_kana?, sex: input.sex.clone(), birth_date: birth_date?, qr })
    }
}

/// The fingerprint of what a child's form overwrites.
pub fn child_revision(child: &Child) -> Result<Revision, WorkflowError> {
    Revision::of(&(&child.name, &child.name_kana, &child.sex, child.birth_date.to_string()))
}

/// A QR as shown.
#[derive(Debug, Clone, Serialize)]
pub struct ChildQrView {
    /// Text of the code.
    pub token: String,
    /// In groups of four.
    pub display: String,
    /// The image, an SVG document.
    pub svg: String,
}

/// Draws a code.
pub(crate) fn qr_view(token: QrToken) -> Result<ChildQrView, WorkflowError> {
    let text = token.to_string();
    let code = QrCode::with_error_correction_level(&text, EcLevel::M)
        .map_err(|_| WorkflowError::Internal("a QR could not be drawn"))?;
    let svg = code.render::<svg::Color<'_>>().min_dimensions(240, 240).quiet_zone(true).build();
    Ok(ChildQrView { token: text, display: token.grouped(), svg })
}

impl Work<'_> {
    /// Adds a child to a household. A valid QR identifies the resident at once, so no matching is needed.
    pub(crate) async fn add_child(&mut self, account: &Account, draft: ChildDraft) -> Result<Child, WorkflowError> {
        let code = account.municipality_code.clone();
        let guardian = account.guardian_id.ok_or(WorkflowError::NotFound("guardian"))?;
        let resident_no = match draft.qr {
            Some(token) => Some(self.resident_of_qr(token, &draft.name_kana, draft.birth_date).await?),
            None => None,
        };
        let person_key = match &resident_no {
            // A solicited child keeps the pseudonym its invitation was counted under.
            Some(resident_no) => self.key_of_resident(resident_no).await?,
            None => secret::person_key(),
        };
        let child = Child {
            child_id: ChildId::new(self.now),
            municipality_code: code.clone(),
            guardian_id: guardian,
            child_no: self.tx.next_number(&code, NumberKind::Child, self.now).await?,
            name: draft.name,
            name_kana: draft.name_kana,
            sex: draft.sex,
            birth_date: draft.birth_date,
            resident_no: resident_no.clone(),
            moved_out_on: None,
            person_key: Some(person_key),
        };
        self.tx.insert_child(&child, self.now).await?;
        let today = self.now.jst_date();
        let key = child.person_key.unwrap_or_default();
        self.event(
            "child.registered",
            Subject::new("child", key),
            json!({
                "child_key": key,
                "guardian_key": account.person_key,
                "birth_month": month_start(child.birth_date).to_string(),
                "sex": child.sex,
                "class_age": class_age(child.birth_date, today),
                "via_child_qr": resident_no.is_some(),
            }),
        );
        match &resident_no {
            Some(resident_no) => self.tx.adopt_qr(&code, resident_no, child.child_id).await?,
            None => {
                self.issue_qr(&child, "app", "child.qr_issued").await?;
            }
        }
        Ok(child)
    }

    /// Links a child that was registered without a code to the resident its code was printed for. A child
    /// that is linked already stays as it is.
    pub(crate) async fn identify_child(&mut self, child: &mut Child, code: &str) -> Result<(), WorkflowError> {
        if child.resident_no.is_some() {
            return Ok(());
        }
        let token = QrToken::parse(code)
            .map_err(|error| WorkflowError::Invalid(vec![FieldError::new("child_qr", error.to_string())]))?;
        let resident_no = self.resident_of_qr(token, &child.name_kana, child.birth_date).await?;
        let municipality = child.municipality_code.clone();
        if self.tx.child_of_resident(&municipality, &resident_no).await?.is_some() {
            return Err(WorkflowError::Conflict("この二次元コードの児童はすでに登録されています。".to_owned()));
        }
        child.resident_no = Some(resident_no.clone());
        self.tx.update_child(child).await?;
        Ok(self.tx.adopt_qr(&municipality, &resident_no, child.child_id).await?)
    }

    /// The resident a code was printed for. The name and birth date must fit: a lost letter is no licence.
    async fn resident_of_qr(
        &mut self,
        token: QrToken,
        name_kana: &str,
        birth_date: Date,
    ) -> Result<String, WorkflowError> {
        let invalid = |detail: &str| WorkflowError::Invalid(vec![FieldError::new("child_qr", detail)]);
        let code = self.actor.municipality_code.clone();
        let qr = self.tx.child_qr(&code, &token.to_string()).await?;
        let qr = qr.ok_or_else(|| invalid("この二次元コードは使えません。再発行されていないかご確認ください。"))?;
        if qr.child_id.is_some() {
            return Err(invalid("この二次元コードの児童はすでに登録されています。"));
        }
        let resident_no = qr.resident_no.ok_or_else(|| invalid("この二次元コードは使えません。"))?;
        let resident =
            self.tx.resident(&code, &resident_no).await?.ok_or_else(|| invalid("この二次元コードは使えません。"))?;
        if resident.birth_date != birth_date || resident.name_kana_normal != normal_kana(name_kana) {
            return Err(invalid("二次元コードの児童と、入力された氏名または生年月日が一致しません。"));
        }
        Ok(resident_no)
    }

    async fn issue_qr(
        &mut self,
        child: &Child,
        output: &str,
        event_type: &str,
    ) -> Result<(QrToken, todoke_domain::Event), WorkflowError> {
        let token = secret::qr_token();
        let row = ChildQr {
            token: token.to_string(),
            resident_no: child.resident_no.clone(),
            child_id: Some(child.child_id),
        };
        let code = child.municipality_code.clone();
        self.tx.insert_child_qr(&code, &row, self.now).await?;
        let key = child.person_key.unwrap_or_default();
        let event = self.event(event_type, Subject::new("child", key), json!({ "child_key": key, "output": output }));
        Ok((token, event))
    }

    /// A child of the acting household.
    pub(crate) async fn own_child(&mut self, id: ChildId) -> Result<Child, WorkflowError> {
        let (_, guardian) = self.actor.household()?;
        let child = self.tx.child(id).await?.ok_or(WorkflowError::NotFound("child"))?;
        if child.guardian_id == guardian { Ok(child) } else { Err(WorkflowError::NotFound("child")) }
    }
}

impl Workflow {
    /// Children of the caller's household.
    pub async fn own_children(&self, actor: &Actor) -> Result<Vec<Child>, WorkflowError> {
        let (_, guardian) = actor.household()?;
        let mut tx = self.read(actor).await?;
        Ok(tx.children_of(guardian).await?)
    }

    /// Adds a child to the caller's household.
    pub async fn register_child(
        &self,
        actor: &Actor,
        input: &ChildInput,
        now: Timestamp,
    ) -> Result<Child, WorkflowError> {
        let (id, _) = actor.household()?;
        let mut fields = Fields::default();
        let draft = ChildDraft::check(input, "", now.jst_date(), &mut fields);
        fields.finish()?;
        let draft = draft.ok_or(WorkflowError::Internal("unchecked child"))?;
        let mut work = self.begin(actor, now).await?;
        let account = work.tx.account(id).await?.ok_or(WorkflowError::NotFound("account"))?;
        let child = work.add_child(&account, draft).await?;
        work.commit().await?;
        Ok(child)
    }

    /// Corrects a child that has not been matched with a resident yet.
    ///
    /// Errors: [`WorkflowError::Stale`] when it is no longer what `expected` names.
    pub async fn change_child(
        &self,
        actor: &Actor,
        id: ChildId,
        input: &ChildInput,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<Child, WorkflowError> {
        let mut fields = Fields::default();
        let draft = ChildDraft::check(input, "", now.jst_date(), &mut fields);
        fields.finish()?;
        let draft = draft.ok_or(WorkflowError::Internal("unchecked child"))?;
        let mut work = self.begin(actor, now).await?;
        work.tx.lock_child(id).await?;
        let mut child = work.own_child(id).await?;
        child_revision(&child)?.expect(expected)?;
        let identity_changes = child.birth_date != draft.birth_date || child.sex != draft.sex;
        if child.resident_no.is_some() && identity_changes {
            return Err(WorkflowError::Conflict(
                "住民情報と照合済みのため、生年月日と性別は変更できません。".to_owned(),
            ));
        }
        child.name = draft.name;
        child.name_kana = draft.name_kana;
        child.sex = draft.sex;
        child.birth_date = draft.birth_date;
        work.tx.update_child(&child).await?;
        work.commit().await?;
        Ok(child)
    }

    /// The valid code of an own child.
    pub async fn child_qr(&self, actor: &Actor, id: ChildId) -> Result<ChildQrView, WorkflowError> {
        let (_, guardian) = actor.household()?;
        let mut tx = self.read(actor).await?;
        let child = tx
            .child(id)
            .await?
            .filter(|child| child.guardian_id == guardian)
            .ok_or(WorkflowError::NotFound("child"))?;
        let qr = tx.qr_of_child(child.child_id).await?.ok_or(WorkflowError::NotFound("child_qr"))?;
        qr_view(QrToken::parse(&qr.token).map_err(|_| WorkflowError::Internal("a stored code cannot be read"))?)
    }

    /// Voids every code of a child and issues a new one (flow F04; lost letter).
    pub async fn reissue_child_qr(
        &self,
        actor: &Actor,
        id: ChildId,
        now: Timestamp,
    ) -> Result<ChildQrView, WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        let child = if actor.role.is_some_and(todoke_domain::Role::is_household) {
            work.own_child(id).await?
        } else {
            actor.require(todoke_domain::role::Permission::ReviewApplications)?;
            work.tx.child(id).await?.ok_or(WorkflowError::NotFound("child"))?
        };
        work.tx.void_qr_of_child(id, now).await?;
        let (token, event) = work.issue_qr(&child, "paper", "child.qr_reissued").await?;
        let about = About {
            subject_kind: "child",
            subject_id: id.to_string(),
            subject_no: Some(child.child_no.clone()),
            state: "issued".to_owned(),
            guardian: Some(child.guardian_id),
            values: Placeholders::new()
                .with(Placeholder::Child, child.name.clone())
                .with(Placeholder::No, child.child_no.clone())
                .with(Placeholder::Date, format::day(now.jst_date())),
            link: "/children".to_owned(),
            ..About::default()
        };
        work.raise(&event, &about).await?;
        let guardian = work.tx.guardian(child.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        let contact = work.contact().await?;
        let body = format!(
            "{}さま（児童番号 {}）の二次元コードを再発行しました。以前のコードは使えません。\nお問い合わせ先：{contact}",
            child.name, child.child_no
        );
        let letter =
            Letter {
                message_type: "coupon.qr_reissued", title: "児童用二次元コードの再発行", body, qr: Some(token)
            };
        work.letter_to(guardian, letter, Some(event.event_id)).await?;
        work.commit().await?;
        qr_view(token)
    }
}
