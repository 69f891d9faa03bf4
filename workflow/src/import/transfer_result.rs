//! I05, what the bank answers: which transfers it made and which it could not make.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use serde_json::json;
use todoke_domain::{
    Event, Yen,
    catalogue::{
        format,
        template::{Placeholder, Placeholders},
    },
    claim::ClaimEvent,
    ids::{ClaimId, EventId, FacilityId},
};
use todoke_store::claim::Claim;

use super::table::{Column, Findings, Row, Table};
use crate::{
    Work, WorkflowError,
    claim::{CITY_PAGE, FACILITY_PAGE, OPERATOR_PAGE, months_text, stepped},
    messaging::About,
    work::Subject,
};

const CLAIM_NO: Column = Column::new("claim_no", "請求番号");
const RESULT_CODE: Column = Column::new("result_code", "振替結果コード");
const TRANSFERRED_ON: Column = Column::new("transferred_on", "振替日");
const AMOUNT: Column = Column::new("amount", "金額");

/// Columns of the file.
pub(super) const COLUMNS: &[Column] = &[CLAIM_NO, RESULT_CODE, TRANSFERRED_ON, AMOUNT];

/// The code of a transfer that was made.
const PAID: &str = "0";
/// What the event says of it.
const OK: &str = "ok";

/// What a row says, without regard to what is in the record.
struct Answer<'a> {
    claim_nos: Vec<&'a str>,
    result_code: &'a str,
    transferred_on: Date,
    amount: Yen,
}

/// A claim that was paid, and the event that says so.
struct Paid {
    facility_id: FacilityId,
    month: Date,
    event: Event,
}

/// What is told of the claims that one file paid: to a facility, or to the operator when there is none.
fn digest(paid: &[&Paid], facility: Option<FacilityId>, file: EventId) -> About {
    About {
        subject_kind: "transfer_result",
        subject_id: file.to_string(),
        state: "paid".to_owned(),
        facility,
        values: Placeholders::new().with(Placeholder::Month, months_text(paid.iter().map(|one| one.month))),
        office_link: if facility.is_some() { FACILITY_PAGE } else { OPERATOR_PAGE }.to_owned(),
        once_per: Some(file.to_string()),
        ..About::default()
    }
}

