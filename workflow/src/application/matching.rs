//! Identity matching of children that came without a QR (flows Part J, timer T03).

use serde_json::json;
use todoke_domain::{
    Timestamp,
    application::{ApplicationEvent, ApplicationState},
    catalogue::template::{Placeholder, Placeholders},
    ids::ApplicationId,
    matching::{Candidate, Matching, MatchingError, ThreeFacts, match_child, normal_kana},
    role::Permission,
    text,
};
use todoke_store::{application::Application, child::Child, guardian::Guardian};

use super::view::ApplicationView;
use crate::{Actor, FieldError, Work, Workflow, WorkflowError, messaging::About, work::Subject};

/// Applications matched in one transaction of a run.
const RUN_CHUNK: i64 = 200;

/// What a matching run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MatchRun {
    /// Linked.
    pub matched: usize,
    /// Left in the error list.
    pub failed: usize,
}

impl Workflow {
    /// Tries again every application that waits for matching; failures of a run are told once.
    pub async fn match_waiting(&self, actor: &Actor, now: Timestamp) -> Result<MatchRun, WorkflowError> {
        let mut run = MatchRun::default();
        let mut after = None;
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let waiting = work
                .tx
                .applications_in_state(&actor.municipality_code, ApplicationState::Matching, after, RUN_CHUNK)
                .await?;
            let Some(last) = waiting.last() else { break };
            after = Some(last.application_id);
            for row in &waiting {
                let mut application = work.open_application(row.application_id).await?;
                match work.match_one(&mut application).await? {
                    Some(_) => run.failed += 1,
                    None => {
                        run.matched += 1;
                        work.show_step("application.review_started", &application).await?;
                    }
                }
            }
            work.commit().await?;
        }
        if run.failed > 0 {
            let mut work = self.begin(actor, now).await?;
            work.tell_matching_failed(run.failed).await?;
            work.commit().await?;
        }
        Ok(run)
    }

    /// Links an application's child to a resident by hand, with a reason; the application goes on to review.
    pub async fn link_by_hand(
        &self,
        actor: &Actor,
        id: ApplicationId,
        resident_no: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<ApplicationView, WorkflowError> {
        actor.require(Permission::ReviewApplications)?;
        let invalid = |field: &str, detail: &str| WorkflowError::Invalid(vec![FieldError::new(field, detail)]);
        let reason = text::line(reason, 200).map_err(|error| invalid("reason", &error.to_string()))?;
        let mut work = self.begin(actor, now).await?;
        let mut application = work.open_application(id).await?;
        if application.state()? != ApplicationState::Matching {
            return Err(WorkflowError::Conflict("照合中の申請ではありません。".to_owned()));
        }
        let code = actor.municipality_code.clone();
        work.tx
            .resident(&code, resident_no)
            .await?
            .ok_or_else(|| invalid("resident_no", "この住民番号は見つかりません。"))?;
        if work.tx.child_of_resident(&code, resident_no).await?.is_some() {
            return Err(WorkflowError::Conflict("この住民番号は、ほかの児童と照合済みです。".to_owned()));
        }
        let child = work.tx.child(application.child_id).await?.ok_or(WorkflowError::NotFound("child"))?;
        work.link_child(&mut application, child, resident_no, Some(&reason)).await?;
        let view = work.show_step("application.review_started", &application).await?;
        work.commit().await?;
        Ok(view)
    }
}

