//! The matching errors as a file (O01): what could not be linked to a resident, for the operator's correction.

use todoke_domain::{Timestamp, application::ApplicationState, role::Permission};

use crate::{Actor, Workflow, WorkflowError, audit::Access, csv_file, work::Subject};

/// Applications read at once.
const CHUNK: i64 = 500;
const HEADER: [&str; 8] = [
    "error_code",
    "application_no",
    "name_kana",
    "sex",
    "birth_date",
    "candidate_count",
    "candidate_resident_nos",
    "detected_on",
];

impl Workflow {
    /// The file O01: one row per application whose child could not be matched, in the order of their numbers. The export is
    /// noted in the same transaction.
    pub async fn matching_errors_csv(&self, actor: &Actor, now: Timestamp) -> Result<String, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let mut work = self.begin_long(actor, now).await?;
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let code = &actor.municipality_code;
            let page = work.tx.applications_in_state(code, ApplicationState::Matching, after, CHUNK).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.application_id);
            for application in page {
                let Some(error) = application.matching_error else { continue };
                let child = work.tx.child(application.child_id).await?.ok_or(WorkflowError::NotFound("child"))?;
                let numbers = application.matching_candidates.as_deref();
                let candidates: Vec<String> =
                    numbers.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
                let steps = work.tx.application_steps(application.application_id).await?;
                let begun = steps.iter().rev().find(|step| step.state == ApplicationState::Matching.as_str());
                let detected_at = begun.map_or(application.submitted_at, |step| step.at);
                rows.push(vec![
                    error,
                    application.application_no,
                    child.name_kana,
                    child.sex,
                    child.birth_date.to_string(),
                    candidates.len().to_string(),
                    candidates.join(" "),
                    detected_at.jst_date().to_string(),
                ]);
            }
        }
        // Ids of one instant are in no order, numbers are.
        rows.sort_by(|a: &Vec<String>, b| a[1].cmp(&b[1]));
        if !rows.is_empty() {
            work.audit(Access::Export, Subject::new("matching_error", &actor.municipality_code), rows.len());
        }
        work.commit().await?;
        Ok(csv_file::encode(&HEADER, rows))
    }
}
