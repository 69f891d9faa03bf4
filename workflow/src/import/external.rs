//! I08, facts of linked systems: what the helper system and the open-nursery system decided, cancelled and gave. Each is
//! an external application here, known by the number it has there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::json;
use todoke_domain::{
    Event, Timestamp,
    catalogue::template::{Placeholder, Placeholders},
    external_application::{ExternalState, ExternalStep, LinkedSystem},
    ids::ApplicationId,
};
use todoke_store::{
    account::Account, child::Child, external_application::ExternalApplication, facility::Facility, guardian::Guardian,
};

use super::table::{Column, Findings, Row, Table};
use crate::{Work, WorkflowError, coupon::guardian_key, messaging::About, work::Subject};

const EXTERNAL_NO: Column = Column::new("external_no", "外部番号");
const CHILD: Column = Column::new("child", "児童");
const FACILITY: Column = Column::new("facility", "施設");
const PROGRAMME: Column = Column::new("programme", "事業");
const FROM: Column = Column::new("from", "利用開始日時");
const TO: Column = Column::new("to", "利用終了日時");
const STATUS: Column = Column::new("status", "状態");

/// Columns of the file.
pub(super) const COLUMNS: &[Column] = &[EXTERNAL_NO, CHILD, FACILITY, PROGRAMME, FROM, TO, STATUS];

/// What the rows of a file may name.
struct Register {
    /// By what a file wrote: the child with that number, and the one linked to the resident with that number.
    children: HashMap<String, BTreeMap<String, Child>>,
    /// By number.
    facilities: HashMap<String, Facility>,
    /// Ids of facilities with codes of their programmes.
    offered: HashSet<(String, String)>,
    /// Names by code.
    programmes: HashMap<String, String>,
}

/// A row whose names are known.
struct Fact {
    row: usize,
    external_no: String,
    child: Child,
    facility: Facility,
    system: LinkedSystem,
    programme_name: String,
    use_from: Timestamp,
    use_to: Timestamp,
    state: ExternalState,
}

