//! Whom a survey asks: conditions of messages.md §11, counted before they are saved.

use std::collections::HashMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::json;
use todoke_domain::{
    Timestamp,
    application::ApplicationState,
    ids::{GuardianId, SegmentId, SurveyId},
    role::Permission,
    segment::{Condition, People, Segment},
    survey::SurveyState,
    time::class_age,
};
use todoke_store::{Tx, segment::Who, survey::SurveyTarget};

use super::not_now;
use crate::{Actor, FieldError, Workflow, WorkflowError, error::Fields, work::Subject};

/// Conditions; all that are given must hold. Empty lists and texts are no conditions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// A saved segment whose conditions must hold too.
    pub segment_id: Option<SegmentId>,
    /// Ward of the household.
    pub ward_codes: Option<Vec<String>>,
    /// Class age of some child of the household.
    pub class_ages: Option<Vec<i64>>,
    /// `active`, `suspended`, `expired`, `revoked`, or `none` for households without a coupon.
    pub coupon_state: Option<String>,
    /// State of some application.
    pub application_state: Option<String>,
    /// Programmes a coupon was used for.
    pub programme_codes_used: Option<Vec<String>>,
    /// First day of the uses; without programmes, of any use.
    pub used_from: Option<Date>,
    /// Last day of the uses.
    pub used_to: Option<Date>,
    /// Least sum of the household's balances.
    pub balance_min_yen: Option<i64>,
    /// Greatest sum of the household's balances.
    pub balance_max_yen: Option<i64>,
    /// Not seen in the app for this many days.
    pub inactive_days: Option<u32>,
}

const COUPON_STATES: [&str; 5] = ["active", "suspended", "expired", "revoked", "none"];

