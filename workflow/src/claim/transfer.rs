//! Payment of claims: the city orders it, and the bank gets a file with a line for each account (O07).

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::json;
use todoke_domain::{
    Timestamp, Yen,
    claim::ClaimEvent,
    ids::{ClaimId, FacilityId, TransferFileId},
    role::Permission,
};
use todoke_store::{
    bank_account::BankAccount,
    claim::Claim,
    transfer::{TransferFile, TransferLine},
};

use super::chosen;
use crate::{Actor, Work, Workflow, WorkflowError, csv_file, work::Subject};

/// Longest list of files.
const LISTED_MAX: i64 = 500;

/// A file for the bank.
#[derive(Debug, Clone, Serialize)]
pub struct TransferView {
    /// Id.
    pub transfer_file_id: TransferFileId,
    /// Claims in it.
    pub n_claims: i64,
    /// Sum of its lines: what the claims in it claim.
    pub amount_yen: Yen,
    /// When it was ordered.
    pub requested_at: Timestamp,
}

impl From<TransferFile> for TransferView {
    fn from(row: TransferFile) -> Self {
        Self {
            transfer_file_id: row.transfer_file_id,
            n_claims: row.n_claims,
            amount_yen: row.amount_yen,
            requested_at: row.requested_at,
        }
    }
}

/// What makes an account: claims for the same one are paid in one line.
type AccountKey = (String, String, String, String, String);

fn account_key(account: &BankAccount) -> AccountKey {
    (
        account.bank_code.clone(),
        account.branch_code.clone(),
        account.account_type.clone(),
        account.account_no.clone(),
        account.holder_kana.clone(),
    )
}

fn numbers(claims: &[Claim], between: &str) -> String {
    claims.iter().map(|claim| claim.claim_no.as_str()).collect::<Vec<_>>().join(between)
}

impl Workflow {
    /// Orders the payment of claims, all or none, and makes the file for the bank.
    ///
    /// Claims for the same account become one line. A bank pays no amount of zero or less: a claim that alone comes to
    /// that waits until it is ordered together with later claims for the same account, which it lessens.
    ///
    /// Errors: [`WorkflowError::Conflict`] when a claim is not to be paid now, a facility has no account, or an
    /// account would get nothing.
    pub async fn order_transfers(
        &self,
        actor: &Actor,
        ids: Vec<ClaimId>,
        now: Timestamp,
    ) -> Result<TransferView, WorkflowError> {
        actor.require(Permission::OrderTransfers)?;
        let ids = chosen(ids)?;
        let mut work = self.begin_long(actor, now).await?;
        let mut claims = Vec::with_capacity(ids.len());
        for id in ids {
            claims.push(work.step_claim(id, ClaimEvent::OrderPayment).await?);
        }
        let by_account = work.by_account(claims).await?;
        let mut lines = Vec::with_capacity(by_account.len());
        for ((account, claims), line_no) in by_account.iter().zip(1_i64..) {
            let amount_yen: Yen = claims.iter().map(|claim| claim.net_yen).sum();
            if !amount_yen.is_positive() {
                return Err(WorkflowError::Conflict(format!(
                    "{}は、口座への振替額が{amount_yen}になるため依頼できません。同じ口座の次の請求と合わせて依頼してください。",
                    numbers(claims, "、"),
                )));
            }
            let (bank_code, branch_code, account_type, account_no, holder_kana) = account.clone();
            let claim_nos = numbers(claims, " ");
            lines.push(TransferLine {
                line_no,
                claim_nos,
                bank_code,
                branch_code,
                account_type,
                account_no,
                holder_kana,
                amount_yen,
            });
        }
        let claims: Vec<(i64, Claim)> = by_account
            .into_values()
            .zip(1_i64..)
            .flat_map(|(claims, no)| claims.into_iter().map(move |claim| (no, claim)))
            .collect();
        let file = TransferFile {
            transfer_file_id: TransferFileId::new(now),
            municipality_code: actor.municipality_code.clone(),
            n_claims: i64::try_from(claims.len()).unwrap_or(i64::MAX),
            amount_yen: lines.iter().map(|line| line.amount_yen).sum(),
            requested_at: now,
        };
        work.tx.insert_transfer_file(&file, &lines).await?;
        work.request_transfers(&file, claims).await?;
        work.commit().await?;
        Ok(file.into())
    }

    /// Files for the bank, newest first.
    pub async fn transfer_files(&self, actor: &Actor) -> Result<Vec<TransferView>, WorkflowError> {
        actor.require(Permission::OrderTransfers)?;
        let mut tx = self.read(actor).await?;
        let files = tx.transfer_files(&actor.municipality_code, LISTED_MAX).await?;
        Ok(files.into_iter().map(TransferView::from).collect())
    }

    /// What the bank gets, as it was ordered (O07), and the number of lines.
    pub async fn transfer_data(&self, actor: &Actor, id: TransferFileId) -> Result<(String, usize), WorkflowError> {
        actor.require(Permission::OrderTransfers)?;
        let mut tx = self.read(actor).await?;
        tx.transfer_file(id).await?.ok_or(WorkflowError::NotFound("transfer file"))?;
        let lines = tx.transfer_lines(id).await?;
        let n_lines = lines.len();
        let header = ["claim_no", "bank_code", "branch_code", "account_type", "account_no", "holder_kana", "amount"];
        let rows = lines.into_iter().map(|line| {
            vec![
                line.claim_nos,
                line.bank_code,
                line.branch_code,
                line.account_type,
                line.account_no,
                line.holder_kana,
                line.amount_yen.get().to_string(),
            ]
        });
        Ok((csv_file::encode(&header, rows), n_lines))
    }
}

impl Work<'_> {
    /// The claims by the account they are paid to.
    async fn by_account(&mut self, claims: Vec<Claim>) -> Result<BTreeMap<AccountKey, Vec<Claim>>, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let accounts: HashMap<FacilityId, BankAccount> =
            self.tx.bank_accounts(&code).await?.into_iter().map(|row| (row.facility_id, row)).collect();
        let mut by_account: BTreeMap<AccountKey, Vec<Claim>> = BTreeMap::new();
        let mut without = Vec::new();
        for claim in claims {
            match accounts.get(&claim.facility_id) {
                Some(account) => by_account.entry(account_key(account)).or_default().push(claim),
                None => without.push(claim),
            }
        }
        if without.is_empty() {
            Ok(by_account)
        } else {
            let numbers = numbers(&without, "、");
            Err(WorkflowError::Conflict(format!("{numbers}の事業所に、振込先の口座が登録されていません。")))
        }
    }

    /// Notes on the claims that the file asks for their payment, with the numbers of their lines.
    async fn request_transfers(&mut self, file: &TransferFile, claims: Vec<(i64, Claim)>) -> Result<(), WorkflowError> {
        let ids: Vec<ClaimId> = claims.iter().map(|(_, claim)| claim.claim_id).collect();
        let payload = json!({
            "transfer_file_id": file.transfer_file_id, "claim_ids": ids, "amount_yen": file.amount_yen,
        });
        self.event("claim.transfer_requested", Subject::new("transfer_file", file.transfer_file_id), payload);
        for (line_no, mut claim) in claims {
            claim.transfer_requested_at = Some(self.now);
            claim.transfer_file_id = Some(file.transfer_file_id);
            claim.transfer_line_no = Some(line_no);
            (claim.transferred_on, claim.result_code) = (None, None);
            self.tx.update_claim(&claim).await?;
            self.show_claim(&claim, None).await?;
        }
        Ok(())
    }
}