fn digits(cell: &str, n_max: usize) -> bool {
    !cell.is_empty() && cell.len() <= n_max && cell.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse<'a>(row: &'a Row<'a>, findings: &mut Findings) -> Option<Answer<'a>> {
    let claim_nos: Vec<&str> = row.cell(CLAIM_NO).split_whitespace().collect();
    if claim_nos.is_empty() {
        findings.error(row.number, CLAIM_NO.name, "請求番号を入力してください。");
    }
    let result_code = row.cell(RESULT_CODE);
    let has_code = digits(result_code, 4);
    if !has_code {
        findings.error(row.number, RESULT_CODE.name, "半角数字4桁以内で入力してください（0は振替済み）。");
    }
    let transferred_on = row.day(TRANSFERRED_ON, findings);
    let cell = row.cell(AMOUNT);
    // Twelve digits are more than any transfer, and far below what an amount can hold.
    let amount = digits(cell, 12).then(|| cell.parse::<i64>().ok()).flatten().map(Yen::new);
    if amount.is_none() {
        findings.error(row.number, AMOUNT.name, "金額を半角数字で入力してください。");
    }
    let known = !claim_nos.is_empty() && has_code;
    known.then_some(Answer { claim_nos, result_code, transferred_on: transferred_on?, amount: amount? })
}

impl Work<'_> {
    /// Applies a file where no row is wrong: claims become paid or failed, and their people are told.
    pub(super) async fn import_transfer_results(
        &mut self,
        table: &Table,
        findings: &mut Findings,
    ) -> Result<(), WorkflowError> {
        let rows = table.rows(findings);
        let mut seen = HashMap::new();
        let mut answered = Vec::with_capacity(rows.len());
        for row in &rows {
            let Some(answer) = parse(row, findings) else { continue };
            let claims = self.claims_answered(row.number, &answer, &mut seen, findings).await?;
            answered.extend(claims.into_iter().map(|claim| (claim, answer.result_code, answer.transferred_on)));
        }
        if !findings.errors.is_empty() {
            return Ok(());
        }
        let mut paid = Vec::new();
        for (claim, result_code, transferred_on) in answered {
            paid.extend(self.note_transfer(claim, result_code, transferred_on).await?);
        }
        self.tell_paid(&paid).await
    }

    /// Tells once of all that a file paid: the operator of everything, each facility of its own claims (K4).
    async fn tell_paid(&mut self, paid: &[Paid]) -> Result<(), WorkflowError> {
        let Some(first) = paid.first() else { return Ok(()) };
        let all: Vec<&Paid> = paid.iter().collect();
        let mut by_facility: BTreeMap<FacilityId, Vec<&Paid>> = BTreeMap::new();
        for one in paid {
            by_facility.entry(one.facility_id).or_default().push(one);
        }
        // One key for the whole file: the operator, who is told first, is not told again with each facility.
        let file = first.event.event_id;
        self.raise(&first.event, &digest(&all, None, file)).await?;
        for (facility, own) in by_facility {
            self.raise(&own[0].event, &digest(&own, Some(facility), file)).await?;
        }
        Ok(())
    }

    /// The claims a row answers for: all those of one line of the file that went to the bank. Where something is
    /// wrong with the row it is noted, and there are none.
    async fn claims_answered(
        &mut self,
        row: usize,
        answer: &Answer<'_>,
        seen: &mut HashMap<ClaimId, usize>,
        findings: &mut Findings,
    ) -> Result<Vec<Claim>, WorkflowError> {
        let before = findings.errors.len();
        let code = self.actor.municipality_code.clone();
        let mut claims = Vec::with_capacity(answer.claim_nos.len());
        for no in &answer.claim_nos {
            let Some(claim) = self.tx.claim_by_no(&code, no).await? else {
                findings.error(row, CLAIM_NO.name, format!("請求番号「{no}」の請求はありません。"));
                continue;
            };
            if let Some(first) = seen.insert(claim.claim_id, row) {
                findings.error(row, CLAIM_NO.name, format!("{first}行目と同じ請求です。"));
            }
            match stepped(claim.clone(), ClaimEvent::TransferDone) {
                Ok(_) => claims.push(claim),
                Err(WorkflowError::Conflict(why)) => findings.error(row, CLAIM_NO.name, why),
                Err(other) => return Err(other),
            }
        }
        let line = claims.first().and_then(|claim| Some((claim.transfer_file_id?, claim.transfer_line_no?)));
        let (Some((file, line_no)), true) = (line, findings.errors.len() == before) else { return Ok(Vec::new()) };
        claims.sort_unstable_by(|a, b| a.claim_no.cmp(&b.claim_no));
        if self.tx.claims_of_transfer(file, line_no).await? != claims {
            findings.error(row, CLAIM_NO.name, "口座振替データの1行にある請求番号を、すべて入力してください。");
        }
        let amount: Yen = claims.iter().map(|claim| claim.net_yen).sum();
        if amount != answer.amount {
            findings.error(row, AMOUNT.name, format!("依頼した金額（{amount}）と異なります。"));
        }
        let ordered_on = claims.iter().filter_map(|claim| claim.transfer_requested_at).min().map(|at| at.jst_date());
        if ordered_on.is_some_and(|day| answer.transferred_on < day) || answer.transferred_on > self.now.jst_date() {
            findings.error(
                row,
                TRANSFERRED_ON.name,
                "振替日は、振替を依頼した日から今日までの日付を入力してください。",
            );
        }
        Ok(if findings.errors.len() == before { claims } else { Vec::new() })
    }

    /// What the bank did with a claim: its state, its events, and the message of a failed one; a paid one is given.
    async fn note_transfer(
        &mut self,
        claim: Claim,
        result_code: &str,
        transferred_on: Date,
    ) -> Result<Option<Paid>, WorkflowError> {
        let is_paid = result_code == PAID;
        let mut claim = stepped(claim, if is_paid { ClaimEvent::TransferDone } else { ClaimEvent::TransferFailed })?;
        claim.transferred_on = Some(transferred_on);
        claim.result_code = Some(result_code.to_owned());
        self.tx.update_claim(&claim).await?;
        let payload = json!({
            "claim_id": claim.claim_id,
            "result_code": if is_paid { OK } else { result_code },
            "transferred_on": transferred_on.to_string(),
            "amount_yen": claim.net_yen,
        });
        let subject = Subject::new("claim", claim.claim_id);
        let programme = Some(claim.programme_code.as_str());
        let event = self.event_at("claim.transfer_result", subject.clone(), claim.facility_id, programme, payload);
        if is_paid {
            let payload = json!({ "claim_id": claim.claim_id, "amount_yen": claim.net_yen });
            self.event_because(&event, "claim.paid", subject, payload);
        }
        let (_, mut about) = self.show_claim(&claim, None).await?;
        if is_paid {
            return Ok(Some(Paid { facility_id: claim.facility_id, month: claim.month, event }));
        }
        // Of a failed claim above all the city is told.
        about.office_link = CITY_PAGE.to_owned();
        about.values.set(Placeholder::Date, format::day(transferred_on));
        self.raise(&event, &about).await?;
        Ok(None)
    }
}