/// Reads the rows; no number of a system comes out twice.
fn parse(rows: &[Row<'_>], register: &Register, findings: &mut Findings) -> Vec<Fact> {
    let mut facts = Vec::with_capacity(rows.len());
    let mut seen = HashMap::new();
    for row in rows {
        let Some(fact) = parse_row(row, register, findings) else { continue };
        match seen.insert((fact.system, fact.external_no.clone()), row.number) {
            Some(first) => findings.error(row.number, EXTERNAL_NO.name, format!("{first}行目と同じ番号です。")),
            None => facts.push(fact),
        }
    }
    facts
}

fn parse_row(row: &Row<'_>, register: &Register, findings: &mut Findings) -> Option<Fact> {
    let external_no = row.code(EXTERNAL_NO, findings);
    let child = register.child(row, findings);
    let facility = register.facility(row, findings);
    let programme = register.programme(row, findings);
    let (use_from, use_to) = (row.moment(FROM, findings), row.moment(TO, findings));
    let state = row.one_of(STATUS, &ExternalState::ALL.map(ExternalState::as_str), findings);
    if let (Some(facility), Some((system, _))) = (facility, &programme)
        && !register.offered.contains(&(facility.facility_id.to_string(), system.programme_code().to_owned()))
    {
        findings.error(row.number, FACILITY.name, "この事業を行う施設として登録されていません。");
    }
    if let (Some(use_from), Some(use_to)) = (use_from, use_to)
        && use_to <= use_from
    {
        findings.error(row.number, TO.name, "利用終了日時は、利用開始日時より後にしてください。");
    }
    let (system, programme_name) = programme?;
    Some(Fact {
        row: row.number,
        external_no: external_no?,
        child: child?.clone(),
        facility: facility?.clone(),
        system,
        programme_name,
        use_from: use_from?,
        use_to: use_to?,
        state: ExternalState::parse(state?)?,
    })
}

impl Register {
    fn child(&self, row: &Row<'_>, findings: &mut Findings) -> Option<&Child> {
        let no = row.code(CHILD, findings)?;
        let mut found = self.children.get(&no).into_iter().flat_map(BTreeMap::values);
        let child = found.next();
        if child.is_none() {
            findings.error(row.number, CHILD.name, "この児童番号・住民番号の児童は登録されていません。");
        }
        if found.next().is_some() {
            findings.error(row.number, CHILD.name, "児童番号と住民番号が、別々の児童に当てはまります。");
            return None;
        }
        child
    }

    fn facility(&self, row: &Row<'_>, findings: &mut Findings) -> Option<&Facility> {
        let no = row.code(FACILITY, findings)?;
        let facility = self.facilities.get(&no);
        if facility.is_none() {
            findings.error(row.number, FACILITY.name, "登録されていない施設番号です。");
        }
        facility
    }

    /// The system that decides on the programme, and the programme's name.
    fn programme(&self, row: &Row<'_>, findings: &mut Findings) -> Option<(LinkedSystem, String)> {
        let code = row.code(PROGRAMME, findings)?;
        let Some(name) = self.programmes.get(&code) else {
            findings.error(row.number, PROGRAMME.name, "登録されていない事業です。");
            return None;
        };
        let system = LinkedSystem::of_programme(&code);
        if system.is_none() {
            let codes = LinkedSystem::ALL.map(LinkedSystem::programme_code).join("、");
            findings.error(row.number, PROGRAMME.name, format!("{codes}のいずれかを入力してください。"));
        }
        system.map(|system| (system, name.clone()))
    }
}

impl Work<'_> {
    /// Applies a file where no row is wrong: records, events and messages of what is new or has changed.
    pub(super) async fn import_external_applications(
        &mut self,
        table: &Table,
        findings: &mut Findings,
    ) -> Result<(), WorkflowError> {
        let rows = table.rows(findings);
        let register = self.names_in(&rows).await?;
        let mut facts = Vec::with_capacity(rows.len());
        for fact in parse(&rows, &register, findings) {
            let code = &self.actor.municipality_code;
            let before = self.tx.external_application(code, fact.system.programme_code(), &fact.external_no).await?;
            // What the lake knows of an application names its child: a number cannot wander to another one.
            if before.as_ref().is_some_and(|before| before.child_id != fact.child.child_id) {
                findings.error(fact.row, CHILD.name, "この外部番号は、別の児童のものとして取り込まれています。");
            }
            facts.push((fact, before));
        }
        if !findings.errors.is_empty() {
            return Ok(());
        }
        let mut changed = Vec::new();
        for (fact, before) in facts {
            changed.extend(self.apply_fact(&fact, before.as_ref(), findings).await?);
        }
        self.tx.upsert_external_applications(&changed).await?;
        Ok(())
    }

    /// Reads what the rows name, each number once.
    async fn names_in(&mut self, rows: &[Row<'_>]) -> Result<Register, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let mut children = HashMap::new();
        for no in rows.iter().map(|row| row.cell(CHILD).to_owned()).collect::<BTreeSet<String>>() {
            let by_no = self.tx.child_by_no(&code, &no).await?;
            let by_resident = self.tx.child_of_resident(&code, &no).await?;
            let found = by_no.into_iter().chain(by_resident).map(|child| (child.child_id.to_string(), child));
            children.insert(no, found.collect());
        }
        let facilities = self.tx.facilities(&code).await?;
        let programmes = self.tx.programmes(&code).await?;
        Ok(Register {
            children,
            facilities: facilities.into_iter().map(|facility| (facility.facility_no.clone(), facility)).collect(),
            offered: self.tx.facility_programmes(&code).await?.into_iter().collect(),
            programmes: programmes.into_iter().map(|row| (row.programme_code, row.name)).collect(),
        })
    }

    /// Notes the events of one fact and tells the family. Gives the row to write, if there is something to write.
    async fn apply_fact(
        &mut self,
        fact: &Fact,
        before: Option<&ExternalApplication>,
        findings: &mut Findings,
    ) -> Result<Option<ExternalApplication>, WorkflowError> {
        let state_before = before.map(ExternalApplication::state).transpose()?;
        let next = ExternalApplication {
            application_id: before.map_or_else(|| ApplicationId::new(self.now), |row| row.application_id),
            municipality_code: self.actor.municipality_code.clone(),
            programme_code: fact.system.programme_code().to_owned(),
            external_no: fact.external_no.clone(),
            child_id: fact.child.child_id,
            facility_id: fact.facility.facility_id,
            use_from: fact.use_from,
            use_to: fact.use_to,
            state: fact.state.as_str().to_owned(),
        };
        if before == Some(&next) {
            return Ok(None);
        }
        let steps = fact.state.steps_from(state_before);
        if steps.is_empty() {
            return Ok(Some(next));
        }
        let guardian = self.tx.guardian(fact.child.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        let accounts = self.tx.household_accounts(guardian.guardian_id).await?;
        let (Some(child_key), Some(guardian_key)) = (fact.child.person_key, guardian_key(&accounts)) else {
            // The linked system does not know who left here: its daily file must not stop at them.
            findings.remark(fact.row, CHILD.name, "退会した利用者の児童のため、この行は取り込みませんでした。");
            return Ok(None);
        };
        for step in steps {
            let event = match step {
                ExternalStep::Submitted => self.note_submitted(&next, fact, &guardian, child_key, guardian_key),
                ExternalStep::Approved => self.note_decided(&next, "approved"),
                ExternalStep::Rejected => self.note_decided(&next, "rejected"),
                ExternalStep::CancelledByGuardian => self.note_cancelled(&next, "guardian"),
                ExternalStep::CancelledByOperator => self.note_cancelled(&next, "operator"),
                ExternalStep::Used => {
                    let payload = json!({ "application_id": next.application_id });
                    self.note_external(&next, "application.used", payload)
                }
            };
            if step == ExternalStep::Approved && fact.state == ExternalState::Approved {
                self.tell_approved(&event, &next, fact, (&guardian, accounts.as_slice())).await?;
            }
        }
        Ok(Some(next))
    }

    fn note_external(
        &mut self,
        application: &ExternalApplication,
        event_type: &str,
        payload: serde_json::Value,
    ) -> Event {
        let subject = Subject::new("application", application.application_id);
        self.event_at(event_type, subject, application.facility_id, Some(application.programme_code.as_str()), payload)
    }

    fn note_submitted(
        &mut self,
        application: &ExternalApplication,
        fact: &Fact,
        guardian: &Guardian,
        child_key: i64,
        guardian_key: i64,
    ) -> Event {
        let payload = json!({
            "application_id": application.application_id,
            "application_kind": "external",
            "child_key": child_key,
            "guardian_key": guardian_key,
            // Families apply in the linked system, over its own pages.
            "entry": "online",
            "via_child_qr": false,
            "contact_channel": guardian.contact_channel,
            "attachments": 0,
            "desired_date": fact.use_from.jst_date().to_string(),
            "desired_from": fact.use_from.as_micros(),
            "desired_to": fact.use_to.as_micros(),
        });
        self.note_external(application, "application.submitted", payload)
    }

    fn note_decided(&mut self, application: &ExternalApplication, decision: &str) -> Event {
        let payload = json!({
            "application_id": application.application_id, "application_kind": "external", "decision": decision,
        });
        self.note_external(application, "application.decided", payload)
    }

    fn note_cancelled(&mut self, application: &ExternalApplication, by: &str) -> Event {
        // A fee of the linked system is its own affair: nothing is owed here.
        let payload = json!({
            "application_id": application.application_id, "application_kind": "external", "by": by, "cancel_fee_yen": 0,
        });
        self.note_external(application, "application.cancelled", payload)
    }

    /// Tells the family which paper to bring, where there is one and the use is still ahead.
    async fn tell_approved(
        &mut self,
        event: &Event,
        application: &ExternalApplication,
        fact: &Fact,
        (guardian, accounts): (&Guardian, &[Account]),
    ) -> Result<(), WorkflowError> {
        let Some(notice) = fact.system.approval_notice().filter(|_| fact.use_from > self.now) else { return Ok(()) };
        let about = About {
            subject_kind: "external_application",
            subject_id: application.application_id.to_string(),
            subject_no: Some(application.external_no.clone()),
            state: application.state.clone(),
            guardian: Some(guardian.guardian_id),
            facility: Some(application.facility_id),
            values: Placeholders::new()
                .with(Placeholder::Programme, fact.programme_name.clone())
                .with(Placeholder::Title, notice),
            link: "/inbox".to_owned(),
            household: Some((guardian.clone(), accounts.to_vec())),
            ..About::default()
        };
        self.raise(event, &about).await
    }
}