impl Conditions {
    fn check(&self) -> Result<(), WorkflowError> {
        let mut fields = Fields::default();
        let code = |code: &String| {
            !code.is_empty() && code.len() <= 40 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !self.ward_codes.iter().flatten().all(code) {
            fields.refuse("conditions.ward_codes", "行政区コードが正しくありません。");
        }
        if !self.programme_codes_used.iter().flatten().all(code) {
            fields.refuse("conditions.programme_codes_used", "事業コードが正しくありません。");
        }
        if !self.class_ages.iter().flatten().all(|age| (0..=17).contains(age)) {
            fields.refuse("conditions.class_ages", "クラス年齢は0から17までです。");
        }
        if given(self.coupon_state.as_ref()).is_some_and(|state| !COUPON_STATES.contains(&state)) {
            fields.refuse("conditions.coupon_state", "クーポンの状態が正しくありません。");
        }
        if given(self.application_state.as_ref())
            .is_some_and(|state| ApplicationState::ALL.iter().all(|known| known.as_str() != state))
        {
            fields.refuse("conditions.application_state", "申請の状態が正しくありません。");
        }
        if matches!((self.used_from, self.used_to), (Some(from), Some(to)) if to < from) {
            fields.refuse("conditions.used_to", "期間の終わりが始まりより前です。");
        }
        if matches!((self.balance_min_yen, self.balance_max_yen), (Some(min), Some(max)) if max < min) {
            fields.refuse("conditions.balance_max_yen", "残高の上限が下限より小さくなっています。");
        }
        fields.finish()
    }

    /// The same in the language of segments; a survey asks the guardian of each household.
    async fn segment(&self, tx: &mut Tx) -> Result<Segment, WorkflowError> {
        let mut of = Vec::new();
        if let Some(id) = self.segment_id {
            let saved = tx.segment(id).await?.ok_or(WorkflowError::NotFound("segment"))?;
            of.push(saved.segment()?.when().clone());
        }
        let list = |codes: &Option<Vec<String>>| codes.clone().unwrap_or_default();
        let (codes, used) = (list(&self.programme_codes_used), self.used_from.is_some() || self.used_to.is_some());
        if used || !codes.is_empty() {
            of.push(Condition::ProgrammeUsed { codes, from: self.used_from, to: self.used_to });
        }
        of.extend(
            Some(list(&self.ward_codes)).filter(|codes| !codes.is_empty()).map(|codes| Condition::Ward { codes }),
        );
        let ages = self.class_ages.clone().filter(|ages| !ages.is_empty());
        of.extend(ages.map(|ages| Condition::ChildClassAge { ages }));
        let coupon = given(self.coupon_state.as_ref());
        of.extend(coupon.map(|state| Condition::CouponState { state: state.to_owned() }));
        let application = given(self.application_state.as_ref()).and_then(|code| ApplicationState::parse(code));
        of.extend(application.map(|state| Condition::ApplicationState { state }));
        if self.balance_min_yen.is_some() || self.balance_max_yen.is_some() {
            let from_yen = self.balance_min_yen.unwrap_or(0).max(0);
            of.push(Condition::CouponBalance { from_yen, to_yen: self.balance_max_yen.unwrap_or(i64::MAX) });
        }
        of.extend(self.inactive_days.filter(|days| *days > 0).map(|days| Condition::Inactive { days }));
        Segment::parse(People::Guardians, Condition::All { of }).map_err(|errors| {
            let fields = errors.into_iter().map(|error| FieldError::new("conditions", error.detail));
            WorkflowError::Invalid(fields.collect())
        })
    }
}

fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

impl Workflow {
    /// Counts the people who meet the conditions and, with `save`, keeps them as the survey's audience:
    /// exactly they are asked, whatever changes until then.
    pub async fn survey_audience(
        &self,
        actor: &Actor,
        id: SurveyId,
        conditions: Conditions,
        save: bool,
        now: Timestamp,
    ) -> Result<usize, WorkflowError> {
        actor.require(Permission::ManageSurveys)?;
        conditions.check()?;
        if !save {
            let mut tx = self.read(actor).await?;
            tx.survey(id).await?.ok_or(WorkflowError::NotFound("survey"))?;
            return Ok(extract(&mut tx, actor, id, &conditions, now).await?.len());
        }
        let mut work = self.begin_long(actor, now).await?;
        let mut survey = work.open_survey(id).await?;
        if survey.state()? != SurveyState::Draft {
            return Err(not_now(&survey)?);
        }
        let targets = extract(&mut work.tx, actor, id, &conditions, now).await?;
        work.tx.replace_survey_targets(id, &targets).await?;
        survey.n_targets = i64::try_from(targets.len()).unwrap_or(i64::MAX);
        survey.conditions = serde_json::to_string(&conditions).ok();
        work.tx.update_survey(&survey).await?;
        work.event(
            "survey.audience_extracted",
            Subject::new("survey", id),
            json!({
                "survey_id": id,
                "segment_id": conditions.segment_id.unwrap_or_else(|| SegmentId::new(now)),
                "targets": targets.len(),
            }),
        );
        work.commit().await?;
        Ok(targets.len())
    }
}

async fn extract(
    tx: &mut Tx,
    actor: &Actor,
    id: SurveyId,
    conditions: &Conditions,
    now: Timestamp,
) -> Result<Vec<SurveyTarget>, WorkflowError> {
    let code = &actor.municipality_code;
    let segment = conditions.segment(tx).await?;
    let members = tx.members(code, Who::Of(&segment, now), "", i64::MAX, now).await?;
    let mut youngest: HashMap<GuardianId, i64> = HashMap::new();
    for (guardian, birth) in tx.birth_dates(code, now.jst_date()).await? {
        let age = i64::from(class_age(birth, now.jst_date()));
        youngest.entry(guardian).and_modify(|least| *least = age.min(*least)).or_insert(age);
    }
    Ok(members
        .into_iter()
        .map(|member| SurveyTarget {
            survey_id: id,
            account_id: member.account_id,
            ward_code: member.ward_code,
            class_age: youngest.get(&member.guardian_id).copied(),
        })
        .collect())
}
