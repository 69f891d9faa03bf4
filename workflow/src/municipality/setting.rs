//! Parameters and coupon sets.

use jiff::civil::Date;
use serde::Serialize;
use serde_json::json;
use todoke_domain::{
    Timestamp, Yen,
    coupon::CouponTerms,
    ids::CouponSetId,
    parameter::{self, Parameter, ParameterForm},
    role::Permission,
    text,
};
use todoke_store::{
    coupon_set::CouponSet,
    municipality::{ParameterValue, Programme},
};

use crate::{
    Actor, FieldError, Workflow, WorkflowError, audit::Access, error::Fields, revision::Revision, work::Subject,
};

/// A value that is set but not yet in force.
#[derive(Debug, Clone, Serialize)]
pub struct ComingValue {
    /// Value as text.
    pub value: String,
    /// First day.
    pub effective_from: String,
}

/// A parameter as its municipality sees it.
#[derive(Debug, Clone, Serialize)]
pub struct ParameterView {
    /// Name.
    pub name: &'static str,
    /// What it means.
    pub label: &'static str,
    /// Where it holds.
    pub scope: &'static str,
    /// `number` or `text`.
    pub value_kind: &'static str,
    /// In force now.
    pub value: String,
    /// Since when; `None` while the default holds.
    pub effective_from: Option<String>,
    /// The next one.
    pub next: Option<ComingValue>,
    /// Goes back with a change.
    pub version: Revision,
}

impl ParameterView {
    fn of(known: &'static Parameter, set: &[ParameterValue], today: Date) -> Result<Self, WorkflowError> {
        let own = || set.iter().filter(|value| value.name == known.name);
        let current = own().filter(|value| value.effective_from <= today).next_back();
        let next = own().find(|value| value.effective_from > today);
        Ok(Self {
            name: known.name,
            label: known.meaning,
            scope: "municipality",
            value_kind: if matches!(known.form, ParameterForm::Number { .. }) { "number" } else { "text" },
            value: current.map_or(known.default, |value| value.value.as_str()).to_owned(),
            effective_from: current.map(|value| value.effective_from.to_string()),
            next: next.map(|value| ComingValue {
                value: value.value.clone(),
                effective_from: value.effective_from.to_string(),
            }),
            version: parameter_revision(known.name, set)?,
        })
    }
}

fn parameter_revision(name: &str, set: &[ParameterValue]) -> Result<Revision, WorkflowError> {
    let own = set.iter().filter(|value| value.name == name);
    Revision::of(&own.map(|value| (value.effective_from.to_string(), &value.value)).collect::<Vec<_>>())
}

impl Workflow {
    /// Every parameter with the value in force and the next one.
    pub async fn parameters(&self, actor: &Actor, now: Timestamp) -> Result<Vec<ParameterView>, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let mut tx = self.read(actor).await?;
        let set = tx.parameter_values(&actor.municipality_code).await?;
        parameter::ALL.iter().map(|known| ParameterView::of(known, &set, now.jst_date())).collect()
    }

    /// Sets a parameter from a day on, today by default. Days that have passed keep what was in force.
    ///
    /// Errors: [`WorkflowError::Stale`] when its values are no longer those `expected` names.
    pub async fn set_parameter(
        &self,
        actor: &Actor,
        name: &str,
        value: &str,
        from: Option<Date>,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        actor.require(Permission::ManageParameters)?;
        let known = parameter::find(name).ok_or(WorkflowError::NotFound("parameter"))?;
        let invalid = |field: &str, detail: String| WorkflowError::Invalid(vec![FieldError::new(field, detail)]);
        let value = known.check(value).map_err(|error| invalid("value", error.to_string()))?;
        let today = now.jst_date();
        let effective_from = from.unwrap_or(today);
        if effective_from < today {
            return Err(invalid("effective_from", "適用開始日は本日以降にしてください。".to_owned()));
        }
        let code = &actor.municipality_code;
        let mut work = self.begin(actor, now).await?;
        work.tx.lock_municipality(code).await?;
        parameter_revision(name, &work.tx.parameter_values(code).await?)?.expect(expected)?;
        let row = ParameterValue { name: name.to_owned(), effective_from, value };
        let set_by = actor.account_id.map_or_else(|| "system".to_owned(), |id| id.to_string());
        work.tx.set_parameter(code, &row, &set_by, now).await?;
        work.audit(Access::SetParameter, Subject::new("parameter", name), 1);
        work.commit().await?;
        Ok(())
    }

    /// Coupon sets, newest first.
    pub async fn coupon_sets(&self, actor: &Actor) -> Result<Vec<CouponSet>, WorkflowError> {
        let mut tx = self.read(actor).await?;
        Ok(tx.coupon_sets(&actor.municipality_code).await?)
    }

    /// Programmes of the municipality.
    pub async fn programmes(&self, actor: &Actor) -> Result<Vec<Programme>, WorkflowError> {
        let mut tx = self.read(actor).await?;
        Ok(tx.programmes(&actor.municipality_code).await?)
    }

    /// Publishes a coupon set; applications approved from its first day on go into it.
    pub async fn publish_coupon_set(
        &self,
        actor: &Actor,
        title: &str,
        terms: CouponTerms,
        programmes: Vec<String>,
        valid_from: Date,
        now: Timestamp,
    ) -> Result<CouponSet, WorkflowError> {
        actor.require(Permission::ManageCoupons)?;
        let mut fields = Fields::default();
        let title = fields.take("title", text::line(title, 100));
        if !terms.distribution_amount_yen.is_positive() || terms.distribution_amount_yen > Yen::SINGLE_MAX {
            fields.refuse("distribution_amount_yen", "配付額を1円以上で入力してください。");
        }
        if !(1..=18).contains(&terms.expiry_age_years) {
            fields.refuse("expiry_age_years", "1から18までの年齢を入力してください。");
        }
        if !(0..=120).contains(&terms.expiry_after_moveout_months) {
            fields.refuse("expiry_after_moveout_months", "0から120までの月数を入力してください。");
        }
        let mut work = self.begin(actor, now).await?;
        let known = work.tx.programmes(&actor.municipality_code).await?;
        if programmes.is_empty()
            || programmes.iter().any(|code| !known.iter().any(|p| p.programme_code == *code && p.coupon_enabled))
        {
            fields.refuse("programmes", "クーポンを使える事業を選んでください。");
        }
        fields.finish()?;
        let set = CouponSet {
            coupon_set_id: CouponSetId::new(now),
            municipality_code: actor.municipality_code.clone(),
            title: title.unwrap_or_default(),
            terms,
            programmes,
            valid_from,
        };
        work.tx.insert_coupon_set(&set, now).await?;
        work.event(
            "coupon_set.published",
            Subject::new("coupon_set", set.coupon_set_id),
            json!({
                "coupon_set_id": set.coupon_set_id,
                "version": 1,
                "distribution_cycle": set.terms.distribution_cycle,
                "expiry_rule": set.terms.expiry_age_rule,
            }),
        );
        work.commit().await?;
        Ok(set)
    }
}