impl Work<'_> {
    /// Matches one application's child; gives the error when it stays in the list.
    pub(super) async fn match_one(
        &mut self,
        application: &mut Application,
    ) -> Result<Option<MatchingError>, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let child = self.tx.child(application.child_id).await?.ok_or(WorkflowError::NotFound("child"))?;
        let guardian = self.tx.guardian(application.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        if let Some(resident_no) = child.resident_no.clone() {
            self.link_child(application, child, &resident_no, None).await?;
            return Ok(None);
        }
        let candidates = self.candidates(&child, &guardian).await?;
        let facts = ThreeFacts {
            name_kana: normal_kana(&child.name_kana),
            sex: child.sex.clone(),
            birth_date: child.birth_date,
        };
        match match_child(&facts, &candidates) {
            Matching::Matched(resident_no) => {
                self.link_child(application, child, &resident_no, None).await?;
                Ok(None)
            }
            Matching::Failed { error, candidates } => {
                let key = child.person_key.unwrap_or_default();
                self.event(
                    "child.match_failed",
                    Subject::new("child", key),
                    json!({
                        "child_key": key,
                        "application_id": application.application_id,
                        "error_code": error.as_str(),
                        "candidates": candidates.len(),
                        "by_hand": false,
                    }),
                );
                application.matching_error = Some(error.as_str().to_owned());
                application.matching_candidates = serde_json::to_string(&candidates).ok();
                self.tx.update_application(application).await?;
                debug_assert_eq!(code, application.municipality_code);
                Ok(Some(error))
            }
        }
    }

    async fn candidates(&mut self, child: &Child, guardian: &Guardian) -> Result<Vec<Candidate>, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let mut candidates = Vec::new();
        for resident in self.tx.residents_born_on(&code, child.birth_date).await? {
            let linked = self.tx.child_of_resident(&code, &resident.resident_no).await?.is_some();
            let household_has_applicant = match guardian.birth_date {
                Some(birth) => {
                    self.tx
                        .household_has(&code, &resident.resident_no, &normal_kana(&guardian.name_kana), birth)
                        .await?
                }
                None => false,
            };
            let gone = matches!(resident.movement_kind.as_str(), "delete" | "death" | "move_out");
            candidates.push(Candidate {
                resident_no: resident.resident_no,
                facts: ThreeFacts {
                    name_kana: resident.name_kana_normal,
                    sex: resident.sex,
                    birth_date: resident.birth_date,
                },
                deleted: gone,
                linked,
                household_has_applicant,
            });
        }
        Ok(candidates)
    }

    async fn link_child(
        &mut self,
        application: &mut Application,
        mut child: Child,
        resident_no: &str,
        by_hand: Option<&str>,
    ) -> Result<(), WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let id = application.application_id;
        let key = child.person_key.unwrap_or_default();
        if child.resident_no.is_none() {
            child.resident_no = Some(resident_no.to_owned());
            self.tx.update_child(&child).await?;
            self.tx.adopt_qr(&code, resident_no, child.child_id).await?;
            self.close_solicitation_applied(&child).await?;
            self.event(
                "child.matched",
                Subject::new("child", key),
                json!({
                    "child_key": key, "application_id": id, "candidates": 1, "by_hand": by_hand.is_some(),
                }),
            );
        }
        let guardian = self.tx.guardian(application.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        let confirmed = match guardian.birth_date {
            Some(birth) => self.tx.household_has(&code, resident_no, &normal_kana(&guardian.name_kana), birth).await?,
            None => false,
        };
        let guardian_key = crate::coupon::guardian_key(&self.tx.household_accounts(guardian.guardian_id).await?);
        self.event(
            "child.guardian_confirmed",
            Subject::new("child", key),
            json!({
                "child_key": key, "guardian_key": guardian_key,
                "result": if confirmed { "confirmed" } else { "guardian_unconfirmed" },
            }),
        );
        application.guardian_confirmed = Some(confirmed);
        application.matching_error = None;
        application.matching_candidates = None;
        if application.state()? == ApplicationState::Matching {
            self.advance(application, ApplicationEvent::Matched, by_hand).await?;
            self.event("application.review_started", Subject::new("application", id), json!({ "application_id": id }));
        }
        Ok(self.tx.update_application(application).await?)
    }

    /// Tells the operator how many children of a run could not be matched: one message per run.
    pub(super) async fn tell_matching_failed(&mut self, n_failed: usize) -> Result<(), WorkflowError> {
        let code = self.actor.municipality_code.clone();
        // The catalogue triggers on `child.match_failed`; the run's digest stands for all of them.
        let mut cause = self.uncaused(Subject::new("municipality", &code));
        cause.event_type = "child.match_failed".to_owned();
        let about = About {
            subject_kind: "municipality",
            subject_id: code.to_string(),
            state: "matching_failed".to_owned(),
            values: Placeholders::new()
                .with(Placeholder::Count, n_failed.to_string())
                .with(Placeholder::Link, self.workflow.link("/staff/operator/matching")),
            office_link: "/staff/operator/matching".to_owned(),
            once_per: Some(self.now.to_string()),
            data: [("failed".to_owned(), json!(n_failed))].into_iter().collect(),
            ..About::default()
        };
        self.raise(&cause, &about).await
    }
}
